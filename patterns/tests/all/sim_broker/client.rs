//! A client of the broker with its program: submits a job, fetches it, makes its results safe.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use mutirao::broker::{
    BrokerSays, ClientInput, ClientLimits, ClientMachine, ClientOutput, JobCounts, JobSettings,
    Slice,
};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{JobId, RangeSet, Span, TaskId};
use mutirao::sim::{Node, NodeId, Rng};

use super::nodes::{BROKER, Message, ToBroker};
use super::work::{Outcome, decode_outcomes, encode_tasks};

/// When the program tries again to fetch a job that is not there yet.
const AGAIN: Duration = Duration::from_millis(300);

/// What a client is there for; the same over restarts.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) job: JobId,
    pub(super) settings: JobSettings,
    pub(super) tasks: u64,
    /// Most tasks handed in at once.
    pub(super) chunk: u64,
    pub(super) submits: bool,
    pub(super) fetches: bool,
    /// Most time between a result and that it is safe.
    pub(super) safe_delay: Duration,
    pub(super) limits: ClientLimits,
}

/// What a client has made safe, and what was learned over all its starts.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) safe: BTreeMap<TaskId, Outcome>,
    /// What the broker promised to have.
    pub(super) accepted: RangeSet,
    pub(super) complete: Option<JobCounts>,
    /// A client that only submits has nothing more to do.
    pub(super) closed: bool,
    /// The broker knew the job.
    pub(super) opened: bool,
}

pub(super) struct ClientNode {
    pub(super) machine: ClientMachine,
    connection: u64,
    pub(super) errand: Errand,
    pub(super) memory: Memory,
    next: TaskId,
    next_step: Option<Time>,
    closed: bool,
    opened: bool,
    /// Delivered in this start.
    received: RangeSet,
    /// When results become safe.
    writing: Vec<(Time, TaskId, Vec<Outcome>)>,
    outbox: VecDeque<(NodeId, Message)>,
    rng: Rng,
    pub(super) fulls: u64,
    /// How often the broker wanted to hear no more of the job.
    pub(super) refusals: u64,
}

impl ClientNode {
    pub(super) fn new(
        start: u64,
        now: Time,
        errand: Errand,
        memory: Memory,
        rng: Rng,
    ) -> ClientNode {
        let node = ClientNode {
            machine: ClientMachine::new(errand.limits.clone()),
            connection: start << 32,
            errand,
            memory,
            next: 0,
            next_step: None,
            closed: false,
            opened: false,
            received: RangeSet::default(),
            writing: Vec::new(),
            outbox: VecDeque::new(),
            rng,
            fulls: 0,
            refusals: 0,
        };
        let next_step = (!node.is_done()).then_some(now);
        ClientNode { next_step, ..node }
    }

    /// Whether the program has nothing more to wait for.
    pub(super) fn is_done(&self) -> bool {
        match self.errand.fetches {
            true => self.memory.complete.is_some(),
            false => self.memory.closed,
        }
    }

    fn open(&mut self, now: Time) {
        self.opened = true;
        let Errand { job, fetches, .. } = self.errand;
        let settings = self.errand.submits.then(|| self.errand.settings.clone());
        let keys = self.memory.safe.keys();
        let safe: RangeSet = keys.map(|&task| task..task + 1).collect();
        let open = ClientInput::Open {
            job,
            settings,
            fetch: fetches,
            safe: safe.iter().collect(),
        };
        self.received = safe;
        self.input(now, open);
    }

    fn input(&mut self, now: Time, input: ClientInput) {
        self.machine.handle(now, input);
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        while let Some(output) = self.machine.poll() {
            match output {
                ClientOutput::Say(says) => self.send(ToBroker::Client(says)),
                ClientOutput::Submit(frame) => self.send(self.submitted(&frame)),
                ClientOutput::Deliver {
                    span,
                    fresh,
                    records,
                    ..
                } => self.deliver(now, span, fresh, &records),
                ClientOutput::Complete(_, counts) => {
                    self.memory.complete = Some(counts);
                    self.memory.closed = true;
                }
                ClientOutput::Refused(_, reason) => self.refused(now, reason),
                ClientOutput::Closed(_) => self.memory.closed = true,
                ClientOutput::Full(..) => self.fulls += 1,
                ClientOutput::Opened(..) => self.memory.opened = true,
                ClientOutput::Accepted(_) | ClientOutput::Found(_) | ClientOutput::Lost => {}
            }
        }
    }

