//! From the broker to the collector: results of jobs, in the words of a sink.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mutirao::broker::{ClientConfig, ClientError, FetchEvent, Fetcher, JobCounts};
use mutirao::pipeline::{Failures, JobId, TaskFailure, TaskId};
use mutirao::trio::SinkError;
use mutirao::{OpenError, SinkEvent, StopHandle};

use super::super::collect::GivesResults;
use super::super::task::{Piece, Place};
use super::payload::OrBytes;
use crate::ops::Merge;

/// How often somebody who waits for results looks whether another job is wanted.
const GLANCE: Duration = Duration::from_millis(50);

/// Who wants to know how jobs fare.
pub(crate) trait Observer: Send + Sync {
    /// These results of the job are safe from before.
    fn resumed(&self, job: JobId, safe: &[Range<TaskId>]);
    /// So many more results of the job are safe.
    fn confirmed(&self, job: JobId, tasks: u64);
    /// A task has no result, for good.
    fn failed(&self, job: JobId, task: TaskId, reason: String);
    /// Everything is safe; what was needed on the way is tidied up next.
    fn complete(&self, job: JobId, counts: JobCounts);
    /// The results take so many bytes, and the job is put away.
    fn closed(&self, job: JobId, bytes: u64);
    /// There will be no more of the job; whether others may go on.
    fn lost(&self, job: JobId, why: Lost) -> After;
}

/// Why there will be no more of a job.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The broker says so.
    Refused(String),
    /// Its results cannot be written.
    Unwritable(String),
}

/// What follows when a job is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    End,
    GoOn,
}

/// Jobs whose results are wanted, for anybody to add to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted(Arc<Mutex<VecDeque<Want>>>);

/// A job, and the name of its input, if there is but one.
type Want = (JobId, Option<String>);

impl Wanted {
    /// Asks for the results of a job; `only` is the name of its input, if there is but one.
    pub(crate) fn add(&self, job: JobId, only: Option<&str>) {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.push_back((job, only.map(str::to_owned)));
    }

    fn next(&self) -> Option<Want> {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.pop_front()
    }
}

/// A job whose results are coming.
#[derive(Debug)]
struct Coming {
    /// The name of its input, if there is but one.
    only: Option<String>,
    safe: u64,
}

/// Fetches jobs for a collector.
pub(crate) struct Fetch {
    fetcher: Fetcher<OrBytes<Piece>>,
    wanted: Wanted,
    observer: Arc<dyn Observer>,
    coming: HashMap<JobId, Coming>,
    ended: Option<String>,
}

impl Fetch {
    /// Connects to the broker, and fetches what is wanted.
    pub(crate) fn connect(
        config: ClientConfig,
        wanted: Wanted,
        observer: Arc<dyn Observer>,
    ) -> Result<Fetch, OpenError> {
        Ok(Fetch {
            fetcher: Fetcher::connect(config)?,
            wanted,
            observer,
            coming: HashMap::new(),
            ended: None,
        })
    }

    /// Ends blocked calls.
    pub(crate) fn stop_handle(&self) -> StopHandle {
        self.fetcher.stop_handle()
    }

    fn translate(&mut self, event: FetchEvent<OrBytes<Piece>>) -> Option<SinkEvent<Piece>> {
        match event {
            FetchEvent::Result { job, task, outcome } => {
                let coming = self.coming.get_mut(&job)?;
                let outcome = coming.place(task, outcome);
                Some(SinkEvent::Result { job, task, outcome })
            }
            FetchEvent::Complete { job, counts } => Some(self.complete(job, counts)),
            FetchEvent::Refused { job, reason } => {
                self.coming.remove(&job)?;
                self.lose(job, Lost::Refused(reason));
                Some(SinkEvent::Abandoned(job))
            }
        }
    }

    /// The broker knows what is safe with anybody; all of it must be safe with us.
    fn complete(&mut self, job: JobId, counts: JobCounts) -> SinkEvent<Piece> {
        let safe = self.coming.get(&job).map_or(0, |coming| coming.safe);
        if safe >= counts.accepted {
            self.observer.complete(job, counts);
            return SinkEvent::Complete(job);
        }
        let others = counts.accepted - safe;
        let reason = format!(
            "{others} of {} results were fetched by somebody else",
            counts.accepted
        );
        self.coming.remove(&job);
        self.lose(job, Lost::Refused(reason));
        SinkEvent::Abandoned(job)
    }

