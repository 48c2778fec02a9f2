//! A worker of the broker as its driver and its slots run it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use mutirao::broker::{Leased, Leaseholder, LeaseholderInput, LeaseholderOutput, Slice};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{JobId, Span, TaskId, WorkerId};
use mutirao::sim::{Node, NodeId};

use super::nodes::{BROKER, Message, ToBroker};
use super::work::{Outcome, REASON, Work, answer, decode_tasks, encode_outcome};

/// What all workers together did.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// How often each attempt of a task was begun.
    pub(super) runs: BTreeMap<(JobId, TaskId, u32), u32>,
    /// How often a worker died while it was at the task.
    pub(super) deaths: BTreeMap<(JobId, TaskId), u32>,
    /// Time spent on each job.
    pub(super) busy: BTreeMap<JobId, Duration>,
    /// Workers that a task has killed.
    pub(super) dead: Vec<NodeId>,
}

pub(super) type SharedLog = Rc<RefCell<Log>>;

struct Run {
    due: Time,
    leased: Leased<Slice>,
    dies: bool,
}

pub(super) struct WorkerNode {
    pub(super) machine: Leaseholder<Slice>,
    node: NodeId,
    connection: u64,
    work: Work,
    running: Vec<Run>,
    outbox: VecDeque<(NodeId, Message)>,
    log: SharedLog,
    dead: bool,
    pub(super) leaving: bool,
    pub(super) slots: usize,
}

impl WorkerNode {
    pub(super) fn new(
        (node, id): (NodeId, WorkerId),
        slots: usize,
        operations: Vec<String>,
        (heartbeat, liveness): (Duration, u32),
        work: Work,
        log: SharedLog,
    ) -> WorkerNode {
        WorkerNode {
            machine: Leaseholder::new(id, slots, operations, heartbeat, liveness),
            node,
            connection: id.0 << 32,
            work,
            running: Vec::new(),
            outbox: VecDeque::new(),
            log,
            dead: false,
            leaving: false,
            slots,
        }
    }

