//! Our own connection: made, and made again with growing pauses.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::endpoint::Endpoint;
use crate::transport::callee::{Backoff, Callee, Lookup, RESOLVED};
use crate::transport::{SocketOptions, TransportError};

use super::poll::Poll;

/// How long a connection may take to come about; a machine that has gone answers nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
enum State {
    /// To begin at this time.
    Waiting(Instant),
    Resolving(Lookup),
    Connecting {
        stream: TcpStream,
        by: Instant,
        /// The system has an answer.
        answered: bool,
        /// Addresses to be tried next.
        others: Vec<SocketAddr>,
    },
    /// Connected, or about to say what we are.
    Done,
}

/// Makes the connection of a socket that connects.
#[derive(Debug)]
pub(super) struct Dial {
    callee: Callee,
    state: State,
    backoff: Backoff,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Dialed {
    NotYet,
    Connected(TcpStream),
    /// For this reason; it is tried again.
    Failed(String),
}

impl Dial {
    pub(super) fn new(
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<Dial, TransportError> {
        Ok(Dial {
            callee: Callee::new(endpoint)?,
            state: State::Waiting(Instant::now()),
            backoff: Backoff::new(options),
        })
    }

    /// The system has news of the connection that is being made.
    pub(super) fn note(&mut self, news: bool) {
        if let State::Connecting { answered, .. } = &mut self.state {
            *answered |= news;
        }
    }

    /// The connection stands, and both ends know what they are.
    pub(super) fn succeed(&mut self) {
        self.backoff.succeed();
    }

    /// Tries again after a pause, which doubles until it succeeds.
    pub(super) fn again(&mut self, now: Instant) {
        if let State::Done = self.state {
            self.state = State::Waiting(now + self.backoff.pause());
        }
    }

    /// When there is something to do; `None` when only news can bring it on.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting(due) => Some(*due),
            State::Resolving(_) => Some(Instant::now() + RESOLVED),
            State::Connecting { by, .. } => Some(*by),
            State::Done => None,
        }
    }

    /// Does what can be done now.
    pub(super) fn go_on(&mut self, now: Instant, poll: &Poll, key: u64) -> Dialed {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Waiting(due) if due <= now => self.resolve(now, poll, key),
            State::Resolving(lookup) => match lookup.poll() {
                Some(Ok(addresses)) => self.connect(now, addresses, poll, key),
                Some(Err(reason)) => {
                    self.callee.complain(&reason);
                    self.fail(now, reason)
                }
                None => self.stay(State::Resolving(lookup)),
            },
            State::Connecting {
                stream,
                others,
                answered: true,
                ..
            } => match stream.take_error() {
                // The system may have chosen for our end the very port that we called.
                Ok(None) if is_itself(&stream) => self.fail(now, "nobody listens there".into()),
                Ok(None) => Dialed::Connected(stream),
                Ok(Some(_)) if !others.is_empty() => self.connect(now, others, poll, key),
                Ok(Some(error)) | Err(error) => self.fail(now, error.to_string()),
            },
            State::Connecting { by, others, .. } if by <= now && !others.is_empty() => {
                self.connect(now, others, poll, key)
            }
            State::Connecting { by, .. } if by <= now => self.fail(now, "nobody answers".into()),
            state => self.stay(state),
        }
    }

    fn stay(&mut self, state: State) -> Dialed {
        self.state = state;
        Dialed::NotYet
    }

    fn fail(&mut self, now: Instant, reason: String) -> Dialed {
        self.state = State::Waiting(now + self.backoff.pause());
        Dialed::Failed(reason)
    }

    fn resolve(&mut self, now: Instant, poll: &Poll, key: u64) -> Dialed {
        if let Some(address) = self.callee.address() {
            return self.connect(now, vec![address], poll, key);
        }
        match self.callee.look_up() {
            Ok(lookup) => self.stay(State::Resolving(lookup)),
            Err(error) => self.fail(now, error.to_string()),
        }
    }

    fn connect(
        &mut self,
        now: Instant,
        mut addresses: Vec<SocketAddr>,
        poll: &Poll,
        key: u64,
    ) -> Dialed {
        if addresses.is_empty() {
            return self.fail(now, "the host has no address".into());
        }
        let address = addresses.remove(0);
        match begin(address).and_then(|stream| poll.add(&stream, key).map(|()| stream)) {
            Ok(stream) => self.stay(State::Connecting {
                stream,
                by: now + CONNECT_TIMEOUT,
                answered: false,
                others: addresses,
            }),
            Err(_) if !addresses.is_empty() => self.connect(now, addresses, poll, key),
            Err(error) => self.fail(now, error.to_string()),
        }
    }
}

/// Begins a connection without waiting for it.
fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let domain = Domain::for_address(address);
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Whether a connection leads from a socket to itself.
fn is_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(ours), Ok(theirs)) if ours == theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_to_itself_is_none() {
        let socket = RawSocket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        let ours = socket.local_addr().unwrap();
        socket.connect(&ours).unwrap();
        let stream = TcpStream::from(socket);
        assert!(is_itself(&stream));
        let endpoint = format!("raw+tcp://{}", stream.local_addr().unwrap());
        let options = SocketOptions::default();
        let mut dial = Dial::new(&endpoint.parse().unwrap(), &options).unwrap();
        dial.state = State::Connecting {
            stream,
            by: Instant::now() + CONNECT_TIMEOUT,
            answered: true,
            others: Vec::new(),
        };
        let dialed = dial.go_on(Instant::now(), &Poll::new().unwrap(), 1);
        assert!(matches!(dialed, Dialed::Failed(_)), "{dialed:?}");
        assert!(matches!(dial.state, State::Waiting(_)));
    }
}
