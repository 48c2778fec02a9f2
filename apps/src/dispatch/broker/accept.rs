//! Handing tasks to the broker until it has them all.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mutirao::broker::{ClientConfig, ClientError, Console, JobSettings, Keeps, Submitter};
use mutirao::pipeline::{JobId, RangeSet, TaskId};

use super::super::feed::TakesTasks;
use super::super::task::Task;
use super::tally::Tally;

/// How long the broker may take to say that it knows the end of a job.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// A job that is being handed in; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Handing {
    job: JobId,
    config: ClientConfig,
    /// Nobody any more once the broker has everything, and keeps it without us: it would begin a job
    /// anew that was lost.
    submitter: Arc<Mutex<Option<Submitter<Task>>>>,
    /// The number of the next task.
    next: TaskId,
    /// Tasks whose results we have; they are handed in as done.
    done: RangeSet,
    tally: Arc<Tally>,
    /// How long the broker keeps what it accepts.
    pub(crate) keeps: Keeps,
}

impl Handing {
    /// Begins the job, or goes on with it; the broker must answer within `timeout`, if there is one.
    pub(crate) fn begin(
        config: ClientConfig,
        job: JobId,
        settings: JobSettings,
        timeout: Option<Duration>,
        tally: Arc<Tally>,
    ) -> Result<Handing, ClientError> {
        let submitter = Submitter::open(config.clone(), job, settings)
            .map_err(|error| ClientError::Failed(error.to_string()))?;
        let keeps = submitter.opened(timeout)?;
        Ok(Handing {
            job,
            config,
            next: 0,
            done: RangeSet::default(),
            submitter: Arc::new(Mutex::new(Some(submitter))),
            tally,
            keeps,
        })
    }

    /// Says that there are no more tasks, and waits until the broker has them and knows it.
    pub(crate) fn finish(&self, within: Option<Duration>) -> Result<u64, ClientError> {
        let mut submitter = self.submitter();
        let tasks = match submitter.as_mut() {
            Some(submitter) => submitter.finish(within)?,
            None => return Ok(self.next),
        };
        let mut console = Console::connect(&self.config, CLOSE_PATIENCE)
            .map_err(|error| ClientError::Failed(error.to_string()))?;
        loop {
            match console.job(self.job)? {
                Some(view) if view.tasks.is_none() => std::thread::sleep(Duration::from_millis(5)),
                // Whoever waits may have fetched it all by now.
                _ => break,
            }
        }
        if self.keeps != Keeps::Nothing {
            *submitter = None;
        }
        self.tally.handed_in();
        Ok(tasks)
    }

    /// Hands in tasks whose results are safe as such: should the broker not have them any more,
    /// nobody does them again.
    pub(crate) fn pass_over(&mut self, done: RangeSet) {
        self.done = done;
    }

    fn submit(&self, task: &Task) -> Result<TaskId, ClientError> {
        let mut submitter = self.submitter();
        let submitter = submitter.as_mut().ok_or(ClientError::Stopped)?;
        submitter.submit(task)
    }

    fn submitter(&self) -> MutexGuard<'_, Option<Submitter<Task>>> {
        self.submitter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakesTasks for Handing {
    type Error = ClientError;

    fn take(&mut self, task: &Task) -> Result<TaskId, ClientError> {
        let id = match self.done.contains(self.next) {
            false => self.submit(task)?,
            true => self.submit(&Task {
                place: task.place.clone(),
                op: task.op.clone(),
                problem: Some(format!("{}: its result was fetched before", task.place)),
                ..Task::default()
            })?,
        };
        self.next = id + 1;
        self.tally.submitted(id + 1);
        Ok(id)
    }
}
