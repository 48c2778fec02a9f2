//! A broker with workers and clients in the simulator: a setup drawn from the seed, faults, the end.

use std::time::Duration;

use mutirao::broker::{BrokerLimits, ClientLimits, Detection, JobSettings};
use mutirao::pipeline::{JobId, WorkerId};
use mutirao::sim::{Link, NodeId, Rng, Sim};

use super::broker::BrokerNode;
use super::client::{ClientNode, Errand, Memory};
use super::nodes::{BROKER, Program};
use super::store::Disk;
use super::work::{Outcome, Pace, Work};
use super::worker::{SharedLog, WorkerNode};

/// What is the same for the whole run.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) work: Work,
    /// Slots and operations of each.
    pub(super) workers: Vec<(usize, Vec<String>)>,
    pub(super) clients: Vec<Errand>,
    pub(super) limits: BrokerLimits,
    /// How long the store takes at most; `None` without one.
    pub(super) store_delay: Option<Duration>,
    pub(super) link: Link,
}

pub(super) fn errand(job: u64, operation: &str, tasks: u64) -> Errand {
    Errand {
        job: JobId(job),
        settings: JobSettings::new(operation),
        tasks,
        chunk: 10,
        submits: true,
        fetches: true,
        safe_delay: Duration::from_millis(50),
        limits: ClientLimits::default(),
    }
}

impl Setup {
    /// Two workers with two slots and one job, without faults.
    pub(super) fn calm(seed: u64) -> Setup {
        Setup {
            seed,
            work: Work {
                seed,
                pace: Pace::Short,
                failing: 0.0,
                poison: None,
            },
            workers: vec![(2, vec!["a".into()]); 2],
            clients: vec![errand(1, "a", 100)],
            limits: BrokerLimits {
                batch_tasks: 8,
                ..BrokerLimits::default()
            },
            store_delay: Some(Duration::from_millis(20)),
            link: Link::tcp(),
        }
    }

    /// Everything drawn from the seed.
    pub(super) fn random(seed: u64) -> Setup {
        let mut rng = Rng::new(!seed);
        let mut setup = Setup::calm(seed);
        let pace = *rng.pick(&[Pace::Short, Pace::Mixed, Pace::Long]).unwrap();
        setup.work.pace = pace;
        setup.work.failing = *rng.pick(&[0.0, 0.05, 0.5]).unwrap();
        let most = if matches!(pace, Pace::Long) { 20 } else { 200 };
        setup.limits.batch_tasks = 1 + rng.below(20) as u32;
        if rng.chance(0.3) {
            setup.limits.queue_tasks = 1 + rng.below(50);
        }
        if rng.chance(0.3) {
            setup.limits.kept_bytes = 200 + rng.below(5_000) as usize;
        }
        if seed.is_multiple_of(3) {
            setup.limits.detection = Detection::PhiAccrual;
        }
        let delay_ms = 1 + rng.below(*rng.clone().pick(&[20, 500, 3000]).unwrap());
        setup.store_delay = Some(Duration::from_millis(delay_ms));
        let operations = [vec!["a"], vec!["b"], vec!["a", "b"]];
        let mut worker = |index: usize| {
            let drawn = rng.pick(&operations).unwrap();
            // Each operation has somebody.
            let names = if index == 0 { &operations[2] } else { drawn };
            let names = names.iter().map(ToString::to_string).collect();
            (1 + rng.below(3) as usize, names)
        };
        setup.workers = (0..1 + seed as usize % 4).map(&mut worker).collect();
        setup.clients = (1..2 + seed % 3)
            .flat_map(|job| random_clients(&mut rng, job, most))
            .collect();
        if setup.clients.iter().any(|client| !client.submits) {
            // One that submits again what was fetched leaves results that nobody wants.
            setup.limits.kept_bytes = BrokerLimits::default().kept_bytes;
        }
        setup
    }
}

/// Who submits and who fetches a job: one client, or two.
fn random_clients(rng: &mut Rng, job: u64, most: u64) -> Vec<Errand> {
    let operation = *rng.pick(&["a", "b"]).unwrap();
    let mut one = errand(job, operation, 1 + rng.below(most));
    one.chunk = 1 + rng.below(30);
    one.settings.attempts = 1 + rng.below(4) as u32;
    one.settings.priority = rng.below(3) as u8;
    one.safe_delay = Duration::from_millis(1 + rng.below(2000));
    one.limits.window_bytes = *rng.pick(&[1, 1000, 1 << 20]).unwrap();
    if rng.chance(0.7) {
        return vec![one];
    }
    let mut other = one.clone();
    (one.fetches, other.submits) = (false, false);
    vec![one, other]
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) sim: Sim<Program>,
    pub(super) log: SharedLog,
    starts: u64,
    faults: u32,
    disk: Disk,
    /// What the clients that have crashed know again.
    memories: Vec<Memory>,
}

