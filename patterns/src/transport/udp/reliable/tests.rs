//! Two ends of a connection on a network that fails on purpose, in virtual time.

use std::time::Duration;

use crate::machine::Time;
use crate::sim::{Link, Node, NodeId, Rng, Sim, run_seeds};
use crate::transport::{Frame, Message};

use super::segment::{Acknowledged, Body};
use super::{End, Limits, Patience, Reliable};

const MS: Duration = Duration::from_millis(1);

/// One end and its program: sends what it is given as fast as it may, takes what comes.
struct Peer {
    machine: Reliable,
    other: NodeId,
    now: Time,
    to_send: Vec<Message>,
    got: Vec<Message>,
    /// Takes nothing.
    idle: bool,
    /// Where messages are sent one by one, each in a datagram of its own.
    hasty: bool,
    most_held: usize,
    most_things: usize,
}

impl Peer {
    fn new(limits: &Limits, other: usize, to_send: Vec<Message>) -> Peer {
        let mut machine = Reliable::new(limits, Time::START);
        machine.begin();
        Peer {
            machine,
            other: NodeId(other),
            now: Time::START,
            to_send: to_send.into_iter().rev().collect(),
            got: Vec::new(),
            idle: false,
            hasty: false,
            most_held: 0,
            most_things: 0,
        }
    }

    fn work(&mut self, now: Time) {
        self.now = now;
        while self.machine.has_room()
            && let Some(message) = self.to_send.pop()
        {
            self.machine.push(&message);
            if self.hasty {
                break;
            }
        }
        self.machine.flush();
        while !self.idle
            && let Some(message) = self.machine.take()
        {
            self.got.push(message);
        }
        let (_, under_way) = self.machine.sending.footprint();
        let held = self.machine.receiving.footprint() + under_way;
        self.most_held = self.most_held.max(held);
        let things = self.machine.sending.things() + self.machine.receiving.things();
        self.most_things = self.most_things.max(things);
    }
}

impl Node for Peer {
    type Message = Vec<u8>;

    fn handle(&mut self, now: Time, _: NodeId, datagram: Vec<u8>) {
        self.machine.handle(now, &datagram).expect("well formed");
        self.work(now);
    }

    fn wake(&mut self, now: Time) {
        self.machine.wake(now, true);
        self.work(now);
    }

    fn poll(&mut self) -> Option<(NodeId, Vec<u8>)> {
        let mut datagram = Vec::new();
        let polled = self.machine.poll(self.now, &mut datagram);
        polled.then_some((self.other, datagram))
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }
}

fn limits() -> Limits {
    Limits {
        segment_bytes: 1000,
        window_bytes: 64_000,
        queue_messages: 50,
        queue_bytes: 64_000,
        keeps_latest_in: false,
        frame_bytes: 1 << 20,
        patience: Patience {
            interval: 2000 * MS,
            limit: 30_000 * MS,
        },
    }
}

/// Messages of every kind: empty, small, larger than a datagram, larger than the window.
fn messages(rng: &mut Rng, count: usize) -> Vec<Message> {
    let frame = |rng: &mut Rng| {
        let most = *rng.pick(&[1, 50, 3000, 100_000]).unwrap_or(&1);
        let len = rng.below(most) as usize;
        let first = rng.bits();
        let bytes = (0..len).map(|at| (first as usize + at) as u8);
        Frame::from(bytes.collect::<Vec<u8>>())
    };
    let message = |_| (0..=rng.below(3)).map(|_| frame(rng)).collect();
    (0..count).map(message).collect()
}

fn bytes(messages: &[Message]) -> Vec<Vec<Vec<u8>>> {
    let bytes = |message: &Message| message.iter().map(|frame| frame.to_vec()).collect();
    messages.iter().map(bytes).collect()
}

/// Two ends that send each other so many messages.
struct Pair {
    sim: Sim<Peer>,
    sent: [Vec<Message>; 2],
}

impl Pair {
    fn new(seed: u64, link: Link, count: usize) -> Pair {
        let mut rng = Rng::new(!seed);
        let sent = [messages(&mut rng, count), messages(&mut rng, count / 2)];
        let mut sim = Sim::new(seed, link);
        sim.add(Peer::new(&limits(), 1, sent[0].clone()));
        sim.add(Peer::new(&limits(), 0, sent[1].clone()));
        let mut pair = Pair { sim, sent };
        pair.each(|peer, now| {
            peer.hasty = rng.chance(0.5);
            peer.work(now);
        });
        pair
    }

    fn each(&mut self, mut act: impl FnMut(&mut Peer, Time)) {
        for id in [NodeId(0), NodeId(1)] {
            self.sim.with(id, &mut act);
        }
    }

    fn peer(&self, at: usize) -> &Peer {
        self.sim.node(NodeId(at)).expect("it never crashes")
    }

    fn run(&mut self, time: Duration) {
        let end = self.sim.now() + time;
        self.sim.run_until(end).expect("no livelock");
    }

