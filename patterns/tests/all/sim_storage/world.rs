//! Heads, data nodes and clients in the simulator: a setup drawn from the seed, faults, the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mutirao::sim::{Link, NodeId, Rng, Sim};
use mutirao::storage::{
    DataLine, HeadConfig, HeadId, InstanceId, Payload, RecordId, Request, StatusView, TextLine,
};

use super::client::{ClientNode, SharedLedger};
use super::data::DataNode;
use super::head::HeadNode;
use super::nodes::Program;

/// What is the same for the whole run.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) heads: usize,
    pub(super) data_nodes: usize,
    pub(super) clients: usize,
    pub(super) replicas: usize,
    /// Records for each client.
    pub(super) records: usize,
    /// Bytes on the disk of each data node.
    pub(super) capacity: u64,
    pub(super) link: Link,
}

impl Setup {
    /// One head, three data nodes, one client, two copies, no faults.
    pub(super) fn calm(seed: u64) -> Setup {
        Setup {
            seed,
            heads: 1,
            data_nodes: 3,
            clients: 1,
            replicas: 2,
            records: 12,
            capacity: 1 << 20,
            link: Link::default(),
        }
    }

    /// Everything drawn from the seed.
    pub(super) fn random(seed: u64) -> Setup {
        let mut rng = Rng::new(!seed);
        let mut setup = Setup::calm(seed);
        setup.heads = *rng.pick(&[1, 3, 3, 5]).unwrap();
        setup.replicas = *rng.pick(&[1, 2, 2, 3]).unwrap();
        setup.data_nodes = setup.replicas + 1 + rng.below(2) as usize;
        setup.clients = 1 + rng.below(2) as usize;
        setup.link = Link {
            delay: Duration::from_micros(50)..Duration::from_millis(1 + rng.below(60)),
            loss: *rng.pick(&[0.0, 0.02, 0.1]).unwrap(),
            duplication: *rng.pick(&[0.0, 0.1]).unwrap(),
            fifo: false,
        };
        setup
    }
}

/// Beats come every second here, so that a node is dead after ten.
const BEAT: Duration = Duration::from_secs(1);

/// What survives of each program.
#[derive(Default)]
struct Files {
    registers: Vec<Vec<u8>>,
    data: BTreeMap<usize, (InstanceId, Vec<u8>)>,
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) sim: Sim<Program>,
    pub(super) ledger: SharedLedger,
    files: Files,
    starts: u64,
    instances: u64,
    epoch: u64,
    /// The names of disks that are gone for good.
    lost: BTreeSet<String>,
}

impl World {
    pub(super) fn new(setup: Setup) -> World {
        let mut world = World {
            sim: Sim::new(setup.seed, setup.link.clone()),
            ledger: SharedLedger::default(),
            files: Files {
                registers: vec![Vec::new(); setup.heads],
                data: BTreeMap::new(),
            },
            starts: 0,
            instances: 0,
            epoch: 0,
            lost: BTreeSet::new(),
            setup,
        };
        for id in 0..world.nodes() {
            if world.is_data(NodeId(id)) {
                world.new_disk(NodeId(id));
            }
            let program = world.program(NodeId(id));
            world.sim.add(program);
        }
        if world.setup.heads > 1 {
            world.elect(NodeId(0));
        }
        world
    }

    fn nodes(&self) -> usize {
        self.setup.heads + self.setup.data_nodes + self.setup.clients
    }

    fn is_head(&self, id: NodeId) -> bool {
        id.0 < self.setup.heads
    }

    fn is_data(&self, id: NodeId) -> bool {
        !self.is_head(id) && id.0 < self.setup.heads + self.setup.data_nodes
    }

