//! The answering end.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answers::{Answers, Body, Key, Known};
use crate::complaints::Complaints;
use crate::endpoint::Endpoint;
use crate::station::OpenError;
use crate::station::{Halt, Patience, Station};
use crate::stop::StopHandle;
use crate::transport::{Frame, Message, Role, SendError, Side, SocketOptions, TransportError};

/// Settings of a [`Replier`].
#[derive(Clone, Debug)]
pub struct ReplierConfig {
    /// Answers that are remembered, so that a [`Requester`](super::Requester) that lost one and
    /// asks again gets it without the work being done twice; 0 remembers none. As many as arrive
    /// within the requesters' timeouts.
    pub remembered_answers: usize,
    /// Bytes that the remembered answers may take together.
    pub remembered_bytes: usize,
    /// The socket.
    pub socket: SocketOptions,
}

impl Default for ReplierConfig {
    /// Remembers 1,024 answers of at most 4 MiB together.
    fn default() -> ReplierConfig {
        ReplierConfig {
            remembered_answers: 1_024,
            remembered_bytes: 4 << 20,
            socket: SocketOptions::default(),
        }
    }
}

impl ReplierConfig {
    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.remembered_answers > 0 && self.remembered_bytes == 0 {
            return Err("remembered_bytes is 0: give some, or set remembered_answers to 0".into());
        }
        Ok(())
    }
}

/// Memory that is kept for the next reply; what a large one took beyond that is given back.
const KEPT_BYTES: usize = 64 << 10;

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum NextError {
    /// None came within the time given.
    #[error("no request came in time: retry")]
    TimedOut,
    /// The replier was stopped; requests that had arrived are lost with it.
    #[error("the replier was stopped: a retry does not help")]
    Stopped,
    /// The socket failed.
    #[error("the socket failed, so open a new replier: {0}")]
    Failed(TransportError),
}

impl From<Halt> for NextError {
    fn from(halt: Halt) -> NextError {
        match halt {
            Halt::TimedOut => NextError::TimedOut,
            Halt::Stopped => NextError::Stopped,
            Halt::Failed(error) => NextError::Failed(error),
        }
    }
}

/// Why a reply was not sent. The work is done; a requester of ours that asks again gets the answer
/// from memory.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The requester is gone; do not retry.
    #[error("whoever asked is gone: the answer was not delivered")]
    Gone,
    /// The requester does not take its replies; this one was dropped rather than make others wait. Do not retry.
    #[error(
        "whoever asked does not read the answers: one was dropped, so that others need not wait"
    )]
    Full,
    /// The reply cannot be encoded; the requester was told so.
    #[error("the reply cannot be encoded ({0}), which the requester was told: do not retry")]
    Encode(String),
    /// The reply does not fit into a frame; the requester was told so.
    #[error(
        "the reply takes {bytes} bytes, over the limit of {limit_bytes}, which the requester was told: raise max_message_bytes at both ends"
    )]
    TooLarge {
        /// Length of the reply, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// The socket failed.
    #[error("the socket failed, so open a new replier: {0}")]
    Failed(TransportError),
}

/// What a replier has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplierStats {
    /// Requests returned by [`next`](Replier::next) or given to the handler.
    pub requests: u64,
    /// Repetitions that were answered from memory or dropped because the answer was on its way.
    pub repeated: u64,
    /// Messages that are no requests; most of their senders got an error reply.
    pub malformed: u64,
    /// Replies that could not be delivered.
    pub undelivered: u64,
}

/// A request that waits for its reply.
#[derive(Debug)]
pub struct Request<Req> {
    /// The question.
    pub value: Req,
    /// Whom to give the answer to.
    pub asker: Asker,
}

/// Where a reply goes. Requests may be answered in any order; dropping it leaves the requester to its
/// timeout.
#[derive(Debug)]
pub struct Asker {
    /// Routing id, ids and the empty delimiter.
    envelope: Message,
    /// By what its answer is remembered.
    key: Option<Key>,
}

