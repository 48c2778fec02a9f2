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
    end: End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    None,
    /// The batch is worked off.
    Finished,
    /// Nobody waits for it any more, and the thread is at it still.
    Abandoned,
    /// The thread has come back from it after all.
    Returned,
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

    /// The thread is through with the batch; `false` when nobody waits for it any more and the thread
    /// has been replaced.
    pub(super) fn finish(&self) -> bool {
        let mut at = self.at();
        at.end = match at.end {
            End::None | End::Finished => End::Finished,
            End::Abandoned | End::Returned => End::Returned,
        };
        at.end == End::Finished
    }

    /// Whether the thread that was given up with the batch is at it still.
    pub(super) fn is_lost(&self) -> bool {
        self.at().end == End::Abandoned
    }

    /// Gives the batch up if it has been at one task for too long.
    pub(super) fn look(&self, now: Instant) -> Look {
        let mut at = self.at();
        match at.task {
            _ if at.end != End::None => Look::Again(now + self.limit + GRACE),
            Some((task, due)) if due + GRACE <= now => {
                at.end = End::Abandoned;
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
