//! Plain and reliable UDP: every role, bad networks, strangers, groups.
//!
//! Nobody but its user drives a UDP socket, so a scenario drives all that it has while it waits for one.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mutirao::machine::Clock;
use mutirao::sim::Rng;
use mutirao::transport::{
    Counters, Frame, Heartbeat, LinkEvent, MAX_DATAGRAM_BYTES, Message, Role, SendError, Side,
    Socket, SocketOptions, TransportError, WhenFull, open,
};
use mutirao::wait::{Interest, Sleeper, wait};

use crate::support::*;

/// The sockets of a scenario, by the order in which they were opened.
struct Stage {
    sockets: Vec<Option<Box<dyn Socket>>>,
}

/// How soon to look after those that nobody waits for.
const TURN: Duration = Duration::from_millis(1);

impl Stage {
    /// One that listens and others that connect to it.
    fn new(scheme: &'static str, options: &SocketOptions, roles: &[Role]) -> Stage {
        let mut stage = Stage {
            sockets: vec![Some(bound(roles[0], scheme, options))],
        };
        for &role in &roles[1..] {
            stage.connect(role, options);
        }
        stage
    }

    fn connect(&mut self, role: Role, options: &SocketOptions) -> usize {
        let socket = connected(role, &**self.of(0), options);
        self.add(socket)
    }

    fn add(&mut self, socket: Box<dyn Socket>) -> usize {
        self.sockets.push(Some(socket));
        self.sockets.len() - 1
    }

    fn of(&mut self, at: usize) -> &mut Box<dyn Socket> {
        self.sockets[at].as_mut().expect("it is still there")
    }

    fn close(&mut self, at: usize) {
        self.sockets[at] = None;
    }

    /// Drives all until `look` finds in the one at `at` what it looks for.
    fn wait<T>(
        &mut self,
        at: usize,
        what: &str,
        mut look: impl FnMut(&mut dyn Socket) -> Option<T>,
    ) -> T {
        let (sleeper, _waker) = Sleeper::new().expect("a sleeper");
        let clock = Clock::start();
        loop {
            if let Some(found) = look(&mut **self.of(at)) {
                return found;
            }
            assert!(
                clock.now().since(Default::default()) < PATIENCE,
                "no {what}"
            );
            for socket in self.sockets.iter().flatten() {
                socket.source();
            }
            let socket = self.of(at);
            let source = (socket.source(), Interest::Readable);
            wait(&[source], &sleeper, &clock, Some(clock.now() + TURN));
        }
    }

    fn send(&mut self, at: usize, message: &[Frame]) {
        self.wait(at, "room", |socket| match socket.send(message) {
            Ok(()) => Some(()),
            Err(SendError::Full) => None,
            Err(error) => panic!("{error}"),
        });
        self.of(at).flush();
    }

    fn say(&mut self, at: usize, words: &[&str]) {
        self.send(at, &frames(words));
    }

    fn receive(&mut self, at: usize) -> Message {
        self.wait(at, "message", |socket| socket.receive().expect("receive"))
    }

    fn hear(&mut self, at: usize) -> Vec<String> {
        texts(&self.receive(at))
    }

    fn link(&mut self, at: usize) -> LinkEvent {
        self.wait(at, "link event", |socket| socket.link_event())
    }

    fn counters(&mut self, at: usize) -> Counters {
        self.of(at).counters().expect("a UDP socket counts")
    }

    /// Until what was counted is as it should be.
    fn count(&mut self, at: usize, what: &str, is_so: impl Fn(&Counters) -> bool) {
        self.wait(at, what, |socket| {
            socket.counters().filter(&is_so).map(|_| ())
        });
    }
}

/// What both do alike.
mod both {
    use super::*;

    pub(super) fn push_spreads_and_pull_gathers(scheme: &'static str) {
        let mut stage = Stage::new(
            scheme,
            &SocketOptions::default(),
            &[Role::Push, Role::Pull, Role::Pull],
        );
        let mut heard = [0, 0];
        while heard.contains(&0) {
            stage.say(0, &["task", "payload"]);
            for worker in [1, 2] {
                while let Some(message) = stage.of(worker).receive().unwrap() {
                    assert_eq!(texts(&message), ["task", "payload"]);
                    heard[worker - 1] += 1;
                }
            }
        }
    }

    pub(super) fn pull_hears_everyone(scheme: &'static str) {
        let mut stage = Stage::new(
            scheme,
            &SocketOptions::default(),
            &[Role::Pull, Role::Push, Role::Push],
        );
        stage.say(1, &["a"]);
        stage.say(2, &["b"]);
        let mut heard = [stage.hear(0), stage.hear(0)];
        heard.sort();
        assert_eq!(heard, [["a"], ["b"]]);
    }

    pub(super) fn subscribers_get_their_topics_whoever_listens(scheme: &'static str) {
        for roles in [
            [Role::Publish, Role::Subscribe],
            [Role::Subscribe, Role::Publish],
        ] {
            let publisher = usize::from(roles[0] != Role::Publish);
            let subscriber = 1 - publisher;
            let mut stage = Stage::new(scheme, &SocketOptions::default(), &roles);
            stage.of(subscriber).subscribe(b"a").unwrap();
            assert_eq!(stage.hear(publisher), ["\u{1}a"]);
            stage.say(publisher, &["b1", "no"]);
            stage.say(publisher, &["a1", "yes"]);
            assert_eq!(stage.hear(subscriber), ["a1", "yes"]);
            stage.of(subscriber).unsubscribe(b"a").unwrap();
            assert_eq!(stage.hear(publisher), ["\0a"]);
        }
    }

