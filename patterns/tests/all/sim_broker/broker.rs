//! A broker as its driver and its store run it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mutirao::broker::{BrokerInput, BrokerLimits, BrokerMachine, BrokerOutput, Recovery};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{Incarnation, PeerId};
use mutirao::sim::{Node, NodeId, Rng};

use super::nodes::{Message, ToBroker};
use super::store::{Disk, SimStore};
use super::watch::Watch;

/// Lease names of one start.
const LEASES_PER_START: u64 = 1 << 32;

/// A peer whose connection broke: whether a message to it is reported as unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    AtOnce,
    Later,
    Never,
}

#[derive(Debug)]
struct Route {
    node: NodeId,
    connection: u64,
    dead: Option<Report>,
}

pub(super) struct BrokerNode {
    pub(super) machine: BrokerMachine,
    store: Option<SimStore>,
    peers: BTreeMap<(NodeId, u64), PeerId>,
    routes: BTreeMap<PeerId, Route>,
    next_peer: PeerId,
    /// When peers are reported as unreachable.
    reports: BTreeSet<(Time, PeerId)>,
    watch: Watch,
    outbox: VecDeque<(NodeId, Message)>,
    rng: Rng,
}

impl BrokerNode {
    /// A start of the broker with what the disk of the former one holds; without a delay of the
    /// store there is none.
    pub(super) fn new(
        limits: BrokerLimits,
        start: u64,
        now: Time,
        store: Option<(Disk, Duration)>,
        mut rng: Rng,
    ) -> BrokerNode {
        let durable = store.is_some();
        let watch = Watch::new(limits.patience());
        let first = start * LEASES_PER_START;
        let mut machine = BrokerMachine::new(limits, Incarnation(start), first, durable);
        if let Some((disk, _)) = &store {
            let mut recovery = Recovery::default();
            for write in disk.load(rng.chance(0.5)) {
                recovery.take(&mut machine, now, write);
            }
            assert_eq!(recovery.finish(&mut machine, now), 0, "unreadable entries");
        }
        let mut node = BrokerNode {
            machine,
            store: store.map(|(disk, delay)| SimStore::new(disk, delay)),
            peers: BTreeMap::new(),
            routes: BTreeMap::new(),
            next_peer: 0,
            reports: BTreeSet::new(),
            watch,
            outbox: VecDeque::new(),
            rng,
        };
        node.settle(now);
        node
    }

    pub(super) fn crash(mut self) -> Option<Disk> {
        let kept = self.rng.chance(0.5);
        self.store.map(|store| store.crash(kept))
    }

    /// The store takes nothing for a while, or works again.
    pub(super) fn trouble(&mut self, now: Time, trouble: bool) {
        if let Some(store) = &mut self.store {
            store.trouble = trouble;
            let reason = trouble.then(|| "the disk is full".to_string());
            self.input(now, BrokerInput::StoreTrouble(reason));
        }
    }

    /// Nothing is kept on disk or waits for it.
    pub(super) fn is_clean(&self) -> bool {
        self.store
            .as_ref()
            .is_none_or(|store| store.disk.is_empty())
    }

    /// How many peers have a number.
    pub(super) fn peers(&self) -> usize {
        self.routes.len()
    }

    fn input(&mut self, now: Time, input: BrokerInput) {
        self.watch.input(now, &input);
        self.machine.handle(now, input);
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        while let Some(output) = self.machine.poll() {
            self.watch.output(now, &output);
            match output {
                BrokerOutput::ToClient(peer, says) => self.send(now, peer, Message::Says(says)),
                BrokerOutput::ToWorker(peer, tells) => self.send(now, peer, Message::Tells(tells)),
                BrokerOutput::Grant(grant) => {
                    self.send(now, grant.peer, Message::Grant(grant));
                }
                BrokerOutput::Results {
                    peer,
                    job,
                    span,
                    records,
                } => self.send(now, peer, Message::Results { job, span, records }),
                BrokerOutput::Keep(write) => {
                    self.store.as_mut().expect("a store").keep(write);
                }
                BrokerOutput::Gone(peer) => self.forget(peer),
                output => panic!("nobody here speaks Majordomo: {output:?}"),
            }
        }
        if let Some(store) = &mut self.store {
            store.begin(now, &mut self.rng);
        }
        self.machine.audit().expect("it adds up");
    }

    fn forget(&mut self, peer: PeerId) {
        if let Some(route) = self.routes.remove(&peer) {
            self.peers.remove(&(route.node, route.connection));
        }
    }

    fn send(&mut self, now: Time, peer: PeerId, message: Message) {
        let Some(route) = self.routes.get(&peer) else {
            return;
        };
        match route.dead {
            None => self.outbox.push_back((route.node, message)),
            Some(Report::AtOnce) => drop(self.reports.insert((now, peer))),
            Some(Report::Later) => {
                let delay = Duration::from_micros(self.rng.below(3_000_000));
                self.reports.insert((now + delay, peer));
            }
            Some(Report::Never) => {}
        }
        self.report(now);
    }

    fn report(&mut self, now: Time) {
        while let Some(&(due, peer)) = self.reports.first()
            && due <= now
        {
            self.reports.pop_first();
            let input = BrokerInput::Unreachable(peer);
            self.watch.input(now, &input);
            self.machine.handle(now, input);
        }
    }

    fn peer(&mut self, node: NodeId, connection: u64) -> PeerId {
        *self.peers.entry((node, connection)).or_insert_with(|| {
            self.next_peer += 1;
            let dead = None;
            let route = Route {
                node,
                connection,
                dead,
            };
            self.routes.insert(self.next_peer, route);
            self.next_peer
        })
    }
}

impl Node for BrokerNode {
    type Message = Message;

    fn handle(&mut self, now: Time, from: NodeId, message: Message) {
        let Message::ToBroker(connection, message) = message else {
            return;
        };
        let peer = self.peer(from, connection);
        let input = match message {
            ToBroker::Client(says) => BrokerInput::Client(peer, says),
            ToBroker::Submit { job, span, records } => BrokerInput::Submit {
                peer,
                job,
                span,
                records,
            },
            ToBroker::Worker(tells) => BrokerInput::Worker(peer, tells),
            ToBroker::Worked {
                lease,
                span,
                busy,
                records,
            } => BrokerInput::Worked {
                peer,
                lease,
                span,
                busy,
                records,
            },
        };
        self.input(now, input);
    }

    fn wake(&mut self, now: Time) {
        let stored = self.store.as_mut().and_then(|store| store.sync(now));
        if let Some(stored) = stored {
            self.input(now, BrokerInput::Stored(stored));
        }
        self.report(now);
        self.machine.wake(now);
        self.settle(now);
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let store = self.store.as_ref().and_then(SimStore::due);
        let report = self.reports.first().map(|&(due, _)| due);
        [store, report, self.machine.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn connection(&mut self, _now: Time, node: NodeId, up: bool) {
        if up {
            return;
        }
        let reports = [Report::AtOnce, Report::Later, Report::Never];
        for route in self.routes.values_mut().filter(|route| route.node == node) {
            let report = self.rng.pick(&reports).copied();
            route.dead = route.dead.or(report);
        }
    }
}
