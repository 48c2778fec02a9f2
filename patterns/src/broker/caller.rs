//! Calling an operation through a broker: a request goes to a worker, its reply straight back.

use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::endpoint::Endpoint;
use crate::machine::Time;
use crate::pipeline::{JobId, Span, TaskFailure};
use crate::station::{Halt, OpenError, Patience, Station};
use crate::stop::StopHandle;
use crate::transport::{Frame, LinkEvent, Message, SocketOptions};
use crate::trio::read_outcomes;
use crate::wire::Kind;

use super::frames::{self, AtClient};
use super::json::{Codec, End};
use super::protocol::{BrokerSays, ClientSays, JobSettings};

/// Handshakes refused in a row after which the broker is believed.
const REFUSALS_BELIEVED: u32 = 3;

/// What a header takes at most beside the name of the operation.
const HEADER_BYTES: usize = 64;

/// Settings of a [`Caller`].
#[derive(Clone, Debug)]
pub struct CallerConfig {
    /// Where the broker listens.
    pub broker: Endpoint,
    /// How messages are written; the broker understands either.
    pub codec: Codec,
    /// What is called.
    pub operation: String,
    /// How often a worker may try; 3 by default.
    pub attempts: u32,
    /// How long one attempt may take; zero, the default, for ever.
    pub time_limit: Duration,
    /// How long a call waits for its reply; a minute by default.
    pub within: Duration,
    /// How often a call that waits says so to the broker; half a second by default.
    pub heartbeat: Duration,
    /// Socket and security; `only_connected` is set in any case.
    pub socket: SocketOptions,
}

impl CallerConfig {
    /// Settings with defaults for all but the endpoint and the operation.
    pub fn new(broker: Endpoint, operation: impl Into<String>) -> CallerConfig {
        CallerConfig {
            broker,
            codec: Codec::default(),
            operation: operation.into(),
            attempts: 3,
            time_limit: Duration::ZERO,
            within: Duration::from_secs(60),
            heartbeat: Duration::from_millis(500),
            socket: SocketOptions {
                linger: Duration::ZERO,
                ..SocketOptions::default()
            },
        }
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.heartbeat < Duration::from_millis(10) {
            return Err("heartbeat is shorter than 10 ms: give at least that".into());
        }
        Ok(())
    }

    fn settings(&self) -> JobSettings {
        JobSettings {
            attempts: self.attempts,
            time_limit_ms: u64::try_from(self.time_limit.as_millis()).unwrap_or(u64::MAX),
            ..JobSettings::new(&self.operation)
        }
    }
}

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It took longer than it may; the broker is asked to drop the request, a worker may be at it.
    #[error(
        "no reply from {broker} within {within:?}: check that the broker runs and that a worker offers {operation:?}"
    )]
    TimedOut {
        /// Where the broker was to be.
        broker: Endpoint,
        /// What was called.
        operation: String,
        /// How long the call waited.
        within: Duration,
    },
    /// A worker tried, as often as it may, and could not do it.
    #[error("the call failed: {}", .0.reason)]
    Failed(TaskFailure),
    /// The broker does not take the request, in its words.
    #[error("the broker refused the request: {0}")]
    Refused(String),
    /// The reply is not of the expected type; calling again does not help.
    #[error("the reply is not of the expected type ({0}): use the same types at both ends")]
    Unreadable(String),
    /// The request cannot be encoded or is larger than a message may be; it was not sent.
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
    /// The caller was stopped.
    #[error("stopped")]
    Stopped,
    /// The handshake or the socket failed.
    #[error("{0}")]
    Socket(String),
}

impl From<Halt> for CallError {
    fn from(halt: Halt) -> CallError {
        match halt {
            Halt::Stopped => CallError::Stopped,
            Halt::Failed(error) => CallError::Socket(error.to_string()),
            // Where time is up is told by the call, which knows how much there was.
            Halt::TimedOut => CallError::Socket("the time is up".into()),
        }
    }
}

