//! Endpoints that cannot be used, and peers that do not keep to the protocol.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use mutirao::machine::Clock;
use mutirao::transport::{
    Frame, LinkEvent, Role, SendError, Side, Socket, SocketOptions, TransportError, open,
};
use mutirao::wait::{Interest, Sleeper, wait};

use crate::support::*;

fn bind_error(endpoint: &str) -> String {
    open_error(Role::Pull, Side::Bind, endpoint, &SocketOptions::default()).to_string()
}

fn connect_error(endpoint: &str) -> String {
    open_error(
        Role::Push,
        Side::Connect,
        endpoint,
        &SocketOptions::default(),
    )
    .to_string()
}

#[test]
fn a_port_that_another_program_uses() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", taken.local_addr().unwrap());
    let told = bind_error(&endpoint);
    assert_eq!(
        told,
        format!("{endpoint} is in use by another program: stop it or choose another endpoint")
    );
}

#[test]
fn addresses_that_cannot_be_used() {
    let insecure = SocketOptions {
        security: mutirao::security::Security::Insecure,
        ..SocketOptions::default()
    };
    for endpoint in ["tcp://192.0.2.1:5557", "tcp://no-such-interface:5557"] {
        let error = open_error(Role::Pull, Side::Bind, endpoint, &insecure);
        assert!(
            matches!(error, TransportError::Unusable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("of this machine"), "{error}");
    }
    for endpoint in ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0"] {
        let told = connect_error(endpoint);
        assert!(told.contains("a connection needs a port number"), "{told}");
    }
    let told = connect_error("tcp://*:5557");
    assert!(told.contains("`*` is only for listening"), "{told}");
}

#[test]
fn a_name_that_does_not_resolve_yet_is_tried_again() {
    let endpoint = "tcp://not-there-yet.invalid:5557".parse().unwrap();
    assert!(
        open(
            Role::Push,
            Side::Connect,
            &endpoint,
            &SocketOptions::default()
        )
        .is_ok()
    );
}

#[test]
fn ipc_paths_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let at = |name: &str| format!("ipc://{}", folder.path().join(name).display());
    for (name, reason) in [
        ("missing/socket", "the folder does not exist"),
        ("file/socket", "a part of the path is not a folder"),
        ("file", "something that is not a socket is at this path"),
    ] {
        let told = bind_error(&at(name));
        assert!(told.contains(reason) && told.contains(&at(name)), "{told}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn an_ipc_path_in_a_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.path().join("probe"), "").is_ok() {
        return; // The superuser may write anywhere.
    }
    let told = bind_error(&format!("ipc://{}/socket", folder.path().display()));
    assert!(told.contains("the folder cannot be written"), "{told}");
}

#[test]
fn an_ipc_socket_is_replaced_only_when_it_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let endpoint = format!("ipc://{}", path.display());
    let live = UnixListener::bind(&path).unwrap();
    let told = bind_error(&endpoint);
    assert!(told.contains("is in use"), "{told}");
    // As after a process was killed: the file stays and nobody listens.
    drop(live);
    assert!(path.exists());
    let options = SocketOptions::default();
    let mut pull = open(Role::Pull, Side::Bind, &endpoint.parse().unwrap(), &options).unwrap();
    let mut push = connected(Role::Push, &*pull, &options);
    send_texts(&mut *push, &["alive"]);
    assert_eq!(receive_texts(&mut *pull), ["alive"]);
}

#[test]
fn an_ipc_path_is_free_when_its_socket_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}", folder.path().join("socket").display());
    let (endpoint, options) = (endpoint.parse().unwrap(), SocketOptions::default());
    for _ in 0..20 {
        let mut pull = open(Role::Pull, Side::Bind, &endpoint, &options).unwrap();
        let mut push = connected(Role::Push, &*pull, &options);
        send_texts(&mut *push, &["alive"]);
        assert_eq!(receive_texts(&mut *pull), ["alive"]);
    }
}

/// The greeting of a socket without encryption (ZMTP 3.0).
fn greeting() -> Vec<u8> {
    let mut greeting = vec![0; 64];
    greeting[0] = 0xff;
    greeting[8..12].copy_from_slice(&[1, 0x7f, 3, 0]);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// Connects to `socket` as a PUSH socket does, up to the end of the handshake.
fn shake_hands(socket: &dyn Socket) -> TcpStream {
    let mut stream = dial(socket, &greeting());
    let mut answer = [0; 64 + 2];
    stream.read_exact(&mut answer).unwrap();
    let mut ready = vec![0; usize::from(answer[65])];
    stream.read_exact(&mut ready).unwrap();
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x04PUSH";
    stream
        .write_all(&[&[4, ready.len() as u8], &ready[..]].concat())
        .unwrap();
    stream
}

/// Listens, with a well-behaved peer connected.
fn with_friend() -> (Box<dyn Socket>, Box<dyn Socket>) {
    let options = SocketOptions {
        handshake: Duration::from_millis(200),
        ..watching()
    };
    let mut pull = bound(Role::Pull, "tcp", &options);
    let push = connected(Role::Push, &*pull, &options);
    assert_eq!(link_event(&mut *pull), LinkEvent::Connected);
    (pull, push)
}

/// Waits until the other side hangs up.
fn be_cut_off(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 1024];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("not cut off: {error}"),
        }
    }
}

