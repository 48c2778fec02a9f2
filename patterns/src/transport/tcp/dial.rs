//! Our own connection: made, and made again with growing pauses.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::endpoint::Endpoint;
use crate::transport::{SocketOptions, TransportError};

use super::poll::Poll;

/// How long a connection may take to come about; a machine that has gone answers nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How soon to look whether a name has been resolved.
const RESOLVED: Duration = Duration::from_millis(5);

#[derive(Debug)]
enum State {
    /// To begin at this time.
    Waiting(Instant),
    /// Another thread asks what addresses the host has: that may take seconds.
    Resolving(Receiver<io::Result<Vec<SocketAddr>>>),
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
    host: String,
    port: u16,
    state: State,
    pause: Duration,
    pause_min: Duration,
    pause_max: Duration,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Dialed {
    NotYet,
    Connected(TcpStream),
    /// For this reason; it is tried again.
    Failed(String),
    /// The same, and as a rule somebody has to do something.
    Unresolved(String),
}

impl Dial {
    pub(super) fn new(
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<Dial, TransportError> {
        let unusable = |reason: &str| TransportError::Unusable {
            endpoint: endpoint.clone(),
            reason: reason.into(),
        };
        let host = match endpoint.host() {
            Some("*") | None => {
                return Err(unusable(
                    "a connection needs a host; `*` is only for listening",
                ));
            }
            Some(host) => host.to_string(),
        };
        let port = endpoint.port().filter(|port| *port != 0);
        let port = port.ok_or_else(|| unusable("a connection needs a port number"))?;
        let pause_min = options.reconnect_min.max(Duration::from_millis(1));
        Ok(Dial {
            host,
            port,
            state: State::Waiting(Instant::now()),
            pause: pause_min,
            pause_min,
            pause_max: options.reconnect_max.max(pause_min),
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
        self.pause = self.pause_min;
    }

    /// Tries again after a pause, which doubles until it succeeds.
    pub(super) fn again(&mut self, now: Instant) {
        if let State::Done = self.state {
            self.state = State::Waiting(now + self.next_pause());
        }
    }

    /// Somewhat random, so that a thousand clients do not come back at once.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (2 * pause).min(self.pause_max);
        pause.mul_f64(rand::rng().random_range(0.75..1.25))
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
            State::Resolving(answer) => match answer.try_recv() {
                Ok(Ok(addresses)) => self.connect(now, addresses, poll, key),
                Ok(Err(error)) => self.unresolved(now, &error.to_string()),
                Err(TryRecvError::Disconnected) => self.unresolved(now, "nobody answered"),
                Err(TryRecvError::Empty) => self.stay(State::Resolving(answer)),
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
        self.state = State::Waiting(now + self.next_pause());
        Dialed::Failed(reason)
    }

    fn unresolved(&mut self, now: Instant, reason: &str) -> Dialed {
        self.state = State::Waiting(now + self.next_pause());
        Dialed::Unresolved(format!(
            "the host does not resolve ({reason}): check the name; it is tried again"
        ))
    }

    fn resolve(&mut self, now: Instant, poll: &Poll, key: u64) -> Dialed {
        if let Ok(ip) = self.host.parse() {
            return self.connect(now, vec![SocketAddr::new(ip, self.port)], poll, key);
        }
        let (tell, answer) = channel();
        let (host, port) = (self.host.clone(), self.port);
        let ask = move || {
            let addresses = (host.as_str(), port).to_socket_addrs();
            let _ = tell.send(addresses.map(Iterator::collect));
        };
        let thread = std::thread::Builder::new().name("resolve".into());
        match thread.spawn(ask) {
            Ok(_) => self.stay(State::Resolving(answer)),
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
