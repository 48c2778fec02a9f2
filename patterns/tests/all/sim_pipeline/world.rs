//! A pipeline in the simulator: a setup drawn from the seed, faults, and how it ended.

use std::time::Duration;

use mutirao::pipeline::{Dispatch, Incarnation, Limits, Progress, WorkerId};
use mutirao::sim::{Link, NodeId, Rng, Sim};

use super::nodes::{IDS_PER_START, Program, SINK, VENTILATOR};
use super::sink::{Disk, SinkNode, Storage};
use super::ventilator::VentilatorNode;
use super::work::{Pace, Work};
use super::worker::{Runs, WorkerNode};

pub(super) const DISPATCHES: [Dispatch; 3] =
    [Dispatch::Anyone, Dispatch::Asked, Dispatch::Addressed];

/// What is the same for the whole run.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) dispatch: Dispatch,
    pub(super) work: Work,
    pub(super) workers: usize,
    pub(super) slots: u32,
    pub(super) limits: Limits,
    /// How many times the common heartbeat ventilator, sink and workers have.
    pub(super) heartbeats: [u32; 3],
    pub(super) storage: Storage,
    pub(super) link: Link,
    /// Tasks handed in at once.
    pub(super) chunk: u64,
}

impl Setup {
    /// A pipeline without faults.
    pub(super) fn calm(seed: u64) -> Setup {
        let dispatch = DISPATCHES[(seed % 3) as usize];
        Setup {
            seed,
            dispatch,
            work: Work {
                seed,
                tasks: 200,
                pace: Pace::Short,
                failing: 0.0,
            },
            workers: 3,
            slots: 2,
            limits: Limits {
                window_tasks: 64,
                batch_tasks: 8,
                ..Limits::default()
            },
            heartbeats: [1; 3],
            storage: Storage {
                delay: Duration::from_millis(20),
                read: Duration::ZERO,
                in_order: false,
                defer: 0.0,
            },
            link: Link::tcp(),
            chunk: 10,
        }
    }

    /// A pipeline of which everything is drawn from the seed, in all three ways to dispatch.
    pub(super) fn random(seed: u64) -> Setup {
        let mut rng = Rng::new(!seed);
        let mut setup = Setup::calm(seed);
        let pace = *rng.pick(&[Pace::Short, Pace::Mixed, Pace::Long]).unwrap();
        setup.work = Work {
            seed,
            tasks: match pace {
                Pace::Long => 1 + rng.below(30),
                _ => 1 + rng.below(400),
            },
            pace,
            failing: *rng.pick(&[0.0, 0.05, 0.5]).unwrap(),
        };
        setup.workers = 1 + rng.below(4) as usize;
        setup.slots = 1 + rng.below(3) as u32;
        setup.chunk = 1 + rng.below(30);
        setup.limits.window_tasks = 1 + rng.below(200) as usize;
        setup.limits.batch_tasks = 1 + rng.below(20) as usize;
        setup.limits.attempts = 1 + rng.below(4) as u32;
        setup.storage = Storage {
            delay: Duration::from_millis(
                1 + rng.below(*[20, 500, 3000].get(seed as usize % 5 % 3).unwrap()),
            ),
            read: Duration::from_micros(*rng.pick(&[0, 0, 5000]).unwrap()),
            in_order: rng.chance(0.3),
            defer: *rng.pick(&[0.0, 0.0, 0.2]).unwrap(),
        };
        setup.link = match rng.below(3) {
            0 => Link::default(),
            1 => Link {
                delay: Duration::from_micros(50)..Duration::from_millis(1 + rng.below(300)),
                loss: *rng.pick(&[0.0, 0.02, 0.2]).unwrap(),
                duplication: *rng.pick(&[0.0, 0.1]).unwrap(),
                fifo: false,
            },
            _ => Link::tcp(),
        };
        setup
    }
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) sim: Sim<Program>,
    pub(super) runs: Runs,
    starts: u64,
    /// Disks of crashed sinks.
    disk: Disk,
}

impl World {
    pub(super) fn new(setup: Setup) -> World {
        let mut world = World {
            sim: Sim::new(setup.seed, setup.link.clone()),
            setup,
            runs: Runs::default(),
            starts: 0,
            disk: Disk::default(),
        };
        for id in 0..world.setup.workers + 2 {
            let program = world.program(NodeId(id));
            world.sim.add(program);
        }
        world
    }

