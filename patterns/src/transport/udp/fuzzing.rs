//! What a UDP socket may receive, without its socket, for the fuzz target: datagrams go in through the readers
//! of a listener, a caller and a group; time passes when the target says so; after each step is checked what
//! must always be true.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::machine::Time;
use crate::sim::Rng;
use crate::transport::{Frame, Role, SocketOptions, fits};

use super::caller::{Answer, Caller};
use super::group::Publishers;
use super::listener::{Greeted, Listener};
use super::live::Patience;
use super::packet::{Header, Kind, Mode, take_number};
use super::plain::Plain;
use super::reliable::{Limits, Reliable};
use super::tally::Tally;

const WINDOW_BYTES: usize = 20_000;
const SEGMENT_BYTES: usize = 500;

/// More is said at once only by a machine that has lost its mind.
const MOST_DATAGRAMS: usize = 10_000;

const PATIENCE: Patience = Patience {
    interval: Duration::from_millis(500),
    limit: Duration::from_millis(5000),
};

/// What stands behind the header of these datagrams goes to a plain peer, a reliable peer and a group, and to those
/// who are about to greet each other, with pauses in milliseconds.
pub fn receive(datagrams: &[(u64, Vec<u8>)]) {
    let tally = Tally::default();
    let mut now = Time::START;
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let roles = [Role::Pull, Role::Publish, Role::Subscribe, Role::Dealer];
    let mut plains = roles.map(|role| Plain::new(1, role, PATIENCE, now));
    let mut group = Publishers::new(PATIENCE.limit, now);
    let mut reliable = Pair::new();
    let mut door = Door::new();
    for (pause_ms, datagram) in datagrams {
        now = now + Duration::from_millis(*pause_ms);
        for plain in &mut plains {
            plain.wake(now, true);
            let said = std::iter::from_fn(|| plain.poll(now)).take(MOST_DATAGRAMS);
            assert!(said.count() < MOST_DATAGRAMS);
        }
        group.forget(now);
        reliable.pass(now);
        let Ok((header, body)) = Header::read(datagram) else {
            continue;
        };
        for plain in &mut plains {
            let most = 2 + datagram.len();
            let mut count = 0;
            let _ = plain.handle(now, header.kind, body, &tally, |_| count += 1);
            assert!(count <= most, "{count} messages of {most} bytes");
        }
        let _ = group.handle(now, from, &header, body, &tally);
        door.hello(now, from, &header, body, datagram.len());
        door.answer(now, header, body);
        if header.kind == Kind::Data {
            reliable.receive(now, body);
        }
    }
    reliable.finish(now);
}

/// A listener and a caller that hear greetings.
struct Door {
    listener: Listener,
    caller: Caller,
}

impl Door {
    fn new() -> Door {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let address = socket.local_addr().expect("an address");
        let endpoint = format!("raw+udp://{address}").parse().expect("an endpoint");
        let options = SocketOptions::default();
        Door {
            listener: Listener::new(socket, Role::Router, Mode::Plain),
            caller: Caller::new(&endpoint, Role::Dealer, Mode::Plain, &options).expect("a caller"),
        }
    }

    /// Nobody gets more than was sent in his name, nor is a peer without the cookie.
    fn hello(&self, now: Time, from: SocketAddr, header: &Header, body: &[u8], most: usize) {
        let answer = match self.listener.greet(now, from, header, body) {
            Greeted::Answer(answer) => answer,
            Greeted::Senseless => return,
            other => panic!("{other:?} without a cookie"),
        };
        assert!(answer.len() <= most);
        let (_, cookie) = Header::read(&answer).expect("a cookie");
        let body = [cookie, &body[8..]].concat();
        match self.listener.greet(now, from, header, &body) {
            Greeted::Refused(answer, _) => assert!(answer.len() <= most),
            Greeted::New { instead: None } => {}
            other => panic!("{other:?} with a cookie"),
        }
    }

    /// Somebody answers who knows the session.
    fn answer(&mut self, now: Time, mut header: Header, body: &[u8]) {
        self.caller.go_on(now);
        header.session = self.caller.session();
        match self.caller.handle(now, &header, body) {
            Answer::Connected { theirs } => {
                assert!(header.role().is_some_and(|role| fits(Role::Dealer, role)));
                assert_eq!(take_number(body).map(|(number, _)| number), Ok(theirs));
                self.caller.again(now);
            }
            Answer::NotYet => assert!(self.caller.is_greeting()),
            Answer::Refused(_) => assert!(!self.caller.is_greeting()),
            Answer::Stranger => {}
        }
    }
}

/// Two ends of a connection, of which one also gets what somebody made up who knows its session.
struct Pair {
    ends: [Reliable; 2],
    /// Whether anything made up was taken for the other's word.
    disturbed: bool,
    said: u64,
    heard: u64,
    rng: Rng,
}

impl Pair {
    fn new() -> Pair {
        let limits = Limits {
            segment_bytes: SEGMENT_BYTES,
            window_bytes: WINDOW_BYTES,
            queue_messages: 10,
            queue_bytes: WINDOW_BYTES,
            keeps_latest_in: false,
            frame_bytes: 5000,
            patience: PATIENCE,
        };
        let mut ends = [0, 1].map(|_| Reliable::new(&limits, Time::START));
        ends.iter_mut().for_each(Reliable::begin);
        Pair {
            ends,
            disturbed: false,
            said: 0,
            heard: 0,
            rng: Rng::new(7),
        }
    }

    fn receive(&mut self, now: Time, body: &[u8]) {
        self.disturbed |= self.ends[1].handle(now, body).is_ok();
        self.settle(now);
    }

    /// The one says something to the other.
    fn pass(&mut self, now: Time) {
        for end in &mut self.ends {
            end.wake(now, true);
        }
        if self.ends[0].has_room() {
            self.said += 1;
            let load = vec![7; self.rng.below(2000) as usize];
            self.ends[0].push(&[Frame::from(&self.said.to_be_bytes()[..]), Frame::from(load)]);
            self.ends[0].flush();
        }
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        for count in 0.. {
            assert!(count < MOST_DATAGRAMS, "they keep each other busy");
            let mut moved = false;
            for at in [0, 1] {
                let mut body = Vec::new();
                if self.ends[at].poll(now, &mut body) {
                    moved = true;
                    let handled = self.ends[1 - at].handle(now, &body);
                    assert!(handled.is_ok() || self.disturbed);
                }
            }
            while let Some(message) = self.ends[1].take() {
                self.heard += 1;
                let number = self.heard.to_be_bytes();
                assert!(self.disturbed || message[0][..] == number, "out of order");
            }
            if !moved {
                break;
            }
        }
        for end in &self.ends {
            let (bytes, things) = end.footprint();
            // Sent, received, put aside, and messages that wait.
            let most = 4 * WINDOW_BYTES + 10 * 2100;
            assert!(
                bytes <= most && things <= 10_000,
                "{bytes} bytes, {things} things"
            );
        }
    }

    /// Unless somebody interfered, all has arrived.
    fn finish(&mut self, mut now: Time) {
        for _ in 0..10 {
            now = now + Duration::from_millis(100);
            self.ends.iter_mut().for_each(|end| end.wake(now, true));
            self.settle(now);
        }
        let over = self.ends.iter().any(|end| end.end().is_some());
        assert!(self.disturbed || over || self.heard == self.said);
    }
}
