//! The echo server and its clients, as people use them.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};

use rustix::process::Signal;

use crate::harness::{Launch, Place, Process, mutirao};

/// ZeroMQ, and bare sockets.
const TRANSPORTS: [&[&str]; 4] = [
    &["--transport", "zmq"],
    &["--transport", "tcp"],
    &["--transport", "udp"],
    &["--transport", "udp", "--reliable"],
];

/// A server and where it is.
struct Server {
    process: Process,
    port: String,
    transport: &'static [&'static str],
}

impl Server {
    fn start(place: &Place, transport: &'static [&'static str]) -> Server {
        let process = mutirao([
            "echo",
            "server",
            "--port",
            "0",
            "--log",
            &place.arg("log.txt"),
        ])
        .args(transport)
        .start();
        let said = process.wait_for("listening at ");
        let endpoint = said.split("listening at ").nth(1).unwrap();
        let endpoint = endpoint.split(';').next().unwrap();
        let port = endpoint.rsplit(':').next().unwrap().to_owned();
        Server {
            process,
            port,
            transport,
        }
    }

    fn client(&self, place: &Place) -> Launch {
        let server = format!("127.0.0.1:{}", self.port);
        mutirao([
            "echo",
            "client",
            &server,
            "--log",
            &place.arg("respuestas.txt"),
        ])
        .args(self.transport)
    }
}

