//! The asking end.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::complaints::Complaints;
use crate::endpoint::Endpoint;
use crate::machine::{Machine, Time};
use crate::request::{
    CallId, GiveUp, RequestId, RequestInput, RequestMachine, RequestOutput, Retry,
};
use crate::station::OpenError;
use crate::station::Station;
use crate::stop::StopHandle;
use crate::transport::{Frame, Message, Role, SendError, Side, SocketOptions, TransportError};
use crate::wait::Interest;

/// Settings of a [`Requester`].
#[derive(Clone, Debug)]
pub struct RequesterConfig {
    /// Timeouts and further attempts.
    pub retry: Retry,
    /// Requests of [`call_all`](Requester::call_all) that may be under way at once. Enough to keep
    /// the replier busy during a round trip; 64 is plenty on a local network.
    pub window: usize,
    /// The socket; `only_connected` is set in any case.
    pub socket: SocketOptions,
}

impl Default for RequesterConfig {
    /// Three attempts of 2.5 seconds, 64 requests under way, no linger: nobody would hear the reply.
    fn default() -> RequesterConfig {
        RequesterConfig {
            retry: Retry::default(),
            window: 64,
            socket: SocketOptions {
                linger: Duration::ZERO,
                ..SocketOptions::default()
            },
        }
    }
}

impl RequesterConfig {
    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.window == 0 {
            return Err("window is 0: no request could be under way; give at least 1".into());
        }
        self.retry.validate()
    }
}

/// Memory that is kept for the next request; what a large one took beyond that is given back.
const KEPT_BYTES: usize = 64 << 10;

/// Why there is no reply to a request.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No reply came to any attempt. The replier may have worked on the request all the same.
    #[error(
        "no reply after {attempts} attempts: check that a replier runs at {endpoint}; retry if doing it twice does no harm"
    )]
    TimedOut {
        /// How often the request was sent.
        attempts: u32,
        /// Where it was sent.
        endpoint: Endpoint,
    },
    /// The replier refused the request, in its words; a retry gets the same answer unless it says
    /// otherwise.
    #[error("the replier refused the request: {0}")]
    Refused(String),
    /// The reply is not of the expected type, though the replier did its work; do not retry.
    #[error(
        "the reply is not of the expected type ({0}): use the same types at both ends, then retry"
    )]
    Unreadable(String),
    /// The request cannot be encoded; it was not sent.
    #[error("the request cannot be encoded ({0}): do not retry")]
    Encode(String),
    /// The request does not fit into a frame; it was not sent.
    #[error(
        "the request takes {bytes} bytes, over the limit of {limit_bytes}: do not retry; send less or raise max_message_bytes at both ends"
    )]
    TooLarge {
        /// Length of the request, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// The requester was stopped. The replier may work on the request all the same.
    #[error("the requester was stopped: a retry does not help")]
    Stopped,
    /// The socket failed. The replier may work on the request all the same.
    #[error("the socket failed, so open a new requester: {0}")]
    Failed(TransportError),
}

/// What a requester has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequesterStats {
    /// Attempts after the first, over all requests.
    pub retried: u64,
    /// Replies to requests that were answered or given up before.
    pub late: u64,
    /// Messages that are no replies of ours.
    pub foreign: u64,
}

/// Asks a [`Replier`](super::Replier), or any REP socket, and always gets an answer or an error.
///
/// A lost request or reply is repaired by asking again. So a replier may see a request
/// more than once (at-least-once); ours answers repetitions from memory as long as it
/// remembers, others should be asked only what may be done twice.
///
/// A request is sent only while a replier is connected, so that one whose call has ended is not done
/// when a replier comes later (over `inproc` it is, as long as none has ever been there).
///
/// It works in the caller's thread: a round trip costs no switch to another one.
pub struct Requester<Req: ?Sized, Rep> {
    station: Station,
    config: RequesterConfig,
    machine: RequestMachine<Arc<[u8]>, Answer>,
    next_call: CallId,
    /// Attempts that the socket had no room for.
    unsent: VecDeque<(RequestId, Arc<[u8]>)>,
    /// Outcomes that nobody has asked for yet; at most the window.
    done: HashMap<CallId, Outcome>,
    message: Message,
    /// The request at hand.
    encoded: Vec<u8>,
    foreign: Complaints,
    types: PhantomData<fn(&Req) -> Rep>,
}

/// What a reply says.
#[derive(Debug)]
enum Answer {
    Value(Frame),
    Refusal(String),
}

enum Outcome {
    Answered(Answer),
    GaveUp { attempts: u32 },
}

