//! A deterministic simulator: machines in virtual time, on a network that fails on purpose.
//!
//! Everything that happens follows from one seed: delays, losses, and whatever faults the test
//! injects with the simulation's own [`Rng`]. A failure found once is replayed by its seed.
//!
//! | fault | what the nodes see |
//! | --- | --- |
//! | loss, duplication, delay | of single messages, on links that are not [`fifo`](Link::fifo) |
//! | [`cut`](Sim::cut) | a connection dies with all that it carried, and comes back later |
//! | [`partition`](Sim::partition) | nothing arrives; what a fifo link carries arrives when it is healed |
//! | [`pause`](Sim::pause) | the node stands still as under SIGSTOP; then all that came arrives at once |
//! | [`crash`](Sim::crash) | the node is gone with all that was on its way to it |
//!
//! ```
//! use mutirao::machine::Time;
//! use mutirao::sim::{Link, Node, NodeId, Sim, run_seeds};
//! use std::time::Duration;
//!
//! /// Says its number every second until it has heard the other's.
//! struct Greeter { peer: NodeId, heard: bool, next: Time, say: bool }
//!
//! impl Node for Greeter {
//!     type Message = u32;
//!     fn handle(&mut self, _: Time, _: NodeId, _: u32) { self.heard = true; }
//!     fn wake(&mut self, now: Time) { (self.say, self.next) = (true, now + Duration::from_secs(1)); }
//!     fn poll(&mut self) -> Option<(NodeId, u32)> { std::mem::take(&mut self.say).then_some((self.peer, 7)) }
//!     fn deadline(&self) -> Option<Time> { Some(self.next) }
//! }
//!
//! run_seeds(0..20, |seed| {
//!     let mut sim = Sim::new(seed, Link { loss: 0.5, ..Link::default() });
//!     let greeter = |peer| Greeter { peer: NodeId(peer), heard: false, next: Time::START, say: false };
//!     let (a, b) = (sim.add(greeter(1)), sim.add(greeter(0)));
//!     sim.run_until(Time::START + Duration::from_secs(60)).expect("no livelock");
//!     assert!([a, b].iter().all(|&id| sim.node(id).is_some_and(|node| node.heard)));
//! });
//! ```

mod network;
mod rng;
mod seeds;

use std::time::Duration;

use crate::machine::Time;

pub use network::Link;
use network::{Event, Network, What};
pub use rng::Rng;
pub use seeds::run_seeds;

/// Events at one and the same moment after which a simulation counts as running in a circle.
const MAX_EVENTS_AT_ONCE: u32 = 100_000;

/// Wakes of one node in a row at the same moment after which it counts as a busy loop.
const MAX_WAKES_AT_ONCE: u32 = 100;

/// The number of a node, in the order of [`Sim::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A program in the simulator: a machine, or several, with what the driver and the application do.
///
/// The verbs are those of [`Machine`](crate::machine::Machine). A test that has nodes of several
/// kinds gives the simulator an enum of them.
pub trait Node {
    /// What travels between the nodes.
    type Message: Clone;

    /// A message arrives.
    fn handle(&mut self, now: Time, from: NodeId, message: Self::Message);

    /// The deadline has come. Afterwards it must lie in the future.
    fn wake(&mut self, now: Time);

    /// The next message to send, or `None` when there is nothing left for now.
    fn poll(&mut self) -> Option<(NodeId, Self::Message)>;

    /// When to be woken; `None` while nothing is due.
    fn deadline(&self) -> Option<Time>;

    /// A connection came up (`true`) or broke; for nodes that care, as a publisher does.
    fn connection(&mut self, _now: Time, _peer: NodeId, _up: bool) {}
}

/// The simulation does not come to rest: nodes keep each other busy while time stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node:?} runs in a circle at {at:?}")]
pub struct Livelock {
    /// The node that ran last.
    pub node: NodeId,
    /// When.
    pub at: Time,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages sent by nodes.
    pub sent: u64,
    /// Messages that arrived.
    pub arrived: u64,
    /// Messages that were lost: by the link, in a cut, at a crashed node.
    pub lost: u64,
    /// Times that nodes were woken.
    pub wakes: u64,
}

#[derive(Debug)]
struct Slot<N: Node> {
    node: Option<N>,
    paused: bool,
    /// What arrived while the node was paused.
    inbox: Vec<(NodeId, What<N::Message>)>,
    /// The moment of the last wake, and how often it was woken at that moment.
    wakes: (Time, u32),
}

