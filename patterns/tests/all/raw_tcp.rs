//! Raw TCP among peers that know no manners.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mutirao::Endpoint;
use mutirao::security::{CurveConfig, KeyPair, Security};
use mutirao::transport::{
    Frame, Heartbeat, LinkEvent, Role, Side, Socket, SocketOptions, TransportError, open,
};

use crate::support::*;

/// What a peer of this role says first.
fn preface(role: u8) -> [u8; 8] {
    [b'M', b'U', b'T', b'R', b'1', role, 0, 0]
}

const PUSH: u8 = 0;
const DEALER: u8 = 4;

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn address(socket: &dyn Socket) -> SocketAddr {
    socket.endpoint().address().parse().unwrap()
}

/// A connection that speaks for itself.
fn stranger(socket: &dyn Socket, says: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address(socket)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(says).unwrap();
    stream
}

/// Whether the other end closes the connection; it is read to its end.
fn is_cut_off(socket: &mut dyn Socket, stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let _ = socket.receive().unwrap();
        match stream.read(&mut [0; 64]) {
            Ok(0) => return true,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return true,
            _ => std::thread::yield_now(),
        }
    }
    false
}

/// Whether an honest pusher's message still gets through.
fn works(pull: &mut dyn Socket) {
    // What it says is heard before it goes.
    let options = SocketOptions {
        linger: Duration::ZERO,
        ..SocketOptions::default()
    };
    let mut push = connected(Role::Push, pull, &options);
    wait_while(
        &mut *push,
        Some(pull),
        mutirao::wait::Interest::ReadableOrWritable,
        "room",
        |push| push.send(&frames(&["honest"])).ok(),
    );
    push.flush();
    assert_eq!(texts(&receive_from(pull, &mut *push)), ["honest"]);
}

#[test]
fn what_is_against_the_protocol_is_cut_off_and_reported() {
    let mut options = watching();
    options.max_message_bytes = 1000;
    let mut pull = bound(Role::Pull, "raw_tcp", &options);
    let whole = |rest: &[u8]| [&preface(PUSH)[..], rest].concat();
    let cases: [(Vec<u8>, &str); 7] = [
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "does not speak this protocol",
        ),
        (b"MUTR9\0\0\0".to_vec(), "version '9'"),
        (preface(DEALER).to_vec(), "Dealer"),
        (b"MUTR1\xff\0\0".to_vec(), "does not speak this protocol"),
        (whole(&[0x3f, 0xff, 0xff, 0xff]), ""),
        (whole(&[0x40, 0, 0, 1, 9]), ""),
        (whole(&[0x80, 0, 0, 0].repeat(65)), ""),
    ];
    for (says, reason) in cases {
        let mut stream = stranger(&*pull, &says);
        assert!(is_cut_off(&mut *pull, &mut stream), "{says:?}");
        if !reason.is_empty() {
            let refusal = refusal(&mut *pull);
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
    works(&mut *pull);
}

#[test]
fn random_bytes_harm_nobody() {
    let mut pull = bound(Role::Pull, "raw_tcp", &SocketOptions::default());
    let mut seed = 7_u64;
    for round in 0..200 {
        let bytes: Vec<u8> = (0..round)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                (seed >> 33) as u8
            })
            .collect();
        let says = match round % 2 {
            0 => bytes,
            _ => [&preface(PUSH)[..], &bytes].concat(),
        };
        drop(stranger(&*pull, &says));
        let _ = pull.receive().unwrap();
    }
    // Some of it may be messages, as far as anybody can tell.
    while pull.receive().unwrap().is_some() {}
    works(&mut *pull);
}

#[test]
fn one_that_says_a_byte_at_a_time_holds_up_nobody() {
    let mut pull = bound(Role::Pull, "raw_tcp", &SocketOptions::default());
    let says = [&preface(PUSH)[..], &frame(b"slow")].concat();
    let mut stream = stranger(&*pull, &[]);
    stream.set_nodelay(true).unwrap();
    for byte in &says[..says.len() - 1] {
        stream.write_all(&[*byte]).unwrap();
        works(&mut *pull);
    }
    stream.write_all(&says[says.len() - 1..]).unwrap();
    assert_eq!(receive_texts(&mut *pull), ["slow"]);
}

