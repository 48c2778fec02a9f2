//! How far a batch of tasks with a time limit has come, as the driver sees it from outside.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pipeline::TaskId;

/// How long a task may go on after its time is up, for the handler to stop it by itself.
const GRACE: Duration = Duration::from_secs(1);

/// Shared by the thread that runs a batch and the driver.
#[derive(Debug)]
pub(super) struct Progress {
    limit: Duration,
    at: Mutex<At>,
}

#[derive(Debug, Default)]
struct At {
    /// The thread that runs the batch.
    member: usize,
    /// The task that it is at, and when that has to be done.
    task: Option<(TaskId, Instant)>,
    /// Nobody waits for the batch any more.
    abandoned: bool,
}

/// What a look at a batch finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// All is well; look again at this time.
    Again(Instant),
    /// This thread has been at this task for too long, and is given up with the batch.
    Abandoned {
        /// The thread.
        member: usize,
        /// The task.
        task: TaskId,
    },
}

impl Progress {
    pub(super) fn new(limit: Duration) -> Progress {
        let at = Mutex::default();
        Progress { limit, at }
    }

    fn at(&self) -> MutexGuard<'_, At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread takes the batch on.
    pub(super) fn taken_by(&self, member: usize) {
        self.at().member = member;
    }

    /// It begins with a task; when that has to be done.
    pub(super) fn begin(&self, task: TaskId) -> Instant {
        let due = Instant::now() + self.limit;
        self.at().task = Some((task, due));
        due
    }

    /// Whether nobody waits for the batch any more: the thread that was at it has been replaced.
    pub(super) fn is_abandoned(&self) -> bool {
        self.at().abandoned
    }

    /// Gives the batch up if it has been at one task for too long.
    pub(super) fn look(&self, now: Instant) -> Look {
        let mut at = self.at();
        match at.task {
            Some((task, due)) if due + GRACE <= now => {
                at.abandoned = true;
                let member = at.member;
                Look::Abandoned { member, task }
            }
            Some((_, due)) => Look::Again(due + GRACE),
            None => Look::Again(now + self.limit + GRACE),
        }
    }

    /// How long a task may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }
}