    pub(super) fn leave(&mut self, now: Time) {
        self.leaving = true;
        self.input(now, LeaseholderInput::Leave);
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    fn input(&mut self, now: Time, input: LeaseholderInput<Slice>) {
        self.machine.handle(now, input);
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        while let Some(output) = self.machine.poll() {
            match output {
                LeaseholderOutput::Run(leased) => self.run(now, leased),
                LeaseholderOutput::Tell(tells) => self.send(ToBroker::Worker(tells)),
                LeaseholderOutput::Send(frame) => self.send(read(&frame)),
                LeaseholderOutput::Left
                | LeaseholderOutput::Unwanted(_)
                | LeaseholderOutput::Found(_)
                | LeaseholderOutput::Missing
                | LeaseholderOutput::Lost => {}
            }
        }
        assert!(self.running.len() <= self.slots);
    }

    fn send(&mut self, message: ToBroker) {
        let message = Message::ToBroker(self.connection, message);
        self.outbox.push_back((BROKER, message));
    }

    fn run(&mut self, now: Time, leased: Leased<Slice>) {
        let (mut due, mut dies) = (now, false);
        let job = leased.job;
        for task in leased.span.range() {
            due = due + self.work.duration(job, task);
            dies = self.work.kills(job, task);
            if dies {
                break;
            }
        }
        let mut log = self.log.borrow_mut();
        for task in leased.span.range() {
            *log.runs.entry((job, task, leased.attempt)).or_default() += 1;
        }
        self.running.push(Run { due, leased, dies });
    }

    /// Runs its course, as a crash does: what it was at may be blamed for it.
    pub(super) fn note_death(&self) {
        let mut log = self.log.borrow_mut();
        for run in &self.running {
            for task in run.leased.span.range() {
                *log.deaths.entry((run.leased.job, task)).or_default() += 1;
            }
        }
    }

    fn worked(&mut self, now: Time, leased: Leased<Slice>) {
        let (lease, job) = (leased.lease, leased.job);
        // Some leases are given back when they have taken too long.
        let mut end = leased.span.end();
        if lease % 5 == 0 && leased.span.count > 1 {
            end = leased.span.first + u64::from(leased.span.count / 2);
            for task in end..leased.span.end() {
                // They were not begun after all.
                let key = (job, task, leased.attempt);
                *self.log.borrow_mut().runs.entry(key).or_default() -= 1;
            }
            self.input(now, LeaseholderInput::Cut { lease, from: end });
        }
        let (mut frames, mut failed) = (Vec::new(), Vec::new());
        let (mut records, mut first) = (Vec::new(), leased.span.first);
        let times = leased.span.range();
        let busy: Duration = times.map(|task| self.work.duration(job, task)).sum();
        *self.log.borrow_mut().busy.entry(job).or_default() += busy;
        let contents = decode_tasks(&leased.body);
        assert_eq!(contents.len(), leased.span.count as usize);
        for (task, content) in (leased.span.first..end).zip(contents) {
            assert_eq!(content, super::work::content(job, task));
            let fails = self.work.failures(job, task) >= leased.attempt;
            // On the last attempt a worker may say so either way.
            if fails && (leased.attempt < leased.attempts || task % 2 == 0) {
                failed.push((task, REASON.to_string()));
                flush(&mut frames, lease, first..task, busy, &mut records);
                first = task + 1;
            } else {
                let outcome = match fails {
                    true => Outcome::Failed(REASON.into()),
                    false => Outcome::Result(answer(content)),
                };
                encode_outcome(&outcome, &mut records);
            }
        }
        flush(&mut frames, lease, first..end, busy, &mut records);
        let results = frames;
        self.input(
            now,
            LeaseholderInput::Worked {
                lease,
                results,
                failed,
            },
        );
    }

    fn finish_due(&mut self, now: Time) {
        while let Some(at) = self.running.iter().position(|run| run.due <= now) {
            if self.running[at].dies {
                self.dead = true;
                self.outbox.clear();
                self.log.borrow_mut().dead.push(self.node);
                return;
            }
            let run = self.running.remove(at);
            self.worked(now, run.leased);
        }
    }
}

/// Makes a frame of the consecutive results gathered so far.
fn flush(
    frames: &mut Vec<std::sync::Arc<[u8]>>,
    lease: u64,
    tasks: std::ops::Range<TaskId>,
    busy: Duration,
    records: &mut Vec<u8>,
) {
    if tasks.is_empty() {
        return;
    }
    let header = [lease, tasks.start, tasks.end, busy.as_micros() as u64];
    let mut frame: Vec<u8> = header.into_iter().flat_map(u64::to_le_bytes).collect();
    frame.append(records);
    frames.push(frame.into());
}

fn read(frame: &std::sync::Arc<[u8]>) -> ToBroker {
    let number = |at: usize| u64::from_le_bytes(frame[8 * at..8 * at + 8].try_into().unwrap());
    ToBroker::Worked {
        lease: number(0),
        span: Span {
            first: number(1),
            count: (number(2) - number(1)) as u32,
        },
        busy: Duration::from_micros(number(3)),
        records: Slice::from(frame.clone(), 32),
    }
}

impl Node for WorkerNode {
    type Message = Message;

    fn handle(&mut self, now: Time, _from: NodeId, message: Message) {
        if self.dead {
            return;
        }
        match message {
            Message::Tells(tells) => self.input(now, LeaseholderInput::Broker(tells)),
            Message::Grant(grant) => {
                let leased = Leased {
                    lease: grant.lease,
                    job: grant.job,
                    span: grant.span,
                    attempt: grant.attempt,
                    attempts: grant.attempts,
                    time_limit: None,
                    operation: grant.operation,
                    body: grant.records,
                };
                self.input(now, LeaseholderInput::Leased(leased));
            }
            _ => {}
        }
    }

    fn wake(&mut self, now: Time) {
        self.finish_due(now);
        if !self.dead {
            self.machine.wake(now);
            self.settle(now);
        }
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        if self.dead {
            return None;
        }
        let due = self.running.iter().map(|run| run.due).min();
        due.into_iter().chain(self.machine.deadline()).min()
    }

    fn connection(&mut self, _now: Time, peer: NodeId, up: bool) {
        // At the start there is one already.
        if peer == BROKER && !up {
            self.connection += 1;
        }
    }
}
