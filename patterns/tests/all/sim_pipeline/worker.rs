//! A worker as its driver and its slots run it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{
    Batch, Dispatch, JobId, Limits, Results, Span, TaskId, WorkerId, WorkerInput, WorkerMachine,
    WorkerOutput, WorkerSays,
};
use mutirao::sim::{Node, NodeId};
use mutirao::wire::{Decoder, Records};

use super::nodes::{Message, SINK, VENTILATOR};
use super::work::{Outcome, Work, answer, reason};

/// How often each attempt of each task was run, by all workers together.
pub(super) type Runs = Rc<RefCell<BTreeMap<(TaskId, u32), u32>>>;

pub(super) struct WorkerNode {
    pub(super) machine: WorkerMachine<Arc<[u8]>>,
    id: WorkerId,
    work: Work,
    dispatch: Dispatch,
    /// When each running batch is worked off.
    running: Vec<(Time, Batch<Arc<[u8]>>)>,
    outbox: VecDeque<(NodeId, Message)>,
    runs: Runs,
    pub(super) leaving: bool,
    pub(super) most_running: usize,
    /// How often the ventilator was taken for dead.
    pub(super) lost: u64,
    slots: u32,
}

impl WorkerNode {
    pub(super) fn new(
        id: WorkerId,
        slots: u32,
        work: Work,
        dispatch: Dispatch,
        limits: Limits,
        runs: Runs,
    ) -> WorkerNode {
        WorkerNode {
            machine: WorkerMachine::new(id, slots, dispatch, limits),
            id,
            work,
            dispatch,
            running: Vec::new(),
            outbox: VecDeque::new(),
            runs,
            leaving: false,
            most_running: 0,
            lost: 0,
            slots,
        }
    }

    pub(super) fn leave(&mut self, now: Time) {
        self.leaving = true;
        self.input(now, WorkerInput::Leave);
    }

    fn input(&mut self, now: Time, input: WorkerInput<Arc<[u8]>>) {
        self.machine.handle(now, input);
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        while let Some(output) = self.machine.poll() {
            match output {
                WorkerOutput::Run(batch) => self.run(now, batch),
                WorkerOutput::ToVentilator(says) => self.say(says),
                WorkerOutput::ToSink(results) => {
                    let message = Message::Results {
                        worker: self.id,
                        job: JobId(7),
                        span: results.span,
                        frame: results.frame,
                    };
                    self.outbox.push_back((SINK, message));
                }
                WorkerOutput::VentilatorLost => self.lost += 1,
                WorkerOutput::Left
                | WorkerOutput::VentilatorFound(_)
                | WorkerOutput::Finished(_) => {}
            }
        }
        assert!(self.running.len() <= self.slots as usize);
    }

    fn say(&mut self, says: WorkerSays) {
        // Subscriptions survive in the socket, which repeats them with each connection.
        if self.dispatch == Dispatch::Addressed && matches!(says, WorkerSays::Hello { .. }) {
            self.outbox
                .push_back((VENTILATOR, Message::Subscribe(self.id)));
        }
        self.outbox.push_back((VENTILATOR, Message::Worker(says)));
    }

    fn run(&mut self, now: Time, batch: Batch<Arc<[u8]>>) {
        let time: Duration = batch
            .span
            .range()
            .map(|task| self.work.duration(task))
            .sum();
        for task in batch.span.range() {
            *self
                .runs
                .borrow_mut()
                .entry((task, batch.attempt))
                .or_default() += 1;
        }
        self.running.push((now + time, batch));
        self.most_running = self.most_running.max(self.running.len());
    }

    fn worked(&mut self, now: Time, batch: Batch<Arc<[u8]>>) {
        let contents = Decoder::<u64>::new(&batch.body, u64::from(batch.span.count));
        let (mut results, mut failed) = (Vec::new(), Vec::new());
        let (mut records, mut first) = (Records::default(), batch.span.first);
        let mut busy = Duration::ZERO;
        for (task, content) in batch.span.range().zip(contents) {
            busy += self.work.duration(task);
            let content = content.expect("the encoded content");
            let fails = self.work.failures(task) >= batch.attempt;
            let outcome = match fails {
                false => Outcome::Result(answer(content)),
                true => Outcome::Failed(batch.attempt),
            };
            if fails && batch.attempt < batch.attempts {
                failed.push((task, reason(batch.attempt)));
                flush(&mut results, &mut records, first);
                first = task + 1;
            } else {
                records.push(&outcome).expect("an outcome");
            }
        }
        flush(&mut results, &mut records, first);
        self.input(
            now,
            WorkerInput::Worked {
                job: batch.job,
                span: batch.span,
                attempt: batch.attempt,
                busy,
                results,
                failed,
            },
        );
    }

    fn finish_due(&mut self, now: Time) {
        while let Some(at) = self.running.iter().position(|(time, _)| *time <= now) {
            let (_, batch) = self.running.remove(at);
            self.worked(now, batch);
        }
    }
}

/// Makes a frame of the consecutive results gathered so far.
fn flush(results: &mut Vec<Results>, records: &mut Records, first: TaskId) {
    if !records.is_empty() {
        let count = records.len() as u32;
        results.push(Results {
            span: Span { first, count },
            frame: Arc::from(records.bytes()),
        });
        records.clear();
    }
}

impl Node for WorkerNode {
    type Message = Message;

    fn handle(&mut self, now: Time, _from: NodeId, message: Message) {
        match message {
            Message::Tasks {
                job,
                span,
                attempt,
                attempts,
                body,
            } => {
                let bytes = body.len();
                let batch = Batch {
                    job,
                    span,
                    attempt,
                    attempts,
                    body,
                    bytes,
                };
                self.input(now, WorkerInput::Tasks(batch));
            }
            Message::Ventilator(worker, says) if worker == self.id => {
                self.input(now, WorkerInput::Ventilator(says));
            }
            Message::Acknowledge(worker, job, span)
                if worker == self.id && self.dispatch == Dispatch::Asked =>
            {
                self.input(now, WorkerInput::Acknowledged(job, span));
            }
            _ => {}
        }
    }

    fn wake(&mut self, now: Time) {
        self.finish_due(now);
        self.machine.wake(now);
        self.settle(now);
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let due = self.running.iter().map(|(time, _)| *time).min();
        due.into_iter().chain(self.machine.deadline()).min()
    }

    fn connection(&mut self, now: Time, peer: NodeId, up: bool) {
        if peer == SINK && up {
            self.input(now, WorkerInput::SinkReady);
        }
        if peer == VENTILATOR && up && self.dispatch == Dispatch::Addressed {
            self.outbox
                .push_back((VENTILATOR, Message::Subscribe(self.id)));
        }
    }
}