    pub(super) fn a_publisher_that_comes_back_learns_who_wants_what(scheme: &'static str) {
        let options = SocketOptions::default();
        let mut stage = Stage::new(scheme, &options, &[Role::Publish, Role::Subscribe]);
        stage.of(1).subscribe(b"a").unwrap();
        assert_eq!(stage.hear(0), ["\u{1}a"]);
        let endpoint = stage.of(0).endpoint().clone();
        stage.close(0);
        stage.sockets[0] = Some(rebound(Role::Publish, &endpoint, &options));
        assert_eq!(stage.hear(0), ["\u{1}a"]);
        stage.say(0, &["a1"]);
        assert_eq!(stage.hear(1), ["a1"]);
    }

    pub(super) fn router_answers_dealers(scheme: &'static str) {
        let mut stage = Stage::new(
            scheme,
            &SocketOptions::default(),
            &[Role::Router, Role::Dealer, Role::Dealer],
        );
        stage.say(1, &["a"]);
        stage.say(2, &["b"]);
        for _ in 0..2 {
            let request = stage.receive(0);
            let sender = stage.of(0).sender(&request);
            assert_eq!(sender, Some(Ipv4Addr::LOCALHOST.into()));
            stage.send(0, &request);
        }
        assert_eq!(stage.hear(1), ["a"]);
        assert_eq!(stage.hear(2), ["b"]);
        let refused = stage.of(0).send(&frames(&["nobody", "hello"]));
        assert!(matches!(refused, Err(SendError::Unroutable)), "{refused:?}");
    }

    pub(super) fn links_are_reported(scheme: &'static str) {
        let mut stage = Stage::new(scheme, &watching(), &[Role::Pull, Role::Push]);
        assert_eq!(stage.link(0), LinkEvent::Connected);
        assert_eq!(stage.link(1), LinkEvent::Connected);
        let endpoint = stage.of(0).endpoint().clone();
        stage.close(0);
        assert_eq!(stage.link(1), LinkEvent::Disconnected);
        let refused = stage.of(1).send(&frames(&["a"]));
        assert!(matches!(refused, Err(SendError::Full)), "{refused:?}");
        stage.sockets[0] = Some(rebound(Role::Pull, &endpoint, &watching()));
        assert_eq!(stage.link(1), LinkEvent::Connected);
        stage.close(1);
        assert_eq!(stage.link(0), LinkEvent::Connected);
        assert_eq!(stage.link(0), LinkEvent::Disconnected);
    }

    pub(super) fn a_connection_may_come_first(scheme: &'static str) {
        let options = SocketOptions::default();
        let endpoint = bound(Role::Pull, scheme, &options).endpoint().clone();
        let push = open(Role::Push, Side::Connect, &endpoint, &options).unwrap();
        let mut stage = Stage {
            sockets: vec![None],
        };
        stage.add(push);
        let refused = stage.of(1).send(&frames(&["a"]));
        assert!(matches!(refused, Err(SendError::Full)), "{refused:?}");
        stage.sockets[0] = Some(rebound(Role::Pull, &endpoint, &options));
        stage.say(1, &["early"]);
        assert_eq!(stage.hear(0), ["early"]);
    }

    pub(super) fn a_name_that_has_several_addresses_is_tried_in_turn(scheme: &'static str) {
        let options = SocketOptions::default();
        let mut stage = Stage::new(scheme, &options, &[Role::Pull]);
        let port = stage.of(0).endpoint().port().unwrap();
        let name = stage.of(0).endpoint().scheme().name();
        let endpoint = format!("{name}://localhost:{port}").parse().unwrap();
        let push = stage.add(open(Role::Push, Side::Connect, &endpoint, &options).unwrap());
        stage.say(push, &["hello"]);
        assert_eq!(stage.hear(0), ["hello"]);
    }

    pub(super) fn every_kind_of_frame_arrives(scheme: &'static str) {
        let mut stage = Stage::new(scheme, &SocketOptions::default(), &[Role::Pull, Role::Push]);
        let sizes = [0, 1, 33, 34, 1023, 1024, 60_000];
        let bytes = |size: usize| (0..size).map(|i| i as u8).collect::<Vec<_>>();
        let message: Message = sizes.iter().map(|&size| Frame::from(bytes(size))).collect();
        for _ in 0..3 {
            stage.send(1, &message);
            let received = stage.receive(0);
            let received: Vec<_> = received.iter().map(|frame| frame.to_vec()).collect();
            assert_eq!(received, sizes.map(bytes));
        }
    }

    pub(super) fn who_does_not_fit_is_told_why(scheme: &'static str) {
        let mut stage = Stage::new(scheme, &watching(), &[Role::Pull]);
        let wrong = stage.connect(Role::Subscribe, &watching());
        let port = stage.of(0).endpoint().port().unwrap();
        let other = match scheme {
            "raw_udp" => "reliable+udp",
            _ => "raw+udp",
        };
        let endpoint = format!("{other}://127.0.0.1:{port}").parse().unwrap();
        let other = stage.add(open(Role::Push, Side::Connect, &endpoint, &watching()).unwrap());
        for (at, words) in [(wrong, "check the pattern"), (other, "--reliable")] {
            let LinkEvent::Refused { reason } = stage.link(at) else {
                panic!("no refusal");
            };
            assert!(reason.contains(words), "{reason}");
        }
        assert!(matches!(stage.link(0), LinkEvent::Refused { .. }));
    }

