//! From the sink to the disk: results are accepted one by one and made safe in groups.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use mutirao::pipeline::{Failures, JobId, TaskFailure, TaskId};
use mutirao::trio::SinkError;
use mutirao::{Sink, SinkEvent};

use super::output::{Accepted, Counts, Done, Output, OutputError, StdoutWriter, Writer};
use super::task::{Piece, Place};
use crate::count::counted;
use crate::exit::Exit;

/// A group is made safe at the latest when it has so many results or bytes.
const GROUP_RESULTS: usize = 65_536;
const GROUP_BYTES: usize = 16 << 20;
/// And so many finished files: each needs a rename, and a sync that others wait for.
const GROUP_FILES: usize = 128;

/// Where results go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Folder(PathBuf),
    /// Lines from this one on, counted from 0; those before were written by another start.
    Stdout {
        from: u64,
    },
}

/// How long a sink collects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The first job is complete.
    OneJob,
    /// It is stopped.
    Stopped,
}

/// Whoever gives results, each once, and wants to hear what is safe; see [`Sink`] for the words.
pub(crate) trait GivesResults {
    fn recv_within(&mut self, patience: Duration) -> Result<Option<SinkEvent<Piece>>, SinkError>;
    fn recv(&mut self) -> Result<SinkEvent<Piece>, SinkError>;
    fn resume(&mut self, job: JobId, safe: Vec<Range<TaskId>>, failed: Failures);
    fn refuse(&mut self, job: JobId, reason: String);
    fn confirm(&mut self, job: JobId, tasks: Range<TaskId>);
    fn fail(&mut self, job: JobId, task: TaskId, reason: String);
    fn defer(&mut self, job: JobId, tasks: Range<TaskId>);
    fn close(&mut self, job: JobId, bytes: u64);
    fn pass_on(&mut self);
}

impl GivesResults for Sink<Piece> {
    fn recv_within(&mut self, patience: Duration) -> Result<Option<SinkEvent<Piece>>, SinkError> {
        self.recv_within(patience)
    }

    fn recv(&mut self) -> Result<SinkEvent<Piece>, SinkError> {
        self.recv()
    }

    fn resume(&mut self, job: JobId, safe: Vec<Range<TaskId>>, failed: Failures) {
        self.resume(job, safe, failed);
    }

    fn refuse(&mut self, job: JobId, reason: String) {
        self.refuse(job, reason);
    }

    fn confirm(&mut self, job: JobId, tasks: Range<TaskId>) {
        self.confirm(job, tasks);
    }

    fn fail(&mut self, job: JobId, task: TaskId, reason: String) {
        self.fail(job, task, reason);
    }

    fn defer(&mut self, job: JobId, tasks: Range<TaskId>) {
        self.defer(job, tasks);
    }

    fn close(&mut self, job: JobId, bytes: u64) {
        self.close(job, bytes);
    }

    fn pass_on(&mut self) {
        self.pass_on();
    }
}

/// Collects the results of jobs.
pub(crate) struct Collector<S> {
    sink: S,
    target: Target,
    jobs: HashMap<JobId, Box<dyn Output>>,
    /// Accepted and not safe yet.
    group_results: usize,
    group_bytes: usize,
    group_files: usize,
    /// What has become of the jobs that are complete.
    pub(crate) totals: Counts,
    pub(crate) finished_jobs: u64,
}

impl<S: GivesResults> Collector<S> {
    pub(crate) fn new(sink: S, target: Target) -> Collector<S> {
        Collector {
            sink,
            target,
            jobs: HashMap::new(),
            group_results: 0,
            group_bytes: 0,
            group_files: 0,
            totals: Counts::default(),
            finished_jobs: 0,
        }
    }