    pub(super) fn data_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (self.setup.heads..self.setup.heads + self.setup.data_nodes).map(NodeId)
    }

    /// An empty disk with a name for itself.
    fn new_disk(&mut self, id: NodeId) {
        self.instances += 1;
        let instance = InstanceId(self.instances);
        let line = DataLine::Node {
            instance,
            name: format!("disk{}", self.instances),
        };
        let file = line.to_line().into_bytes();
        self.files.data.insert(id.0, (instance, file));
    }

    /// A fresh start of the program that belongs at `id`.
    fn program(&mut self, id: NodeId) -> Program {
        self.starts += 1;
        let (start, now) = (self.starts, self.sim.now());
        let rng = Rng::new(self.setup.seed ^ (start << 20));
        if self.is_head(id) {
            let file = self.files.registers[id.0].clone();
            let config = self.config(id);
            let ledger = self.ledger.clone();
            let node = HeadNode::new(now, config, file, self.setup.data_nodes, ledger, rng);
            return Program::Head(Box::new(node));
        }
        if self.is_data(id) {
            return Program::Data(Box::new(self.data_node(id, start, rng)));
        }
        let records = self.records_of(id);
        let ledger = self.ledger.clone();
        let node = ClientNode::new(now, self.setup.heads, records, ledger, rng);
        Program::Client(Box::new(node))
    }

    fn data_node(&self, id: NodeId, start: u64, rng: Rng) -> DataNode {
        let (instance, file) = self.files.data[&id.0].clone();
        let who = (instance, format!("disk{}", instance.0), start);
        DataNode::new(self.sim.now(), who, file, self.setup.capacity, rng)
    }

    fn config(&self, id: NodeId) -> HeadConfig {
        let others = (0..self.setup.heads).filter(|&head| head != id.0);
        let config = HeadConfig {
            head: HeadId(id.0 as u32),
            peers: others.map(|head| HeadId(head as u32)).collect(),
            replicas: self.setup.replicas,
            beat: BEAT,
            resend: Duration::from_millis(200),
            patience: Duration::from_secs(1),
            repair_bytes_per_second: 2_000,
            ..HeadConfig::alone()
        };
        assert_eq!(config.validate(), Ok(()));
        config
    }

    fn records_of(&self, id: NodeId) -> VecDeque<(RecordId, Payload)> {
        let record = |number: usize| {
            let id = RecordId(((id.0 as u64) << 32) | number as u64);
            let text = format!("record {number} of {id}\n").repeat(1 + number % 5);
            (id, Payload::from(text.into_bytes()))
        };
        (0..self.setup.records).map(record).collect()
    }

    /// The election's word: this head leads, and the others may not have heard of it.
    pub(super) fn elect(&mut self, id: NodeId) {
        self.epoch += 1;
        let epoch = self.epoch;
        self.sim.with(id, |program, now| {
            if let Program::Head(head) = program {
                head.lead(now, epoch);
            }
        });
    }

    fn resign(&mut self, id: NodeId) {
        self.sim.with(id, |program, now| {
            if let Program::Head(head) = program {
                head.resign(now);
            }
        });
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        match self.sim.node(id) {
            None | Some(Program::Client(_)) => return,
            _ => {}
        }
        match self.sim.crash(id) {
            Some(Program::Head(node)) => self.files.registers[id.0] = node.crash(),
            Some(Program::Data(node)) => {
                let file = node.crash();
                if let Some(data) = self.files.data.get_mut(&id.0) {
                    data.1 = file;
                }
            }
            _ => {}
        }
    }

    pub(super) fn restart(&mut self, id: NodeId) {
        if self.sim.node(id).is_none() {
            let program = self.program(id);
            self.sim.restart(id, program);
        }
    }

    /// The disk of a data node is gone for good; another node comes in its place.
    pub(super) fn lose_disk(&mut self, id: NodeId) {
        self.crash(id);
        self.new_disk(id);
        self.restart(id);
    }

    /// The register of a head is gone for good.
    pub(super) fn lose_register(&mut self, id: NodeId) {
        self.crash(id);
        self.files.registers[id.0].clear();
        self.ledger.borrow_mut().registered.clear();
        self.restart(id);
    }

    /// Loses a disk, if everything confirmed has a good copy on another one: one disk less in a run
    /// than there are copies, as what is about to be confirmed may lie on those that are lost.
    fn lose_spare_disk(&mut self, id: NodeId) {
        if self.lost.len() + 1 >= self.setup.replicas {
            return;
        }
        let confirmed: Vec<RecordId> = self.confirmed();
        let others = |record: RecordId| self.copies(record).into_iter().any(|at| at != id);
        if confirmed.into_iter().all(others) {
            let (instance, _) = self.files.data[&id.0];
            self.lost.insert(format!("disk{}", instance.0));
            self.lose_disk(id);
        }
    }

    /// No disk may be without need the last one with a record.
    fn examine_copies(&self) {
        for record in self.confirmed() {
            let wanted = self.ledger.borrow().confirmed[&record].clone();
            let down = |id: &NodeId| self.sim.node(*id).is_none();
            let on_disk = |id: NodeId| self.data_node(id, 0, Rng::new(0)).good_copy(record);
            assert!(
                !self.copies(record).is_empty()
                    || self
                        .data_ids()
                        .filter(down)
                        .any(|id| on_disk(id).as_ref() == Some(&wanted)),
                "no disk has a good copy of {record}: {:?}",
                self.setup
            );
        }
    }

    /// Flips a bit of a confirmed record, if it has a good copy elsewhere.
    fn flip_spare(&mut self, id: NodeId) {
        if self.setup.replicas < 2 {
            return;
        }
        let confirmed = self.confirmed();
        let Some(record) = self.sim.rng().pick(&confirmed).copied() else {
            return;
        };
        if self.copies(record).into_iter().any(|at| at != id) {
            self.flip(id, record);
        }
    }

    pub(super) fn flip(&mut self, id: NodeId, record: RecordId) -> bool {
        let flipped = self.sim.with(id, |program, _| match program {
            Program::Data(node) => node.flip(record),
            _ => false,
        });
        flipped.unwrap_or(false)
    }

    pub(super) fn confirmed(&self) -> Vec<RecordId> {
        self.ledger.borrow().confirmed.keys().copied().collect()
    }

    /// The nodes that run and have a copy on disk that is what was confirmed.
    pub(super) fn copies(&self, record: RecordId) -> Vec<NodeId> {
        let ledger = self.ledger.borrow();
        let wanted = ledger.confirmed.get(&record);
        let good = |id: &NodeId| match self.sim.node(*id) {
            Some(Program::Data(node)) => node.good_copy(record).as_ref() == wanted,
            _ => false,
        };
        self.data_ids().filter(good).collect()
    }

    pub(super) fn set_capacity(&mut self, id: NodeId, capacity: u64) {
        self.sim.with(id, |program, _| {
            if let Program::Data(node) = program {
                node.capacity = capacity;
            }
        });
    }

    /// Does one random thing to one random node.
    fn fault(&mut self) {
        let nodes = self.nodes() as u64;
        let id = NodeId(self.sim.rng().below(nodes) as usize);
        let other = NodeId(self.sim.rng().below(nodes) as usize);
        let head = NodeId(self.sim.rng().below(self.setup.heads as u64) as usize);
        let data = self.setup.heads + self.sim.rng().below(self.setup.data_nodes as u64) as usize;
        match self.sim.rng().below(14) {
            0 | 1 => self.crash(id),
            2 | 3 => self.restart(id),
            4 => self.sim.pause(id),
            5 => self.sim.resume(id),
            6 => self.sim.partition(id, other),
            7 => self.sim.heal(id, other),
            8 | 9 if self.setup.heads > 1 => self.elect(head),
            10 if self.setup.heads > 1 => self.resign(head),
            11 => self.flip_spare(NodeId(data)),
            12 if self.sim.rng().chance(0.3) => self.lose_spare_disk(NodeId(data)),
            13 => {
                let capacity = *self.sim.rng().pick(&[0, 500, 1 << 20]).unwrap();
                self.set_capacity(NodeId(data), capacity);
            }
            _ => {}
        }
    }

    /// Faults at random moments for `time`; then all is well again.
    pub(super) fn trouble(&mut self, time: Duration) {
        let end = self.sim.now() + time;
        while self.sim.now() < end {
            let pause = Duration::from_micros(self.sim.rng().below(1_500_000));
            self.run_for(pause);
            self.examine_copies();
            self.fault();
        }
        self.calm();
    }

    /// Starts what has crashed, lets go on what was paused, heals the network, elects a head.
    pub(super) fn calm(&mut self) {
        let ids: Vec<NodeId> = self.sim.ids().collect();
        for &id in &ids {
            ids.iter().for_each(|&other| self.sim.heal(id, other));
            self.sim.resume(id);
            self.restart(id);
        }
        for id in self.data_ids() {
            self.set_capacity(id, self.setup.capacity);
        }
        self.sim.set_links(Link::default());
        self.run_for(Duration::from_millis(500));
        if self.setup.heads > 1 {
            let head = self.sim.rng().below(self.setup.heads as u64) as usize;
            self.elect(NodeId(head));
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.sim.now() + time;
        self.sim.run_until(end).expect("no livelock");
    }

    /// Runs until `over`; how long that took.
    pub(super) fn run_until(
        &mut self,
        time: Duration,
        what: &str,
        over: impl Fn(&World) -> bool,
    ) -> Duration {
        let start = self.sim.now();
        while !over(self) {
            let took = self.sim.now().since(start);
            assert!(
                took < time,
                "{what}: not after {time:?}: {:?}\n{:?}",
                self.setup,
                self.status()
            );
            self.run_for(Duration::from_millis(50));
        }
        self.sim.now().since(start)
    }

    /// Runs until every client has stored all its records.
    pub(super) fn finish_within(&mut self, time: Duration) -> Duration {
        self.run_until(time, "storing all records", |world| {
            world.sim.ids().all(|id| match world.sim.node(id) {
                Some(Program::Client(client)) => client.is_done(),
                _ => true,
            })
        })
    }

    /// How the head that reigns sees it; of several the one with the last epoch.
    pub(super) fn status(&self) -> Option<StatusView> {
        let statuses = self.sim.ids().filter_map(|id| match self.sim.node(id) {
            Some(Program::Head(node)) => node.machine.status(),
            _ => None,
        });
        statuses.max_by_key(|status| status.epoch)
    }

    fn client(&self) -> NodeId {
        NodeId(self.setup.heads + self.setup.data_nodes)
    }

    fn ask(&mut self, request: Request) {
        let client = self.client();
        self.sim.with(client, |program, now| {
            if let Program::Client(client) = program {
                client.ask(now, request);
            }
        });
    }

    /// Lets every node read all it has; copies read, and copies found damaged.
    pub(super) fn verify(&mut self) -> (u64, u64) {
        self.ledger.borrow_mut().verified = None;
        self.ask(Request::Verify);
        let done = |world: &World| world.ledger.borrow().verified.is_some();
        self.run_until(Duration::from_secs(30), "verifying", done);
        let verified = self.ledger.borrow_mut().verified.take();
        let (checked, damaged, missing) = verified.expect("it was waited for");
        assert!(
            missing.iter().all(|name| self.lost.contains(name)),
            "{missing:?}"
        );
        (checked, damaged)
    }

    /// Reads every confirmed record; the client checks what it gets.
    pub(super) fn read_all(&mut self) {
        for id in self.confirmed() {
            let before = self.ledger.borrow().found;
            let unknown = self.ledger.borrow().unknown;
            self.ask(Request::Get(id));
            let what = format!("reading {id}");
            self.run_until(Duration::from_secs(30), &what, |world| {
                let ledger = world.ledger.borrow();
                assert_eq!(ledger.unknown, unknown, "{id} is unknown: it was confirmed");
                ledger.found > before
            });
        }
    }

    /// Runs until every confirmed record has as many copies as asked for, and no more.
    pub(super) fn converge_within(&mut self, time: Duration) -> Duration {
        let what = "as many good copies as asked for";
        self.run_until(time, what, |world| {
            let exact = |id| world.copies(id).len() == world.setup.replicas;
            world.confirmed().into_iter().all(exact)
                && world.status().is_some_and(|status| status.lacking == 0)
        })
    }
}
