//! The network between the nodes: what is on its way, and what goes wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use crate::machine::Time;

use super::{NodeId, Rng};

/// How the messages of one direction between two nodes fare.
#[derive(Clone, Debug)]
pub struct Link {
    /// How long a message travels; each draws its own, so a wide range means reordering.
    pub delay: Range<Duration>,
    /// The probability that a message is lost; ignored where `fifo`.
    pub loss: f64,
    /// The probability that a message arrives twice; ignored where `fifo`.
    pub duplication: f64,
    /// Whether messages keep their order and only vanish with the connection, as over TCP.
    pub fifo: bool,
}

impl Default for Link {
    /// A quick link without faults, on which messages may overtake each other.
    fn default() -> Link {
        Link {
            delay: Duration::from_micros(50)..Duration::from_micros(200),
            loss: 0.0,
            duplication: 0.0,
            fifo: false,
        }
    }
}

impl Link {
    /// A link that keeps the order and loses nothing but in a cut.
    pub fn tcp() -> Link {
        Link {
            fifo: true,
            ..Link::default()
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum What<M> {
    Message(M),
    Connection(bool),
}

#[derive(Debug)]
pub(super) struct Event<M> {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) what: What<M>,
}

#[derive(Debug)]
pub(super) struct Network<M> {
    default: Link,
    own: BTreeMap<(NodeId, NodeId), Link>,
    /// By time, then in the order of sending.
    under_way: BTreeMap<(Time, u64), Event<M>>,
    sent: u64,
    /// The last arrival on each fifo link.
    tails: BTreeMap<(NodeId, NodeId), Time>,
    parted: BTreeSet<(NodeId, NodeId)>,
    /// What fifo links hold back until the partition ends.
    held: Vec<Event<M>>,
    /// Until when a cut connection stays down.
    down: BTreeMap<(NodeId, NodeId), Time>,
}

impl<M: Clone> Network<M> {
    pub(super) fn new(default: Link) -> Network<M> {
        Network {
            default,
            own: BTreeMap::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            tails: BTreeMap::new(),
            parted: BTreeSet::new(),
            held: Vec::new(),
            down: BTreeMap::new(),
        }
    }

    pub(super) fn set_link(&mut self, from: NodeId, to: NodeId, link: Link) {
        self.own.insert((from, to), link);
    }

    pub(super) fn set_links(&mut self, link: Link) {
        self.own.clear();
        self.default = link;
    }

    /// When the next message arrives.
    pub(super) fn next_time(&self) -> Option<Time> {
        self.under_way.keys().next().map(|&(time, _)| time)
    }

    pub(super) fn next(&mut self) -> Option<Event<M>> {
        self.under_way.pop_first().map(|(_, event)| event)
    }

    /// Sends a message; whether it will arrive, as far as is known by now.
    pub(super) fn send(
        &mut self,
        now: Time,
        rng: &mut Rng,
        from: NodeId,
        to: NodeId,
        message: M,
    ) -> bool {
        let pair = (from.min(to), from.max(to));
        let link = self.own.get(&(from, to)).unwrap_or(&self.default).clone();
        let what = What::Message(message);
        if link.fifo {
            if self.down.get(&pair).is_some_and(|&until| now < until) {
                return false;
            }
            self.enqueue_fifo(now, rng.within(&link.delay), Event { from, to, what });
            return true;
        }
        if rng.chance(link.loss) || self.parted.contains(&pair) {
            return false;
        }
        if rng.chance(link.duplication) {
            let what = what.clone();
            self.enqueue(now + rng.within(&link.delay), Event { from, to, what });
        }
        self.enqueue(now + rng.within(&link.delay), Event { from, to, what });
        true
    }

    fn enqueue_fifo(&mut self, now: Time, delay: Duration, event: Event<M>) {
        if self.parted.contains(&ordered(event.from, event.to)) {
            self.held.push(event);
            return;
        }
        let tail = self.tails.entry((event.from, event.to)).or_default();
        *tail = (*tail).max(now + delay);
        let time = *tail;
        self.enqueue(time, event);
    }

    fn enqueue(&mut self, time: Time, event: Event<M>) {
        self.sent += 1;
        self.under_way.insert((time, self.sent), event);
    }

    /// Tells `at` that its connection to `peer` came up or broke.
    pub(super) fn notify(&mut self, when: Time, at: NodeId, peer: NodeId, up: bool) {
        let what = What::Connection(up);
        let (from, to) = (peer, at);
        self.enqueue(when, Event { from, to, what });
    }

    /// Drops all that is on its way to a node; how many messages that were.
    pub(super) fn forget_to(&mut self, id: NodeId) -> u64 {
        self.tails.retain(|(from, to), _| *from != id && *to != id);
        self.forget(|event| event.to == id)
    }

    pub(super) fn cut(&mut self, a: NodeId, b: NodeId, until: Time) -> u64 {
        self.down.insert(ordered(a, b), until);
        self.tails.remove(&(a, b));
        self.tails.remove(&(b, a));
        self.forget(|event| ordered(event.from, event.to) == ordered(a, b))
    }

    fn forget(&mut self, gone: impl Fn(&Event<M>) -> bool) -> u64 {
        let before = self.under_way.len() + self.held.len();
        self.under_way.retain(|_, event| !gone(event));
        self.held.retain(|event| !gone(event));
        (before - self.under_way.len() - self.held.len()) as u64
    }

    pub(super) fn part(&mut self, a: NodeId, b: NodeId) {
        self.parted.insert(ordered(a, b));
    }

    pub(super) fn heal(&mut self, now: Time, a: NodeId, b: NodeId) {
        self.parted.remove(&ordered(a, b));
        for event in std::mem::take(&mut self.held) {
            if ordered(event.from, event.to) == ordered(a, b) {
                self.enqueue_fifo(now, self.default.delay.start, event);
            } else {
                self.held.push(event);
            }
        }
    }
}

fn ordered(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}