#[test]
fn one_that_says_nothing_is_cut_off_in_time() {
    let options = SocketOptions {
        handshake: Duration::from_millis(100),
        ..watching()
    };
    let mut pull = bound(Role::Pull, "raw_tcp", &options);
    let mut silent = stranger(&*pull, b"MUTR");
    assert!(refusal(&mut *pull).contains("in time"));
    assert!(is_cut_off(&mut *pull, &mut silent));
    works(&mut *pull);
}

#[test]
fn one_that_falls_silent_is_cut_off_and_one_that_answers_is_not() {
    let options = SocketOptions {
        heartbeat: Heartbeat::Ping(Duration::from_millis(50)),
        ..watching()
    };
    let mut router = bound(Role::Router, "raw_tcp", &options);
    let silent = stranger(&*router, &preface(DEALER));
    assert_eq!(link_event(&mut *router), LinkEvent::Connected);
    assert_eq!(link_event(&mut *router), LinkEvent::Disconnected);
    drop(silent);
    let mut dealer = connected(Role::Dealer, &*router, &options);
    let mut tend = |dealer: &mut dyn Socket| link_event_while(&mut *router, Some(dealer));
    assert_eq!(tend(&mut *dealer), LinkEvent::Connected);
    // Ten times the patience, in which nobody says anything but that he lives.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        assert!(dealer.receive().unwrap().is_none());
        assert!(router.receive().unwrap().is_none());
        assert_eq!(router.link_event(), None);
        std::thread::yield_now();
    }
}

#[test]
fn one_that_is_busy_with_what_it_was_asked_is_waited_for() {
    let options = SocketOptions {
        heartbeat: Heartbeat::Ping(Duration::from_millis(20)),
        ..watching()
    };
    let mut router = bound(Role::Router, "raw_tcp", &options);
    let mut dealer = connected(Role::Dealer, &*router, &options);
    let linked = link_event_while(&mut *dealer, Some(&mut *router));
    assert_eq!(linked, LinkEvent::Connected);
    send_texts(&mut *dealer, &["work"]);
    let request = receive_from(&mut *router, &mut *dealer);
    // Ten times as long as somebody is waited for whose system is silent as well.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(600) {
        assert!(dealer.receive().unwrap().is_none());
        assert_eq!(dealer.link_event(), None);
        std::thread::yield_now();
    }
    send(&mut *router, &request);
    assert_eq!(texts(&receive_from(&mut *dealer, &mut *router)), ["work"]);
}

#[test]
fn ten_thousand_connections_are_peers_like_any_other() {
    let mut router = bound(Role::Router, "raw_tcp", &SocketOptions::default());
    // Both ends of each are in this process.
    let count = descriptors(20_000) / 2;
    let greeting = [&preface(DEALER)[..], &frame(b"hello")].concat();
    let mut streams = Vec::new();
    let mut heard = 0;
    for _ in 0..count {
        streams.push(stranger(&*router, &greeting));
        // More than the system lets wait would be refused.
        while streams.len() as u64 - heard > 100 {
            let message = receive(&mut *router);
            heard += 1;
            send(&mut *router, &message);
        }
    }
    while heard < count {
        let message = receive(&mut *router);
        heard += 1;
        send(&mut *router, &message);
    }
    for stream in &mut streams {
        let mut answer = [0; 8 + 4 + 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[12..], b"hello");
    }
}

#[test]
fn more_strangers_than_there_is_patience_for_are_cut_off_the_oldest_first() {
    let mut pull = bound(Role::Pull, "raw_tcp", &SocketOptions::default());
    let mut strangers = Vec::new();
    for _ in 0..1100 {
        strangers.push(stranger(&*pull, b"MU"));
        let _ = pull.receive().unwrap();
    }
    assert!(is_cut_off(&mut *pull, &mut strangers[0]));
    works(&mut *pull);
}

