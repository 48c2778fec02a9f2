//! What has become of one job, as those who wait for it see it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mutirao::broker::JobCounts;
use mutirao::pipeline::{JobId, Progress, RangeSet, TaskId};
use mutirao::trio::Summary;

use super::fetch::{After, Lost, Observer};

/// Failures that are kept with their reasons; more are only counted.
const MAX_FAILURES: usize = 1000;

/// Counts the tasks of one job.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    submitted: AtomicU64,
    safe: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    bytes_out: AtomicU64,
    /// All tasks are accepted at the broker.
    handed_in: AtomicBool,
    failures: Mutex<Vec<(TaskId, String)>>,
    /// What was safe when the collecting began, once that is known.
    before: Mutex<Option<RangeSet>>,
}

impl Tally {
    /// The tasks whose results are safe from an earlier start; waits for the collector to say so.
    pub(crate) fn safe_before(&self) -> RangeSet {
        loop {
            let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(before) = &*before {
                return before.clone();
            }
            drop(before);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Notes that the job has so many tasks up to now.
    pub(crate) fn submitted(&self, tasks: u64) {
        self.submitted.fetch_max(tasks, Ordering::Relaxed);
    }

    /// Notes that there are no more, and that the broker has them.
    pub(crate) fn handed_in(&self) {
        self.handed_in.store(true, Ordering::SeqCst);
    }

    /// Whether the broker has all tasks.
    pub(crate) fn is_handed_in(&self) -> bool {
        self.handed_in.load(Ordering::SeqCst)
    }

    /// The counters.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            submitted: self.submitted.load(Ordering::Relaxed),
            safe: self.safe.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            duplicates: 0,
            result_bytes: self.bytes_out.load(Ordering::Relaxed),
            workers: 0,
        }
    }

    /// The counters with the reasons of failures.
    pub(crate) fn summary(&self) -> Summary {
        Summary {
            progress: self.progress(),
            failures: self.failures().clone(),
        }
    }

    fn failures(&self) -> MutexGuard<'_, Vec<(TaskId, String)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Tally {
    fn resumed(&self, job: JobId, safe: &[Range<TaskId>]) {
        let mut before = RangeSet::default();
        for range in safe {
            self.confirmed(job, before.insert(range.clone()));
        }
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    }

    fn confirmed(&self, _: JobId, tasks: u64) {
        self.safe.fetch_add(tasks, Ordering::Relaxed);
    }

    fn failed(&self, _: JobId, task: TaskId, reason: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures();
        if failures.len() < MAX_FAILURES {
            failures.push((task, reason));
        }
    }

    fn complete(&self, _: JobId, counts: JobCounts) {
        self.submitted(counts.accepted);
        self.retried.store(counts.retried, Ordering::Relaxed);
    }

    fn closed(&self, _: JobId, bytes: u64) {
        self.bytes_out.store(bytes, Ordering::Relaxed);
    }

    fn lost(&self, _: JobId, _: Lost) -> After {
        After::End
    }
}
