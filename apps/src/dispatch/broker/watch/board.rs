//! What the watcher and the collector tell each other about files.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mutirao::broker::JobCounts;
use mutirao::pipeline::{JobId, TaskId};

use super::super::fetch::{After, Lost, Observer};
use super::ledger::Ledger;
use crate::exit::{self, Exit};

/// Looks follow each other no faster than this.
const BREATH: Duration = Duration::from_millis(20);

/// The state of all files.
#[derive(Debug)]
pub(crate) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// Jobs at the broker, with their files.
    flying: HashMap<JobId, String>,
    /// Files that nothing can be done with until the next start.
    given_up: HashSet<JobId>,
    /// Files that failed.
    failed_jobs: HashSet<JobId>,
    done: u64,
    failed: u64,
    /// There may be room for more.
    news: bool,
}

impl Board {
    pub(crate) fn new(ledger: Ledger) -> Board {
        Board {
            state: Mutex::new(State {
                ledger,
                flying: HashMap::new(),
                given_up: HashSet::new(),
                failed_jobs: HashSet::new(),
                done: 0,
                failed: 0,
                news: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a file is done, or for at most `patience`.
    pub(crate) fn wait(&self, patience: Duration) {
        std::thread::sleep(BREATH);
        let state = self.state();
        let waited = self
            .changed
            .wait_timeout_while(state, patience, |state| !state.news);
        waited.unwrap_or_else(PoisonError::into_inner).0.news = false;
    }

    /// Ends a wait.
    pub(crate) fn wake(&self) {
        self.state().news = true;
        self.changed.notify_all();
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.state().flying.len()
    }

    /// Whether there is nothing more to do about a job.
    pub(crate) fn is_settled(&self, job: JobId) -> bool {
        let state = self.state();
        state.ledger.is_done(job) || state.given_up.contains(&job)
    }

    /// Whether an older state of the file is being worked on: its result must not come later.
    pub(crate) fn is_busy_with(&self, name: &str) -> bool {
        self.state().flying.values().any(|flying| flying == name)
    }

    /// Notes that a file is about to be handed in.
    pub(crate) fn begin(&self, job: JobId, name: &str) -> Result<(), Exit> {
        self.state().ledger.begin(job, name)
    }

    /// Notes that the broker has a file.
    pub(crate) fn fly(&self, job: JobId, name: &str) {
        self.state().flying.insert(job, name.to_owned());
    }

    /// Notes that a file's result was there already.
    pub(crate) fn finish(&self, job: JobId, name: &str) -> Result<(), Exit> {
        self.state().ledger.finish(job, name)
    }

    /// Notes that nobody wants a job any more.
    pub(crate) fn drop_job(&self, job: JobId, name: &str) -> Result<(), Exit> {
        self.state().ledger.finish(job, name)
    }

    /// Leaves a file alone until the next start.
    pub(crate) fn give_up(&self, job: JobId) {
        self.state().given_up.insert(job);
    }

    pub(crate) fn begun(&self) -> Vec<(JobId, String)> {
        self.state().ledger.begun()
    }

    pub(crate) fn done(&self) -> Vec<JobId> {
        self.state().ledger.done()
    }

    /// Files done and failed since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.done, state.failed)
    }
}

impl Observer for Board {
    fn resumed(&self, _: JobId, _: &[Range<TaskId>]) {}

    fn confirmed(&self, _: JobId, _: u64) {}

    fn failed(&self, job: JobId, _: TaskId, reason: String) {
        log::error!("failed: {reason}");
        self.state().failed_jobs.insert(job);
    }

    /// Before the journal goes: whoever finds neither would begin anew.
    fn complete(&self, job: JobId, _: JobCounts) {
        let mut state = self.state();
        let Some(name) = state.flying.get(&job).cloned() else {
            return;
        };
        if let Err(error) = state.ledger.finish(job, &name) {
            exit::leave(&error);
        }
    }

    fn closed(&self, job: JobId, _: u64) {
        let mut state = self.state();
        let failed = state.failed_jobs.remove(&job);
        state.failed += u64::from(failed);
        state.done += u64::from(!failed);
        if let Some(name) = state.flying.remove(&job)
            && !failed
        {
            log::info!("{name} is done");
        }
        drop(state);
        self.wake();
    }

    fn lost(&self, job: JobId, why: Lost) -> After {
        let mut state = self.state();
        let name = state.flying.remove(&job).unwrap_or_default();
        match why {
            Lost::Unwritable(reason) => {
                log::error!("{name}: {reason}");
                state.given_up.insert(job);
            }
            Lost::Refused(reason) if reason.contains("the job was cancelled") => {
                log::warn!("{name}: {reason}; it is left alone");
                state.given_up.insert(job);
            }
            Lost::Refused(reason) => log::warn!("{name}: {reason}; handing it in again"),
        }
        drop(state);
        self.wake();
        After::GoOn
    }
}