    fn is_done(&self) -> bool {
        [0, 1].iter().all(|&at| {
            self.peer(at).got.len() == self.sent[1 - at].len() && self.peer(at).machine.is_idle()
        })
    }

    /// Until all has arrived; what, and whether memory was bounded.
    fn finish(&mut self, limit: Duration) {
        let begun = self.sim.now();
        while !self.is_done() {
            assert!(
                self.sim.now().since(begun) < limit,
                "no progress: {}",
                self.progress()
            );
            self.run(100 * MS);
        }
        for at in [0, 1] {
            let peer = self.peer(at);
            assert!(
                bytes(&peer.got) == bytes(&self.sent[1 - at]),
                "not as it was sent"
            );
            assert_eq!(peer.machine.end(), None);
            // What is put aside and what is taken apart, a window each; what is under way, another.
            let most = 3 * limits().window_bytes + 2 * 100_000;
            assert!(peer.most_held <= most, "{} bytes held", peer.most_held);
            assert!(peer.most_things <= 2000, "{} things", peer.most_things);
        }
    }

    fn progress(&self) -> String {
        let line = |at: usize| {
            let peer = self.peer(at);
            format!(
                "{} of {}, {:?}",
                peer.got.len(),
                self.sent[1 - at].len(),
                peer.machine.end()
            )
        };
        format!("{}; {}", line(0), line(1))
    }
}

fn bad_link(rng: &mut Rng, most_lost: f64) -> Link {
    let slow = rng.within(&(MS..100 * MS));
    Link {
        delay: slow / 10..slow,
        loss: most_lost * rng.below(1000) as f64 / 1000.0,
        duplication: 0.2 * rng.below(1000) as f64 / 1000.0,
        fifo: false,
    }
}

#[test]
fn everything_arrives_once_in_order_and_whole_whatever_the_network_does() {
    run_seeds(0..150, |seed| {
        let link = bad_link(&mut Rng::new(seed ^ 1), 0.3);
        Pair::new(seed, link, 40).finish(Duration::from_secs(900));
    });
}

#[test]
fn a_partition_that_heals_costs_nothing_but_time() {
    run_seeds(0..80, |seed| {
        let mut rng = Rng::new(seed ^ 2);
        let mut pair = Pair::new(seed, bad_link(&mut rng, 0.05), 40);
        for _ in 0..3 {
            // Time enough to hear of each other in between.
            pair.run(3000 * MS + rng.within(&(MS..500 * MS)));
            pair.sim.partition(NodeId(0), NodeId(1));
            pair.run(rng.within(&(MS..20_000 * MS)));
            pair.sim.heal(NodeId(0), NodeId(1));
        }
        pair.sim.set_links(Link::default());
        pair.finish(Duration::from_secs(30));
    });
}

#[test]
fn all_is_quick_again_when_the_faults_stop() {
    run_seeds(0..50, |seed| {
        let link = Link {
            loss: 0.6,
            duplication: 0.3,
            delay: MS..200 * MS,
            fifo: false,
        };
        let mut pair = Pair::new(seed, link, 40);
        pair.run(Duration::from_secs(5));
        pair.sim.set_links(Link::default());
        pair.finish(Duration::from_secs(10));
    });
}

#[test]
fn a_connection_without_faults_repeats_nothing() {
    run_seeds(0..20, |seed| {
        let mut pair = Pair::new(
            seed,
            Link {
                delay: MS..MS,
                ..Link::default()
            },
            40,
        );
        pair.finish(Duration::from_secs(30));
        pair.each(|peer, _| {
            let stats = peer.machine.take_stats();
            assert_eq!(stats, super::Stats::default());
        });
    });
}

#[test]
fn one_in_a_hundred_lost_costs_little() {
    // A path of 20 ms and datagrams of 1000 bytes; 5 MB.
    let seconds = |loss| {
        let link = Link {
            delay: 10 * MS..10 * MS,
            loss,
            ..Link::default()
        };
        let mut sim = Sim::new(7, link);
        let load: Vec<Message> = vec![vec![Frame::from(vec![7; 50_000])]; 100];
        let roomy = Limits {
            window_bytes: 1 << 20,
            ..limits()
        };
        sim.add(Peer::new(&roomy, 1, load));
        sim.add(Peer::new(&roomy, 0, Vec::new()));
        sim.with(NodeId(0), |peer, now| peer.work(now));
        sim.with(NodeId(1), |peer, now| peer.work(now));
        while sim.node(NodeId(1)).is_some_and(|peer| peer.got.len() < 100) {
            let next = sim.now() + 100 * MS;
            assert!(next < Time::START + Duration::from_secs(600));
            sim.run_until(next).expect("no livelock");
        }
        sim.now().since(Time::START).as_secs_f64()
    };
    let (whole, lossy) = (seconds(0.0), seconds(0.01));
    assert!(lossy < 30.0 && whole < 2.0, "{whole} s, {lossy} s at 1 %");
}

