//! Waiting for the results of one job: they are collected in a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mutirao::broker::{ClientConfig, Console};
use mutirao::pipeline::{JobId, Progress};
use mutirao::{OpenError, StopHandle};

use super::super::collect::{Collector, Target, Until};
use super::super::progress::Watched;
use super::fetch::{Fetch, Wanted};
use super::tally::Tally;
use crate::exit::{self, Exit};

/// How often the broker is asked how many workers there are.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Collects the results of one job.
pub(crate) struct Waiting {
    ending: Ending,
    thread: JoinHandle<()>,
}

/// How the collecting of a job ends.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    stop: StopHandle,
    /// Somebody wants it to end early. (The handle is stopped at a good end as well.)
    early: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Ending {
    /// Ends the collecting; what has come is made safe, if that takes no longer than `patience`.
    pub(crate) fn end(&self, patience: Duration) {
        self.early.store(true, Ordering::SeqCst);
        self.stop.stop();
        let begun = Instant::now();
        while !self.over.load(Ordering::SeqCst) && begun.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Waiting {
    /// Begins to fetch; `only` is the name of the job's input, if there is but one.
    pub(crate) fn begin(
        config: ClientConfig,
        job: JobId,
        only: Option<&str>,
        target: Target,
        tally: Arc<Tally>,
    ) -> Result<Waiting, OpenError> {
        let wanted = Wanted::default();
        wanted.add(job, only);
        let fetch = Fetch::connect(config, wanted, tally)?;
        let ending = Ending {
            stop: fetch.stop_handle(),
            early: Arc::default(),
            over: Arc::default(),
        };
        let over = ending.over.clone();
        let thread = std::thread::spawn(move || {
            let collect = || Collector::new(fetch, target).collect(Until::OneJob);
            let bug = || Exit::Environment("collecting results panicked: this is a bug".into());
            let collected = catch_unwind(AssertUnwindSafe(collect));
            if let Err(exit) = collected.unwrap_or_else(|_| Err(bug())) {
                // From here, as whoever hands in the job may be waiting for standard input.
                exit::leave(&exit);
            }
            over.store(true, Ordering::SeqCst);
        });
        Ok(Waiting { ending, thread })
    }

    /// For whoever ends the waiting early.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// Waits until everything is safe. After Ctrl-C the signal's thread reports and ends the program;
    /// this one only waits for it.
    pub(crate) fn end(self) {
        let _ = self.thread.join();
        self.ending.park_if_stopped();
    }
}

impl Ending {
    fn park_if_stopped(&self) {
        while self.early.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

/// A job for the progress bar: its tally, and who works on it.
pub(crate) struct Scene {
    pub(crate) tally: Arc<Tally>,
    operation: String,
    workers: Mutex<Workers>,
}

struct Workers {
    console: Option<Console>,
    asked: Instant,
    count: Option<u64>,
}

impl Scene {
    pub(crate) fn new(tally: Arc<Tally>, config: &ClientConfig, operation: &str) -> Scene {
        Scene {
            tally,
            operation: operation.to_owned(),
            workers: Mutex::new(Workers {
                console: Console::connect(config, ASK_INTERVAL / 2).ok(),
                asked: Instant::now(),
                count: None,
            }),
        }
    }

    /// The workers for the operation; `None` when nobody could be asked.
    fn workers(&self) -> Option<u64> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.asked.elapsed() >= ASK_INTERVAL {
            let status = workers.console.as_mut()?.status();
            workers.asked = Instant::now();
            workers.count = status.ok().map(|status| {
                let service = status.services.get(&self.operation);
                service.map_or(0, |service| service.workers)
            });
        }
        workers.count
    }
}

impl Watched for Scene {
    fn progress(&self) -> Progress {
        Progress {
            workers: self.workers().unwrap_or(0) as usize,
            ..self.tally.progress()
        }
    }

    fn missing(&self) -> Option<&'static str> {
        match self.workers() {
            None => Some("no word from the broker: is it running?"),
            Some(0) => Some(
                "no worker for this operation is there: start one with `mutirao worker --broker`",
            ),
            Some(_) => None,
        }
    }
}
