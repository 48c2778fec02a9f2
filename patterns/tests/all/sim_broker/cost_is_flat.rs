//! The machine says no more for a task among a million, or with a thousand workers, than for one of a
//! few with one worker.

use std::collections::VecDeque;
use std::time::Duration;

use mutirao::broker::{
    BrokerInput, BrokerLimits, BrokerMachine, BrokerOutput, ClientSays, Grant, JobSettings, Slice,
    Takes, WorkerTells,
};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{Incarnation, JobId, PeerId, Span, WorkerId};

const JOB: JobId = JobId(1);
const CLIENT: PeerId = 1_000_000;

struct Bench {
    machine: BrokerMachine,
    now: Time,
    grants: VecDeque<Grant>,
    safe: Vec<std::ops::Range<u64>>,
    inputs: u64,
    outputs: u64,
    complete: bool,
}

impl Bench {
    fn input(&mut self, input: BrokerInput) {
        self.inputs += 1;
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll() {
            self.outputs += 1;
            match output {
                BrokerOutput::Grant(grant) => self.grants.push_back(grant),
                BrokerOutput::Results { span, .. } => self.safe.push(span.range()),
                BrokerOutput::ToClient(_, says) => {
                    self.complete |= matches!(says, mutirao::broker::BrokerSays::Complete { .. });
                }
                _ => {}
            }
        }
    }

    fn submit(&mut self, tasks: u64) {
        let settings = JobSettings::new("a");
        let (job, window_bytes, safe) = (JOB, u64::MAX, Vec::new());
        self.input(BrokerInput::Client(
            CLIENT,
            ClientSays::Open { job, settings },
        ));
        let fetch = ClientSays::Fetch {
            job,
            window_bytes,
            safe,
        };
        self.input(BrokerInput::Client(CLIENT, fetch));
        for first in (0..tasks).step_by(1000) {
            let count = (tasks - first).min(1000) as u32;
            let records = Slice::from(vec![1; count as usize].into(), 0);
            let (peer, span) = (CLIENT, Span { first, count });
            self.input(BrokerInput::Submit {
                peer,
                job,
                span,
                records,
            });
        }
        self.input(BrokerInput::Client(
            CLIENT,
            ClientSays::Close { job, tasks },
        ));
    }

    /// Works off what was granted, the oldest first.
    fn work(&mut self) {
        while let Some(grant) = self.grants.pop_front() {
            let outcomes = [0xc3, 1].repeat(grant.span.count as usize);
            self.input(BrokerInput::Worked {
                peer: grant.peer,
                lease: grant.lease,
                span: grant.span,
                busy: Duration::from_micros(50) * grant.span.count,
                records: Slice::from(outcomes.into(), 0),
            });
            if self.safe.len() >= 16 || self.grants.is_empty() {
                let (job, tasks) = (JOB, std::mem::take(&mut self.safe));
                self.input(BrokerInput::Client(CLIENT, ClientSays::Safe { job, tasks }));
            }
        }
    }
}

/// Inputs and outputs for each hundred tasks.
fn cost(workers: u64, tasks: u64) -> u64 {
    let limits = BrokerLimits::default();
    let mut bench = Bench {
        machine: BrokerMachine::new(limits, Incarnation(1), 0, false),
        now: Time::START,
        grants: VecDeque::new(),
        safe: Vec::new(),
        inputs: 0,
        outputs: 0,
        complete: false,
    };
    for worker in 0..workers {
        let ready = WorkerTells::Ready {
            worker: WorkerId(worker),
            slots: 2,
            operations: vec!["a".into()],
            held: Vec::new(),
            takes: Takes::default(),
            name: None,
        };
        bench.input(BrokerInput::Worker(worker, ready));
    }
    (bench.inputs, bench.outputs) = (0, 0);
    bench.submit(tasks);
    bench.work();
    assert!(bench.complete);
    assert!(bench.machine.footprint() < 10 * workers as usize + 20);
    100 * (bench.inputs + bench.outputs) / tasks
}

#[test]
fn the_steps_of_a_broker_for_each_task_do_not_grow_with_workers_or_tasks() {
    let few = cost(1, 10_000);
    // The first tasks of each worker travel alone.
    for (workers, tasks) in [(1, 1_000_000), (100, 1_000_000), (1000, 1_000_000)] {
        let many = cost(workers, tasks);
        assert!(
            many <= few + 5,
            "{workers} workers, {tasks} tasks: {many}, not {few}"
        );
    }
}