#[test]
fn a_peer_that_does_not_take_stops_the_other_and_loses_nothing() {
    run_seeds(0..30, |seed| {
        let mut pair = Pair::new(seed, bad_link(&mut Rng::new(seed), 0.1), 60);
        pair.each(|peer, _| peer.idle = true);
        pair.run(Duration::from_secs(60));
        assert!(pair.peer(1).got.is_empty());
        assert_eq!(pair.peer(0).machine.end(), None, "it is there, only slow");
        pair.each(|peer, _| peer.idle = false);
        pair.each(Peer::work);
        pair.finish(Duration::from_secs(900));
    });
}

#[test]
fn a_peer_that_is_gone_is_given_up() {
    run_seeds(0..20, |seed| {
        let mut pair = Pair::new(seed, Link::default(), 10);
        pair.run(5 * MS);
        pair.sim.crash(NodeId(1));
        pair.run(Duration::from_secs(120));
        assert_eq!(pair.peer(0).machine.end(), Some(End::Silent));
        assert_eq!(pair.peer(0).machine.deadline(), None);
    });
}

#[test]
fn replayed_datagrams_add_nothing_and_confirm_nothing() {
    run_seeds(0..50, |seed| {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new(seed, Link::default(), 20);
        let mut heard = Vec::new();
        for _ in 0..200 {
            pair.run(rng.within(&(Duration::from_micros(50)..MS)));
            // Kept back, to be said at any later time, or never, or over and over again.
            pair.sim.with(NodeId(0), |peer, now| {
                let mut datagram = Vec::new();
                peer.machine.sending.ping();
                if peer.machine.poll(now, &mut datagram) {
                    heard.push(datagram);
                }
            });
            let replayed = rng.pick(&heard).cloned().unwrap_or_default();
            pair.sim.with(NodeId(1), |peer, now| {
                let _ = peer.machine.handle(now, &replayed);
                peer.work(now);
            });
        }
        pair.finish(Duration::from_secs(60));
    });
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused_whole() {
    let mut machine = Reliable::new(&limits(), Time::START);
    machine.push(&[Frame::from(&b"hello"[..])]);
    machine.flush();
    let mut datagram = Vec::new();
    while machine.poll(Time::START, &mut datagram) {}
    let next = machine.sending.next_number();
    for newest in [next, next + 7, u64::MAX - 1] {
        let ranges = std::iter::once(newest..newest + 1).collect();
        let delay = Duration::ZERO;
        let body = Body {
            number: 0,
            credit: 1 << 40,
            elicits: false,
            acknowledged: Some(Acknowledged { delay, ranges }),
            segment: None,
        };
        let mut forged = Vec::new();
        body.write(&mut forged);
        machine.handle(Time::START, &forged).unwrap_err();
        assert!(!machine.is_idle());
    }
    assert_eq!(machine.take_stats(), super::Stats::default());
}

#[test]
fn what_lies_beyond_the_credit_is_dropped_and_not_acknowledged() {
    let mut machine = Reliable::new(&limits(), Time::START);
    let load = vec![0; 1000];
    let mut say = |number, offset, now: Time| {
        let body = Body {
            number,
            credit: 0,
            elicits: true,
            acknowledged: None,
            segment: Some((offset, &load[..])),
        };
        let mut datagram = Vec::new();
        body.write(&mut datagram);
        machine.handle(now, &datagram).unwrap();
        let held = machine.receiving.footprint();
        assert!(held <= 2 * limits().window_bytes, "{held}");
        machine.take_stats()
    };
    assert_eq!(say(0, u64::MAX - 5, Time::START).dropped, 1);
    assert_eq!(say(1, 64_001, Time::START).dropped, 1);
    assert_eq!(say(2, 63_000, Time::START).dropped, 0);
    assert_eq!(say(2, 63_000, Time::START).duplicated, 1);
    // Parts that overlap, of which no honest peer sends more than one.
    let dropped: u64 = (3..1000).map(|n| say(n, n, Time::START).dropped).sum();
    assert!(dropped > 900, "{dropped}");
}

#[test]
fn what_waits_to_be_sent_is_bounded_in_bytes() {
    let limits = Limits {
        queue_messages: 10_000,
        ..limits()
    };
    let push = |machine: &mut Reliable, bytes| {
        let room = machine.has_room();
        if room {
            machine.push(&[Frame::from(vec![7; bytes])]);
        }
        room
    };
    let mut machine = Reliable::new(&limits, Time::START);
    while push(&mut machine, 900) {}
    let (waiting, _) = machine.sending.footprint();
    assert!((64_000..65_000).contains(&waiting), "{waiting}");
    // One that is larger than the bound is taken, alone.
    let mut machine = Reliable::new(&limits, Time::START);
    assert!(push(&mut machine, 100_000) && !push(&mut machine, 1));
}