impl<Req: Serialize + ?Sized, Rep: DeserializeOwned> Requester<Req, Rep> {
    /// Connects to a replier at `endpoint`, now or later.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn connect(endpoint: &Endpoint, config: RequesterConfig) -> Result<Self, OpenError> {
        Requester::open(Side::Connect, endpoint, config)
    }

    /// Listens for repliers at `endpoint`; requests go to them in turn.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn bind(endpoint: &Endpoint, config: RequesterConfig) -> Result<Self, OpenError> {
        Requester::open(Side::Bind, endpoint, config)
    }

    fn open(side: Side, endpoint: &Endpoint, config: RequesterConfig) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        // A request that waited in a queue would be done when a replier comes, although its call has
        // ended long before.
        let socket = SocketOptions {
            only_connected: true,
            ..config.socket.clone()
        };
        Ok(Requester {
            station: Station::open(Role::Dealer, side, endpoint, &socket)?,
            machine: RequestMachine::new(config.retry.clone(), rand::random()),
            config,
            next_call: 0,
            unsent: VecDeque::new(),
            done: HashMap::new(),
            message: Message::new(),
            encoded: Vec::new(),
            foreign: Complaints::default(),
            types: PhantomData,
        })
    }

    /// Asks and waits for the reply, with the configured timeout and attempts.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn call(&mut self, request: &Req) -> Result<Rep, CallError> {
        let call = self.begin(request, GiveUp::AfterAttempts)?;
        self.finish(call)
    }

    /// Asks and waits for the reply for at most `within`, with as many attempts as fit.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn call_within(&mut self, request: &Req, within: Duration) -> Result<Rep, CallError> {
        let end = self.station.clock.now() + within;
        let call = self.begin(request, GiveUp::At(end))?;
        self.finish(call)
    }

    /// Asks many questions, up to `window` at once, and yields the replies in the same order. Each
    /// has the configured timeout and attempts.
    ///
    /// Requests are taken from the iterator as replies are taken from the result; what is under way
    /// when the result is dropped is forgotten.
    pub fn call_all<I>(&mut self, requests: I) -> CallAll<'_, Req, Rep, I::IntoIter>
    where
        I: IntoIterator<Item: Borrow<Req>>,
    {
        CallAll {
            requester: self,
            requests: requests.into_iter(),
            begun: VecDeque::new(),
        }
    }

    /// What it has seen up to now.
    pub fn stats(&self) -> RequesterStats {
        RequesterStats {
            retried: self.machine.retried(),
            late: self.machine.late(),
            foreign: self.foreign.count(),
        }
    }

    /// Where it connects or listens, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        self.station.socket.endpoint()
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.station.stop.clone()
    }

    fn begin(&mut self, request: &Req, give_up: GiveUp) -> Result<CallId, CallError> {
        self.station.stop.check().map_err(|_| CallError::Stopped)?;
        self.encoded.clear();
        rmp_serde::encode::write(&mut self.encoded, request)
            .map_err(|error| CallError::Encode(error.to_string()))?;
        let (bytes, limit_bytes) = (self.encoded.len(), self.config.socket.max_message_bytes);
        if bytes > limit_bytes {
            return Err(CallError::TooLarge { bytes, limit_bytes });
        }
        let call = self.next_call;
        self.next_call += 1;
        let body = self.encoded.as_slice().into();
        self.encoded.shrink_to(KEPT_BYTES);
        let input = RequestInput::Call {
            call,
            body,
            give_up,
        };
        self.machine.handle(self.station.clock.now(), input);
        Ok(call)
    }

    /// Waits for the outcome of a call; forgets the call when that fails.
    fn finish(&mut self, call: CallId) -> Result<Rep, CallError> {
        match self.outcome(call) {
            Ok(Outcome::Answered(Answer::Value(body))) => rmp_serde::from_slice(&body)
                .map_err(|error| CallError::Unreadable(error.to_string())),
            Ok(Outcome::Answered(Answer::Refusal(reason))) => Err(CallError::Refused(reason)),
            Ok(Outcome::GaveUp { attempts }) => Err(CallError::TimedOut {
                attempts,
                endpoint: self.endpoint().clone(),
            }),
            Err(error) => {
                self.cancel(call);
                Err(error)
            }
        }
    }

    fn cancel(&mut self, call: CallId) {
        let now = self.station.clock.now();
        self.machine.handle(now, RequestInput::Cancel(call));
        self.collect();
        self.done.remove(&call);
    }

    fn outcome(&mut self, call: CallId) -> Result<Outcome, CallError> {
        loop {
            self.station.stop.check().map_err(|_| CallError::Stopped)?;
            self.collect();
            self.transmit().map_err(CallError::Failed)?;
            if let Some(outcome) = self.done.remove(&call) {
                return Ok(outcome);
            }
            if self.receive().map_err(CallError::Failed)? {
                continue;
            }
            let now = self.station.clock.now();
            match self.machine.deadline() {
                Some(due) if due <= now => self.machine.wake(now),
                due => self.wait(due),
            }
        }
    }

    fn wait(&self, due: Option<Time>) {
        let interest = if self.unsent.is_empty() {
            Interest::Readable
        } else {
            Interest::ReadableOrWritable
        };
        self.station.wait(interest, due);
    }

    /// Takes from the machine what it wants done and what has become of the calls.
    fn collect(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                RequestOutput::Send { id, body } => self.unsent.push_back((id, body)),
                RequestOutput::Replied { call, reply } => {
                    self.done.insert(call, Outcome::Answered(reply));
                }
                RequestOutput::GaveUp { call, attempts } => {
                    self.done.insert(call, Outcome::GaveUp { attempts });
                }
            }
        }
    }

    /// Sends the attempts that the socket has room for.
    fn transmit(&mut self) -> Result<(), TransportError> {
        let sent = self.hand_over();
        self.station.socket.flush();
        sent
    }

    fn hand_over(&mut self) -> Result<(), TransportError> {
        while let Some((id, body)) = self.unsent.pop_front() {
            if !self.machine.is_pending(id) {
                continue;
            }
            let message = [
                Frame::from(&id.to_bytes()[..]),
                Frame::from(&[][..]),
                Frame::from(body.clone()),
            ];
            match self.station.socket.send(&message) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    // A later attempt of the same request stands for this one.
                    let repeated =
                        |(other, _): &(RequestId, _)| other.first_attempt() == id.first_attempt();
                    if !self.unsent.iter().any(repeated) {
                        self.unsent.push_front((id, body));
                    }
                    break;
                }
                // Only routers say so.
                Err(SendError::Unroutable) => {}
                Err(SendError::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in a message; whether there was one.
    fn receive(&mut self) -> Result<bool, TransportError> {
        if !self.station.socket.receive_into(&mut self.message)? {
            return Ok(false);
        }
        match open(&mut self.message) {
            Some((id, reply)) => {
                let now = self.station.clock.now();
                self.machine.handle(now, RequestInput::Reply { id, reply });
            }
            None => self.foreign.add(
                self.station.socket.endpoint(),
                &"a message that is no reply to a request was dropped",
            ),
        }
        Ok(true)
    }
}

/// Takes a reply apart; `None` when it is none.
fn open(message: &mut Message) -> Option<(RequestId, Answer)> {
    let id = RequestId::from_bytes(message.first()?)?;
    let delimiter = message.get(1)?;
    if !delimiter.is_empty() {
        return None;
    }
    match (message.len(), message.pop()?) {
        (3, body) => Some((id, Answer::Value(body))),
        (4, reason) if message[2].is_empty() => {
            let reason = String::from_utf8_lossy(&reason).into_owned();
            Some((id, Answer::Refusal(reason)))
        }
        _ => None,
    }
}

impl<Req: ?Sized, Rep> fmt::Debug for Requester<Req, Rep> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").finish_non_exhaustive()
    }
}