/// Calls one operation of a broker's workers, one call at a time, in the caller's thread.
///
/// The broker keeps a request as long as the call waits, gives it to another worker when one fails or
/// falls silent, and keeps nothing of it afterwards. When the reply is lost, or the broker, the request
/// is made again: it may be done more than once. For work that must survive all of these there is the
/// [`Submitter`](super::Submitter).
pub struct Caller<T: ?Sized, R> {
    station: Station,
    config: CallerConfig,
    settings: JobSettings,
    next: JobId,
    message: Message,
    encoded: Vec<u8>,
    refusals: u32,
    types: PhantomData<fn(&T) -> R>,
}

impl<T: ?Sized, R> std::fmt::Debug for Caller<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

/// What a message means for a call.
enum News {
    Reply(super::piece::Slice),
    Refused(String),
    /// The broker does not know the request.
    Unknown,
    /// The broker lives, and wants to hear that we do.
    Beat,
    /// Nothing.
    Foreign,
}

impl<T: Serialize + ?Sized, R: DeserializeOwned> Caller<T, R> {
    /// Connects to a broker, now or later.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn connect(config: CallerConfig) -> Result<Caller<T, R>, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        let socket = SocketOptions {
            // A request that waits in a queue would be done after its call has ended.
            only_connected: true,
            watch_links: true,
            ..config.socket.clone()
        };
        Ok(Caller {
            station: Station::at_broker(&config.broker, config.codec, &socket)?,
            settings: config.settings(),
            config,
            // The upper half belongs to the broker.
            next: JobId(rand::random::<u64>() >> 1),
            message: Message::new(),
            encoded: Vec::new(),
            refusals: 0,
            types: PhantomData,
        })
    }

    /// Calls and waits for the reply, for as long as is configured.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn call(&mut self, task: &T) -> Result<R, CallError> {
        self.call_within(task, self.config.within)
    }

    /// Calls and waits for the reply for at most `within`.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn call_within(&mut self, task: &T, within: Duration) -> Result<R, CallError> {
        let request = self.next;
        self.next = JobId((request.0 + 1) & (u64::MAX >> 1));
        let frame = self.encode(request, task)?;
        let end = self.station.clock.now() + within;
        let outcome = self.outcome(request, &frame, end);
        let answer = match outcome? {
            Some(records) => records,
            None => return Err(self.time_out(request, within)),
        };
        let only = Span { first: 0, count: 1 };
        let read = read_outcomes(answer.bytes(), only, &[only.range()]).pop();
        match read {
            Some((_, Ok(reply))) => Ok(reply),
            Some((_, Err(failure))) => Err(CallError::Failed(failure)),
            None => Err(CallError::Unreadable("it is damaged".into())),
        }
    }

    fn encode(&mut self, request: JobId, task: &T) -> Result<Frame, CallError> {
        self.encoded.clear();
        let written = rmp_serde::encode::write(&mut self.encoded, task);
        written.map_err(|error| CallError::Unsendable(error.to_string()))?;
        let bytes = self.encoded.len() + self.settings.operation.len() + HEADER_BYTES;
        let most = self.config.socket.max_message_bytes;
        if bytes > most {
            return Err(CallError::Unsendable(format!(
                "it takes {bytes} bytes and may take {most}: raise max_message_bytes at all ends"
            )));
        }
        let frame = frames::asked(request, &self.settings, &self.encoded);
        Ok(self.config.codec.outgoing(End::Broker, frame))
    }
}

