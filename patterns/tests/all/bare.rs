//! What the tests of the objects share.

use std::time::Instant;

use mutirao::Endpoint;

use crate::support::PATIENCE;

/// All transports between objects that lose nothing.
pub(crate) const SCHEMES: [&str; 6] = ["tcp", "ipc", "inproc", "memory", "raw_tcp", "reliable_udp"];

/// Repeats `attempt`, which waits by itself, until it yields something.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
    }
}

/// A plain socket of the binding, for the other end.
pub(crate) struct Bare {
    pub(crate) socket: zmq::Socket,
    _context: zmq::Context,
}

pub(crate) fn bare(kind: zmq::SocketType) -> Bare {
    let context = zmq::Context::new();
    let socket = context.socket(kind).expect("a socket");
    let milliseconds = PATIENCE.as_millis() as i32;
    socket.set_rcvtimeo(milliseconds).expect("a timeout");
    socket.set_sndtimeo(milliseconds).expect("a timeout");
    socket.set_linger(0).expect("no linger");
    Bare {
        socket,
        _context: context,
    }
}

impl Bare {
    pub(crate) fn connect(kind: zmq::SocketType, endpoint: &Endpoint) -> Bare {
        let bare = bare(kind);
        bare.socket.connect(&endpoint.to_string()).expect("connect");
        bare
    }

    /// Listens on a port that the system picks.
    pub(crate) fn bind(kind: zmq::SocketType) -> (Bare, Endpoint) {
        let bare = bare(kind);
        bare.socket.bind("tcp://127.0.0.1:*").expect("bind");
        let endpoint = bare.socket.get_last_endpoint().expect("an endpoint");
        let endpoint = endpoint.expect("text").parse().expect("an endpoint");
        (bare, endpoint)
    }

    pub(crate) fn send(&self, frames: &[&[u8]]) {
        self.socket.send_multipart(frames, 0).expect("send");
    }

    pub(crate) fn receive(&self) -> Vec<Vec<u8>> {
        self.socket.recv_multipart(0).expect("receive")
    }
}
