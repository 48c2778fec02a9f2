//! The chat as people use it: a server, and clients whose input and output are pipes.

use std::io::Write as _;

use mutirao::sim::Rng;
use mutirao::transport::{self, Role, Side, SocketOptions};
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::harness::{Launch, Place, Process, mutirao, wait_until};

const PATTERNS: [&str; 3] = ["pub-sub", "push-pull", "req-rep"];

/// Where a server may listen. Every pattern has to do with every transport.
const TRANSPORTS: [&str; 4] = [
    "tcp://127.0.0.1:*",
    "raw+tcp://127.0.0.1:*",
    "raw+udp://127.0.0.1:*",
    "reliable+udp://127.0.0.1:*",
];

/// A server, and where it is.
struct Server {
    process: Process,
    endpoint: String,
    pattern: &'static str,
}

impl Server {
    fn start(pattern: &'static str, bind: &str) -> Server {
        Server::start_with(pattern, bind, &[])
    }

    fn start_with(pattern: &'static str, bind: &str, more: &[&str]) -> Server {
        let process = mutirao(["chat", "server", "--pattern", pattern, "--bind", bind])
            .args(more)
            .start();
        Server::of(process, pattern)
    }

    fn of(process: Process, pattern: &'static str) -> Server {
        let said = process.wait_for("chat at ");
        let endpoint = said.split("chat at ").nth(1).unwrap();
        let endpoint = endpoint.split(", by").next().unwrap().to_owned();
        Server {
            process,
            endpoint,
            pattern,
        }
    }

    /// A client that is about to connect.
    fn client(&self, name: &str) -> Launch {
        mutirao(["chat", "client", "--name", name]).args([
            "--pattern",
            self.pattern,
            "--server",
            &self.endpoint,
            // On a busy machine a start takes its time.
            "--timeout",
            "1m",
        ])
    }

    /// A client that is in the room, and whose person may type.
    fn enter(&self, name: &str) -> Process {
        let client = self.client(name).stdin_open().start();
        client.wait_for_output(&format!("{name} has joined"));
        client
    }
}

