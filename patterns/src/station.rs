//! A socket with what it takes to wait for it: what every object is built around.

use std::time::Duration;

use crate::broker::{BROKER, Codec};
use crate::endpoint::{Endpoint, EndpointError};
use crate::machine::{Clock, Time};
use crate::stop::StopHandle;
use crate::transport::{
    self, Frame, Message, Role, SendError, Side, Socket, SocketOptions, TransportError,
};
use crate::wait::{Interest, Sleeper, Waker, wait};

/// Why an object could not be opened; nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A value of the configuration is out of its range; the sentence names it.
    #[error("the configuration is not usable: {0}")]
    Config(String),
    /// The socket could not be opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The process is short of threads or file descriptors.
    #[error("the system refuses a thread or a file descriptor: {0}; raise `ulimit -n` or `-u`")]
    System(#[from] std::io::Error),
}

impl From<EndpointError> for OpenError {
    fn from(error: EndpointError) -> OpenError {
        OpenError::Config(error.to_string())
    }
}

/// Why a wait ended without what it waited for.
#[derive(Debug)]
pub(crate) enum Halt {
    TimedOut,
    Stopped,
    Failed(TransportError),
}

/// How long a call may still wait; the clock is read only when it really has to.
pub(crate) struct Patience {
    within: Duration,
    deadline: Option<Time>,
    end: Option<Time>,
}

impl Patience {
    pub(crate) fn new(within: Duration) -> Patience {
        Patience {
            within,
            deadline: None,
            end: None,
        }
    }

    /// At most `within`, and not beyond `end`.
    pub(crate) fn until(within: Duration, end: Time) -> Patience {
        Patience {
            within,
            deadline: None,
            end: Some(end),
        }
    }

    /// When the wait ends, counted from the first time that this is asked.
    pub(crate) fn deadline(&mut self, clock: &Clock) -> Time {
        let (within, end) = (self.within, self.end);
        *self.deadline.get_or_insert_with(|| {
            let due = clock.now() + within;
            end.map_or(due, |end| end.min(due))
        })
    }

    pub(crate) fn is_over(&mut self, clock: &Clock) -> bool {
        let deadline = self.deadline(clock);
        self.within.is_zero() || clock.now() >= deadline
    }
}

/// A socket, its sleeper, its clock and its stop handle; used by one thread at a time.
pub(crate) struct Station {
    pub(crate) socket: Box<dyn Socket>,
    pub(crate) sleeper: Sleeper,
    pub(crate) waker: Waker,
    pub(crate) clock: Clock,
    pub(crate) stop: StopHandle,
}

impl Station {
    pub(crate) fn open(
        role: Role,
        side: Side,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<Station, OpenError> {
        let mut options = options.clone();
        if !role.is_two_way() {
            // Nobody repeats what is lost here.
            options.heartbeat = options.heartbeat.without_messages();
        }
        Station::around(transport::open(role, side, endpoint, &options)?)
    }

    /// A station for somebody who talks to a broker.
    pub(crate) fn at_broker(
        broker: &Endpoint,
        codec: Codec,
        options: &SocketOptions,
    ) -> Result<Station, OpenError> {
        let (role, side) = (Role::Dealer, Side::Connect);
        let options = SocketOptions {
            max_message_bytes: codec.frame_bytes(options.max_message_bytes),
            ..options.clone()
        };
        Station::around(transport::open_complete(
            BROKER, role, side, broker, &options,
        )?)
    }

    fn around(socket: Box<dyn Socket>) -> Result<Station, OpenError> {
        let (sleeper, waker) = Sleeper::new()?;
        Ok(Station {
            socket,
            sleeper,
            waker: waker.clone(),
            clock: Clock::start(),
            stop: StopHandle::new(waker),
        })
    }

    /// Sends a message, waiting for room for at most `within`.
    ///
    /// It is on its way then: nobody knows what the caller does next, and for how long.
    pub(crate) fn send(&mut self, message: &[Frame], within: Duration) -> Result<(), Halt> {
        let sent = self.until(
            Interest::ReadableOrWritable,
            &mut Patience::new(within),
            |socket| match socket.send(message) {
                Ok(()) => Ok(Some(())),
                Err(SendError::Full) => Ok(None),
                Err(SendError::Failed(error)) => Err(error),
                Err(error @ SendError::Unroutable) => Err(TransportError::Failed {
                    what: "send a message",
                    reason: error.to_string(),
                }),
            },
        );
        self.socket.flush();
        sent
    }

    /// Waits for the next message as long as `patience` lasts and puts it in place of `message`.
    pub(crate) fn receive(
        &mut self,
        message: &mut Message,
        patience: &mut Patience,
    ) -> Result<(), Halt> {
        self.until(Interest::Readable, patience, |socket| {
            Ok(socket.receive_into(message)?.then_some(()))
        })
    }

    /// Tries until `attempt` yields something, and waits in between.
    fn until<T>(
        &mut self,
        interest: Interest,
        patience: &mut Patience,
        mut attempt: impl FnMut(&mut dyn Socket) -> Result<Option<T>, TransportError>,
    ) -> Result<T, Halt> {
        loop {
            if self.stop.is_stopped() {
                return Err(Halt::Stopped);
            }
            if let Some(done) = attempt(&mut *self.socket).map_err(Halt::Failed)? {
                return Ok(done);
            }
            if patience.is_over(&self.clock) {
                return Err(Halt::TimedOut);
            }
            let deadline = patience.deadline(&self.clock);
            self.wait(interest, Some(deadline));
        }
    }

    /// Waits until the socket is ready, somebody rings or `deadline` has come.
    pub(crate) fn wait(&self, interest: Interest, deadline: Option<Time>) {
        let source = self.socket.source();
        wait(&[(source, interest)], &self.sleeper, &self.clock, deadline);
    }
}
