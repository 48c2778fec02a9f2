//! The ventilator: hands out tasks and keeps each until its result is safe.

mod driver;
mod stage;

use std::marker::PhantomData;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::driver::spawn;
use crate::endpoint::Endpoint;
use crate::pipeline::{JobId, Limits, Progress, TaskId};
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::SocketOptions;
use crate::wait::{Sleeper, Waker};
use crate::wire::{RecordError, Records};

use super::{Pattern, check};
use driver::VentilatorDriver;
use stage::Shared;

/// Bytes and tasks that wait between the program and the driver.
const STAGE_BYTES: usize = 1 << 20;
const STAGE_TASKS: usize = 16 << 10;

/// Settings of a [`Ventilator`].
#[derive(Clone, Debug)]
pub struct VentilatorConfig {
    /// How tasks reach the workers.
    pub pattern: Pattern,
    /// Where workers connect; the control socket listens next to it.
    pub bind: Endpoint,
    /// Where the sink listens.
    pub sink: Endpoint,
    /// The job; give the same id and the same tasks after a restart to go on. Random by default.
    pub job: JobId,
    /// Bounds and times.
    pub limits: Limits,
    /// Sockets and security.
    pub socket: SocketOptions,
}

impl VentilatorConfig {
    /// Settings with defaults for all but the endpoints.
    pub fn new(bind: Endpoint, sink: Endpoint) -> VentilatorConfig {
        VentilatorConfig {
            pattern: Pattern::default(),
            bind,
            sink,
            job: JobId(rand::random()),
            limits: Limits::default(),
            socket: SocketOptions::default(),
        }
    }
}

/// Why a task was not taken; it was not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The value cannot be serialised.
    #[error("the task cannot be encoded: {0}")]
    Encode(#[from] RecordError),
    /// The task is larger than a message may be.
    #[error(
        "the task takes {bytes} bytes and a message at most {limit}: split it, or raise max_message_bytes everywhere"
    )]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The window stayed full; try again when workers and sink have caught up.
    #[error(
        "the window is full and stayed so until the deadline: workers or sink are slow or missing"
    )]
    Full,
    /// The ventilator has ended: it was stopped, or could not go on.
    #[error(transparent)]
    Ended(#[from] FinishError),
}

/// Why a job did not end well.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FinishError {
    /// The deadline came first; the ventilator goes on.
    #[error("the job is not finished: {safe} of {submitted} results are safe")]
    Unfinished {
        /// Tasks whose results are safe.
        safe: u64,
        /// Tasks submitted.
        submitted: u64,
    },
    /// It was stopped from outside; what is not safe yet is not confirmed.
    #[error("stopped before the job was finished")]
    Stopped,
    /// The sink does not take the job, or a handshake failed.
    #[error("{0}")]
    Refused(String),
    /// A socket failed.
    #[error("{0}")]
    Failed(String),
}

/// How a job went.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Counters at the end.
    pub progress: Progress,
    /// The first thousand failed tasks with their reasons.
    pub failures: Vec<(TaskId, String)>,
}

/// Hands out tasks of type `T` and keeps each until the sink has its result safe.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use mutirao::{Ventilator, VentilatorConfig};
/// let config = VentilatorConfig::new("tcp://127.0.0.1:5557".parse()?, "tcp://127.0.0.1:5559".parse()?);
/// let mut ventilator = Ventilator::start(config)?;
/// for number in 0..1000u64 {
///     ventilator.submit(&number)?;
/// }
/// let summary = ventilator.finish(None)?;
/// assert_eq!(summary.progress.safe, 1000);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Ventilator<T> {
    shared: Arc<Shared>,
    waker: Waker,
    endpoint: Endpoint,
    submitted: u64,
    max_task_bytes: usize,
    thread: Option<JoinHandle<()>>,
    task: PhantomData<fn(T)>,
}

/// Watches and ends a [`Ventilator`] from any thread.
#[derive(Clone, Debug)]
pub struct VentilatorHandle(Arc<Shared>);

/// What becomes of a job whose last tasks were taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterCut {
    /// Another start goes on with it.
    StayOpen,
    /// The tasks that were sent are all there will be.
    Close,
}

impl VentilatorHandle {
    /// Ends the ventilator at once: what is not safe yet is not confirmed.
    pub fn stop(&self) {
        self.0.stop.stop();
    }

    /// How far the job is.
    pub fn progress(&self) -> Progress {
        self.0.stage.lock().progress
    }

    /// Whether the sink has opened the job and been heard of lately.
    pub fn sink_is_open(&self) -> bool {
        self.0.stage.lock().sink_is_open
    }

    /// Takes back the tasks that have not been sent yet and waits, for at most `patience`, until
    /// all others are safe. The job stays open at the sink, so that another start can go on with it.
    ///
    /// # Errors
    ///
    /// See [`FinishError`].
    pub fn drain(&self, patience: Duration) -> Result<Summary, FinishError> {
        self.cut(AfterCut::StayOpen);
        self.0.wait_until(Some(patience), |stage| {
            !stage.cut && stage.progress.is_quiet()
        })
    }