    /// A fresh start of the program that belongs at `id`.
    fn program(&mut self, id: NodeId) -> Program {
        self.starts += 1;
        let Setup {
            work,
            dispatch,
            mut limits,
            heartbeats,
            storage,
            chunk,
            slots,
            ..
        } = self.setup.clone();
        limits.heartbeat *= heartbeats[id.0.min(2)];
        let incarnation = Incarnation(self.starts);
        match id {
            VENTILATOR => Program::Ventilator(Box::new(VentilatorNode::new(
                work,
                dispatch,
                limits,
                incarnation,
                chunk,
            ))),
            SINK => Program::Sink(Box::new(SinkNode::new(
                incarnation,
                dispatch,
                limits,
                storage,
                std::mem::take(&mut self.disk),
                Rng::new(self.setup.seed ^ self.starts),
            ))),
            NodeId(number) => Program::Worker(Box::new(WorkerNode::new(
                WorkerId(self.starts * IDS_PER_START + number as u64),
                slots,
                work,
                dispatch,
                limits,
                self.runs.clone(),
            ))),
        }
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        if let Some(Program::Sink(sink)) = self.sim.crash(id) {
            self.disk = sink.disk;
        }
    }

    pub(super) fn restart(&mut self, id: NodeId) {
        if self.sim.node(id).is_none() {
            let program = self.program(id);
            self.sim.restart(id, program);
        }
    }

    fn random_node(&mut self) -> NodeId {
        NodeId(self.sim.rng().below(self.setup.workers as u64 + 2) as usize)
    }

    /// Does one random thing to one random node.
    fn fault(&mut self) {
        let (a, b) = (self.random_node(), self.random_node());
        match self.sim.rng().below(9) {
            0 | 1 => self.crash(a),
            2 | 3 => self.restart(a),
            4 => self.sim.pause(a),
            5 => self.sim.resume(a),
            6 if a != b => self.sim.partition(a, b),
            7 if a != b => self.sim.heal(a, b),
            8 if a != b && self.setup.link.fifo => {
                let outage = Duration::from_millis(self.sim.rng().below(3000));
                self.sim.cut(a, b, outage);
            }
            _ => self.leave(a),
        }
    }

    fn leave(&mut self, id: NodeId) {
        self.sim.with(id, |program, now| {
            if let Program::Worker(worker) = program {
                worker.leave(now);
            }
        });
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
        self.sim.set_links(match self.setup.link.fifo {
            true => Link::tcp(),
            false => Link::default(),
        });
        for id in self.sim.ids() {
            for other in self.sim.ids().take(id.0) {
                self.sim.heal(id, other);
            }
            self.sim.resume(id);
            if matches!(self.sim.node(id), Some(Program::Worker(worker)) if worker.leaving) {
                self.crash(id);
            }
            self.restart(id);
        }
        self.sim.with(SINK, |program, _| {
            if let Program::Sink(sink) = program {
                sink.calm();
            }
        });
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.sim.now() + time;
        self.sim.run_until(end).expect("no livelock");
    }

    /// Runs until the job is finished and returns how long that took.
    pub(super) fn finish_within(&mut self, time: Duration) -> Duration {
        let start = self.sim.now();
        let finished = self
            .sim
            .run_while(
                start + time,
                |sim| !matches!(sim.node(VENTILATOR), Some(Program::Ventilator(v)) if v.finished),
            )
            .expect("no livelock");
        assert!(
            finished,
            "not finished after {time:?}: {:?}\n{:?}\n{:?}",
            self.setup,
            self.progress(),
            self.sim.stats()
        );
        self.sim.now().since(start)
    }

    pub(super) fn try_ventilator(&self) -> Option<&VentilatorNode> {
        match self.sim.node(VENTILATOR) {
            Some(Program::Ventilator(node)) => Some(node),
            _ => None,
        }
    }

    pub(super) fn ventilator(&self) -> &VentilatorNode {
        self.try_ventilator().expect("the ventilator runs")
    }

    pub(super) fn try_sink(&self) -> Option<&SinkNode> {
        match self.sim.node(SINK) {
            Some(Program::Sink(node)) => Some(node),
            _ => None,
        }
    }

    pub(super) fn sink(&self) -> &SinkNode {
        self.try_sink().expect("the sink runs")
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &WorkerNode> {
        self.sim.ids().filter_map(|id| match self.sim.node(id) {
            Some(Program::Worker(node)) => Some(node.as_ref()),
            _ => None,
        })
    }

    pub(super) fn progress(&self) -> Progress {
        self.ventilator().machine.progress()
    }

    /// Every task is safe with the result, or the failure, that it must have.
    pub(super) fn check_results(&self) {
        let Setup { work, limits, .. } = &self.setup;
        let disk = &self.sink().disk;
        assert!(disk.put_away, "the job was not put away");
        assert_eq!(disk.safe.len() as u64, work.tasks);
        self.ventilator().machine.audit().expect("right counts");
        let mut failed = 0;
        for (&task, outcome) in &disk.safe {
            let expected = work.outcome(task, limits.attempts);
            assert_eq!(*outcome, expected, "the outcome of task {task}");
            let reported = self.ventilator().failed.contains_key(&task);
            let fails = expected != super::work::Outcome::Result(!work.content(task));
            assert_eq!(
                reported, fails,
                "whether task {task} was reported as failed"
            );
            failed += u64::from(fails);
        }
        let progress = self.progress();
        assert_eq!(
            (progress.submitted, progress.safe, progress.failed),
            (work.tasks, work.tasks, failed)
        );
    }
}