fn everywhere(test: impl Fn(&'static str, &str)) {
    for pattern in PATTERNS {
        for bind in TRANSPORTS {
            test(pattern, bind);
        }
        let place = Place::new();
        test(pattern, &place.ipc("chat"));
    }
}

fn say(client: &mut Process, text: &str) {
    client.write_stdin(format!("{text}\n").as_bytes());
}

#[test]
fn two_talk_over_every_pattern_and_transport() {
    everywhere(|pattern, bind| {
        let server = Server::start(pattern, bind);
        let mut ana = server.enter("ana");
        let mut bia = server.enter("bia");
        ana.wait_for_output("bia has joined");
        say(&mut ana, "olá 中文");
        bia.wait_for_output("ana: olá 中文");
        say(&mut bia, "tudo bem?");
        ana.wait_for_output("bia: tudo bem?");
        say(&mut bia, "/msg ANA segredo");
        ana.wait_for_output("[private] bia: segredo");
        bia.wait_for_output("[private] to ana: segredo");
        ana.close_stdin();
        ana.wait().expect_code(0);
        bia.wait_for_output("ana has left");
        bia.close_stdin();
        bia.wait().expect_code(0);
    });
}

#[test]
fn a_private_message_is_for_one_alone() {
    let server = Server::start("pub-sub", TRANSPORTS[0]);
    let (mut ana, bia, eva) = (
        server.enter("ana"),
        server.enter("bia"),
        server.enter("eva"),
    );
    say(&mut ana, "/msg bia segredo");
    say(&mut ana, "em público");
    bia.wait_for_output("segredo");
    eva.wait_for_output("em público");
    let mut eva = eva;
    eva.close_stdin();
    let ended = eva.wait().expect_code(0);
    assert!(!ended.stdout_text().contains("segredo"));
    say(&mut ana, "/msg eva onde está?");
    ana.wait_for_output("nobody is called eva");
}

#[test]
fn commands_go_from_room_to_room_and_name_to_name() {
    let server = Server::start("req-rep", TRANSPORTS[1]);
    let (mut ana, mut bia) = (server.enter("ana"), server.enter("bia"));
    say(&mut ana, "/join praça");
    ana.wait_for_output("you are in praça");
    bia.wait_for_output("ana has gone to another room");
    say(&mut bia, "/rooms");
    bia.wait_for_output("lobby: 1 member");
    bia.wait_for_output("praça: 1 member");
    say(&mut bia, "/join praça");
    ana.wait_for_output("bia has joined");
    say(&mut bia, "/nick beatriz");
    ana.wait_for_output("bia is called beatriz now");
    bia.wait_for_output("you are called beatriz now");
    say(&mut bia, "/nick ANA");
    bia.wait_for_output("the name ANA is taken");
    say(&mut ana, "/who");
    ana.wait_for_output("praça has 2 members: ana, beatriz");
    say(&mut ana, "/help");
    ana.wait_for_output("/msg NAME TEXT");
    say(&mut ana, "/dance");
    ana.wait_for_output("no command /dance");
    say(&mut ana, "/quit");
    ana.wait().expect_code(0);
    bia.wait_for_output("ana has left");
}

#[test]
fn the_last_messages_are_there_for_those_who_come_later() {
    everywhere(|pattern, bind| {
        let server = Server::start(pattern, bind);
        let text: String = (1..=30).map(|number| format!("n{number}.\n")).collect();
        server.client("ana").stdin(text).run().expect_code(0);
        let late = server.client("bia").args(["--last", "6"]).run();
        let late = late.expect_code(0);
        // That ana has left is no message.
        let lines: Vec<&str> = late.stdout_text().lines().collect();
        let said = lines.iter().filter(|line| line.contains("ana: "));
        let said: Vec<_> = said
            .map(|line| line.split("ana: ").nth(1).unwrap())
            .collect();
        assert_eq!(
            said,
            ["n25.", "n26.", "n27.", "n28.", "n29.", "n30."],
            "{lines:?}"
        );
    });
}

#[test]
fn a_name_is_taken_once() {
    let server = Server::start("pub-sub", TRANSPORTS[1]);
    let _ana = server.enter("ana");
    let second = server.client("Ana").stdin("hello\n").run().expect_code(3);
    second.expect_sentence(&["the name Ana is taken", "choose another"]);
}

#[test]
fn a_client_that_is_killed_is_seen_as_gone() {
    everywhere(|pattern, bind| {
        let server = Server::start(pattern, bind);
        let (ana, bia) = (server.enter("ana"), server.enter("bia"));
        bia.kill();
        ana.wait_for_output("bia is gone");
        // Its name is free.
        server.enter("bia");
    });
}

#[test]
fn a_client_goes_on_when_the_server_is_killed_and_started_again() {
    for pattern in PATTERNS {
        for bind in TRANSPORTS {
            let place = Place::new();
            let history = place.arg("history");
            let keep = ["--history", &history];
            let mut server = Server::start_with(pattern, bind, &keep);
            let (mut ana, mut bia) = (server.enter("ana"), server.enter("bia"));
            say(&mut ana, "before");
            bia.wait_for_output("ana: before");
            server.process.kill_now();
            // A crash in the middle of a line.
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(&history)
                .unwrap();
            file.write_all(b"{\"room\":\"lob").unwrap();
            say(&mut ana, "meanwhile");
            let at = server.endpoint.clone();
            let server = Server::start_with(pattern, &at, &keep);
            bia.wait_for_output("ana: meanwhile");
            say(&mut bia, "after");
            ana.wait_for_output("bia: after");
            for client in [&mut ana, &mut bia] {
                client.close_stdin();
            }
            for ended in [ana.wait().expect_code(0), bia.wait().expect_code(0)] {
                for text in ["before", "meanwhile", "after"] {
                    let count = ended.stdout_text().matches(&format!(": {text}\n")).count();
                    assert_eq!(count, 1, "{text} in {}", ended.stdout_text());
                }
            }
            let late = server.client("eva").stdin("").run().expect_code(0);
            assert!(late.stdout_text().contains("ana: before"));
        }
    }
}

#[test]
fn a_server_without_history_says_that_it_has_forgotten() {
    let mut server = Server::start("pub-sub", TRANSPORTS[0]);
    let ana = server.enter("ana");
    server.process.kill_now();
    let again = server.endpoint.clone();
    let _server = Server::start("pub-sub", &again);
    ana.wait_for_output("has forgotten what was said");
}

#[test]
fn a_flood_and_a_stopped_member_hold_up_nobody() {
    everywhere(|pattern, bind| {
        let server = Server::start(pattern, bind);
        let (mut ana, mut bia) = (server.enter("ana"), server.enter("bia"));
        let stopped = server.enter("parada");
        let flood = mutirao([
            "chat",
            "crowd",
            "--members",
            "1",
            "--rate",
            "1000000",
            "--flood",
        ])
        .args(["--seconds", "600", "--room", "lobby"])
        .args(["--pattern", pattern, "--server", &server.endpoint])
        .start();
        flood.wait_for("in the room");
        stopped.signal(Signal::STOP);
        for number in 0..20 {
            say(&mut ana, &format!("ping {number}."));
            bia.wait_for_output(&format!("ana: ping {number}."));
            say(&mut bia, &format!("pong {number}."));
            ana.wait_for_output(&format!("bia: pong {number}."));
        }
        ana.wait_for_output("parada is gone");
        flood.kill();
        stopped.signal(Signal::CONT);
        stopped.wait_for_output("bia: pong 19.");
        ana.wait_for_output("parada is back");
        ana.close_stdin();
        ana.wait().expect_code(0);
        server.process.signal(Signal::TERM);
        let said = server.process.wait().expect_code(0).stderr;
        let refused = said.split("stopped with ").nth(1).unwrap();
        assert!(refused.contains("messages came too fast"), "{said}");
    });
}

#[test]
fn a_crowd_gets_everything_over_every_pattern_and_transport() {
    everywhere(|pattern, bind| {
        let server = Server::start(pattern, bind);
        let crowd = mutirao(["chat", "crowd", "--members", "60", "--rate", "100"])
            .args(["--seconds", "1", "--pattern", pattern])
            .args(["--server", &server.endpoint]);
        let ended = crowd.run().expect_code(0);
        let said = ended.stdout_text();
        assert!(said.contains("6000 of 6000 deliveries, 0 twice"), "{said}");
    });
}

#[test]
fn escape_sequences_are_shown_and_not_run() {
    let server = Server::start("pub-sub", TRANSPORTS[0]);
    let bia = server.enter("bia");
    let evil = "\u{1b}]0;title\u{7}\u{1b}[31mred \u{202e}backwards\u{9b}2J\n";
    server.client("ana").stdin(evil).run().expect_code(0);
    let line = bia.wait_for_output("title");
    assert!(line.contains("\\u{1b}]0;title\\u{7}\\u{1b}[31mred \\u{202e}backwards\\u{9b}2J"));
    let fault = server.client("a\u{1b}[2J").stdin("").run().expect_code(2);
    fault.expect_sentence(&["is no name for a member"]);
}

#[test]
fn lines_that_cannot_be_said_are_counted_and_the_others_go_on() {
    let server = Server::start("pub-sub", TRANSPORTS[0]);
    let long = "x".repeat(5_000);
    let endless = "y".repeat(100_000);
    let mut text = format!("{long}\n{endless}\n").into_bytes();
    text.extend_from_slice(b"\xff\xfe\n\n/nick a b\nfine\n");
    let ended = server.client("ana").stdin(text).run().expect_code(0);
    let said = ended.stdout_text();
    for part in [
        "a message of 5000 bytes was not sent: 4096 is the most",
        "a line of more than 16384 bytes was not sent",
        "a line that is not UTF-8 was not sent (1 so far)",
        "is no name for a member",
        "ana: fine",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn who_calls_in_vain_is_told_and_goes_on_trying() {
    // A server shows where nobody listens any more.
    let server = Server::start("req-rep", TRANSPORTS[0]);
    let endpoint = server.endpoint.clone();
    server.process.kill();
    let client = mutirao(["chat", "client", "--name", "ana", "--pattern", "req-rep"])
        .args(["--server", &endpoint, "--timeout", "5m"])
        .stdin_open();
    let client = client.start();
    client.wait_for_output(&format!(
        "no chat server answers at {endpoint}: start one with"
    ));
    let _server = Server::start("req-rep", &endpoint);
    client.wait_for_output("connected as ana");
    client.signal(Signal::INT);
    client.wait().expect_code(130);
}

#[test]
fn a_pipe_into_a_server_that_is_not_there_ends_after_a_while() {
    let place = Place::new();
    let client = mutirao(["chat", "client", "--name", "ci", "--timeout", "1s"]);
    let client = client.args(["--server", &place.ipc("nobody")]);
    let ended = client.stdin("one\ntwo\n").run().expect_code(3);
    ended.expect_sentence(&[
        "no chat server has answered at ipc://",
        "(2 messages not sent)",
    ]);
}

#[test]
fn a_signal_is_heard_while_messages_wait() {
    let place = Place::new();
    let mut client = mutirao(["chat", "client", "--name", "ci", "--timeout", "1h"])
        .args(["--server", &place.ipc("nobody")])
        .stdin_open()
        .start();
    client.write_stdin("more than can wait\n".repeat(1_000).as_bytes());
    // Said some seconds after the lines were read.
    client.wait_for_output("no chat server answers");
    client.signal(Signal::TERM);
    let ended = client.wait().expect_code(130);
    ended.expect_sentence(&["left with 256 messages that the server has not confirmed"]);
}

#[test]
fn a_client_of_another_pattern_is_told_which_one_it_is() {
    for (ours, theirs) in [("pub-sub", "push-pull"), ("push-pull", "pub-sub")] {
        let server = Server::start(ours, TRANSPORTS[0]);
        let client = mutirao(["chat", "client", "--name", "ana", "--pattern", theirs]);
        let client = client.args(["--server", &server.endpoint, "--timeout", "1m"]);
        let ended = client.stdin("olá\n").run().expect_code(3);
        ended.expect_sentence(&[&format!(
            "the server speaks {ours}: start the client with --pattern {ours}"
        )]);
        talk(&server);
    }
}

#[test]
fn a_history_from_other_days_is_shown_with_its_dates() {
    let place = Place::new();
    let noon_ms = |day: u64| (24 * day + 12) * 3_600_000;
    let said = |number, day, text| {
        let at = noon_ms(day);
        format!(
            "{{\"room\":\"lobby\",\"number\":{number},\"at\":{at},\"event\":{{\"said\":{{\"who\":\"eva\",\"text\":\"{text}\"}}}}}}\n"
        )
    };
    let lines = said(1, 1, "one") + &said(2, 1, "two") + &said(3, 2, "three");
    place.write("history", format!("{{\"chat\":1,\"story\":7}}\n{lines}"));
    let server = Server::start_with(
        "pub-sub",
        TRANSPORTS[1],
        &["--history", &place.arg("history")],
    );
    let ended = server.client("ana").stdin("").run().expect_code(0);
    let lines = ended.stdout_text().lines();
    let lines: Vec<&str> = lines
        .filter(|line| line.contains("eva: ") || line.contains("1970-"))
        .collect();
    assert_eq!(lines[0], "-- Friday 1970-01-02");
    assert!(
        lines[1].ends_with("eva: one") && lines[2].ends_with("eva: two"),
        "{lines:?}"
    );
    assert_eq!(lines[3], "-- Saturday 1970-01-03");
    assert!(
        lines[4].ends_with("eva: three") && lines.len() == 5,
        "{lines:?}"
    );
}

#[test]
fn what_finds_no_room_in_the_history_is_refused_until_there_is_some() {
    let place = Place::new();
    // Files may have 4 KiB, until that is taken back; the signal that would come with it is ignored.
    let small = "trap '' XFSZ; ulimit -S -f 8; exec \"$@\"";
    let process = mutirao(["chat", "server", "--bind", TRANSPORTS[1]])
        .args(["--history", &place.arg("history")])
        .through(["sh", "-c", small, "sh"])
        .start();
    let server = Server::of(process, "pub-sub");
    let (mut ana, mut bia) = (server.enter("ana"), server.enter("bia"));
    for number in 0..12 {
        say(&mut ana, &format!("{number}: {}", "x".repeat(500)));
    }
    let refused = ana.wait_for_output("was not taken");
    assert!(
        refused.contains("the server cannot write its history (File too large"),
        "{refused}"
    );
    server.process.wait_for("messages are refused until it can");
    let long = "y".repeat(4_000) + "\n";
    let ended = server.client("ci").stdin(long).run().expect_code(1);
    ended.expect_sentence(&["the server has not taken 1 message"]);
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(Some(server.process.pid()), Resource::Fsize, unlimited).unwrap();
    say(&mut ana, "room again");
    bia.wait_for_output("ana: room again");
    bia.close_stdin();
    let heard = bia.wait().expect_code(0);
    let kept = String::from_utf8(place.read("history")).unwrap();
    for number in 0..12 {
        let text = format!("{number}: xxx");
        let both = (
            heard.stdout_text().contains(&format!("ana: {text}")),
            kept.contains(&format!("\"{text}")),
        );
        assert!(
            both == (true, true) || both == (false, false),
            "{number}: {both:?}"
        );
    }
    assert!(!heard.stdout_text().contains("yyy") && !kept.contains("yyy"));
    assert!(heard.stdout_text().contains("ana: 0: xxx"));
    // The first time, and perhaps the tenth.
    let told = server.process.said();
    let told = told.matches("cannot write its history").count();
    assert!((1..=2).contains(&told), "{told}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_with_a_reason() {
    let refused = |args: &[&str], code, parts: &[&str]| {
        let ended = mutirao(args).run().expect_code(code);
        ended.expect_sentence(parts);
    };
    let server = Server::start("pub-sub", TRANSPORTS[1]);
    let at = &*server.endpoint;
    refused(&["chat", "server", "--bind", at], 3, &["is in use"]);
    refused(
        &["chat", "server", "--pattern", "broker"],
        2,
        &["choose push-pull, req-rep or pub-sub"],
    );
    refused(
        &["chat", "server", "--bind", "tcp://0.0.0.0:*"],
        2,
        &["--insecure"],
    );
    refused(
        &["chat", "server", "--bind", "inproc://x"],
        2,
        &["only this process"],
    );
    refused(&["chat", "server", "--reliable"], 2, &["--transport udp"]);
    refused(
        &["chat", "client", "--name", "ana", "--room", "a b"],
        2,
        &["no name for a room"],
    );
    refused(&["chat", "server", "--history", "/"], 3, &["--history"]);
    // Compose passes on what nobody has set.
    let server = mutirao(["chat", "server", "--bind", TRANSPORTS[0]]);
    let server = server
        .env("MUTIRAO_TRANSPORT", "")
        .env("MUTIRAO_HISTORY", "")
        .start();
    server.wait_for("chat at tcp://127.0.0.1:");
}

#[test]
fn rubbish_from_the_network_is_counted_and_stops_nobody() {
    for pattern in PATTERNS {
        let server = Server::start(pattern, TRANSPORTS[0]);
        let context = zmq::Context::new();
        let kind = match pattern {
            "push-pull" => zmq::PUSH,
            _ => zmq::DEALER,
        };
        let (host, port) = server.endpoint.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let port = if pattern == "pub-sub" { port + 1 } else { port };
        let stranger = context.socket(kind).unwrap();
        stranger.connect(&format!("{host}:{port}")).unwrap();
        for number in 0..50_u8 {
            let frames = vec![vec![number; 3]; usize::from(number % 5) + 1];
            stranger.send_multipart(frames, 0).unwrap();
        }
        server.process.wait_for("dropped a message");
        talk(&server);
    }
}

#[test]
fn rubbish_on_bare_sockets_stops_nobody() {
    for pattern in PATTERNS {
        let server = Server::start(pattern, TRANSPORTS[1]);
        let address = server.endpoint.split("://").nth(1).unwrap();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"C"] {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
        }
        let _silent = std::net::TcpStream::connect(address).unwrap();
        talk(&server);
    }
}

#[test]
fn rubbish_over_udp_is_counted_and_stops_nobody() {
    for pattern in PATTERNS {
        for bind in &TRANSPORTS[2..] {
            let server = Server::start(pattern, bind);
            let (scheme, address) = server.endpoint.split_once("://").unwrap();
            let (host, port) = address.rsplit_once(':').unwrap();
            let first: u16 = port.parse().unwrap();
            let ports = if pattern == "req-rep" {
                first..=first
            } else {
                first..=first + 1
            };
            for port in ports {
                stray_datagrams(&format!("{host}:{port}"));
            }
            server.process.wait_for("a datagram of");
            let (role, port) = match pattern {
                "push-pull" => (Role::Push, first),
                "pub-sub" => (Role::Dealer, first + 1),
                _ => (Role::Dealer, first),
            };
            truncated_packets(role, &format!("{scheme}://{host}:{port}"));
            server.process.wait_for("dropped a message");
            talk(&server);
        }
    }
}

/// Datagrams of somebody who knows nothing, or only how they begin.
fn stray_datagrams(address: &str) {
    let stray = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rng = Rng::new(1);
    for number in 0..200 {
        let length = rng.below(1_400) as usize;
        let mut datagram: Vec<u8> = (0..length).map(|_| rng.below(256) as u8).collect();
        if number % 2 == 0 {
            let start = [&b"MUTU1"[..], &[number as u8 % 16]].concat();
            datagram.splice(..length.min(start.len()), start);
        }
        stray.send_to(&datagram, address).unwrap();
    }
}

/// A peer that gets as far as sending messages, none of which is a whole packet.
fn truncated_packets(role: Role, endpoint: &str) {
    let endpoint = endpoint.parse().unwrap();
    let mut socket =
        transport::open(role, Side::Connect, &endpoint, &SocketOptions::default()).unwrap();
    // As much as a knock begins with.
    let packet = b"CHT1\x94\x01\x00\x00\x81\xa5Knock\x97\xa7pub-sub\x01";
    for length in 0..packet.len() {
        let number = 7_u64.to_be_bytes();
        let frames = match length % 2 {
            0 => vec![packet[..length].into()],
            _ => vec![
                number[..].into(),
                number[..].into(),
                packet[..length].into(),
            ],
        };
        wait_until(crate::harness::DEADLINE, "the peer to connect", || {
            while socket.receive().unwrap().is_some() {}
            let sent = socket.send(&frames).is_ok();
            socket.flush();
            sent
        });
    }
    // What is reliable is repeated until it has arrived.
    for _ in 0..20 {
        while socket.receive().unwrap().is_some() {}
        std::thread::yield_now();
    }
}

fn talk(server: &Server) {
    let (mut ana, bia) = (server.enter("ana"), server.enter("bia"));
    say(&mut ana, "olá");
    bia.wait_for_output("ana: olá");
}

#[test]
fn keys_open_the_door_and_nothing_else_does() {
    let place = Place::new();
    mutirao(["keygen", &place.arg("keys")]).run().expect_code(0);
    let keys = |name: &str| place.arg(&format!("keys/{name}"));
    for pattern in PATTERNS {
        let guard = [
            "--curve-key",
            &keys("server.key"),
            "--curve-allow",
            &keys("allow"),
        ];
        let server = Server::start_with(pattern, TRANSPORTS[0], &guard);
        let us = [
            "--curve-key",
            &keys("client.key"),
            "--curve-server",
            &keys("server.pub"),
        ];
        let ended = server.client("ana").args(us).stdin("olá\n").run();
        assert!(ended.expect_code(0).stdout_text().contains("ana: olá"));
        let stranger = server.client("eva").stdin("olá\n").start();
        wait_until(crate::harness::DEADLINE, "the stranger to learn", || {
            stranger_is_out(&stranger)
        });
    }
    let bare = [
        "--curve-key",
        &keys("server.key"),
        "--curve-allow",
        &keys("allow"),
    ];
    let server = mutirao(["chat", "server", "--transport", "tcp"]).args(bare);
    server
        .run()
        .expect_code(2)
        .expect_sentence(&["has no encryption"]);
}

/// It never gets in: it is refused, or calls in vain.
fn stranger_is_out(stranger: &Process) -> bool {
    let said = stranger.said_on_stdout() + &stranger.said();
    assert!(!said.contains("connected"), "{said}");
    said.contains("no chat server answers") || said.contains("mutirao: ")
}
