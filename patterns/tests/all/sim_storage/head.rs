//! A head in the simulator: the machine, its disk, a failure detector that counts missed beats.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mutirao::machine::{Machine, Time};
use mutirao::sim::{Node, NodeId, Rng};
use mutirao::storage::{
    BeatLine, DataSays, Fact, HeadConfig, HeadId, HeadInput, HeadMachine, HeadOutput, Health,
    InstanceId, Register, RegisterLine,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::client::SharedLedger;
use super::disk::{Disk, load};
use super::nodes::Message;

/// Missed beats after which a data node is stale, and dead.
const STALE: u32 = 3;
const DEAD: u32 = 10;

pub(super) struct HeadNode {
    pub(super) machine: HeadMachine,
    disk: Disk,
    kept: u64,
    rng: Rng,
    ledger: SharedLedger,
    /// The epoch in which it reigns.
    reign: Option<u64>,
    heads: usize,
    data_nodes: usize,
    beat: Duration,
    seen: BTreeMap<InstanceId, (Time, Health)>,
    addresses: BTreeMap<InstanceId, NodeId>,
    outbox: VecDeque<(NodeId, Message)>,
    pub(super) rounds: Vec<BeatLine>,
    now: Time,
}

impl HeadNode {
    pub(super) fn new(
        now: Time,
        config: HeadConfig,
        mut file: Vec<u8>,
        data_nodes: usize,
        ledger: SharedLedger,
        mut rng: Rng,
    ) -> HeadNode {
        let mut register = Register::default();
        for line in load::<RegisterLine>(&mut file) {
            let line = line.line.expect("only good lines are loaded");
            register.replay(line).expect("no line is missing");
        }
        let heads = 1 + config.peers.len();
        let beat = config.beat;
        let seed = StdRng::seed_from_u64(rng.bits());
        let mut node = HeadNode {
            machine: HeadMachine::new(config, register, seed),
            disk: Disk::new(file),
            kept: 0,
            rng,
            ledger,
            reign: None,
            heads,
            data_nodes,
            beat,
            seen: BTreeMap::new(),
            addresses: BTreeMap::new(),
            outbox: VecDeque::new(),
            rounds: Vec::new(),
            now,
        };
        if heads == 1 {
            // A head that has lost its register has the clock to go by.
            let clock = now.since(Time::START).as_millis() as u64;
            let (epoch, _) = node.machine.promised();
            node.lead(now, clock.max(epoch) + 1);
        }
        node
    }

    pub(super) fn crash(mut self) -> Vec<u8> {
        self.disk.crash(&mut self.rng)
    }

    pub(super) fn lead(&mut self, now: Time, epoch: u64) {
        self.feed(now, HeadInput::Lead(epoch));
    }

    pub(super) fn resign(&mut self, now: Time) {
        self.feed(now, HeadInput::Resign);
    }

    fn feed(&mut self, now: Time, input: HeadInput) {
        self.now = now;
        self.machine.handle(now, input);
        self.obey();
    }

    /// What any earlier reign has confirmed is in the register of the next from its first moment, before the
    /// data nodes have said what they hold.
    fn examine_reign(&mut self) {
        let reign = self.machine.status().map(|status| status.epoch);
        if reign == self.reign {
            return;
        }
        self.reign = reign;
        let Some(epoch) = reign else { return };
        let entries = self.machine.register().entries().iter();
        let known: BTreeSet<_> = entries
            .filter_map(|entry| match entry.fact {
                Fact::Record { id, .. } => Some(id),
                _ => None,
            })
            .collect();
        for (id, confirmed) in &self.ledger.borrow().registered {
            assert!(
                *confirmed >= epoch || known.contains(id),
                "{id}, confirmed in epoch {confirmed}, is not in the register of epoch {epoch}"
            );
        }
    }

    fn obey(&mut self) {
        self.examine_reign();
        while let Some(output) = self.machine.poll() {
            match output {
                HeadOutput::ToAll(asks) => {
                    for at in 0..self.data_nodes {
                        let to = NodeId(self.heads + at);
                        self.outbox.push_back((to, Message::ToData(asks.clone())));
                    }
                }
                HeadOutput::ToNode(instance, asks) => {
                    if let Some(&to) = self.addresses.get(&instance) {
                        self.outbox.push_back((to, Message::ToData(asks)));
                    }
                }
                HeadOutput::ToHead(head, says) => {
                    let to = NodeId(head.0 as usize);
                    self.outbox.push_back((to, Message::Heads(says)));
                }
                HeadOutput::ToClient(peer, tells) => {
                    let to = NodeId(peer as usize);
                    self.outbox.push_back((to, Message::Tells(tells)));
                }
                HeadOutput::Keep(line) => self.disk.append(self.now, 0, &line, &mut self.rng),
                HeadOutput::Beat(line) => self.rounds.push(line),
                HeadOutput::Watch(instance) => {
                    self.seen.insert(instance, (self.now, Health::Alive));
                }
                HeadOutput::Deposed(epoch) => {
                    if self.heads == 1 {
                        self.machine.handle(self.now, HeadInput::Lead(epoch + 1));
                    }
                }
            }
        }
    }

    fn health(&self, last: Time) -> Health {
        let silence = self.now.since(last);
        if silence > self.beat * DEAD {
            Health::Dead
        } else if silence > self.beat * STALE {
            Health::Stale
        } else {
            Health::Alive
        }
    }

    fn detect(&mut self) {
        let fares = self
            .seen
            .iter()
            .map(|(&at, &(last, was))| (at, was, self.health(last)));
        let changes: Vec<_> = fares.filter(|(_, was, is)| was != is).collect();
        for (instance, _, health) in changes {
            if let Some(seen) = self.seen.get_mut(&instance) {
                seen.1 = health;
            }
            self.feed(self.now, HeadInput::Health(instance, health));
        }
    }

    fn detector_deadline(&self) -> Option<Time> {
        let tick = Duration::from_millis(1);
        let next = |&(last, health): &(Time, Health)| match health {
            Health::Alive => Some(last + self.beat * STALE + tick),
            Health::Stale => Some(last + self.beat * DEAD + tick),
            Health::Dead => None,
        };
        self.seen.values().filter_map(next).min()
    }
}

impl Node for HeadNode {
    type Message = Message;

    fn handle(&mut self, now: Time, from: NodeId, message: Message) {
        self.now = now;
        match message {
            Message::Asks(asks) => self.feed(now, HeadInput::Client(from.0 as u64, asks)),
            Message::Heads(says) => {
                self.feed(now, HeadInput::Head(HeadId(from.0 as u32), says));
            }
            Message::FromData(says) => {
                let (DataSays::Alive { instance, .. }
                | DataSays::Done { instance, .. }
                | DataSays::Deposed { instance, .. }) = says;
                self.addresses.insert(instance, from);
                let was = self
                    .seen
                    .get(&instance)
                    .map_or(Health::Alive, |seen| seen.1);
                self.seen.insert(instance, (now, was));
                self.feed(now, HeadInput::Data(says));
                self.detect();
            }
            Message::Tells(_) | Message::ToData(_) => unreachable!("not for heads"),
        }
    }

    fn wake(&mut self, now: Time) {
        self.now = now;
        while self.disk.sync(now).is_some() {
            self.kept += 1;
            self.feed(now, HeadInput::Kept(self.kept));
        }
        self.detect();
        self.machine.wake(now);
        self.obey();
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let times = [
            self.machine.deadline(),
            self.disk.due(),
            self.detector_deadline(),
        ];
        times.into_iter().flatten().min()
    }
}