    pub(super) fn a_silent_peer_is_given_up(scheme: &'static str) {
        let options = SocketOptions {
            heartbeat: Heartbeat::Ping(Duration::from_millis(50)),
            ..watching()
        };
        let mut stage = Stage::new(scheme, &options, &[Role::Router, Role::Dealer]);
        assert_eq!(stage.link(0), LinkEvent::Connected);
        assert_eq!(stage.link(1), LinkEvent::Connected);
        // Nobody drives it any more.
        let frozen = stage.sockets[1].take();
        assert_eq!(stage.link(0), LinkEvent::Disconnected);
        // It hears of that as soon as it is driven again, and comes back.
        stage.sockets[1] = frozen;
        assert_eq!(stage.link(1), LinkEvent::Disconnected);
        assert_eq!(stage.link(1), LinkEvent::Connected);
        stage.say(1, &["again"]);
        assert_eq!(stage.hear(0)[1], "again");
    }

    pub(super) fn one_that_is_busy_with_what_it_was_asked_is_waited_for(scheme: &'static str) {
        let options = SocketOptions {
            heartbeat: Heartbeat::Ping(Duration::from_millis(20)),
            ..watching()
        };
        let mut stage = Stage::new(scheme, &options, &[Role::Router, Role::Dealer]);
        assert_eq!(stage.link(1), LinkEvent::Connected);
        stage.say(1, &["work"]);
        let request = stage.receive(0);
        let busy = stage.sockets[0].take();
        // Ten times as long as somebody would be waited for who was asked nothing.
        let clock = Clock::start();
        stage.wait(1, "end of the work", |dealer| {
            assert_eq!(dealer.link_event(), None);
            let now = clock.now().since(Default::default());
            (now > Duration::from_millis(600)).then_some(())
        });
        stage.sockets[0] = busy;
        stage.send(0, &request);
        assert_eq!(stage.hear(1), ["work"]);
        // Now nothing is left to do.
        let _frozen = stage.sockets[0].take();
        assert_eq!(stage.link(1), LinkEvent::Disconnected);
    }

    pub(super) fn strangers_are_counted_and_get_nothing(scheme: &'static str) {
        let mut stage = Stage::new(scheme, &SocketOptions::default(), &[Role::Pull, Role::Push]);
        stage.say(1, &["hello"]);
        stage.hear(0);
        let before = stage.counters(0);
        let stranger = Stranger::of(&mut stage);
        let data = |kind: u8, session: u64| {
            let mut datagram = b"MUTU1".to_vec();
            datagram.extend([kind, 0, 0]);
            datagram.extend(session.to_be_bytes());
            datagram.extend([0; 40]);
            datagram
        };
        // Kinds 7 to 11 are those between peers; each in the name of a session of its own.
        (0..100).for_each(|at| stranger.say(&data(7 + at % 5, u64::from(at))));
        stage.count(0, "strangers", |now| {
            now.strangers == before.strangers + 100
        });
        // Each is told that it is unknown, in fewer bytes than it sent.
        assert!(stranger.hear().len() == 16);
        // Rubbish, and what looks almost right.
        stranger.say(b"GET / HTTP/1.1\r\n\r\n");
        stranger.say(&[]);
        stranger.say(b"MUTU1\xff");
        stranger.say(&data(0, 1));
        stranger.say(&data(99, 1));
        stage.count(0, "rubbish", |now| now.malformed == before.malformed + 5);
        // A hello of another version is told so.
        let mut hello = data(1, 7);
        hello[4] = b'2';
        stranger.say(&hello);
        stage.count(0, "a version", |now| now.malformed == before.malformed + 6);
        let answer = std::iter::repeat_with(|| stranger.hear()).find(|answer| answer[5] == 4);
        assert_eq!(answer.unwrap()[16], 1);
        stage.say(1, &["still there"]);
        assert_eq!(stage.hear(0), ["still there"]);
    }

    pub(super) fn one_with_much_to_take_hears_the_others_meanwhile(scheme: &'static str) {
        let mut stage = Stage::new(scheme, &SocketOptions::default(), &[Role::Pull, Role::Push]);
        stage.say(1, &["hello"]);
        stage.hear(0);
        let stranger = Stranger::of(&mut stage);
        for _ in 0..600 {
            stage.say(1, &["much"]);
            // Read, and not taken.
            stage.of(0).link_event();
        }
        let before = stage.counters(0);
        stranger.say(b"rubbish");
        for _ in 0..400 {
            assert!(stage.of(0).receive().unwrap().is_some());
        }
        assert_eq!(stage.counters(0).malformed, before.malformed + 1);
    }

    pub(super) fn random_bytes_harm_nobody(scheme: &'static str) {
        let mut stage = Stage::new(scheme, &SocketOptions::default(), &[Role::Pull, Role::Push]);
        stage.say(1, &["hello"]);
        stage.hear(0);
        let before = stage.counters(0);
        let stranger = Stranger::of(&mut stage);
        let mut rng = Rng::new(7);
        for round in 0..300 {
            let mut bytes = match round % 2 {
                0 => Vec::new(),
                _ => b"MUTU1".to_vec(),
            };
            let kind = rng.below(13) as u8;
            bytes.push(kind);
            bytes.extend((0..rng.below(100)).map(|_| rng.below(256) as u8));
            stranger.say(&bytes);
        }
        stage.count(0, "rubbish", |now| {
            now.malformed > before.malformed + 150 && now.strangers > before.strangers
        });
        stage.say(1, &["still there"]);
        assert_eq!(stage.hear(0), ["still there"]);
    }