/// Nodes, a network and a virtual clock.
#[derive(Debug)]
pub struct Sim<N: Node> {
    now: Time,
    rng: Rng,
    slots: Vec<Slot<N>>,
    network: Network<N::Message>,
    stats: Stats,
    events_now: u32,
}

impl<N: Node> Sim<N> {
    /// A simulation whose every chance follows from `seed`, on links like `link`.
    pub fn new(seed: u64, link: Link) -> Sim<N> {
        Sim {
            now: Time::START,
            rng: Rng::new(seed),
            slots: Vec::new(),
            network: Network::new(link),
            stats: Stats::default(),
            events_now: 0,
        }
    }

    /// Adds a node and connects it with all that are there.
    pub fn add(&mut self, node: N) -> NodeId {
        let id = NodeId(self.slots.len());
        self.slots.push(Slot {
            node: None,
            paused: false,
            inbox: Vec::new(),
            wakes: (Time::START, 0),
        });
        self.restart(id, node);
        id
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The source of all chance; a test that draws its faults from it is replayed by the seed.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The nodes that were added, crashed ones included.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<N> {
        (0..self.slots.len()).map(NodeId)
    }

    /// A node, unless it has crashed.
    pub fn node(&self, id: NodeId) -> Option<&N> {
        self.slots.get(id.0)?.node.as_ref()
    }

    /// Does something to a node from outside, and sends what it then wants sent.
    pub fn with<T>(&mut self, id: NodeId, act: impl FnOnce(&mut N, Time) -> T) -> Option<T> {
        let now = self.now;
        let result = act(self.slots.get_mut(id.0)?.node.as_mut()?, now);
        self.drain(id);
        Some(result)
    }

    /// Gives the link from `from` to `to` faults of its own.
    pub fn set_link(&mut self, from: NodeId, to: NodeId, link: Link) {
        self.network.set_link(from, to, link);
    }

    /// Replaces all links: those of their own and the one for the others.
    pub fn set_links(&mut self, link: Link) {
        self.network.set_links(link);
    }

    /// Kills a node with all that was on its way to it, as kill -9 does; what it had sent still
    /// arrives. Returns the node, from which a test takes what was durable.
    pub fn crash(&mut self, id: NodeId) -> Option<N> {
        let slot = self.slots.get_mut(id.0)?;
        let node = slot.node.take()?;
        slot.paused = false;
        self.stats.lost += slot.inbox.drain(..).count() as u64;
        self.stats.lost += self.network.forget_to(id);
        self.connections(id, false, Duration::ZERO);
        Some(node)
    }

    /// Puts a node in the place of one that crashed.
    pub fn restart(&mut self, id: NodeId, node: N) {
        let Some(slot) = self.slots.get_mut(id.0) else {
            return;
        };
        slot.node = Some(node);
        self.connections(id, true, Duration::from_millis(1));
        self.drain(id);
    }

    /// Stops a node, as SIGSTOP does: messages to it wait.
    pub fn pause(&mut self, id: NodeId) {
        if let Some(slot) = self.slots.get_mut(id.0) {
            slot.paused = slot.node.is_some();
        }
    }

    /// Lets a paused node go on: all that came in the meantime arrives at once.
    pub fn resume(&mut self, id: NodeId) {
        let Some(slot) = self.slots.get_mut(id.0) else {
            return;
        };
        slot.paused = false;
        for (from, what) in std::mem::take(&mut slot.inbox) {
            self.deliver(from, id, what);
        }
    }

    /// Separates two nodes until [`heal`](Sim::heal).
    pub fn partition(&mut self, a: NodeId, b: NodeId) {
        self.network.part(a, b);
    }

    /// Ends a partition; what fifo links held back arrives.
    pub fn heal(&mut self, a: NodeId, b: NodeId) {
        self.network.heal(self.now, a, b);
    }

    /// Breaks the connection of two nodes: all that it carries is lost, both notice, and it comes
    /// back after `outage`.
    pub fn cut(&mut self, a: NodeId, b: NodeId, outage: Duration) {
        self.stats.lost += self.network.cut(a, b, self.now + outage);
        for (at, peer) in [(a, b), (b, a)] {
            self.network.notify(self.now, at, peer, false);
            if self.node(a).is_some() && self.node(b).is_some() {
                self.network.notify(self.now + outage, at, peer, true);
            }
        }
    }

    /// Runs until `end`.
    ///
    /// # Errors
    ///
    /// [`Livelock`] when time stands still for too many events.
    pub fn run_until(&mut self, end: Time) -> Result<(), Livelock> {
        self.run_while(end, |_| true).map(|_| ())
    }

    /// Runs until `end`, or until `go_on` says no; whether it said no.
    ///
    /// # Errors
    ///
    /// [`Livelock`] when time stands still for too many events.
    pub fn run_while(
        &mut self,
        end: Time,
        mut go_on: impl FnMut(&Sim<N>) -> bool,
    ) -> Result<bool, Livelock> {
        loop {
            if !go_on(self) {
                return Ok(true);
            }
            if !self.step(end)? {
                self.now = self.now.max(end);
                return Ok(false);
            }
        }
    }

    /// Lets the next thing happen that is due until `end`; whether there was one.
    fn step(&mut self, end: Time) -> Result<bool, Livelock> {
        let wake = self.next_wake();
        let arrival = self.network.next_time();
        let Some(next) = wake.map(|(time, _)| time).into_iter().chain(arrival).min() else {
            return Ok(false);
        };
        if next > end {
            return Ok(false);
        }
        self.events_now = if next > self.now {
            0
        } else {
            self.events_now + 1
        };
        self.now = self.now.max(next);
        match wake {
            Some((time, id)) if arrival.is_none_or(|arrival| time < arrival) => self.wake(id)?,
            _ => self.arrive()?,
        }
        Ok(true)
    }

    /// The running node that wants to be woken first.
    fn next_wake(&self) -> Option<(Time, NodeId)> {
        let running = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.paused);
        running
            .filter_map(|(id, slot)| Some((slot.node.as_ref()?.deadline()?, NodeId(id))))
            .min()
    }

