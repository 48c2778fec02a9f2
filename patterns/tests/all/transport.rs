//! Real sockets: every role over every transport, and what goes wrong with them.

use std::time::Duration;

use mutirao::endpoint::Endpoint;
use mutirao::machine::Clock;
use mutirao::transport::{
    Frame, Message, Role, SendError, Side, Socket, SocketOptions, TransportError, open,
};
use mutirao::wait::{Interest, Sleeper, wait};

const PATIENCE: Duration = Duration::from_secs(10);

fn bound(role: Role, endpoint: &str, options: &SocketOptions) -> Box<dyn Socket> {
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    open(role, Side::Bind, &endpoint, options).expect("a socket that listens")
}

fn connected(role: Role, endpoint: &Endpoint, options: &SocketOptions) -> Box<dyn Socket> {
    open(role, Side::Connect, endpoint, options).expect("a socket that connects")
}

/// Waits until `look` finds what it looks for; panics when that takes too long.
fn wait_until<T>(
    socket: &mut dyn Socket,
    interest: Interest,
    what: &str,
    mut look: impl FnMut(&mut dyn Socket) -> Option<T>,
) -> T {
    let (sleeper, _waker) = Sleeper::new().expect("a sleeper");
    let clock = Clock::start();
    let deadline = clock.now() + PATIENCE;
    loop {
        if let Some(found) = look(socket) {
            return found;
        }
        assert!(clock.now() < deadline, "no {what} within {PATIENCE:?}");
        wait(
            &[(socket.source(), interest)],
            &sleeper,
            &clock,
            Some(deadline),
        );
    }
}

fn receive(socket: &mut dyn Socket) -> Message {
    wait_until(socket, Interest::Readable, "message", |socket| {
        socket.receive().expect("receive")
    })
}

fn send(socket: &mut dyn Socket, message: &[Frame]) {
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
}

fn frames(texts: &[&str]) -> Message {
    texts
        .iter()
        .map(|text| Frame::from(text.as_bytes()))
        .collect()
}

fn texts(message: &Message) -> Vec<String> {
    message
        .iter()
        .map(|frame| String::from_utf8_lossy(frame).into_owned())
        .collect()
}

#[test]
fn tcp_push_pull() {
    let options = SocketOptions::default();
    let mut pull = bound(Role::Pull, "tcp://127.0.0.1:*", &options);
    let mut push = connected(Role::Push, pull.endpoint(), &options);
    send(&mut *push, &frames(&["a", "b"]));
    assert_eq!(texts(&receive(&mut *pull)), ["a", "b"]);
}

#[test]
fn exposed() {
    let endpoint = "tcp://*:*".parse().unwrap();
    let refused = open(Role::Pull, Side::Bind, &endpoint, &SocketOptions::default());
    assert!(matches!(
        refused.err(),
        Some(TransportError::Exposed { .. })
    ));
}