fn lines(place: &Place, name: &str) -> Vec<String> {
    let text = String::from_utf8(place.read(name)).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_message_is_answered_and_written_down_at_both_ends() {
    for transport in TRANSPORTS {
        let place = Place::new();
        let server = Server::start(&place, transport);
        let client = server.client(&place).args(["--message", "olá 中文"]).run();
        let client = client.expect_code(0);
        assert_eq!(client.stdout_text(), "received: olá 中文\n");
        let log = lines(&place, "log.txt");
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(log[0].ends_with("Z 127.0.0.1 olá 中文"), "{log:?}");
        let answers = lines(&place, "respuestas.txt");
        assert!(answers[0].ends_with(" received: olá 中文"), "{answers:?}");
        server.process.signal(Signal::TERM);
        server
            .process
            .wait()
            .expect_code(0)
            .expect_said(&["after 1 messages"]);
    }
}

#[test]
fn many_clients_at_once_are_all_answered_and_no_line_is_torn() {
    const CLIENTS: usize = 12;
    const EACH: usize = 200;
    for transport in TRANSPORTS {
        let place = Place::new();
        let server = Server::start(&place, transport);
        let clients: Vec<Process> = (0..CLIENTS)
            .map(|client| {
                let text: Vec<_> = (0..EACH)
                    .map(|n| format!("client {client} says {n}\n"))
                    .collect();
                server.client(&place).stdin(text.concat()).start()
            })
            .collect();
        for (number, client) in clients.into_iter().enumerate() {
            let said = client.wait().expect_code(0);
            let expected: Vec<_> = (0..EACH)
                .map(|n| format!("received: client {number} says {n}"))
                .collect();
            let heard: Vec<_> = said.stdout_text().lines().collect();
            assert_eq!(heard, expected);
        }
        let mut log: Vec<String> = lines(&place, "log.txt")
            .iter()
            .map(|line| line.split_once(" 127.0.0.1 ").unwrap().1.to_owned())
            .collect();
        log.sort();
        let mut expected: Vec<_> = (0..CLIENTS)
            .flat_map(|client| (0..EACH).map(move |n| format!("client {client} says {n}")))
            .collect();
        expected.sort();
        assert_eq!(log, expected);
        assert_eq!(lines(&place, "respuestas.txt").len(), CLIENTS * EACH);
    }
}

#[test]
fn escape_sequences_are_shown_and_never_run() {
    let place = Place::new();
    let server = Server::start(&place, TRANSPORTS[1]);
    let client = server
        .client(&place)
        .args(["--message", "\x1b[2Ja\rb\nc"])
        .run();
    let client = client.expect_code(0);
    assert_eq!(client.stdout_text(), "received: \\u{1b}[2Ja\\u{d}b\\nc\n");
    for file in ["log.txt", "respuestas.txt"] {
        let text = String::from_utf8(place.read(file)).unwrap();
        assert!(text.ends_with("\\u{1b}[2Ja\\u{d}b\\nc\n"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}

#[test]
fn rubbish_is_refused_or_dropped_and_holds_up_nobody() {
    for transport in TRANSPORTS {
        let place = Place::new();
        let server = Server::start(&place, transport);
        let at = format!("127.0.0.1:{}", server.port);
        let rubbish = [
            &[0; 300][..],
            b"MUTR1\x04\0\0\xff\xff\xff\xff",
            b"GET / HTTP/1.1\r\n\r\n",
        ];
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut silent = Vec::new();
        for bytes in rubbish {
            udp.send_to(bytes, &at).unwrap();
            if let Ok(mut stream) = TcpStream::connect(&at) {
                let _ = stream.write_all(bytes);
                silent.push(stream);
            }
        }
        let client = server
            .client(&place)
            .args(["--message", "still here"])
            .run();
        assert_eq!(
            client.expect_code(0).stdout_text(),
            "received: still here\n"
        );
        assert_eq!(lines(&place, "log.txt").len(), 1);
    }
}

#[test]
fn what_is_wrong_is_a_sentence() {
    let place = Place::new();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    for transport in TRANSPORTS {
        let client = mutirao([
            "echo",
            "client",
            &format!("127.0.0.1:{port}"),
            "--message",
            "a",
        ])
        .args(["--log", &place.arg("r"), "--timeout", "300ms"])
        .args(transport);
        client
            .run()
            .expect_code(3)
            .expect_sentence(&["no server answers", "echo server"]);
        mutirao(["echo", "client", "no.such.host.invalid", "--message", "a"])
            .args(["--log", &place.arg("r"), "--timeout", "300ms"])
            .args(transport)
            .run()
            .expect_code(3)
            .expect_sentence(&["no.such.host.invalid", "does not resolve"]);
    }
    mutirao(["echo", "client", "raw+tcp://127.0.0.1:1", "--message", "a"])
        .args(["--log", &place.arg("r")])
        .run()
        .expect_code(2)
        .expect_sentence(&["--transport"]);
    for log in ["/dev/full", &place.arg("")] {
        let server = Server::start(&place, TRANSPORTS[1]);
        let port = &server.port;
        mutirao(["echo", "client", &format!("127.0.0.1:{port}"), "--log", log])
            .args(["--transport", "tcp", "--message", "a"])
            .run()
            .expect_code(3)
            .expect_sentence(&["cannot be written", "--log"]);
        server.process.signal(Signal::TERM);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for transport in &TRANSPORTS[..2] {
        let server = mutirao(["echo", "server", "--port", &port, "--log", &place.arg("l")]);
        server
            .args(*transport)
            .run()
            .expect_code(3)
            .expect_sentence(&["in use"]);
    }
    let server = |args: &[&str]| {
        mutirao(["echo", "server", "--log", &place.arg("l")])
            .args(args)
            .run()
    };
    server(&["--host", "0.0.0.0", "--port", "0", "--transport", "tcp"])
        .expect_code(2)
        .expect_sentence(&["--insecure"]);
    server(&[
        "--host",
        "no.such.host.invalid",
        "--transport",
        "tcp",
        "--insecure",
    ])
    .expect_code(3)
    .expect_sentence(&["does not resolve"]);
    let server = Server::start(&place, TRANSPORTS[1]);
    let client = server.client(&place).stdin(b"\xff\xfe\n".to_vec()).run();
    client.expect_code(3).expect_sentence(&["not UTF-8"]);
    let long = server.client(&place).stdin("é".repeat(20_000)).run();
    long.expect_code(2).expect_sentence(&["in parts"]);
}
