//! The slots: threads that run a worker's tasks.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pipeline::{Batch, Results, Span, TaskId, WorkerId, WorkerInput};
use crate::transport::Frame;
use crate::wait::Waker;
use crate::wire::{Decoder, Kind, RecordError, Writer};

use super::{Failure, TaskInfo};

/// Results are sent off when they have grown to this size, while the batch goes on.
const RESULT_FRAME_BYTES: usize = 256 << 10;

/// A frame of tasks, from the first record on.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) frame: Frame,
    pub(super) start: usize,
}

/// The queue between the driver and its slots.
#[derive(Clone, Debug)]
pub(super) struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queues: Mutex<Queues>,
    /// There is a batch to run, or no more will come.
    more: Condvar,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Queues {
    /// Never more than there are slots: the machine hands out no more.
    run: VecDeque<Batch<Body>>,
    worked: Vec<WorkerInput<Body>>,
    closed: bool,
}

/// What a slot must know of its worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) worker: WorkerId,
    pub(super) max_result_bytes: usize,
}

impl Slots {
    pub(super) fn new(waker: Waker) -> Slots {
        Slots(Arc::new(Shared {
            queues: Mutex::default(),
            more: Condvar::new(),
            waker,
        }))
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0
            .queues
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Gives a free slot something to do.
    pub(super) fn run(&self, batch: Batch<Body>) {
        self.queues().run.push_back(batch);
        self.0.more.notify_one();
    }

    /// What the slots have worked off since the last call.
    pub(super) fn worked(&self) -> Vec<WorkerInput<Body>> {
        std::mem::take(&mut self.queues().worked)
    }

    /// Lets the slots end when their task is done.
    pub(super) fn close(&self) {
        self.queues().closed = true;
        self.0.more.notify_all();
    }

    /// A slot's life.
    pub(super) fn serve<T, R>(
        &self,
        bounds: Bounds,
        handler: &dyn Fn(T, &TaskInfo) -> Result<R, Failure>,
    ) where
        T: DeserializeOwned,
        R: Serialize,
    {
        while let Some(batch) = self.next() {
            let (job, span, attempt) = (batch.job, batch.span, batch.attempt);
            let begun = Instant::now();
            let (results, failed) = Run::new(bounds, &batch).all(handler);
            let worked = WorkerInput::Worked {
                job,
                span,
                attempt,
                busy: begun.elapsed(),
                results,
                failed,
            };
            self.queues().worked.push(worked);
            self.0.waker.wake();
        }
    }

    fn next(&self) -> Option<Batch<Body>> {
        let mut queues = self.queues();
        loop {
            if let Some(batch) = queues.run.pop_front() {
                return Some(batch);
            }
            if queues.closed {
                return None;
            }
            queues = self
                .0
                .more
                .wait(queues)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// A batch being worked off.
struct Run<'a> {
    bounds: Bounds,
    batch: &'a Batch<Body>,
    /// Results of the tasks from `first` on that are not in a frame yet.
    first: TaskId,
    records: Vec<u8>,
    count: u32,
    results: Vec<Results>,
    failed: Vec<(TaskId, String)>,
}

impl<'a> Run<'a> {
    fn new(bounds: Bounds, batch: &'a Batch<Body>) -> Run<'a> {
        Run {
            bounds,
            batch,
            first: batch.span.first,
            records: Vec::with_capacity(batch.bytes + 64),
            count: 0,
            results: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn all<T, R>(
        mut self,
        handler: &dyn Fn(T, &TaskInfo) -> Result<R, Failure>,
    ) -> (Vec<Results>, Vec<(TaskId, String)>)
    where
        T: DeserializeOwned,
        R: Serialize,
    {
        let batch = self.batch;
        let body = &batch.body.frame[batch.body.start..];
        let mut info = TaskInfo {
            job: batch.job,
            task: 0,
            attempt: batch.attempt,
            attempts: batch.attempts,
        };
        let mut tasks = Decoder::<T>::new(body, u64::from(batch.span.count));
        for task in batch.span.range() {
            info.task = task;
            let outcome = match tasks.next() {
                Some(Ok(value)) => call(handler, value, &info),
                Some(Err(error @ RecordError::Type(_))) => {
                    Err(Failure::new(format!("the worker cannot read it: {error}")))
                }
                _ => Err(Failure::permanent("the batch that carried it is damaged")),
            };
            self.note(task, outcome);
        }
        self.close_frame(batch.span.end());
        (self.results, self.failed)
    }

    fn note<R: Serialize>(&mut self, task: TaskId, outcome: Result<R, Failure>) {
        let outcome = outcome.and_then(|value| self.put(&value));
        match outcome {
            Ok(()) => {}
            Err(failure) if failure.retry && self.batch.attempt < self.batch.attempts => {
                self.close_frame(task);
                self.first = task + 1;
                self.failed.push((task, failure.reason));
                return;
            }
            Err(failure) => self.put_failure(failure),
        }
        self.count += 1;
        if self.records.len() >= RESULT_FRAME_BYTES {
            self.close_frame(task + 1);
        }
    }

    fn put<R: Serialize>(&mut self, value: &R) -> Result<(), Failure> {
        let before = self.records.len();
        self.records.push(TRUE);
        let records = &mut self.records;
        let write = AssertUnwindSafe(|| rmp_serde::encode::write(records, value));
        let written = catch_unwind(write);
        let bytes = self.records.len() - before;
        let failure = match written {
            Err(_) => "its result cannot be encoded: encoding it panicked".to_string(),
            Ok(Err(error)) => format!("its result cannot be encoded: {error}"),
            Ok(Ok(())) if bytes + 1024 > self.bounds.max_result_bytes => {
                format!("its result takes {bytes} bytes, more than a message may")
            }
            Ok(Ok(())) => return Ok(()),
        };
        self.records.truncate(before);
        Err(Failure::permanent(failure))
    }

    fn put_failure(&mut self, failure: Failure) {
        let task_failure = crate::pipeline::TaskFailure {
            reason: failure.reason,
            context: failure.context,
        };
        self.records.push(FALSE);
        // Two plain fields always have a MessagePack form.
        let _ = rmp_serde::encode::write(&mut self.records, &task_failure);
    }

    /// Makes a frame of the results gathered; the next ones begin with task `next`.
    fn close_frame(&mut self, next: TaskId) {
        if self.count > 0 {
            let span = Span {
                first: self.first,
                count: self.count,
            };
            let frame =
                Writer::with_buffer(Vec::with_capacity(self.records.len() + 40), Kind::Results)
                    .uint(self.batch.job.0)
                    .uint(self.bounds.worker.0)
                    .uint(span.first)
                    .uint(u64::from(span.count))
                    .records(&self.records)
                    .finish();
            self.results.push(Results {
                span,
                frame: frame.into(),
            });
        }
        self.records.clear();
        (self.first, self.count) = (next, 0);
    }
}

/// MessagePack's `true`, before a result.
const TRUE: u8 = 0xc3;
/// MessagePack's `false`, before a failure.
const FALSE: u8 = 0xc2;

/// Runs the handler; a panic is a failure like any other.
fn call<T, R>(
    handler: &dyn Fn(T, &TaskInfo) -> Result<R, Failure>,
    task: T,
    info: &TaskInfo,
) -> Result<R, Failure> {
    catch_unwind(AssertUnwindSafe(|| handler(task, info))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_string);
        let text = text
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Err(Failure::new(format!("the handler panicked: {text}")))
    })
}