/// Answers the requests of [`Requester`](super::Requester)s and of plain REQ sockets.
///
/// A request that is malformed, or not a `Req`, is answered with an error and counted.
///
/// Without ZeroMQ (`raw+tcp`, `raw+udp`, `reliable+udp`) nobody answers heartbeats while a handler runs. Requesters that
/// wait for a reply put up with that for a minute ([`Heartbeat::Ping`](crate::transport::Heartbeat::Ping)); what takes
/// longer belongs into threads of its own, with [`Asker`]s to answer later, or on `tcp`.
pub struct Replier<Req, Rep: ?Sized> {
    station: Station,
    limit_bytes: usize,
    answers: Answers,
    /// The message at hand; its memory serves for the reply and the next one.
    message: Message,
    /// The reply at hand.
    encoded: Vec<u8>,
    requests: u64,
    repeated: u64,
    malformed: Complaints,
    undelivered: Complaints,
    types: PhantomData<fn(&Rep) -> Req>,
}

impl<Req: DeserializeOwned, Rep: Serialize + ?Sized> Replier<Req, Rep> {
    /// Listens for requesters at `endpoint`.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn bind(endpoint: &Endpoint, config: ReplierConfig) -> Result<Self, OpenError> {
        Replier::open(Side::Bind, endpoint, config)
    }

    /// Connects to a requester or proxy that listens at `endpoint`, now or later.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn connect(endpoint: &Endpoint, config: ReplierConfig) -> Result<Self, OpenError> {
        Replier::open(Side::Connect, endpoint, config)
    }

    fn open(side: Side, endpoint: &Endpoint, config: ReplierConfig) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        Ok(Replier {
            station: Station::open(Role::Router, side, endpoint, &config.socket)?,
            limit_bytes: config.socket.max_message_bytes,
            answers: Answers::new(config.remembered_answers, config.remembered_bytes),
            message: Message::new(),
            encoded: Vec::new(),
            requests: 0,
            repeated: 0,
            malformed: Complaints::default(),
            undelivered: Complaints::default(),
            types: PhantomData,
        })
    }

    /// Answers requests with what `handler` returns until the replier is stopped; an error of the
    /// handler becomes the requester's [`Refused`](super::CallError::Refused).
    ///
    /// One request is handled at a time. A handler that panics ends this call with its panic,
    /// but not before the requester was told, so that it does not send the same request to the
    /// next replier as well.
    ///
    /// # Errors
    ///
    /// [`NextError::Failed`] when the socket fails.
    pub fn serve<E: fmt::Display>(
        &mut self,
        mut handler: impl FnMut(Req) -> Result<Rep, E>,
    ) -> Result<(), NextError>
    where
        Rep: Sized,
    {
        loop {
            let Request { value, asker } = match self.next(Duration::MAX) {
                Ok(request) => request,
                Err(NextError::TimedOut) => continue,
                Err(NextError::Stopped) => return Ok(()),
                Err(error) => return Err(error),
            };
            // The handler's state is not used again after a panic.
            let replied = match catch_unwind(AssertUnwindSafe(|| handler(value))) {
                Ok(Ok(reply)) => self.reply(asker, &reply),
                Ok(Err(error)) => self.refuse(asker, &error.to_string()),
                Err(panic) => {
                    let _ = self.refuse(asker, "the handler panicked");
                    resume_unwind(panic)
                }
            };
            match replied {
                Err(ReplyError::Failed(error)) => return Err(NextError::Failed(error)),
                // The others are counted, and concern one requester only.
                _ => continue,
            }
        }
    }

    /// The next request, waiting for at most `within`.
    ///
    /// # Errors
    ///
    /// See [`NextError`].
    pub fn next(&mut self, within: Duration) -> Result<Request<Req>, NextError> {
        self.answers.trim();
        let mut patience = Patience::new(within);
        loop {
            self.station.receive(&mut self.message, &mut patience)?;
            if let Some(request) = self.accept().map_err(NextError::Failed)? {
                self.requests += 1;
                return Ok(request);
            }
            if patience.is_over(&self.station.clock) {
                return Err(NextError::TimedOut);
            }
        }
    }

    /// Sends a reply.
    ///
    /// # Errors
    ///
    /// See [`ReplyError`].
    pub fn reply(&mut self, asker: Asker, reply: &Rep) -> Result<(), ReplyError> {
        self.encoded.clear();
        let (error, sentence) = match rmp_serde::encode::write(&mut self.encoded, reply) {
            Ok(()) if self.encoded.len() <= self.limit_bytes => {
                let body = Body::Value(self.encoded.as_slice().into());
                self.encoded.shrink_to(KEPT_BYTES);
                return self.answer(asker, &body);
            }
            Ok(()) => {
                let (bytes, limit_bytes) = (self.encoded.len(), self.limit_bytes);
                let error = ReplyError::TooLarge { bytes, limit_bytes };
                (error, "the reply is over the size limit")
            }
            Err(error) => {
                let error = ReplyError::Encode(error.to_string());
                (error, "the reply cannot be encoded")
            }
        };
        self.refuse(asker, sentence)?;
        Err(error)
    }

    /// Refuses a request; `reason` is a sentence for the requester.
    ///
    /// # Errors
    ///
    /// See [`ReplyError`].
    pub fn refuse(&mut self, asker: Asker, reason: &str) -> Result<(), ReplyError> {
        self.answer(asker, &Body::refusal(reason))
    }

    /// The address of whoever made a request; `None` where there are no addresses.
    pub fn sender(&self, asker: &Asker) -> Option<IpAddr> {
        self.station.socket.sender(&asker.envelope)
    }

    /// What it has seen up to now.
    pub fn stats(&self) -> ReplierStats {
        ReplierStats {
            requests: self.requests,
            repeated: self.repeated,
            malformed: self.malformed.count(),
            undelivered: self.undelivered.count(),
        }
    }

    /// Where it listens or connects, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        self.station.socket.endpoint()
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.station.stop.clone()
    }

    /// Takes the message apart; `None` when that was all there was to do with it.
    fn accept(&mut self) -> Result<Option<Request<Req>>, TransportError> {
        let mut envelope = std::mem::take(&mut self.message);
        // The first frame is the routing id, which ROUTER sockets add, never empty.
        let delimiter = envelope.iter().skip(1).position(|frame| frame.is_empty());
        let Some(delimiter) = delimiter.map(|i| i + 1) else {
            envelope.truncate(1);
            envelope.push(Frame::from(&[][..]));
            return self.reject(envelope, "the empty frame before the request is missing");
        };
        match envelope.len() - delimiter {
            2 => {}
            1 => {
                // Sockets that probe for routers send this, and do not expect an answer.
                self.complain("no request follows the empty frame");
                return Ok(None);
            }
            _ => {
                envelope.truncate(delimiter + 1);
                return self.reject(envelope, "the request has more than one frame");
            }
        }
        let body = envelope.pop().unwrap_or_else(|| Frame::from(&[][..]));
        let key = match self.answers.begin(&envelope[..delimiter]) {
            Known::New(key) => key,
            Known::Begun => {
                self.repeated += 1;
                return Ok(None);
            }
            Known::Answered(answer) => {
                self.repeated += 1;
                return self.send_or_count(envelope, &answer).map(|()| None);
            }
        };
        match rmp_serde::from_slice(&body) {
            Ok(value) => {
                let asker = Asker { envelope, key };
                Ok(Some(Request { value, asker }))
            }
            Err(error) => {
                let reason = format!("the request is not of the expected type: {error}");
                self.reject(envelope, &reason)
            }
        }
    }

    fn reject(
        &mut self,
        envelope: Message,
        reason: &str,
    ) -> Result<Option<Request<Req>>, TransportError> {
        self.complain(reason);
        self.send_or_count(envelope, &Body::refusal(reason))?;
        Ok(None)
    }

    fn complain(&mut self, reason: &str) {
        self.malformed.add(self.station.socket.endpoint(), &reason);
    }

    fn answer(&mut self, asker: Asker, body: &Body) -> Result<(), ReplyError> {
        let sent = self.send(asker.envelope, body);
        // Whether it could be sent or not: the requester that lost it asks again.
        if let Some(key) = &asker.key {
            self.answers.answer(key, body);
        }
        sent
    }

    fn send_or_count(&mut self, envelope: Message, body: &Body) -> Result<(), TransportError> {
        match self.send(envelope, body) {
            Err(ReplyError::Failed(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn send(&mut self, envelope: Message, body: &Body) -> Result<(), ReplyError> {
        let mut message = envelope;
        body.append_to(&mut message);
        let sent = self.station.socket.send(&message);
        // What the program does next may take long.
        self.station.socket.flush();
        message.clear();
        self.message = message;
        let error = match sent {
            Ok(()) => return Ok(()),
            Err(SendError::Full) => ReplyError::Full,
            Err(SendError::Unroutable) => ReplyError::Gone,
            Err(SendError::Failed(error)) => return Err(ReplyError::Failed(error)),
        };
        self.undelivered.add(self.station.socket.endpoint(), &error);
        Err(error)
    }
}

impl<Req, Rep: ?Sized> fmt::Debug for Replier<Req, Rep> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier").finish_non_exhaustive()
    }
}