impl World {
    pub(super) fn new(setup: Setup) -> World {
        let mut world = World {
            sim: Sim::new(setup.seed, setup.link.clone()),
            memories: vec![Memory::default(); setup.clients.len()],
            setup,
            log: SharedLog::default(),
            starts: 0,
            faults: 0,
            disk: Disk::default(),
        };
        for id in 0..world.nodes() {
            let program = world.program(NodeId(id));
            world.sim.add(program);
        }
        world
    }

    fn nodes(&self) -> usize {
        1 + self.setup.workers.len() + self.setup.clients.len()
    }

    /// A fresh start of the program that belongs at `id`.
    fn program(&mut self, id: NodeId) -> Program {
        self.starts += 1;
        let (start, now) = (self.starts, self.sim.now());
        let rng = Rng::new(self.setup.seed ^ (start << 20));
        let limits = &self.setup.limits;
        let workers = self.setup.workers.len();
        match id.0 {
            0 => {
                let disk = std::mem::take(&mut self.disk);
                let store = self.setup.store_delay.map(|delay| (disk, delay));
                let node = BrokerNode::new(limits.clone(), start, now, store, rng);
                Program::Broker(Box::new(node))
            }
            at if at <= workers => {
                let (slots, operations) = self.setup.workers[at - 1].clone();
                let times = (limits.heartbeat, limits.liveness);
                let (work, log) = (self.setup.work.clone(), self.log.clone());
                let who = (id, WorkerId(start));
                let node = WorkerNode::new(who, slots, operations, times, work, log);
                Program::Worker(Box::new(node))
            }
            at => {
                let at = at - 1 - workers;
                let errand = self.setup.clients[at].clone();
                let memory = std::mem::take(&mut self.memories[at]);
                Program::Client(Box::new(ClientNode::new(start, now, errand, memory, rng)))
            }
        }
    }

    pub(super) fn client_id(&self, at: usize) -> NodeId {
        NodeId(1 + self.setup.workers.len() + at)
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        match self.sim.crash(id) {
            Some(Program::Broker(node)) => self.disk = node.crash().unwrap_or_default(),
            Some(Program::Worker(node)) => node.note_death(),
            Some(Program::Client(node)) => {
                self.memories[id.0 - 1 - self.setup.workers.len()] = node.memory;
            }
            None => {}
        }
    }

    pub(super) fn restart(&mut self, id: NodeId) {
        if self.sim.node(id).is_none() {
            let program = self.program(id);
            self.sim.restart(id, program);
        }
    }

    fn random_node(&mut self) -> NodeId {
        let nodes = self.nodes() as u64;
        // The broker is at the heart of most that can go wrong.
        match self.sim.rng().chance(0.2) {
            true => BROKER,
            false => NodeId(self.sim.rng().below(nodes) as usize),
        }
    }

    /// Does one random thing to one random node.
    fn fault(&mut self) {
        self.faults += 1;
        let node = self.random_node();
        let outage = Duration::from_millis(self.sim.rng().below(3000));
        let others = self.nodes() as u64 - 1;
        let other = NodeId(1 + self.sim.rng().below(others) as usize);
        match self.sim.rng().below(10) {
            0 | 1 => self.crash(node),
            2 | 3 => self.restart(node),
            4 => self.pause(node),
            5 => self.sim.resume(node),
            6 => self.sim.partition(BROKER, other),
            7 => self.sim.heal(BROKER, other),
            8 => self.sim.cut(BROKER, other, outage),
            _ => self.shake(other),
        }
    }

    /// A worker leaves; with the store anything else.
    fn shake(&mut self, id: NodeId) {
        let trouble = self.sim.rng().chance(0.5);
        self.sim.with(id, |program, now| {
            if let Program::Worker(worker) = program {
                worker.leave(now);
            }
        });
        self.sim.with(BROKER, |program, now| {
            if let Program::Broker(broker) = program {
                broker.trouble(now, trouble);
            }
        });
    }

