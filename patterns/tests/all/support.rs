//! Sockets for tests: on endpoints that nobody else uses, and with waits that end.

use std::time::Duration;

use mutirao::broker::{Broker, BrokerConfig, BrokerLimits, Mode};
use mutirao::endpoint::Endpoint;
use mutirao::machine::Clock;
use mutirao::transport::{
    Frame, LinkEvent, Message, Role, SendError, Side, Socket, SocketOptions, TransportError, open,
};
use mutirao::wait::{Interest, Sleeper, wait};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Listens at an endpoint of this scheme that nobody else uses.
pub(crate) fn bound(role: Role, scheme: &str, options: &SocketOptions) -> Box<dyn Socket> {
    let endpoint = fresh_endpoint(scheme);
    open(role, Side::Bind, &endpoint, options).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn fresh_endpoint(scheme: &str) -> Endpoint {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let text = match scheme {
        "tcp" => "tcp://127.0.0.1:*".to_string(),
        "raw_tcp" => "raw+tcp://127.0.0.1:*".to_string(),
        "raw_udp" => "raw+udp://127.0.0.1:*".to_string(),
        "reliable_udp" => "reliable+udp://127.0.0.1:*".to_string(),
        "ipc" => format!("ipc://@mutirao-test-{}-{count}", std::process::id()),
        scheme => format!("{scheme}://test-{count}"),
    };
    text.parse().expect("an endpoint")
}

pub(crate) fn connected(role: Role, peer: &dyn Socket, options: &SocketOptions) -> Box<dyn Socket> {
    let opened = open(role, Side::Connect, peer.endpoint(), options);
    opened.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits on `socket` until `look` finds what it looks for; panics when that takes too long.
pub(crate) fn wait_until<T>(
    socket: &mut dyn Socket,
    interest: Interest,
    what: &str,
    look: impl FnMut(&mut dyn Socket) -> Option<T>,
) -> T {
    wait_while(socket, None, interest, what, look)
}

/// How long `other` is left alone, whose transport may work only in calls.
const TEND: Duration = Duration::from_millis(2);

/// The same while `other`, which is in this thread too, has nothing to receive but its part to do.
pub(crate) fn wait_while<T>(
    socket: &mut dyn Socket,
    mut other: Option<&mut dyn Socket>,
    interest: Interest,
    what: &str,
    mut look: impl FnMut(&mut dyn Socket) -> Option<T>,
) -> T {
    let (sleeper, _waker) = Sleeper::new().expect("a sleeper");
    let clock = Clock::start();
    let deadline = clock.now() + PATIENCE;
    loop {
        let mut until = deadline;
        if let Some(other) = &mut other {
            let _ = other.receive().expect("receive");
            until = clock.now() + TEND;
        }
        if let Some(found) = look(socket) {
            return found;
        }
        assert!(clock.now() < deadline, "no {what} within {PATIENCE:?}");
        let links = socket
            .link_source()
            .map(|source| (source, Interest::Readable));
        let sources: Vec<_> = links
            .into_iter()
            .chain([(socket.source(), interest)])
            .collect();
        wait(&sources, &sleeper, &clock, Some(until));
    }
}

/// Receives what `other` sends, which is in this thread too.
pub(crate) fn receive_from(socket: &mut dyn Socket, other: &mut dyn Socket) -> Message {
    wait_while(
        socket,
        Some(other),
        Interest::Readable,
        "message",
        |socket| socket.receive().expect("receive"),
    )
}

pub(crate) fn receive(socket: &mut dyn Socket) -> Message {
    wait_until(socket, Interest::Readable, "message", |socket| {
        socket.receive().expect("receive")
    })
}

pub(crate) fn receive_texts(socket: &mut dyn Socket) -> Vec<String> {
    texts(&receive(socket))
}

pub(crate) fn send(socket: &mut dyn Socket, message: &[Frame]) {
    wait_until(
        socket,
        Interest::ReadableOrWritable,
        "room",
        |socket| match socket.send(message) {
            Ok(()) => Some(()),
            Err(SendError::Full) => None,
            Err(error) => panic!("{error}"),
        },
    );
    socket.flush();
}

pub(crate) fn send_texts(socket: &mut dyn Socket, texts: &[&str]) {
    send(socket, &frames(texts));
}

pub(crate) fn link_event(socket: &mut dyn Socket) -> LinkEvent {
    link_event_while(socket, None)
}

/// The same, and `other` is in this thread too.
pub(crate) fn link_event_while(
    socket: &mut dyn Socket,
    other: Option<&mut dyn Socket>,
) -> LinkEvent {
    wait_while(socket, other, Interest::Readable, "link event", |socket| {
        let _ = socket.receive().expect("receive");
        socket.link_event()
    })
}

/// An endpoint of this scheme at which nobody listens, with its port where it has one.
pub(crate) fn free_endpoint(scheme: &str) -> Endpoint {
    let endpoint = fresh_endpoint(scheme);
    if !endpoint.scheme().has_port() {
        return endpoint;
    }
    // On an address of its own, so that the system gives the port to nobody else meanwhile.
    let port = std::net::TcpListener::bind("127.0.0.2:0").expect("a port");
    let text = format!("{}://127.0.0.2:0", endpoint.scheme().name());
    let endpoint: Endpoint = text.parse().expect("an endpoint");
    endpoint.with_port(port.local_addr().expect("an address").port())
}

pub(crate) fn frames(texts: &[&str]) -> Message {
    texts
        .iter()
        .map(|text| Frame::from(text.as_bytes()))
        .collect()
}

pub(crate) fn texts(message: &Message) -> Vec<String> {
    message
        .iter()
        .map(|frame| String::from_utf8_lossy(frame).into_owned())
        .collect()
}

pub(crate) fn few(queue_messages: i32) -> SocketOptions {
    SocketOptions {
        queue_messages,
        ..SocketOptions::default()
    }
}

pub(crate) fn watching() -> SocketOptions {
    SocketOptions {
        watch_links: true,
        ..SocketOptions::default()
    }
}

/// The reason of the next refusal that the socket tells of, other events passed over.
pub(crate) fn refusal(socket: &mut dyn Socket) -> String {
    loop {
        if let LinkEvent::Refused { reason } = link_event(socket) {
            return reason;
        }
    }
}

/// Why the socket cannot be opened.
pub(crate) fn open_error(
    role: Role,
    side: Side,
    endpoint: &str,
    options: &SocketOptions,
) -> TransportError {
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    open(role, side, &endpoint, options)
        .err()
        .expect("an error")
}

/// Listens where a socket has just listened, which the system may still be closing.
pub(crate) fn rebound(role: Role, endpoint: &Endpoint, options: &SocketOptions) -> Box<dyn Socket> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match open(role, Side::Bind, endpoint, options) {
            Ok(socket) => return socket,
            Err(TransportError::InUse { .. }) if std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A broker that keeps nothing on disk, over tcp.
pub(crate) fn broker_in(mode: Mode) -> Broker {
    Broker::start(broker_config(mode), None).expect("a broker")
}

pub(crate) fn broker_config(mode: Mode) -> BrokerConfig {
    let limits = BrokerLimits {
        mode,
        ..BrokerLimits::default()
    };
    BrokerConfig {
        limits,
        ..BrokerConfig::new(fresh_endpoint("tcp"))
    }
}

/// How many files the process may open for a test, at most `wanted`.
pub(crate) fn descriptors(wanted: u64) -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let room = limit.maximum.unwrap_or(u64::MAX).saturating_sub(1000);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    wanted.min(room)
}
