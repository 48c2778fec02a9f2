//! A progress bar on a terminal, and a word when nothing moves.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mutirao::pipeline::Progress;
use mutirao::trio::VentilatorHandle;

use crate::count::counted;
use crate::terminal;

const TICK: Duration = Duration::from_millis(100);

/// How long nothing may be heard of sink or workers before a word is said about it.
const SILENCE: Duration = Duration::from_secs(3);

/// The bar moves in so many steps; in between, counting costs nothing.
const STEPS: u64 = 1000;

/// Counts what was handed in and translates finished tasks into finished bytes.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    /// Bytes between two marks.
    step: u64,
    /// The number of a task, and the bytes of all tasks up to it.
    marks: Mutex<VecDeque<(u64, u64)>>,
}

impl Meter {
    /// A meter for inputs of `total_bytes`, where that is known.
    pub(crate) fn new(total_bytes: Option<u64>) -> Meter {
        Meter {
            step: total_bytes.unwrap_or(u64::MAX).div_ceil(STEPS).max(1),
            ..Meter::default()
        }
    }

    /// Notes that a task was handed in.
    pub(crate) fn submitted(&self, task: u64, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let total = before + bytes;
        if before / self.step != total / self.step {
            self.marks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back((task, total));
        }
    }

    /// The bytes handed in.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bytes of the first `safe` tasks, roughly; forgets what is needed no more.
    fn bytes_of(&self, safe: u64) -> Option<u64> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = None;
        while let Some(&(_, total)) = marks.front().filter(|(task, _)| *task < safe) {
            done = Some(total);
            marks.pop_front();
        }
        done
    }
}

/// A job that can be watched.
pub(crate) trait Watched: Send + 'static {
    /// What has become of its tasks.
    fn progress(&self) -> Progress;

    /// What it is waiting for, if somebody is missing.
    fn missing(&self) -> Option<&'static str>;
}

impl Watched for VentilatorHandle {
    fn progress(&self) -> Progress {
        self.progress()
    }

    fn missing(&self) -> Option<&'static str> {
        match (self.sink_is_open(), self.progress().workers) {
            (false, _) => {
                Some("no word from the sink: is it running, at the endpoint given with --sink?")
            }
            (true, 0) => Some("no worker is there: start one with `mutirao worker`"),
            _ => None,
        }
    }
}

/// Watches a job until dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to watch; `total_bytes` is what the inputs hold, where known.
    pub(crate) fn start(job: impl Watched, meter: Arc<Meter>, total_bytes: Option<u64>) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let watched = over.clone();
        let thread = std::thread::spawn(move || {
            let bar = bar(total_bytes);
            let begun = Instant::now();
            let mut complained = begun;
            while !watched.load(Ordering::SeqCst) {
                std::thread::park_timeout(TICK);
                show(&bar, &job, &meter, total_bytes.is_some());
                if begun.elapsed() > SILENCE
                    && complained.elapsed() > SILENCE
                    && complain(&bar, &job)
                {
                    complained = Instant::now() + SILENCE * 2;
                }
            }
            bar.finish_and_clear();
        });
        Watch {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn bar(total_bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match total_bytes {
        Some(_) => "{bar:30} {binary_bytes}/{binary_total_bytes} {elapsed} {msg}",
        None => "{spinner} {elapsed} {msg}",
    };
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(total_bytes, terminal::target()).with_style(style)
}

fn show(bar: &ProgressBar, job: &impl Watched, meter: &Meter, bytes_known: bool) {
    let progress = job.progress();
    let done = meter.bytes_of(progress.safe);
    match done.filter(|_| bytes_known) {
        Some(done) => bar.set_position(done),
        None => bar.tick(),
    }
    let failed = if progress.failed > 0 {
        format!(", {} failed", progress.failed)
    } else {
        String::new()
    };
    bar.set_message(format!(
        "{} of {}{failed}, {}",
        progress.safe,
        counted(progress.submitted, "task"),
        counted(progress.workers as u64, "worker")
    ));
}

/// Says what the job is waiting for, if there is something to say.
fn complain(bar: &ProgressBar, job: &impl Watched) -> bool {
    let Some(missing) = job.missing() else {
        return false;
    };
    bar.suspend(|| log::warn!("{missing}"));
    true
}