    fn pause(&mut self, id: NodeId) {
        // A worker that stands still for long counts as dead.
        if let Some(Program::Worker(worker)) = self.sim.node(id) {
            worker.note_death();
        }
        self.sim.pause(id);
    }

    /// Faults at random moments for `time`; then all is well again.
    pub(super) fn trouble(&mut self, time: Duration) {
        let end = self.sim.now() + time;
        while self.sim.now() < end {
            let pause = Duration::from_micros(self.sim.rng().below(2_000_000));
            self.run_for(pause);
            self.fault();
        }
        self.calm();
    }

    /// Starts what has crashed or left, lets go on what was paused, heals the network.
    pub(super) fn calm(&mut self) {
        for id in self.sim.ids() {
            self.sim.heal(BROKER, id);
            self.sim.resume(id);
            if matches!(self.sim.node(id), Some(Program::Worker(worker)) if worker.leaving) {
                self.crash(id);
            }
        }
        for id in self.sim.ids() {
            self.restart(id);
        }
        self.sim.with(BROKER, |program, now| {
            if let Program::Broker(broker) = program {
                broker.trouble(now, false);
            }
        });
    }

    /// Starts workers again that a task has killed, or that have left.
    fn revive(&mut self) {
        let dead = std::mem::take(&mut self.log.borrow_mut().dead);
        for id in dead {
            self.crash(id);
            self.restart(id);
        }
    }

    /// Runs until `end`, or until `over` says so; whether it did.
    pub(super) fn run_until(
        &mut self,
        end: mutirao::machine::Time,
        over: impl Fn(&Sim<Program>) -> bool,
    ) -> bool {
        loop {
            let log = self.log.clone();
            let go_on = |sim: &Sim<Program>| log.borrow().dead.is_empty() && !over(sim);
            let stopped = self.sim.run_while(end, go_on).expect("no livelock");
            if !stopped || over(&self.sim) {
                return stopped;
            }
            self.revive();
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.sim.now() + time;
        self.run_until(end, |_| false);
    }

    pub(super) fn is_done(&self) -> bool {
        self.clients().all(ClientNode::is_done)
    }

    /// Runs until all clients are done and returns how long that took.
    pub(super) fn finish_within(&mut self, time: Duration) -> Duration {
        let start = self.sim.now();
        let finished = self.run_until(start + time, |sim| {
            let mut programs = sim.ids().map(|id| sim.node(id));
            programs.all(|program| match program {
                Some(Program::Client(client)) => client.is_done(),
                _ => true,
            })
        });
        if !finished {
            let status = self.broker().machine.status(self.sim.now());
            let waiting = self.clients().filter(|client| !client.is_done());
            let waiting: Vec<_> = waiting.map(|client| &client.machine).collect();
            panic!(
                "not finished after {time:?}: {:?}\n{status:?}\n{waiting:#?}\n{:#?}",
                self.setup,
                self.broker().machine
            );
        }
        self.sim.now().since(start)
    }

    pub(super) fn broker(&self) -> &BrokerNode {
        match self.sim.node(BROKER) {
            Some(Program::Broker(node)) => node,
            _ => panic!("the broker does not run"),
        }
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &WorkerNode> {
        self.sim.ids().filter_map(|id| match self.sim.node(id) {
            Some(Program::Worker(node)) => Some(node.as_ref()),
            _ => None,
        })
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = &ClientNode> {
        self.sim.ids().filter_map(|id| match self.sim.node(id) {
            Some(Program::Client(node)) => Some(node.as_ref()),
            _ => None,
        })
    }

    /// Every task of every job is safe with the outcome that it must have.
    pub(super) fn check_results(&self) {
        for client in self.clients() {
            let Errand { job, tasks, .. } = client.errand;
            if !client.errand.fetches {
                continue;
            }
            assert_eq!(client.memory.safe.len() as u64, tasks, "results of {job}");
            for (&task, outcome) in &client.memory.safe {
                self.check_outcome(&client.errand, task, outcome);
            }
        }
    }

    fn check_outcome(&self, errand: &Errand, task: u64, outcome: &Outcome) {
        let attempts = errand.settings.attempts;
        match outcome {
            // With faults about, workers die without a reason.
            Outcome::Failed(reason) if reason.contains("workers died") => assert!(
                self.faults >= attempts.max(2),
                "task {task} after {} faults: {reason}",
                self.faults
            ),
            _ => assert_eq!(
                *outcome,
                self.setup.work.outcome(errand.job, task, attempts),
                "the outcome of task {task}"
            ),
        }
    }
}