fn dial(socket: &dyn Socket, bytes: &[u8]) -> TcpStream {
    let port = socket.endpoint().port().expect("a port");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

fn assert_still_served(pull: &mut dyn Socket, push: &mut dyn Socket) {
    send_texts(push, &["still here"]);
    assert_eq!(receive_texts(pull), ["still here"]);
}

#[test]
fn a_valid_raw_peer_is_heard() {
    let (mut pull, _push) = with_friend();
    let mut stream = shake_hands(&*pull);
    stream.write_all(b"\0\x05hello").unwrap();
    assert_eq!(receive_texts(&mut *pull), ["hello"]);
}

#[test]
fn a_length_that_claims_4_gib_is_cut_off() {
    let (mut pull, mut push) = with_friend();
    let before = resident_bytes();
    let mut stream = shake_hands(&*pull);
    let claim = [&[2], &(4_u64 << 30).to_be_bytes()[..], &[7; 1000]].concat();
    stream.write_all(&claim).unwrap();
    be_cut_off(stream);
    assert!(
        resident_bytes() < before + (1 << 30),
        "memory was taken for a claim"
    );
    assert_eq!(link_event(&mut *pull), LinkEvent::Connected);
    assert_eq!(link_event(&mut *pull), LinkEvent::Disconnected);
    assert_still_served(&mut *pull, &mut *push);
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn peers_that_speak_something_else_are_cut_off() {
    let (mut pull, mut push) = with_friend();
    let rubbish = [&greeting()[..], &[9; 200]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[7; 300], &[], &rubbish] {
        be_cut_off(dial(&*pull, bytes));
        let told = refusal(&mut *pull);
        assert!(told.contains("ZeroMQ"), "{told}");
    }
    assert_still_served(&mut *pull, &mut *push);
}

#[test]
fn a_message_of_too_many_frames_is_dropped() {
    let (mut pull, _push) = with_friend();
    let mut stream = shake_hands(&*pull);
    let frames = b"\x01\x01x".repeat(1000);
    stream
        .write_all(&[&frames[..], b"\0\x01x\0\x04next"].concat())
        .unwrap();
    assert_eq!(receive_texts(&mut *pull), ["next"]);
}

#[test]
fn a_socket_of_another_kind_is_told_to_both() {
    let mut pull = bound(Role::Pull, "tcp", &watching());
    let mut subscribe = connected(Role::Subscribe, &*pull, &watching());
    assert!(refusal(&mut *pull).contains("a socket of another kind"));
    assert!(refusal(&mut *subscribe).contains("a socket of another kind"));
}

#[test]
fn a_server_of_another_kind_is_told() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", server.local_addr().unwrap())
        .parse()
        .unwrap();
    let options = SocketOptions {
        handshake: Duration::from_millis(200),
        ..watching()
    };
    let mut push = open(Role::Push, Side::Connect, &endpoint, &options).unwrap();
    let silent = server.accept().unwrap();
    let told = refusal(&mut *push);
    assert!(
        told.contains("another kind of program may listen there"),
        "{told}"
    );
    drop(silent);
}

/// A frame over the limit makes libzmq give the connection up for good.
#[test]
fn a_peer_that_sends_too_much_is_heard_again_when_it_behaves() {
    let mut push = bound(Role::Push, "tcp", &SocketOptions::default());
    let modest = SocketOptions {
        max_message_bytes: 1000,
        reconnect_max: Duration::from_millis(100),
        ..watching()
    };
    let mut pull = connected(Role::Pull, &*push, &modest);
    send(&mut *push, &[Frame::from(vec![7; 1001])]);
    assert_eq!(link_event(&mut *pull), LinkEvent::Connected);
    assert_eq!(link_event(&mut *pull), LinkEvent::Disconnected);
    assert_eq!(link_event(&mut *pull), LinkEvent::Connected);
    send_texts(&mut *push, &["modest"]);
    assert_eq!(receive_texts(&mut *pull), ["modest"]);
}

#[test]
fn a_waker_ends_a_wait() {
    let pull = bound(Role::Pull, "tcp", &SocketOptions::default());
    let (sleeper, waker) = Sleeper::new().unwrap();
    let (clock, start) = (Clock::start(), Instant::now());
    let deadline = clock.now() + PATIENCE;
    let thread = std::thread::spawn(move || waker.wake());
    wait(
        &[(pull.source(), Interest::Readable)],
        &sleeper,
        &clock,
        Some(deadline),
    );
    assert!(start.elapsed() < PATIENCE);
    thread.join().unwrap();
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let pull = bound(Role::Pull, "tcp", &SocketOptions::default());
    let (sleeper, _waker) = Sleeper::new().unwrap();
    let clock = Clock::start();
    let deadline = clock.now() + Duration::from_millis(5);
    while clock.now() < deadline {
        wait(
            &[(pull.source(), Interest::Readable)],
            &sleeper,
            &clock,
            Some(deadline),
        );
    }
}

#[test]
fn a_push_that_nobody_serves_fills_up() {
    let endpoint = "tcp://127.0.0.1:1".parse().unwrap();
    let mut push = open(Role::Push, Side::Connect, &endpoint, &few(3)).unwrap();
    let refused = (0..10).find_map(|_| push.send(&frames(&["x"])).err());
    assert!(matches!(refused, Some(SendError::Full)), "{refused:?}");
}