    /// The program begins the job anew, unless it may be content.
    fn refused(&mut self, now: Time, reason: String) {
        self.refusals += 1;
        let safe: RangeSet = self
            .memory
            .safe
            .keys()
            .map(|&task| task..task + 1)
            .collect();
        let is_lost = |range| !safe.contains_all(range);
        assert!(
            !self.errand.fetches || !self.memory.accepted.iter().any(is_lost),
            "{reason}"
        );
        // A broker that died after the last word of a job has forgotten it.
        let has_all = self.memory.safe.len() as u64 == self.errand.tasks;
        if has_all && !self.errand.submits {
            self.memory.complete = Some(JobCounts::default());
        }
        self.memory.closed |= !self.errand.fetches;
        (self.next, self.closed) = (0, false);
        self.next_step = (!self.is_done()).then_some(now + AGAIN);
        self.opened = false;
    }

    fn send(&mut self, message: ToBroker) {
        let message = Message::ToBroker(self.connection, message);
        self.outbox.push_back((BROKER, message));
    }

    fn submitted(&self, frame: &std::sync::Arc<[u8]>) -> ToBroker {
        let number = |at: usize| u64::from_le_bytes(frame[at..at + 8].try_into().unwrap());
        let (first, count) = (number(0), number(8) as u32);
        ToBroker::Submit {
            job: self.errand.job,
            span: Span { first, count },
            records: Slice::from(frame.clone(), 16),
        }
    }

    fn deliver(&mut self, now: Time, span: Span, fresh: Vec<Range<TaskId>>, records: &Slice) {
        let outcomes = decode_outcomes(records);
        assert_eq!(outcomes.len(), span.count as usize);
        for range in fresh {
            let len = range.end - range.start;
            let new = self.received.insert(range.clone());
            assert_eq!(new, len, "{range:?} was delivered before");
            let from = (range.start - span.first) as usize;
            let delay = Duration::from_micros(
                1 + self.rng.below(self.errand.safe_delay.as_micros() as u64),
            );
            let outcomes = outcomes[from..from + len as usize].to_vec();
            self.writing.push((now + delay, range.start, outcomes));
        }
    }

    fn write_due(&mut self, now: Time) {
        let mut safe = Vec::new();
        for (due, first, outcomes) in std::mem::take(&mut self.writing) {
            if due > now {
                self.writing.push((due, first, outcomes));
                continue;
            }
            safe.push(first..first + outcomes.len() as u64);
            for (task, outcome) in (first..).zip(outcomes) {
                let before = self.memory.safe.insert(task, outcome);
                assert!(before.is_none(), "task {task} had an outcome");
            }
        }
        if !safe.is_empty() {
            self.input(now, ClientInput::Safe(self.errand.job, safe));
        }
    }

    fn step(&mut self, now: Time) {
        if self.next_step.is_none_or(|due| due > now) {
            return;
        }
        self.next_step = None;
        if !self.opened {
            self.open(now);
        }
        if !self.errand.submits {
            return;
        }
        if self.machine.unaccepted_bytes() < 10_000 {
            self.submit(now);
        }
        if !self.closed {
            let pause = Duration::from_micros(1 + self.rng.below(20_000));
            self.next_step = Some(now + pause);
        }
    }

    fn submit(&mut self, now: Time) {
        let job = self.errand.job;
        if self.next == self.errand.tasks {
            self.closed = true;
            return self.input(now, ClientInput::Close(job, self.errand.tasks));
        }
        let count = 1 + self.rng.below(self.errand.chunk);
        let end = (self.next + count).min(self.errand.tasks);
        let span = Span {
            first: self.next,
            count: (end - self.next) as u32,
        };
        let header = [span.first, u64::from(span.count)];
        let mut frame: Vec<u8> = header.into_iter().flat_map(u64::to_le_bytes).collect();
        frame.extend_from_slice(encode_tasks(job, span.range()).bytes());
        let frame = frame.into();
        self.next = end;
        self.input(now, ClientInput::Submit { job, span, frame });
    }
}

impl Node for ClientNode {
    type Message = Message;

    fn handle(&mut self, now: Time, _from: NodeId, message: Message) {
        match message {
            Message::Says(says) => {
                if let BrokerSays::Accepted { tasks, .. }
                | BrokerSays::Opened {
                    accepted: tasks, ..
                } = &says
                {
                    for range in tasks {
                        self.memory.accepted.insert(range.clone());
                    }
                }
                self.input(now, ClientInput::Broker(says));
            }
            Message::Results { job, span, records } => {
                self.input(now, ClientInput::Results { job, span, records });
            }
            _ => {}
        }
    }

    fn wake(&mut self, now: Time) {
        self.step(now);
        self.write_due(now);
        self.machine.wake(now);
        self.settle(now);
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let writing = self.writing.iter().map(|&(due, _, _)| due);
        let others = [self.next_step, self.machine.deadline()];
        writing.chain(others.into_iter().flatten()).min()
    }

    fn connection(&mut self, _now: Time, peer: NodeId, up: bool) {
        // At the start there is one already.
        if peer == BROKER && !up {
            self.connection += 1;
        }
    }
}
