//! Running a batch of tasks: decoding them, calling the handler, encoding what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pipeline::{Results, Span, TaskId};
use crate::wire::{Decoder, Kind, RecordError, Writer};

use super::slots::{Author, Work, Worked};
use super::{Failure, TaskInfo};

/// Results make a frame when they have grown to this size.
const RESULT_FRAME_BYTES: usize = 256 << 10;

/// What a frame has beside its records, generously.
const HEADER_BYTES: usize = 1024;

/// The longest context of a failure that is passed on, in bytes.
const MAX_CONTEXT_BYTES: usize = 64 << 10;

/// Works off a batch; no result may take more than `max_result_bytes`.
pub(super) fn work_off<T, R>(
    work: &Work,
    max_result_bytes: usize,
    handler: &dyn Fn(T, &TaskInfo) -> Result<R, Failure>,
) -> Worked
where
    T: DeserializeOwned,
    R: Serialize,
{
    let begun = Instant::now();
    let (results, failed) = Run::new(max_result_bytes, work, begun).all(handler);
    Worked {
        author: work.author,
        job: work.job,
        span: work.span,
        attempt: work.attempt,
        operation: work.operation.clone(),
        done: work.bounds.begun(),
        busy: begun.elapsed(),
        results,
        failed,
    }
}

/// A batch being worked off.
struct Run<'a> {
    max_result_bytes: usize,
    work: &'a Work,
    /// When the first of the gathered results was begun.
    begun: Instant,
    /// Results of the tasks from `first` on that are not in a frame yet.
    first: TaskId,
    records: Vec<u8>,
    count: u32,
    results: Vec<Results>,
    failed: Vec<(TaskId, String)>,
}

impl<'a> Run<'a> {
    fn new(max_result_bytes: usize, work: &'a Work, begun: Instant) -> Run<'a> {
        Run {
            max_result_bytes,
            work,
            begun,
            first: work.span.first,
            records: Vec::with_capacity(work.body.frame.len() + 64),
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
        let work = self.work;
        let body = &work.body.frame[work.body.start..];
        let mut info = TaskInfo {
            job: work.job,
            task: 0,
            attempt: work.attempt,
            attempts: work.attempts,
            operation: work.operation.clone(),
            deadline: None,
        };
        let mut tasks = Decoder::<T>::new(body, u64::from(work.span.count));
        while let Some(task) = work.bounds.begin() {
            info.task = task;
            info.deadline = work.progress.as_ref().map(|progress| progress.begin(task));
            let outcome = guard("the handler", || match tasks.next() {
                Some(Ok(value)) => handler(value, &info),
                Some(Err(error @ RecordError::Type(_))) => {
                    Err(Failure::new(format!("the worker cannot read it: {error}")))
                }
                _ => Err(Failure::permanent("the batch that carried it is damaged")),
            });
            self.note(task, outcome);
        }
        self.close_frame(work.span.end());
        (self.results, self.failed)
    }

    fn note<R: Serialize>(&mut self, task: TaskId, outcome: Result<R, Failure>) {
        let before = self.records.len();
        let outcome = outcome.and_then(|value| self.put(value));
        match outcome {
            Ok(()) => {}
            Err(failure) if failure.retry && self.work.attempt < self.work.attempts => {
                self.close_frame(task);
                self.first = task + 1;
                self.failed.push((task, failure.reason));
                return;
            }
            Err(failure) => self.put_failure(failure),
        }
        if self.records.len() + HEADER_BYTES > self.max_result_bytes {
            let last = self.records.split_off(before);
            self.close_frame(task);
            self.records = last;
        }
        self.count += 1;
        if self.records.len() >= RESULT_FRAME_BYTES {
            self.close_frame(task + 1);
        }
    }

    fn put<R: Serialize>(&mut self, value: R) -> Result<(), Failure> {
        let before = self.records.len();
        self.records.push(TRUE);
        let records = &mut self.records;
        let written = guard("encoding its result", || {
            // By value: what panics while it is dropped does so here.
            rmp_serde::encode::write(records, &{ value }).map_err(|error| {
                Failure::permanent(format!("its result cannot be encoded: {error}"))
            })
        });
        let bytes = self.records.len() - before;
        let failure = match written {
            Err(failure) => Failure {
                retry: false,
                ..failure
            },
            Ok(()) if bytes + HEADER_BYTES > self.max_result_bytes => Failure::permanent(format!(
                "its result takes {bytes} bytes, more than a message may"
            )),
            Ok(()) => return Ok(()),
        };
        self.records.truncate(before);
        Err(failure)
    }

    fn put_failure(&mut self, mut failure: Failure) {
        if failure.context.len() > MAX_CONTEXT_BYTES {
            failure.context.clear();
            failure.reason += " (its context is too large to be passed on)";
        }
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
            let frame = self.header(span).records(&self.records).finish();
            self.results.push(Results {
                span,
                frame: frame.into(),
            });
        }
        self.records.clear();
        (self.first, self.count) = (next, 0);
        self.begun = Instant::now();
    }

    fn header(&self, span: Span) -> Writer {
        let buffer = Vec::with_capacity(self.records.len() + 40);
        match self.work.author {
            Author::Worker(worker) => Writer::with_buffer(buffer, Kind::Results)
                .uint(self.work.job.0)
                .uint(worker.0)
                .span(span),
            Author::Lease(lease) => {
                let busy_us = self.begun.elapsed().as_micros();
                Writer::with_buffer(buffer, Kind::Worked)
                    .uint(lease)
                    .span(span)
                    .uint(u64::try_from(busy_us).unwrap_or(u64::MAX))
            }
        }
    }
}

/// MessagePack's `true`, before a result.
const TRUE: u8 = 0xc3;
/// MessagePack's `false`, before a failure.
const FALSE: u8 = 0xc2;

/// Calls what others have written; a panic is a failure like any other.
fn guard<V>(what: &str, call: impl FnOnce() -> Result<V, Failure>) -> Result<V, Failure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_string);
        let text = text
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Err(Failure::new(format!("{what} panicked: {text}")))
    })
}