    pub(super) fn what_cannot_be_is_a_sentence(scheme: &'static str) {
        let options = SocketOptions::default();
        let taken = bound(Role::Pull, scheme, &options);
        let at = |host: &str| format!("{}://{host}", taken.endpoint().scheme().name());
        let in_use = taken.endpoint().to_string();
        let error = open_error(Role::Pull, Side::Bind, &in_use, &options);
        assert!(matches!(error, TransportError::InUse { .. }), "{error}");
        let insecure = group_options();
        let said = |side, endpoint: String, options| {
            open_error(Role::Pull, side, &endpoint, options).to_string()
        };
        for (text, part) in [
            (
                said(Side::Bind, at("no.such.host.invalid:0"), &insecure),
                "the host does not resolve",
            ),
            (
                said(Side::Bind, at("192.0.2.1:0"), &insecure),
                "no address of this machine",
            ),
            (said(Side::Bind, at("192.0.2.1:0"), &options), "insecure"),
            (said(Side::Connect, at("127.0.0.1:*"), &options), "port"),
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    pub(super) fn a_host_that_does_not_resolve_is_tried_again(scheme: &'static str) {
        let name = bound(Role::Pull, scheme, &watching());
        let name = name.endpoint().scheme().name();
        let endpoint = format!("{name}://no.such.host.invalid:1").parse().unwrap();
        let mut push = open(Role::Push, Side::Connect, &endpoint, &watching()).unwrap();
        assert!(push.send(&frames(&["a"])).is_err());
        assert_eq!(push.link_event(), None);
    }

    pub(super) fn a_flood_of_hellos_makes_no_peers(scheme: &'static str) {
        let mut stage = Stage::new(scheme, &watching(), &[Role::Pull]);
        let stranger = Stranger::of(&mut stage);
        let mode = if scheme == "raw_udp" { 1 } else { 2 };
        for session in 0..2000_u64 {
            // As somebody would who does not see the answers: with a cookie that is made up.
            stranger.say(&hello(mode, session, session * 7));
            if session % 50 == 0 {
                stage.of(0).source();
            }
        }
        stage.count(0, "hellos", |now| now.received >= 2000);
        assert_eq!(stage.of(0).link_event(), None, "a peer without a cookie");
        // Who does see them is let in, once however often it says so.
        stranger.drain();
        stranger.say(&hello(mode, 5, 0));
        stage.count(0, "a hello", |now| now.received >= 2001);
        let cookie = stranger.hear();
        assert_eq!(cookie[5], 2);
        let cookie = u64::from_be_bytes(cookie[16..24].try_into().unwrap());
        for _ in 0..3 {
            stranger.say(&hello(mode, 5, cookie));
        }
        // That cookie is good for no other session.
        stranger.say(&hello(mode, 6, cookie));
        stage.count(0, "hellos", |now| now.received >= 2005);
        assert_eq!(stage.of(0).link_event(), Some(LinkEvent::Connected));
        assert_eq!(stage.of(0).link_event(), None);
    }
}

macro_rules! both {
    ($($scenario:ident)*) => {
        both! { @plain $($scenario)* }
        both! { @reliable $($scenario)* }
    };
    (@plain $($scenario:ident)*) => {
        mod raw_udp { $( #[test] fn $scenario() { super::both::$scenario("raw_udp"); } )* }
    };
    (@reliable $($scenario:ident)*) => {
        mod reliable_udp { $( #[test] fn $scenario() { super::both::$scenario("reliable_udp"); } )* }
    };
}

both! {
    push_spreads_and_pull_gathers pull_hears_everyone subscribers_get_their_topics_whoever_listens
    a_publisher_that_comes_back_learns_who_wants_what router_answers_dealers links_are_reported
    a_connection_may_come_first a_name_that_has_several_addresses_is_tried_in_turn
    every_kind_of_frame_arrives who_does_not_fit_is_told_why a_silent_peer_is_given_up
    one_with_much_to_take_hears_the_others_meanwhile one_that_is_busy_with_what_it_was_asked_is_waited_for
    strangers_are_counted_and_get_nothing a_flood_of_hellos_makes_no_peers random_bytes_harm_nobody
    what_cannot_be_is_a_sentence a_host_that_does_not_resolve_is_tried_again
}

fn hello(mode: u8, session: u64, cookie: u64) -> Vec<u8> {
    // A push socket.
    let mut datagram = vec![b'M', b'U', b'T', b'U', b'1', 1, 1, mode];
    datagram.extend(session.to_be_bytes());
    datagram.extend(cookie.to_be_bytes());
    datagram.extend([0; 8]);
    datagram
}

/// Somebody with a socket of the system and no manners.
struct Stranger(UdpSocket);

impl Stranger {
    /// One that talks to the first socket of the stage.
    fn of(stage: &mut Stage) -> Stranger {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = stage.of(0).endpoint().port().unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Stranger(socket)
    }

    fn say(&self, datagram: &[u8]) {
        self.0.send(datagram).unwrap();
    }

    fn hear(&self) -> Vec<u8> {
        let mut bytes = vec![0; 2000];
        let len = self.0.recv(&mut bytes).expect("an answer");
        bytes.truncate(len);
        bytes
    }

    /// Becomes a plain peer of the first socket, under this session.
    fn greet(&self, stage: &mut Stage, role: u8, session: u64) {
        let mut cookie = 0;
        for _ in 0..2 {
            let mut hello = hello(1, session, cookie);
            hello[6] = role;
            self.say(&hello);
            // What is sent on one machine is there at once.
            assert!(stage.of(0).receive().unwrap().is_none());
            cookie = u64::from_be_bytes(self.hear()[16..24].try_into().unwrap());
        }
    }

    /// Sends a message of one frame as a plain peer would.
    fn tell(&self, session: u64, number: u64, text: &str) {
        let mut datagram = b"MUTU1\x07\0\0".to_vec();
        datagram.extend(session.to_be_bytes());
        datagram.extend(number.to_be_bytes());
        datagram.extend((text.len() as u32).to_be_bytes());
        datagram.extend(text.as_bytes());
        self.say(&datagram);
    }

    /// Passes over all that has come.
    fn drain(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 2000]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

/// Stands between one caller and a listener, and loses, repeats and reorders datagrams.
struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    /// The longest datagram that came, in bytes.
    longest: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Clone, Copy)]
struct Faults {
    loss: f64,
    duplication: f64,
    reordering: f64,
}

impl Relay {
    fn start(seed: u64, faults: Faults, stage: &mut Stage) -> Relay {
        let port = stage.of(0).endpoint().port().unwrap();
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        back.connect(("127.0.0.1", port)).unwrap();
        let address = front.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let longest = Arc::new(AtomicUsize::new(0));
        let caller = Arc::new(Mutex::new(None));
        let ways = [
            (front.try_clone().unwrap(), back.try_clone().unwrap(), true),
            (back, front, false),
        ];
        let threads = ways.map(|(from, to, forth)| {
            let (stop, caller) = (stop.clone(), caller.clone());
            let longest = longest.clone();
            let mut rng = Rng::new(seed ^ u64::from(forth));
            std::thread::spawn(move || {
                from.set_read_timeout(Some(Duration::from_millis(20)))
                    .unwrap();
                let (mut bytes, mut kept) = (vec![0; 65_536], None);
                let send = |datagram: &[u8], to_caller: Option<SocketAddr>| match to_caller {
                    Some(caller) => drop(to.send_to(datagram, caller)),
                    None => drop(to.send(datagram)),
                };
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, sender)) = from.recv_from(&mut bytes) else {
                        continue;
                    };
                    longest.fetch_max(len, Ordering::Relaxed);
                    if forth {
                        *caller.lock().unwrap() = Some(sender);
                    }
                    let to_caller = if forth { None } else { *caller.lock().unwrap() };
                    if rng.chance(faults.loss) {
                        continue;
                    }
                    if kept.is_none() && rng.chance(faults.reordering) {
                        kept = Some(bytes[..len].to_vec());
                        continue;
                    }
                    send(&bytes[..len], to_caller);
                    if rng.chance(faults.duplication) {
                        send(&bytes[..len], to_caller);
                    }
                    if let Some(kept) = kept.take() {
                        send(&kept, to_caller);
                    }
                }
            })
        });
        Relay {
            address,
            stop,
            longest,
            threads: threads.into(),
        }
    }

    fn connect(&self, stage: &mut Stage, role: Role, options: &SocketOptions) -> usize {
        let scheme = stage.of(0).endpoint().scheme().name();
        let endpoint = format!("{scheme}://{}", self.address).parse().unwrap();
        let socket = open(role, Side::Connect, &endpoint, options).unwrap();
        stage.add(socket)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

const BAD: Faults = Faults {
    loss: 0.1,
    duplication: 0.1,
    reordering: 0.1,
};

#[test]
fn reliable_udp_delivers_all_in_order_over_a_bad_network() {
    let mut stage = Stage::new("reliable_udp", &SocketOptions::default(), &[Role::Router]);
    let relay = Relay::start(1, BAD, &mut stage);
    let dealer = relay.connect(&mut stage, Role::Dealer, &SocketOptions::default());
    let sizes = [1, 100, 50_000, 3, 200_000];
    for number in 0..200_usize {
        let load = Frame::from(vec![number as u8; sizes[number % sizes.len()]]);
        stage.send(dealer, &[Frame::from(number.to_string().as_bytes()), load]);
        let request = stage.receive(0);
        assert_eq!(&request[1][..], number.to_string().as_bytes());
        assert_eq!(request[2].len(), sizes[number % sizes.len()]);
        stage.send(0, &request);
        assert_eq!(stage.hear(dealer)[0], number.to_string());
    }
    let counters = stage.counters(dealer);
    assert!(counters.resent > 0 && counters.duplicated > 0, "{counters}");
    assert_eq!(counters.malformed, 0, "{counters}");
}

#[test]
fn reliable_udp_sends_no_longer_datagrams_than_it_may() {
    for (datagram_bytes, expected) in [(Some(1232), 1232), (Some(576), 576), (None, 32 << 10)] {
        let options = SocketOptions {
            datagram_bytes,
            ..SocketOptions::default()
        };
        let mut stage = Stage::new("reliable_udp", &options, &[Role::Router]);
        let good = Faults {
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
        };
        let relay = Relay::start(3, good, &mut stage);
        let dealer = relay.connect(&mut stage, Role::Dealer, &options);
        stage.send(dealer, &[Frame::from(vec![7; 100_000])]);
        let request = stage.receive(0);
        stage.send(0, &request);
        assert_eq!(stage.receive(dealer)[0].len(), 100_000);
        let longest = relay.longest.load(Ordering::Relaxed);
        // A full datagram leaves a little room for what it may have to acknowledge.
        assert!(
            (expected - 60..=expected).contains(&longest),
            "{longest} of {expected}"
        );
    }
}

#[test]
fn a_datagram_must_be_able_to_hold_something() {
    for datagram_bytes in [0, 575, MAX_DATAGRAM_BYTES + 1] {
        let options = SocketOptions {
            datagram_bytes: Some(datagram_bytes),
            ..SocketOptions::default()
        };
        let endpoint = "reliable+udp://127.0.0.1:*".parse().unwrap();
        let refused = open(Role::Pull, Side::Bind, &endpoint, &options);
        let reason = refused.err().expect("refused").to_string();
        assert!(reason.contains("give 576 to 65507"), "{reason}");
    }
}

#[test]
fn plain_udp_counts_what_a_bad_network_does() {
    let mut stage = Stage::new("raw_udp", &SocketOptions::default(), &[Role::Pull]);
    let relay = Relay::start(2, BAD, &mut stage);
    let push = relay.connect(&mut stage, Role::Push, &watching());
    let (mut heard, sent) = (0, 2000);
    for number in 0..sent {
        stage.say(push, &[&number.to_string()]);
        while stage.of(0).receive().unwrap().is_some() {
            heard += 1;
        }
    }
    // What is lost at the end shows in the next heartbeat.
    stage.wait(0, "heartbeat", |pull| {
        while pull.receive().unwrap().is_some() {
            heard += 1;
        }
        let Counters {
            lost, duplicated, ..
        } = pull.counters().unwrap();
        (heard + lost == sent + duplicated).then_some(())
    });
    let counters = stage.counters(0);
    // A tenth each; systems in a hurry lose more.
    let least = counters
        .lost
        .min(counters.duplicated)
        .min(counters.reordered);
    assert!(least >= 30, "{counters}");
    assert_eq!((counters.malformed, counters.dropped), (0, 0), "{counters}");
}

#[test]
fn plain_udp_refuses_what_does_not_fit_into_a_datagram() {
    let mut stage = Stage::new(
        "raw_udp",
        &SocketOptions::default(),
        &[Role::Pull, Role::Push],
    );
    let most = MAX_DATAGRAM_BYTES - 24 - 4;
    stage.send(1, &[Frame::from(vec![7; most])]);
    assert_eq!(stage.receive(0)[0].len(), most);
    let refused = stage.of(1).send(&[Frame::from(vec![7; most + 1])]);
    let Err(SendError::Failed(TransportError::TooLarge { bytes, limit_bytes })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((bytes, limit_bytes), (most + 1, most));
    // Each frame has a header of its own.
    let two = [vec![7; most - 4], vec![]].map(Frame::from);
    stage.send(1, &two);
    assert_eq!(stage.receive(0).len(), 2);
    let two = [vec![7; most - 3], vec![]].map(Frame::from);
    assert!(stage.of(1).send(&two).is_err());
}

#[test]
fn numbers_that_are_spoofed_or_replayed_are_counted_and_harm_nobody() {
    let mut stage = Stage::new("raw_udp", &SocketOptions::default(), &[Role::Pull]);
    let peer = Stranger::of(&mut stage);
    peer.greet(&mut stage, 1, 5);
    // Replayed: as the network might do it.
    for _ in 0..3 {
        peer.tell(5, 0, "zero");
        assert_eq!(stage.hear(0), ["zero"]);
    }
    assert_eq!(stage.counters(0).duplicated, 2);
    // From far ahead, and in the name of somebody else.
    peer.tell(5, u64::MAX, "never");
    Stranger::of(&mut stage).tell(5, 1, "never");
    peer.tell(6, 1, "never");
    peer.tell(5, 1, "one");
    assert_eq!(stage.hear(0), ["one"]);
    let Counters {
        lost,
        malformed,
        strangers,
        ..
    } = stage.counters(0);
    assert_eq!((lost, malformed, strangers), (0, 1, 2));
}

#[test]
fn ten_thousand_peers_are_served_like_any_other() {
    // However long it takes, nobody is asked whether it lives.
    let options = SocketOptions {
        heartbeat: Heartbeat::Probe(PATIENCE * 10),
        ..SocketOptions::default()
    };
    let mut stage = Stage::new("raw_udp", &options, &[Role::Router]);
    let count = descriptors(10_000);
    let peers: Vec<_> = (0..count).map(|_| Stranger::of(&mut stage)).collect();
    for (session, peer) in peers.iter().enumerate() {
        peer.greet(&mut stage, 5, session as u64);
    }
    for (session, peer) in peers.iter().enumerate() {
        peer.tell(session as u64, 0, "hello");
        let message = stage.receive(0);
        stage.send(0, &message);
        assert!(peer.hear().ends_with(b"hello"));
    }
}

#[test]
fn plain_udp_drops_and_counts_what_nobody_takes() {
    let mut stage = Stage::new("raw_udp", &few(10), &[Role::Pull, Role::Push]);
    stage.say(1, &["first"]);
    for _ in 0..200 {
        stage.say(1, &["more"]);
        stage.of(0).link_event();
    }
    stage.wait(0, "200 datagrams", |socket| {
        // While messages wait to be taken, it reads only when it is asked.
        socket.link_event();
        let now = socket.counters()?;
        (now.dropped + now.lost == 191).then_some(())
    });
    let heard = std::iter::from_fn(|| stage.of(0).receive().unwrap()).count();
    assert_eq!(heard, 10);
}

#[test]
fn a_plain_subscriber_that_is_frozen_is_forgotten_with_its_topics() {
    let options = SocketOptions {
        heartbeat: Heartbeat::Ping(Duration::from_millis(50)),
        ..SocketOptions::default()
    };
    let mut stage = Stage::new("raw_udp", &options, &[Role::Publish, Role::Subscribe]);
    stage.of(1).subscribe(b"a").unwrap();
    assert_eq!(stage.hear(0), ["\u{1}a"]);
    let frozen = stage.sockets[1].take();
    assert_eq!(stage.hear(0), ["\0a"]);
    stage.sockets[1] = frozen;
    assert_eq!(stage.hear(0), ["\u{1}a"]);
}

#[test]
fn a_plain_subscriber_cannot_want_more_than_fits() {
    let mut stage = Stage::new(
        "raw_udp",
        &SocketOptions::default(),
        &[Role::Publish, Role::Subscribe],
    );
    stage.of(1).subscribe(b"a").unwrap();
    assert_eq!(stage.hear(0), ["\u{1}a"]);
    let error = stage.of(1).subscribe(&[b'x'; 17 << 10]).unwrap_err();
    assert!(error.to_string().contains("16384 bytes"), "{error}");
}

#[test]
fn a_plain_subscriber_that_is_not_connected_cannot_either() {
    let options = SocketOptions::default();
    let endpoint = bound(Role::Publish, "raw_udp", &options).endpoint().clone();
    let mut subscriber = open(Role::Subscribe, Side::Connect, &endpoint, &options).unwrap();
    subscriber.subscribe(&[b'x'; 10 << 10]).unwrap();
    subscriber.subscribe(&[b'x'; 10 << 10]).unwrap();
    let error = subscriber.subscribe(&[b'y'; 10 << 10]).unwrap_err();
    assert!(error.to_string().contains("16384 bytes"), "{error}");
    subscriber.subscribe(b"z").unwrap();
}

#[test]
fn a_publisher_that_comes_late_learns_of_more_topics_than_a_queue_holds() {
    for scheme in ["raw_udp", "reliable_udp"] {
        let endpoint = bound(Role::Publish, scheme, &few(3)).endpoint().clone();
        let mut subscriber = open(Role::Subscribe, Side::Connect, &endpoint, &few(3)).unwrap();
        let topics: Vec<String> = (10..60).map(|number| number.to_string()).collect();
        for topic in &topics {
            subscriber.subscribe(topic.as_bytes()).unwrap();
        }
        let mut stage = Stage {
            sockets: vec![Some(rebound(Role::Publish, &endpoint, &few(3)))],
        };
        stage.add(subscriber);
        for topic in &topics {
            assert_eq!(stage.hear(0), [format!("\u{1}{topic}")]);
        }
    }
}

#[test]
fn a_publisher_with_a_short_queue_learns_of_every_topic() {
    let mut stage = Stage::new("raw_udp", &few(3), &[Role::Publish, Role::Subscribe]);
    let topics: Vec<String> = (10..60).map(|number| number.to_string()).collect();
    for topic in &topics {
        stage.of(1).subscribe(topic.as_bytes()).unwrap();
    }
    for topic in &topics {
        assert_eq!(stage.hear(0), [format!("\u{1}{topic}")]);
    }
}

#[test]
fn a_reliable_subscriber_that_wants_everything_is_cut_off() {
    let roles = [Role::Publish, Role::Subscribe];
    let mut stage = Stage::new("reliable_udp", &few(10_000), &roles);
    for topic in 0..5000_u32 {
        stage.of(1).subscribe(&topic.to_be_bytes()).unwrap();
    }
    // What it wanted is wanted no more.
    stage.wait(0, "topic cancelled", |publisher| {
        let notice = publisher.receive().unwrap()?;
        (notice[0].first() == Some(&0)).then_some(())
    });
}

#[test]
fn reliable_udp_refuses_what_the_peer_would_not_take() {
    let options = SocketOptions {
        max_message_bytes: 2000,
        ..SocketOptions::default()
    };
    let mut stage = Stage::new("reliable_udp", &options, &[Role::Pull, Role::Push]);
    let frames = vec![Frame::from(vec![7; 2000]); 33];
    stage.send(1, &frames[..32]);
    assert_eq!(stage.receive(0).len(), 32);
    let most = [&frames[..], &[Frame::from(vec![7; 1536])]].concat();
    stage.send(1, &most);
    assert_eq!(stage.receive(0).len(), 34);
    let refused = stage
        .of(1)
        .send(&[&most[..], &[Frame::from(&b"x"[..])]].concat());
    let Err(SendError::Failed(TransportError::TooLarge { bytes, limit_bytes })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((bytes, limit_bytes), (67_537, 67_536));
}

#[test]
fn who_speaks_to_a_socket_that_only_sends_is_given_up() {
    let mut stage = Stage::new("reliable_udp", &watching(), &[Role::Push]);
    let stranger = Stranger::of(&mut stage);
    // A pull socket, as it says.
    let greet = |stage: &mut Stage, cookie| {
        let mut hello = hello(2, 5, cookie);
        hello[6] = 2;
        let before = stage.counters(0).received;
        stranger.say(&hello);
        stage.count(0, "a hello", |now| now.received > before);
    };
    greet(&mut stage, 0);
    let cookie = stranger.hear();
    greet(
        &mut stage,
        u64::from_be_bytes(cookie[16..24].try_into().unwrap()),
    );
    assert_eq!(stage.link(0), LinkEvent::Connected);
    let mut data = [&b"MUTU1\x0b\0\0"[..], &5_u64.to_be_bytes()].concat();
    // Number, credit, that there is a segment, its offset; then a message with an empty frame.
    data.extend([0; 16]);
    data.extend([3, 0, 0, 0]);
    data.extend([0; 8]);
    data.extend([0; 4]);
    stranger.say(&data);
    assert_eq!(stage.link(0), LinkEvent::Disconnected);
}

#[test]
fn a_full_queue_refuses_until_there_is_room() {
    let mut stage = Stage::new("reliable_udp", &few(2), &[Role::Pull, Role::Push]);
    let load = Frame::from(vec![7; 1 << 20]);
    stage.say(1, &["hello"]);
    stage.hear(0);
    let mut sent = 0;
    // Only the sender is driven: nothing that it is promised room for gets lost.
    while stage.of(1).send(std::slice::from_ref(&load)).is_ok() {
        sent += 1;
        assert!(sent < 100, "never full");
    }
    for _ in 0..sent {
        assert_eq!(stage.receive(0)[0].len(), 1 << 20);
    }
    stage.send(1, &[load]);
    assert_eq!(stage.receive(0)[0].len(), 1 << 20);
}

#[test]
fn a_publisher_refuses_or_drops_for_the_slow() {
    let load = || vec![Frame::from(&b"topic"[..]), Frame::from(vec![7; 1 << 20])];
    for when_full in [WhenFull::Refuse, WhenFull::Drop] {
        let options = SocketOptions {
            when_full,
            ..few(2)
        };
        let mut stage = Stage::new("reliable_udp", &options, &[Role::Publish, Role::Subscribe]);
        stage.of(1).subscribe(b"topic").unwrap();
        stage.receive(0);
        let sent = (0..100)
            .filter(|_| stage.of(0).send(&load()).is_ok())
            .count();
        let dropped = stage.counters(0).dropped;
        match when_full {
            WhenFull::Refuse => assert!(sent < 100 && dropped == 0, "{sent}, {dropped}"),
            _ => assert!(sent == 100 && dropped > 50, "{sent}, {dropped}"),
        }
        stage.receive(1);
    }
}

#[test]
fn only_the_latest_is_kept() {
    let options = SocketOptions {
        when_full: WhenFull::KeepLatest,
        ..SocketOptions::default()
    };
    for scheme in ["raw_udp", "reliable_udp"] {
        let mut stage = Stage::new(scheme, &options, &[Role::Publish, Role::Subscribe]);
        stage.of(1).subscribe(b"").unwrap();
        stage.hear(0);
        for number in 0..1000 {
            stage.say(0, &[&number.to_string()]);
        }
        stage.say(0, &["last"]);
        let mut heard = 0;
        while stage.hear(1) != ["last"] {
            heard += 1;
        }
        assert!(heard < 900, "everything was kept");
    }
}

#[test]
fn what_was_sent_arrives_while_the_sender_closes() {
    let mut stage = Stage::new(
        "reliable_udp",
        &SocketOptions::default(),
        &[Role::Pull, Role::Push],
    );
    stage.say(1, &["hello"]);
    stage.hear(0);
    let load = Frame::from(vec![7; 1 << 20]);
    let mut sent = 0;
    while stage.of(1).send(std::slice::from_ref(&load)).is_ok() {
        sent += 1;
    }
    let push = stage.sockets[1].take();
    let closing = std::thread::spawn(move || drop(push));
    for _ in 0..sent {
        assert_eq!(stage.receive(0)[0].len(), 1 << 20);
    }
    closing.join().unwrap();
}

#[test]
fn two_programs_that_both_wait_carry_a_lot() {
    let options = SocketOptions {
        linger: PATIENCE,
        ..SocketOptions::default()
    };
    let mut pull = bound(Role::Pull, "reliable_udp", &options);
    let mut push = connected(Role::Push, &*pull, &options);
    let sender = std::thread::spawn(move || {
        for number in 0..100_000_u32 {
            send(&mut *push, &[Frame::from(&number.to_be_bytes()[..])]);
        }
        push.counters().unwrap()
    });
    for number in 0..100_000_u32 {
        assert_eq!(receive(&mut *pull)[0][..], number.to_be_bytes());
    }
    sender.join().unwrap();
}

/// A group that no other test of this machine uses.
fn group_endpoint() -> String {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    format!(
        "raw+udp://239.255.77.77:{}",
        free.local_addr().unwrap().port()
    )
}

fn group_options() -> SocketOptions {
    SocketOptions {
        security: mutirao::security::Security::Insecure,
        heartbeat: Heartbeat::Ping(Duration::from_millis(50)),
        ..watching()
    }
}

#[test]
fn everybody_in_a_group_hears_what_they_subscribed_to() {
    let endpoint = group_endpoint().parse().unwrap();
    let options = group_options();
    let mut stage = Stage {
        sockets: Vec::new(),
    };
    for side in [Side::Bind, Side::Connect] {
        stage.add(open(Role::Subscribe, side, &endpoint, &options).unwrap());
        stage.of(0).endpoint();
    }
    stage.of(0).subscribe(b"a").unwrap();
    stage.of(1).subscribe(b"").unwrap();
    stage.add(open(Role::Publish, Side::Connect, &endpoint, &options).unwrap());
    assert_eq!(stage.hear(2), ["\u{1}"]);
    stage.say(2, &["b1", "no"]);
    stage.say(2, &["a1", "yes"]);
    assert_eq!(stage.hear(0), ["a1", "yes"]);
    assert_eq!(stage.hear(1), ["b1", "no"]);
    assert_eq!(stage.hear(1), ["a1", "yes"]);
    assert_eq!(stage.link(0), LinkEvent::Connected);
    stage.close(2);
    assert_eq!(stage.link(0), LinkEvent::Disconnected);
    let counters = stage.counters(0);
    assert_eq!((counters.lost, counters.duplicated), (0, 0), "{counters}");
}

#[test]
fn a_group_is_refused_where_it_makes_no_sense() {
    let group = group_endpoint();
    let insecure = group_options();
    let said =
        |role, side, endpoint: &str, options| open_error(role, side, endpoint, options).to_string();
    for role in [Role::Push, Role::Pull, Role::Dealer, Role::Router] {
        let reason = said(role, Side::Bind, &group, &insecure);
        assert!(reason.contains("publish and subscribe"), "{reason}");
    }
    let reliable = group.replace("raw", "reliable");
    let reason = said(Role::Publish, Side::Connect, &reliable, &insecure);
    assert!(reason.contains("nobody acknowledges"), "{reason}");
    let nowhere = "raw+udp://239.255.77.77:*";
    let reason = said(Role::Subscribe, Side::Bind, nowhere, &insecure);
    assert!(reason.contains("port number"), "{reason}");
    let exposed = open_error(
        Role::Subscribe,
        Side::Connect,
        &group,
        &SocketOptions::default(),
    );
    assert!(
        matches!(exposed, TransportError::Exposed { .. }),
        "{exposed}"
    );
}