impl<T: ?Sized, R> Caller<T, R> {
    /// A handle that ends a blocked call from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.station.stop.clone()
    }

    /// What came of a request; `None` when time is up.
    fn outcome(
        &mut self,
        request: JobId,
        frame: &Frame,
        end: Time,
    ) -> Result<Option<super::piece::Slice>, CallError> {
        let mut asked = self.send(frame, end)?;
        loop {
            match self.wait(request, end)? {
                Some(News::Reply(records)) => return Ok(Some(records)),
                Some(News::Refused(reason)) => return Err(CallError::Refused(reason)),
                Some(News::Unknown) => asked = self.send(frame, end)?,
                Some(News::Beat) => self.remind(request)?,
                Some(News::Foreign) => {}
                None if self.station.clock.now() >= end => return Ok(None),
                None if !asked => asked = self.send(frame, end)?,
                None => self.remind(request)?,
            }
        }
    }

    /// Sends a request as soon as there is a broker; `false` when none came for the time of a
    /// heartbeat.
    fn send(&mut self, frame: &Frame, end: Time) -> Result<bool, CallError> {
        let within = self.config.heartbeat;
        match self.station.send(std::slice::from_ref(frame), within) {
            Ok(()) => Ok(true),
            Err(Halt::TimedOut) => {
                self.check_link()?;
                let left = end.since(self.station.clock.now());
                log::debug!("no broker at {}, {left:?} left", self.config.broker);
                Ok(false)
            }
            Err(halt) => Err(halt.into()),
        }
    }

    /// Waits for a message for at most the time of a heartbeat.
    fn wait(&mut self, request: JobId, end: Time) -> Result<Option<News>, CallError> {
        let mut patience = Patience::until(self.config.heartbeat, end);
        match self.station.receive(&mut self.message, &mut patience) {
            Ok(()) => Ok(Some(news(self.message.pop(), request))),
            Err(Halt::TimedOut) => Ok(None),
            Err(halt) => Err(halt.into()),
        }
    }

    /// Tells the broker that we still wait; nothing while there is none.
    fn remind(&mut self, request: JobId) -> Result<(), CallError> {
        self.check_link()?;
        let says = ClientSays::Await { job: request };
        self.say(&says)
    }

    fn say(&mut self, says: &ClientSays) -> Result<(), CallError> {
        let frame = frames::control(Kind::Client, says);
        let message = [self.config.codec.outgoing(End::Broker, frame)];
        match self.station.send(&message, Duration::ZERO) {
            Ok(()) | Err(Halt::TimedOut) => Ok(()),
            Err(halt) => Err(halt.into()),
        }
    }

    fn time_out(&mut self, request: JobId, within: Duration) -> CallError {
        // So that nobody works on it in vain; a broker that does not hear it notices our silence.
        if let Err(error) = self.say(&ClientSays::Cancel { job: request }) {
            return error;
        }
        CallError::TimedOut {
            broker: self.config.broker.clone(),
            operation: self.config.operation.clone(),
            within,
        }
    }

    /// Whether the broker lets us in.
    fn check_link(&mut self) -> Result<(), CallError> {
        while let Some(event) = self.station.socket.link_event() {
            match event {
                LinkEvent::Connected => self.refusals = 0,
                LinkEvent::Disconnected => {}
                LinkEvent::Refused { reason } => {
                    self.refusals += 1;
                    if self.refusals >= REFUSALS_BELIEVED {
                        return Err(CallError::Socket(format!("the broker: {reason}")));
                    }
                }
            }
        }
        Ok(())
    }
}

fn news(frame: Option<Frame>, request: JobId) -> News {
    match frame.map(frames::read_at_client) {
        Some(Ok(AtClient::Outcomes(job, _, records))) if job == request => News::Reply(records),
        Some(Ok(AtClient::Says(BrokerSays::Refused { job, reason })))
            if job == request || job == JobId(0) =>
        {
            News::Refused(reason)
        }
        Some(Ok(AtClient::Says(BrokerSays::Unknown { job }))) if job == request => News::Unknown,
        Some(Ok(AtClient::Says(BrokerSays::Beat { .. }))) => News::Beat,
        // Answers to calls that were given up.
        _ => News::Foreign,
    }
}