#[test]
fn one_that_does_not_read_has_a_bounded_queue_and_holds_up_nobody() {
    let mut router = bound(Role::Router, "raw_tcp", &few(4));
    let deaf = stranger(&*router, &[&preface(DEALER)[..], &frame(b"deaf")].concat());
    let id = receive(&mut *router).swap_remove(0);
    let load = Frame::from(vec![7; 100_000]);
    let sent = (0..10_000).take_while(|_| router.send(&[id.clone(), load.clone()]).is_ok());
    assert!(sent.count() < 1000);
    let mut other = stranger(&*router, &[&preface(DEALER)[..], &frame(b"other")].concat());
    let message = receive(&mut *router);
    send(&mut *router, &message);
    let mut answer = [0; 8 + 4 + 5];
    other.read_exact(&mut answer).unwrap();
    assert_eq!(&answer[12..], b"other");
    drop(deaf);
}

#[test]
fn what_cannot_be_is_a_sentence() {
    let options = SocketOptions::default();
    let taken = bound(Role::Pull, "raw_tcp", &options);
    let error = open_error(
        Role::Pull,
        Side::Bind,
        &taken.endpoint().to_string(),
        &options,
    );
    assert!(matches!(error, TransportError::InUse { .. }), "{error}");
    let insecure = SocketOptions {
        security: Security::Insecure,
        ..SocketOptions::default()
    };
    let nowhere = "raw+tcp://no.such.host.invalid:0";
    let text = open_error(Role::Pull, Side::Bind, nowhere, &insecure).to_string();
    assert!(text.contains("the host does not resolve"), "{text}");
    let refused =
        |side, endpoint: &str| open_error(Role::Pull, side, endpoint, &options).to_string();
    let text = refused(Side::Bind, "raw+tcp://192.0.2.1:0");
    assert!(
        text.contains("insecure") && !text.contains("CURVE"),
        "{text}"
    );
    let text = refused(Side::Connect, "raw+tcp://127.0.0.1:*");
    assert!(text.contains("port"), "{text}");
    let curve = SocketOptions {
        security: Security::Curve(
            CurveConfig {
                keys: KeyPair::generate().unwrap(),
                server: None,
                allow: None,
            }
            .into(),
        ),
        ..SocketOptions::default()
    };
    let text = open_error(Role::Pull, Side::Bind, "raw+tcp://127.0.0.1:*", &curve).to_string();
    assert!(text.contains("use tcp://"), "{text}");
}

#[test]
fn a_host_that_does_not_resolve_is_tried_again() {
    let endpoint: Endpoint = "raw+tcp://no.such.host.invalid:1".parse().unwrap();
    let mut push = open(Role::Push, Side::Connect, &endpoint, &watching()).unwrap();
    assert!(push.send(&frames(&["a"])).is_err());
    assert_eq!(push.link_event(), None);
}

#[test]
fn a_half_open_connection_is_found() {
    // A listener of the system's own, which accepts for a program that never does.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = format!("raw+tcp://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let options = SocketOptions {
        handshake: Duration::from_millis(50),
        ..watching()
    };
    let mut dealer = open(Role::Dealer, Side::Connect, &endpoint, &options).unwrap();
    let (first, _) = listener.accept().unwrap();
    // It is given up and made anew, without a word from the other end.
    listener.set_nonblocking(true).unwrap();
    wait_until(
        &mut *dealer,
        mutirao::wait::Interest::Readable,
        "second connection",
        |dealer| {
            let _ = dealer.receive().unwrap();
            listener.accept().ok()
        },
    );
    drop(first);
}

