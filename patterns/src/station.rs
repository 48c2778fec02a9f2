//! A socket with what it takes to wait for it: what every object is built around.

use std::time::Duration;

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
        let (sleeper, waker) = Sleeper::new()?;
        Ok(Station {
            socket: transport::open(role, side, endpoint, options)?,
            sleeper,
            waker: waker.clone(),
            clock: Clock::start(),
            stop: StopHandle::new(waker),
        })
    }

    /// Sends a message, waiting for room for at most `within`.
    pub(crate) fn send(&mut self, message: &[Frame], within: Duration) -> Result<(), Halt> {
        self.until(
            Interest::ReadableOrWritable,
            within,
            |socket| match socket.send(message) {
                Ok(()) => Ok(Some(())),
                Err(SendError::Full) => Ok(None),
                Err(SendError::Failed(error)) => Err(error),
                Err(error @ SendError::Unroutable) => Err(TransportError::Failed {
                    what: "send a message",
                    reason: error.to_string(),
                }),
            },
        )
    }

    /// The next message, waiting for it for at most `within`.
    pub(crate) fn receive(&mut self, within: Duration) -> Result<Message, Halt> {
        self.until(Interest::Readable, within, |socket| socket.receive())
    }

    /// Waits until `attempt` yields something; the clock is read only when it does not at once.
    fn until<T>(
        &mut self,
        interest: Interest,
        within: Duration,
        mut attempt: impl FnMut(&mut dyn Socket) -> Result<Option<T>, TransportError>,
    ) -> Result<T, Halt> {
        let mut deadline = None;
        loop {
            if self.stop.is_stopped() {
                return Err(Halt::Stopped);
            }
            if let Some(done) = attempt(&mut *self.socket).map_err(Halt::Failed)? {
                return Ok(done);
            }
            if within.is_zero() {
                return Err(Halt::TimedOut);
            }
            let now = self.clock.now();
            let deadline = *deadline.get_or_insert(now + within);
            if now >= deadline {
                return Err(Halt::TimedOut);
            }
            self.wait(interest, Some(deadline));
        }
    }

    /// Waits until the socket is ready, somebody rings or `deadline` has come.
    pub(crate) fn wait(&self, interest: Interest, deadline: Option<Time>) {
        let source = self.socket.source();
        wait(&[(source, interest)], &self.sleeper, &self.clock, deadline);
    }
}