    /// The same, and then the job is closed: its results are those of the tasks that were sent.
    ///
    /// # Errors
    ///
    /// See [`FinishError`].
    pub fn cut_short(&self, patience: Duration) -> Result<Summary, FinishError> {
        self.cut(AfterCut::Close);
        self.finish(Some(patience))
    }

    fn cut(&self, after: AfterCut) {
        let mut stage = self.0.stage.lock();
        (stage.closed, stage.cut, stage.no_more) = (true, true, false);
        stage.stays_open = after == AfterCut::StayOpen;
        stage.records.clear();
        drop(stage);
        self.0.stage.notify();
        self.0.waker.wake();
    }

    /// Takes no more tasks, says that there are none, and waits until every result is safe.
    ///
    /// # Errors
    ///
    /// See [`FinishError`]. After [`FinishError::Unfinished`] it may be called again.
    pub fn finish(&self, patience: Option<Duration>) -> Result<Summary, FinishError> {
        {
            let mut stage = self.0.stage.lock();
            stage.closed = true;
            stage.no_more = !stage.stays_open;
        }
        self.0.stage.notify();
        self.0.waker.wake();
        self.0.wait_until(patience, |_| false)
    }
}

impl<T: Serialize> Ventilator<T> {
    /// Opens the sockets and starts the driver.
    ///
    /// # Errors
    ///
    /// An endpoint is in use, unusable or exposed without encryption, or a limit makes no sense.
    pub fn start(config: VentilatorConfig) -> Result<Ventilator<T>, OpenError> {
        check(&config.limits)?;
        let (sleeper, waker) = Sleeper::new()?;
        let shared = Arc::new(Shared::new(&waker));
        let driver = VentilatorDriver::open(&config, shared.clone())?;
        let endpoint = driver.endpoint().clone();
        let thread = spawn("ventilator", driver, sleeper)?;
        let max_task_bytes = config
            .socket
            .max_message_bytes
            .saturating_sub(1024)
            .min(Records::MAX_BYTES / 2);
        Ok(Ventilator {
            shared,
            waker,
            endpoint,
            submitted: 0,
            max_task_bytes,
            thread: Some(thread),
            task: PhantomData,
        })
    }

    /// Where workers connect, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Hands in a task and returns its number; blocks while the window is full.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]; the task was not taken.
    pub fn submit(&mut self, task: &T) -> Result<TaskId, SubmitError> {
        self.submit_until(task, None)
    }

    /// The same, for at most `patience`.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]; the task was not taken.
    pub fn submit_within(&mut self, task: &T, patience: Duration) -> Result<TaskId, SubmitError> {
        self.submit_until(task, Instant::now().checked_add(patience))
    }

    fn submit_until(&mut self, task: &T, deadline: Option<Instant>) -> Result<TaskId, SubmitError> {
        let mut stage = self.shared.stage.lock();
        loop {
            self.shared.ended(&stage)?;
            if stage.closed || stage.end.is_some() {
                return Err(FinishError::Stopped.into());
            }
            if stage.records.len() < STAGE_TASKS && stage.records.bytes().len() < STAGE_BYTES {
                break;
            }
            stage = self
                .shared
                .stage
                .wait(stage, deadline)
                .ok_or(SubmitError::Full)?;
        }
        let before = stage.records.bytes().len();
        stage.records.push(task)?;
        let bytes = stage.records.bytes().len() - before;
        if bytes > self.max_task_bytes {
            stage.records.pop();
            return Err(SubmitError::TooLarge {
                bytes,
                limit: self.max_task_bytes,
            });
        }
        let first = stage.records.len() == 1;
        drop(stage);
        if first {
            self.waker.wake();
        }
        self.submitted += 1;
        Ok(self.submitted - 1)
    }

    /// Says that there are no more tasks and waits until every result is safe, or for at most
    /// `patience`.
    ///
    /// # Errors
    ///
    /// See [`FinishError`]. After [`FinishError::Unfinished`] it may be called again.
    pub fn finish(&mut self, patience: Option<Duration>) -> Result<Summary, FinishError> {
        self.handle().finish(patience)
    }
}

impl<T> Ventilator<T> {
    /// How far the job is.
    pub fn progress(&self) -> Progress {
        self.shared.stage.lock().progress
    }

    /// A handle that ends the ventilator at once, from any thread: what is not safe yet is not
    /// confirmed.
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }

    /// A handle that watches and ends the ventilator from any thread.
    pub fn handle(&self) -> VentilatorHandle {
        VentilatorHandle(self.shared.clone())
    }
}

impl<T> Drop for Ventilator<T> {
    fn drop(&mut self) {
        self.shared.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