    fn lose(&mut self, job: JobId, why: Lost) {
        let (Lost::Refused(reason) | Lost::Unwritable(reason)) = &why;
        let sentence = format!("job {job}: {reason}");
        if self.observer.lost(job, why) == After::End {
            self.ended = Some(sentence);
        }
    }
}

impl Coming {
    /// Says where an outcome belongs that does not say it itself.
    fn place(
        &mut self,
        task: TaskId,
        outcome: Result<OrBytes<Piece>, TaskFailure>,
    ) -> Result<Piece, TaskFailure> {
        match outcome {
            Ok(OrBytes::Value(piece)) => {
                if piece.place.name.is_empty() && self.only.is_none() {
                    self.only = Some(String::new());
                }
                Ok(piece)
            }
            Ok(OrBytes::Bytes(data)) => Ok(Piece {
                place: Place {
                    name: format!("task-{task}"),
                    input: task as u32,
                    piece: 0,
                    last: true,
                },
                merge: Merge::ConcatenateBytes,
                data,
            }),
            Err(failure) => Err(self.place_failure(task, failure)),
        }
    }

    /// The broker knows no inputs: that workers died is a task's failure to it.
    fn place_failure(&self, task: TaskId, failure: TaskFailure) -> TaskFailure {
        let Some(name) = self.only.as_ref().filter(|_| failure.context.is_empty()) else {
            return failure;
        };
        let place = Place {
            name: name.clone(),
            input: 0,
            piece: task,
            last: false,
        };
        TaskFailure {
            reason: format!("{place}: {}", failure.reason),
            // A string and numbers always have a MessagePack form.
            context: rmp_serde::to_vec(&place).unwrap_or_default(),
        }
    }
}

impl GivesResults for Fetch {
    fn recv_within(&mut self, patience: Duration) -> Result<Option<SinkEvent<Piece>>, SinkError> {
        if let Some(reason) = &self.ended {
            return Err(SinkError::Failed(reason.clone()));
        }
        if let Some((job, only)) = self.wanted.next() {
            self.coming.insert(job, Coming { only, safe: 0 });
            return Ok(Some(SinkEvent::Opened(job)));
        }
        let event = self.fetcher.recv_within(patience).map_err(sink_error)?;
        Ok(event.and_then(|event| self.translate(event)))
    }

    fn recv(&mut self) -> Result<SinkEvent<Piece>, SinkError> {
        loop {
            if let Some(event) = self.recv_within(GLANCE)? {
                return Ok(event);
            }
        }
    }

    fn resume(&mut self, job: JobId, safe: Vec<Range<TaskId>>, failed: Failures) {
        let tasks = safe.iter().map(|range| range.end - range.start).sum();
        if let Some(coming) = self.coming.get_mut(&job) {
            coming.safe = tasks;
        }
        self.observer.resumed(job, &safe);
        for (task, reason) in failed {
            self.observer.failed(job, task, reason);
        }
        self.fetcher.fetch(job, safe);
    }

    fn refuse(&mut self, job: JobId, reason: String) {
        self.coming.remove(&job);
        self.lose(job, Lost::Unwritable(reason));
    }

    fn confirm(&mut self, job: JobId, tasks: Range<TaskId>) {
        let count = tasks.end - tasks.start;
        if let Some(coming) = self.coming.get_mut(&job) {
            coming.safe += count;
        }
        self.observer.confirmed(job, count);
        self.fetcher.confirm(job, tasks);
    }

    fn fail(&mut self, job: JobId, task: TaskId, reason: String) {
        self.observer.failed(job, task, reason);
    }

    /// The window of a fetcher is smaller than what the disk's side takes out of order, so only a
    /// single result that is larger than all that comes here.
    fn defer(&mut self, job: JobId, tasks: Range<TaskId>) {
        self.fetcher.leave(job);
        let reason = format!(
            "the result of task {} is too large to wait for those before it: lower --chunk-bytes",
            tasks.start
        );
        self.refuse(job, reason);
    }

    fn close(&mut self, job: JobId, bytes: u64) {
        self.coming.remove(&job);
        self.observer.closed(job, bytes);
    }

    fn pass_on(&mut self) {
        self.fetcher.pass_on();
    }
}

fn sink_error(error: ClientError) -> SinkError {
    match error {
        ClientError::Stopped => SinkError::Stopped,
        other => SinkError::Failed(other.to_string()),
    }
}
