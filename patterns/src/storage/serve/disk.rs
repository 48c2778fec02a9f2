//! The thread that waits for the disk, so that the one with the sockets need not.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::transport::TransportError;
use crate::wait::Waker;

/// Jobs that are synced together; more of them wait for the next time.
const MAX_BATCH: usize = 1_024;

/// After how long what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is done to a file, one job after the other.
pub(crate) trait Disk: Send + 'static {
    /// What is asked for.
    type Job: Send;
    /// What came of it.
    type Report: Send;

    /// Does a job. What it writes need not be safe yet.
    fn work(&mut self, job: Self::Job, reports: &mut Vec<Self::Report>);

    /// Makes everything that was written safe, and reports it.
    ///
    /// An error means that nobody knows what is on disk: the program ends.
    fn sync(&mut self, reports: &mut Vec<Self::Report>) -> io::Result<()>;

    /// Whether what was done takes so much memory that it is to be reported first.
    fn is_full(&self) -> bool {
        false
    }

    /// Whether something could not be written that is to be tried again after a while.
    fn is_stuck(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Reports<R> {
    waiting: Vec<R>,
    failure: Option<String>,
}

/// A disk with its thread.
#[derive(Debug)]
pub(crate) struct DiskThread<D: Disk> {
    jobs: Option<Sender<D::Job>>,
    reports: Arc<Mutex<Reports<D::Report>>>,
    thread: Option<JoinHandle<()>>,
}

impl<D: Disk> DiskThread<D> {
    /// Starts the thread; `waker` is rung when there is something to report.
    pub(crate) fn start(name: &str, disk: D, waker: Waker) -> io::Result<DiskThread<D>> {
        let (jobs, waiting) = channel();
        let reports = Arc::new(Mutex::new(Reports {
            waiting: Vec::new(),
            failure: None,
        }));
        let shared = reports.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let ran = AssertUnwindSafe(|| run(disk, &waiting, &shared, &waker));
                if catch_unwind(ran).is_err() {
                    let bug = "its thread panicked, which is a bug".to_string();
                    lock(&shared).failure.get_or_insert(bug);
                    waker.wake();
                }
            })?;
        Ok(DiskThread {
            jobs: Some(jobs),
            reports,
            thread: Some(thread),
        })
    }

    /// Has something done, in order.
    pub(crate) fn ask(&self, job: D::Job) {
        if let Some(jobs) = &self.jobs {
            // A thread that has ended has said why.
            let _ = jobs.send(job);
        }
    }

    /// What was done since this was last asked.
    pub(crate) fn reports(&self) -> Result<Vec<D::Report>, TransportError> {
        let mut reports = lock(&self.reports);
        match reports.failure.clone() {
            Some(reason) => Err(TransportError::Failed {
                what: "what was written cannot be kept",
                reason,
            }),
            None => Ok(std::mem::take(&mut reports.waiting)),
        }
    }

    /// Waits until it has done what it was asked for, as far as the disk lets it, and ends it.
    pub(crate) fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<D: Disk> Drop for DiskThread<D> {
    fn drop(&mut self) {
        self.finish();
    }
}

fn lock<R>(shared: &Mutex<Reports<R>>) -> MutexGuard<'_, Reports<R>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run<D: Disk>(
    mut disk: D,
    jobs: &Receiver<D::Job>,
    shared: &Mutex<Reports<D::Report>>,
    waker: &Waker,
) {
    let mut reports = Vec::new();
    while let Some(first) = next(&disk, jobs) {
        let mut batch = first.into_iter().chain(jobs.try_iter()).take(MAX_BATCH);
        while !disk.is_full()
            && let Some(job) = batch.next()
        {
            disk.work(job, &mut reports);
        }
        let synced = disk.sync(&mut reports);
        let mut shared = lock(shared);
        shared.waiting.append(&mut reports);
        shared.failure = synced.err().map(|error| error.to_string());
        let failed = shared.failure.is_some();
        drop(shared);
        waker.wake();
        if failed {
            return;
        }
    }
}

/// Waits for a job, or until it is time to try again; `None` when there will be no more.
fn next<D: Disk>(disk: &D, jobs: &Receiver<D::Job>) -> Option<Option<D::Job>> {
    if !disk.is_stuck() {
        return jobs.recv().ok().map(Some);
    }
    match jobs.recv_timeout(RETRY) {
        Ok(job) => Some(Some(job)),
        Err(RecvTimeoutError::Timeout) => Some(None),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}