#[test]
fn a_peer_that_says_its_last_and_goes_is_noticed_at_once() {
    let options = SocketOptions {
        heartbeat: Heartbeat::Probe(Duration::from_secs(60)),
        ..watching()
    };
    let mut pull = bound(Role::Pull, "raw_tcp", &options);
    let _other = stranger(&*pull, &preface(PUSH));
    assert_eq!(link_event(&mut *pull), LinkEvent::Connected);
    let mut stream = stranger(&*pull, &preface(PUSH));
    assert_eq!(link_event(&mut *pull), LinkEvent::Connected);
    // Both before the socket looks again.
    stream.write_all(&frame(b"last")).unwrap();
    drop(stream);
    assert_eq!(receive_texts(&mut *pull), ["last"]);
    assert_eq!(link_event(&mut *pull), LinkEvent::Disconnected);
}

const PULL: u8 = 1;
const SUBSCRIBE: u8 = 3;

#[test]
fn one_that_sends_to_a_socket_that_only_sends_is_cut_off() {
    let mut push = bound(Role::Push, "raw_tcp", &SocketOptions::default());
    let mut talker = stranger(&*push, &[&preface(PULL)[..], &frame(b"hello")].concat());
    assert!(is_cut_off(&mut *push, &mut talker));
    let mut pull = connected(Role::Pull, &*push, &SocketOptions::default());
    wait_while(
        &mut *push,
        Some(&mut *pull),
        mutirao::wait::Interest::ReadableOrWritable,
        "room",
        |push| push.send(&frames(&["honest"])).ok(),
    );
    push.flush();
    assert_eq!(receive_texts(&mut *pull), ["honest"]);
}

#[test]
fn one_that_subscribes_to_everything_it_can_think_of_is_cut_off() {
    let mut publisher = bound(Role::Publish, "raw_tcp", &SocketOptions::default());
    let topics: Vec<u8> = (0..10_000_u32)
        .flat_map(|topic| frame(&[&[1][..], &topic.to_be_bytes()].concat()))
        .collect();
    let says = [&preface(SUBSCRIBE)[..], &topics].concat();
    let mut greedy = stranger(&*publisher, &says);
    assert!(is_cut_off(&mut *publisher, &mut greedy));
    // What it wanted is wanted no more.
    let mut modest = connected(Role::Subscribe, &*publisher, &SocketOptions::default());
    modest.subscribe(b"news").unwrap();
    wait_while(
        &mut *publisher,
        Some(&mut *modest),
        mutirao::wait::Interest::Readable,
        "subscription",
        |publisher| {
            publisher
                .receive()
                .unwrap()
                .filter(|m| texts(m) == ["\u{1}news"])
        },
    );
}

#[test]
fn a_socket_that_does_nothing_but_send_finds_newcomers_and_room() {
    let mut push = bound(Role::Push, "raw_tcp", &few(1000));
    let mut first = connected(Role::Pull, &*push, &SocketOptions::default());
    send_texts(&mut *push, &["to the first"]);
    assert_eq!(receive_texts(&mut *first), ["to the first"]);
    let mut second = connected(Role::Pull, &*push, &SocketOptions::default());
    let begun = Instant::now();
    loop {
        // No wait, no receive: only this.
        let _ = push.send(&frames(&["to somebody"]));
        push.flush();
        let _ = first.receive().unwrap();
        if second.receive().unwrap().is_some() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the newcomer gets nothing");
    }
}

#[test]
fn frames_that_are_too_much_together_are_refused_before_they_are_sent() {
    let options = SocketOptions {
        max_message_bytes: 100_000,
        ..SocketOptions::default()
    };
    let mut pull = bound(Role::Pull, "raw_tcp", &options);
    let mut push = connected(Role::Push, &*pull, &options);
    let half = Frame::from(vec![7; 90_000]);
    let error = push.send(&[half.clone(), half.clone()]).unwrap_err();
    assert!(error.to_string().contains("180000 bytes"), "{error}");
    send(&mut *push, &[half, Frame::from(vec![7; 70_000])]);
    assert_eq!(receive_from(&mut *pull, &mut *push).len(), 2);
}
