//! A sink as its driver and its application run it: results become durable in groups.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{
    Dispatch, Incarnation, JobId, Limits, RangeSet, SinkInput, SinkMachine, SinkOutput, Span,
    TaskId,
};
use mutirao::sim::{Node, NodeId, Rng};
use mutirao::wire::Decoder;

use super::nodes::{Message, VENTILATOR, node_of};
use super::work::{Outcome, reason};

/// How the application makes results durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    /// From the first result of a group until the group is safe.
    pub(super) delay: Duration,
    /// How long the application is busy with each frame before it reads the next.
    pub(super) read: Duration,
    /// Whether results become safe only in the order of the tasks.
    pub(super) in_order: bool,
    /// The probability that a delivery is turned away for lack of memory.
    pub(super) defer: f64,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) safe: BTreeMap<TaskId, Outcome>,
    pub(super) put_away: bool,
}

pub(super) struct SinkNode {
    pub(super) machine: SinkMachine<Arc<[u8]>>,
    dispatch: Dispatch,
    storage: Storage,
    rng: Rng,
    pub(super) disk: Disk,
    /// Delivered and not safe yet.
    memory: BTreeMap<TaskId, Outcome>,
    /// Delivered in this incarnation, unless deferred since.
    delivered: BTreeSet<TaskId>,
    /// Results that wait in the socket, and when the next one is read.
    socket: VecDeque<Message>,
    read_at: Time,
    flush_at: Option<Time>,
    close_at: Option<Time>,
    outbox: VecDeque<(NodeId, Message)>,
    pub(super) most_in_memory: usize,
    pub(super) deferred: u64,
}

impl SinkNode {
    pub(super) fn new(
        incarnation: Incarnation,
        dispatch: Dispatch,
        limits: Limits,
        storage: Storage,
        disk: Disk,
        rng: Rng,
    ) -> SinkNode {
        SinkNode {
            machine: SinkMachine::new(incarnation, limits),
            dispatch,
            storage,
            rng,
            disk,
            memory: BTreeMap::new(),
            delivered: BTreeSet::new(),
            socket: VecDeque::new(),
            read_at: Time::START,
            flush_at: None,
            close_at: None,
            outbox: VecDeque::new(),
            most_in_memory: 0,
            deferred: 0,
        }
    }

    /// Faults are over: no more lack of memory.
    pub(super) fn calm(&mut self) {
        self.storage.defer = 0.0;
    }

    fn input(&mut self, now: Time, input: SinkInput<Arc<[u8]>>) {
        self.machine.handle(now, input);
        while let Some(output) = self.machine.poll() {
            self.act(now, output);
        }
    }

    fn act(&mut self, now: Time, output: SinkOutput<Arc<[u8]>>) {
        match output {
            SinkOutput::ToVentilator(peer, says) => {
                self.outbox
                    .push_back((VENTILATOR, Message::Sink(peer, says)));
            }
            SinkOutput::Acknowledge(worker, job, span) => {
                if self.dispatch == Dispatch::Asked {
                    let message = Message::Acknowledge(worker, job, span);
                    self.outbox.push_back((node_of(worker), message));
                }
            }
            SinkOutput::Open(job) => {
                let safe: RangeSet = self.disk.safe.keys().map(|&task| task..task + 1).collect();
                let failed = failures(&self.disk.safe);
                self.machine
                    .handle(now, SinkInput::Resume(job, safe.iter().collect(), failed));
            }
            SinkOutput::Deliver {
                job,
                span,
                fresh,
                body,
            } => self.take(now, job, span, fresh, &body),
            SinkOutput::Abandon(job) => panic!("{job} was abandoned within minutes"),
            SinkOutput::Complete(_) => self.close_at = Some(now + self.storage.delay),
        }
    }

    fn take(
        &mut self,
        now: Time,
        job: JobId,
        span: Span,
        fresh: Vec<std::ops::Range<TaskId>>,
        body: &[u8],
    ) {
        let outcomes = Decoder::<Outcome>::new(body, u64::from(span.count));
        let fresh_set: RangeSet = fresh.iter().cloned().collect();
        let defer = self.rng.chance(self.storage.defer);
        for (task, outcome) in span.range().zip(outcomes) {
            if !fresh_set.contains(task) {
                continue;
            }
            assert!(
                !self.disk.safe.contains_key(&task),
                "task {task} was delivered although it is safe"
            );
            assert!(
                self.delivered.insert(task),
                "task {task} was delivered twice"
            );
            if defer {
                self.delivered.remove(&task);
            } else {
                self.memory.insert(task, outcome.expect("an outcome"));
            }
        }
        if defer {
            self.deferred += 1;
            self.machine.handle(now, SinkInput::Defer(job, fresh));
        } else if self.flush_at.is_none() {
            self.flush_at = Some(now + self.storage.delay);
        }
        self.most_in_memory = self.most_in_memory.max(self.memory.len());
    }

    /// Reads the results that it has the time for.
    fn read(&mut self, now: Time) {
        while self.read_at <= now {
            let Some(Message::Results {
                worker,
                job,
                span,
                frame: body,
            }) = self.socket.pop_front()
            else {
                break;
            };
            self.read_at = now + self.storage.read;
            self.input(
                now,
                SinkInput::Results {
                    worker,
                    job,
                    span,
                    body,
                },
            );
        }
    }

    /// Makes what is in memory safe, and says so.
    fn flush(&mut self, now: Time) {
        self.flush_at = None;
        let mut group = BTreeMap::new();
        let mut next = (0..).find(|task| !self.disk.safe.contains_key(task));
        while let Some((&task, &outcome)) = self.memory.first_key_value() {
            if self.storage.in_order && next != Some(task) {
                break;
            }
            next = Some(task + 1);
            self.memory.remove(&task);
            group.insert(task, outcome);
        }
        if group.is_empty() {
            return;
        }
        let safe: RangeSet = group.keys().map(|&task| task..task + 1).collect();
        let failed = failures(&group);
        self.disk.safe.append(&mut group);
        self.input(
            now,
            SinkInput::Confirm(JobId(7), safe.iter().collect(), failed),
        );
    }
}

fn failures(outcomes: &BTreeMap<TaskId, Outcome>) -> Vec<(TaskId, String)> {
    let failed = outcomes
        .iter()
        .filter_map(|(&task, outcome)| match outcome {
            Outcome::Failed(attempt) => Some((task, reason(*attempt))),
            Outcome::Result(_) => None,
        });
    failed.collect()
}

impl Node for SinkNode {
    type Message = Message;

    fn handle(&mut self, now: Time, _from: NodeId, message: Message) {
        match message {
            Message::Tells(peer, tells) => self.input(now, SinkInput::Ventilator(peer, tells)),
            results @ Message::Results { .. } => {
                if self.socket.is_empty() {
                    self.read_at = self.read_at.max(now);
                }
                self.socket.push_back(results);
                self.read(now);
            }
            _ => {}
        }
    }

    fn wake(&mut self, now: Time) {
        self.read(now);
        if self.flush_at.is_some_and(|time| time <= now) {
            self.flush(now);
        }
        if self.close_at.is_some_and(|time| time <= now) {
            self.close_at = None;
            self.disk.put_away = true;
            self.input(now, SinkInput::Close(JobId(7), 1));
        }
        self.machine.wake(now);
        while let Some(output) = self.machine.poll() {
            self.act(now, output);
        }
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let read_at = (!self.socket.is_empty()).then_some(self.read_at);
        let own = self
            .flush_at
            .into_iter()
            .chain(self.close_at)
            .chain(read_at);
        own.chain(self.machine.deadline()).min()
    }
}