    fn wake(&mut self, id: NodeId) -> Result<(), Livelock> {
        let (now, slot) = (self.now, &mut self.slots[id.0]);
        let Some(node) = &mut slot.node else {
            return Ok(());
        };
        node.wake(now);
        self.stats.wakes += 1;
        slot.wakes = (
            now,
            if slot.wakes.0 == now {
                slot.wakes.1 + 1
            } else {
                1
            },
        );
        if slot.wakes.1 > MAX_WAKES_AT_ONCE {
            return Err(Livelock { node: id, at: now });
        }
        self.drain(id);
        Ok(())
    }

    fn arrive(&mut self) -> Result<(), Livelock> {
        let Some(Event { from, to, what, .. }) = self.network.next() else {
            return Ok(());
        };
        if self.events_now > MAX_EVENTS_AT_ONCE {
            return Err(Livelock {
                node: to,
                at: self.now,
            });
        }
        self.deliver(from, to, what);
        Ok(())
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, what: What<N::Message>) {
        // A connection that was to come up does not when the peer has crashed in the meantime.
        if matches!(what, What::Connection(true)) && self.node(from).is_none() {
            return;
        }
        let (now, slot) = (self.now, &mut self.slots[to.0]);
        if slot.paused {
            slot.inbox.push((from, what));
            return;
        }
        match (&mut slot.node, what) {
            (Some(node), What::Message(message)) => {
                self.stats.arrived += 1;
                node.handle(now, from, message);
            }
            (Some(node), What::Connection(up)) => node.connection(now, from, up),
            (None, What::Message(_)) => self.stats.lost += 1,
            (None, What::Connection(_)) => {}
        }
        self.drain(to);
    }

    fn drain(&mut self, id: NodeId) {
        let nodes = self.slots.len();
        let slot = &mut self.slots[id.0];
        while let Some((to, message)) = slot.node.as_mut().and_then(Node::poll) {
            self.stats.sent += 1;
            let sent = to.0 < nodes && self.network.send(self.now, &mut self.rng, id, to, message);
            if !sent {
                self.stats.lost += 1;
            }
        }
    }

    /// Tells a node and all others that their connections came up or broke.
    fn connections(&mut self, id: NodeId, up: bool, after: Duration) {
        for peer in self.ids().filter(|&peer| peer != id) {
            if self.node(peer).is_some() {
                self.network.notify(self.now + after, peer, id, up);
                if up {
                    self.network.notify(self.now + after, id, peer, up);
                }
            }
        }
    }
}