    /// Collects until stopped, or until one job is complete.
    pub(crate) fn collect(&mut self, until: Until) -> Result<(), Exit> {
        loop {
            match self.next()? {
                None => return self.commit(),
                Some(SinkEvent::Opened(job)) => self.open(job)?,
                Some(SinkEvent::Result { job, task, outcome }) => {
                    self.accept(job, task, outcome)?
                }
                Some(SinkEvent::Abandoned(job)) => {
                    self.commit()?;
                    self.jobs.remove(&job);
                }
                Some(SinkEvent::Complete(job)) => {
                    self.close(job)?;
                    if until == Until::OneJob {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The next event; when none waits, what was accepted is made safe first. `None` when stopped.
    fn next(&mut self) -> Result<Option<SinkEvent<Piece>>, Exit> {
        if self.group_is_full() {
            self.commit()?;
        }
        let waiting = self.sink.recv_within(Duration::ZERO);
        let event = match waiting {
            Ok(None) => {
                self.commit()?;
                self.sink.recv().map(Some)
            }
            other => other,
        };
        match event {
            Ok(event) => Ok(event),
            Err(SinkError::Stopped) => Ok(None),
            Err(error) => Err(Exit::Environment(error.to_string())),
        }
    }

    fn group_is_full(&self) -> bool {
        self.group_results >= GROUP_RESULTS
            || self.group_bytes >= GROUP_BYTES
            || self.group_files >= GROUP_FILES
    }

    fn open(&mut self, job: JobId) -> Result<(), Exit> {
        let opened = match &self.target {
            &Target::Stdout { from } => {
                let writer = StdoutWriter::new(std::io::stdout(), from);
                let done = Done {
                    ids: std::iter::once(0..from)
                        .filter(|ids| !ids.is_empty())
                        .collect(),
                    ..Done::default()
                };
                Ok((Box::new(writer) as Box<dyn Output>, done))
            }
            Target::Folder(folder) => Writer::open(folder, job.0)
                .map(|(writer, done)| (Box::new(writer) as Box<dyn Output>, done)),
        };
        match opened {
            Ok((output, done)) => {
                self.jobs.insert(job, output);
                let failed = done
                    .failures
                    .into_iter()
                    .map(|failure| (failure.id, failure.reason))
                    .collect();
                self.sink.resume(job, done.ids, failed);
                Ok(())
            }
            Err(
                error @ (OutputError::Busy { .. }
                | OutputError::Damaged { .. }
                | OutputError::InTheWay { .. }),
            ) => {
                self.sink.refuse(job, error.to_string());
                Ok(())
            }
            Err(error) => {
                self.sink.refuse(job, error.to_string());
                Err(Exit::Environment(error.to_string()))
            }
        }
    }

    fn accept(
        &mut self,
        job: JobId,
        task: TaskId,
        outcome: Result<Piece, TaskFailure>,
    ) -> Result<(), Exit> {
        let Some(output) = self.jobs.get_mut(&job) else {
            return Ok(());
        };
        let outcome = match outcome {
            Ok(piece) => {
                self.group_bytes += piece.data.len();
                self.group_files += usize::from(piece.place.last);
                Ok(piece)
            }
            Err(failure) => Err((place_of(&failure, task), failure.reason)),
        };
        self.group_results += 1;
        match output.accept(task, outcome) {
            Ok(Accepted::Taken) => {}
            Ok(Accepted::Deferred) => self.sink.defer(job, task..task + 1),
            Err(error @ OutputError::FilesToStdout) => {
                self.jobs.remove(&job);
                self.sink.refuse(job, error.to_string());
            }
            Err(error) => return Err(broken(error)),
        }
        Ok(())
    }

    /// Makes safe what was accepted and tells the ventilators.
    fn commit(&mut self) -> Result<(), Exit> {
        if self.group_results == 0 {
            return Ok(());
        }
        (self.group_results, self.group_bytes, self.group_files) = (0, 0, 0);
        for (&job, output) in &mut self.jobs {
            let committed = output.commit().map_err(broken)?;
            for failure in committed.failures {
                self.sink.fail(job, failure.id, failure.reason);
            }
            for tasks in committed.ids {
                self.sink.confirm(job, tasks);
            }
        }
        self.sink.pass_on();
        Ok(())
    }

    fn close(&mut self, job: JobId) -> Result<(), Exit> {
        self.commit()?;
        let Some(output) = self.jobs.remove(&job) else {
            return Ok(());
        };
        let counts = match output.finish() {
            Ok(counts) => counts,
            // A task failed so badly that nobody could say which input it was of.
            Err(error @ OutputError::Unfinished { inputs }) => {
                log::error!("job {job}: {error}");
                Counts {
                    failed: inputs as u64,
                    ..Counts::default()
                }
            }
            Err(error) => return Err(broken(error)),
        };
        self.totals.written += counts.written;
        self.totals.failed += counts.failed;
        self.totals.bytes_out += counts.bytes_out;
        self.finished_jobs += 1;
        log::info!(
            "job {job}: {} written, {} without one",
            counted(counts.written, "result"),
            counted(counts.failed, "input")
        );
        self.sink.close(job, counts.bytes_out);
        Ok(())
    }
}

/// Where the failed task's result would have gone; a task of its own when the worker could not say.
fn place_of(failure: &TaskFailure, task: TaskId) -> Place {
    rmp_serde::from_slice(&failure.context).unwrap_or_else(|_| Place {
        name: format!("task-{task}"),
        input: u32::MAX - (task as u32 & 0x7fff_ffff),
        piece: 0,
        last: true,
    })
}

fn broken(error: OutputError) -> Exit {
    match error {
        OutputError::Stdout { source } if source.kind() == ErrorKind::BrokenPipe => {
            Exit::ReaderGone
        }
        error => Exit::Environment(error.to_string()),
    }
}
