//! A broker that a test feeds by hand: one job, one client and its store.

use std::time::Duration;

use mutirao::broker::{
    BrokerInput, BrokerLimits, BrokerMachine, BrokerOutput, ClientSays, Grant, JobSettings, Slice,
    Takes, WorkerTells,
};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{Incarnation, JobId, PeerId, Span, WorkerId};

use super::store::Disk;

pub(super) const JOB: JobId = JobId(1);
const CLIENT: PeerId = 1_000_000;

pub(super) struct HandFed {
    pub(super) machine: BrokerMachine,
    pub(super) now: Time,
    pub(super) disk: Disk,
    writes: u64,
    grants: Vec<Grant>,
    said: Vec<BrokerOutput>,
}

impl HandFed {
    /// A broker with a store, and an open job for operation `a` that is being fetched.
    pub(super) fn new() -> HandFed {
        HandFed::with(BrokerLimits::default())
    }

    /// The same within these limits.
    pub(super) fn with(limits: BrokerLimits) -> HandFed {
        let mut fed = HandFed {
            machine: BrokerMachine::new(limits, Incarnation(1), 100, true),
            now: Time::START,
            disk: Disk::default(),
            writes: 0,
            grants: Vec::new(),
            said: Vec::new(),
        };
        let (job, settings) = (JOB, JobSettings::new("a"));
        fed.client(ClientSays::Open { job, settings });
        let (window_bytes, safe) = (u64::MAX, Vec::new());
        fed.client(ClientSays::Fetch {
            job,
            window_bytes,
            safe,
        });
        fed
    }

    /// Something happens; what is written is safe at once.
    pub(super) fn input(&mut self, input: BrokerInput) {
        self.machine.handle(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                BrokerOutput::Keep(write) => {
                    self.disk.take(write);
                    self.writes += 1;
                    let stored = BrokerInput::Stored(self.writes);
                    self.machine.handle(self.now, stored);
                }
                BrokerOutput::Grant(grant) => self.grants.push(grant),
                other => self.said.push(other),
            }
        }
        self.machine.audit().expect("it adds up");
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.machine.wake(self.now);
        self.settle();
    }

    pub(super) fn client(&mut self, says: ClientSays) {
        self.input(BrokerInput::Client(CLIENT, says));
    }

    pub(super) fn worker(&mut self, peer: PeerId, tells: WorkerTells) {
        self.input(BrokerInput::Worker(peer, tells));
    }

    /// A worker of one slot comes.
    pub(super) fn ready(&mut self, peer: PeerId) {
        let ready = WorkerTells::Ready {
            worker: WorkerId(peer),
            slots: 1,
            operations: vec!["a".into()],
            held: Vec::new(),
            takes: Takes::default(),
            name: None,
        };
        self.worker(peer, ready);
    }

    /// Hands in so many tasks, from this one on.
    pub(super) fn submit(&mut self, first: u64, count: u32) {
        let span = Span { first, count };
        let records = Slice::from(vec![1; count as usize].into(), 0);
        let (peer, job) = (CLIENT, JOB);
        self.input(BrokerInput::Submit {
            peer,
            job,
            span,
            records,
        });
    }

    /// What was given out since the last look.
    pub(super) fn granted(&mut self) -> Vec<Grant> {
        std::mem::take(&mut self.grants)
    }

    /// Everything of a lease is done.
    pub(super) fn work(&mut self, grant: &Grant) {
        let outcomes = [0xc3, 1].repeat(grant.span.count as usize);
        self.input(BrokerInput::Worked {
            peer: grant.peer,
            lease: grant.lease,
            span: grant.span,
            busy: Duration::from_micros(50) * grant.span.count,
            records: Slice::from(outcomes.into(), 0),
        });
    }

    /// Makes safe what was sent since the last look; how many results that was.
    pub(super) fn save(&mut self) -> u64 {
        let said = std::mem::take(&mut self.said);
        let spans = said.iter().filter_map(|output| match output {
            BrokerOutput::Results { span, .. } => Some(span.range()),
            _ => None,
        });
        let (job, tasks) = (JOB, spans.collect::<Vec<_>>());
        let count = tasks.iter().map(|range| range.end - range.start).sum();
        self.client(ClientSays::Safe { job, tasks });
        count
    }
}

#[test]
fn a_worker_is_shown_by_the_name_that_it_gives_itself() {
    let long = "é".repeat(200);
    let names = [
        None,
        Some("ana".to_string()),
        Some(String::new()),
        Some(long),
    ];
    let shown = names.map(|name| {
        let mut broker = HandFed::new();
        let ready = WorkerTells::Ready {
            worker: WorkerId(7),
            slots: 1,
            operations: Vec::new(),
            held: Vec::new(),
            takes: Takes::default(),
            name,
        };
        broker.worker(1, ready);
        let status = broker.machine.status(broker.now);
        status.workers[0].worker.clone()
    });
    let number = WorkerId(7).to_string();
    assert_eq!(shown, [&number, "ana", &number, &number]);
}