/// The replies of [`Requester::call_all`], in the order of the requests.
pub struct CallAll<'a, Req, Rep, I>
where
    Req: Serialize + ?Sized,
    Rep: DeserializeOwned,
{
    requester: &'a mut Requester<Req, Rep>,
    requests: I,
    /// The requests under way, in order; those that could not be begun with the reason.
    begun: VecDeque<Result<CallId, CallError>>,
}

impl<Req, Rep, I> Iterator for CallAll<'_, Req, Rep, I>
where
    Req: Serialize + ?Sized,
    Rep: DeserializeOwned,
    I: Iterator<Item: Borrow<Req>>,
{
    type Item = Result<Rep, CallError>;

    fn next(&mut self) -> Option<Result<Rep, CallError>> {
        while self.begun.len() < self.requester.config.window {
            let Some(request) = self.requests.next() else {
                break;
            };
            let begun = self
                .requester
                .begin(request.borrow(), GiveUp::AfterAttempts);
            self.begun.push_back(begun);
        }
        let begun = self.begun.pop_front()?;
        Some(begun.and_then(|call| self.requester.finish(call)))
    }
}

impl<Req, Rep, I> Drop for CallAll<'_, Req, Rep, I>
where
    Req: Serialize + ?Sized,
    Rep: DeserializeOwned,
{
    fn drop(&mut self) {
        for call in self.begun.drain(..).flatten() {
            self.requester.cancel(call);
        }
    }
}

impl<Req, Rep, I> fmt::Debug for CallAll<'_, Req, Rep, I>
where
    Req: Serialize + ?Sized,
    Rep: DeserializeOwned,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallAll({} under way)", self.begun.len())
    }
}
