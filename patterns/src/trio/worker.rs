//! The worker: runs tasks in its slots and hands the results to the sink.

mod absence;
mod bounds;
mod crew;
mod driver;
mod leaseholder;
mod paces;
mod progress;
mod run;
mod slots;
mod watchdog;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::broker::Codec;
use crate::driver::spawn;
use crate::endpoint::Endpoint;
use crate::pipeline::{JobId, Limits, TaskId};
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::SocketOptions;
use crate::wait::Sleeper;
use crate::watched::Watched;

use super::{Pattern, check};
use crew::{Crew, Members};
use driver::WorkerDriver;
use leaseholder::LeaseholderDriver;
use run::work_off;
use slots::{Slots, Work};

/// Settings of a [`Worker`].
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// How tasks arrive and results leave.
    pub pattern: Pattern,
    /// Where the ventilator listens.
    pub ventilator: Endpoint,
    /// Where the sink listens.
    pub sink: Endpoint,
    /// Tasks that run at once, each in a thread; as many as there are cores by default.
    pub slots: usize,
    /// Leave when a job is finished instead of waiting for the next.
    pub once: bool,
    /// Bounds and times.
    pub limits: Limits,
    /// Sockets and security.
    pub socket: SocketOptions,
}

impl WorkerConfig {
    /// Settings with defaults for all but the endpoints.
    pub fn new(ventilator: Endpoint, sink: Endpoint) -> WorkerConfig {
        WorkerConfig {
            pattern: Pattern::default(),
            ventilator,
            sink,
            slots: std::thread::available_parallelism().map_or(1, usize::from),
            once: false,
            limits: Limits::default(),
            socket: SocketOptions::default(),
        }
    }
}

/// Settings of a [`Worker`] of a broker.
#[derive(Clone, Debug)]
pub struct BrokerWorkerConfig {
    /// Where the broker listens.
    pub broker: Endpoint,
    /// How messages are written; the broker understands either.
    pub codec: Codec,
    /// What it can do: the jobs of these operations.
    pub operations: Vec<String>,
    /// Tasks that run at once, each in a thread; as many as there are cores by default.
    pub slots: usize,
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Heartbeats that the broker may miss before it counts as lost; at least 2.
    pub liveness: u32,
    /// Socket and security.
    pub socket: SocketOptions,
}

impl BrokerWorkerConfig {
    /// Settings with defaults for all but the endpoint and the operations.
    pub fn new(broker: Endpoint, operations: Vec<String>) -> BrokerWorkerConfig {
        let limits = Limits::default();
        BrokerWorkerConfig {
            broker,
            codec: Codec::default(),
            operations,
            slots: std::thread::available_parallelism().map_or(1, usize::from),
            heartbeat: limits.heartbeat,
            liveness: limits.liveness,
            socket: SocketOptions::default(),
        }
    }

    fn validate(&self) -> Result<(), String> {
        let limits = Limits {
            heartbeat: self.heartbeat,
            liveness: self.liveness,
            ..Limits::default()
        };
        limits.validate()?;
        match self.operations.is_empty() {
            true => Err("operations is empty: no job would ever come".into()),
            false => Ok(()),
        }
    }
}

/// What a handler may want to know about the task it runs.
#[derive(Clone, Debug)]
pub struct TaskInfo {
    /// The job.
    pub job: JobId,
    /// The number of the task.
    pub task: TaskId,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// How many attempts there are.
    pub attempts: u32,
    /// What a broker's job asks for; `None` in a trio, whose tasks say it themselves.
    pub operation: Option<Arc<str>>,
    /// When the task has to be done. A result that comes a little later still counts; a task that goes
    /// on for more than a second is given up, with the thread that runs it.
    pub deadline: Option<Instant>,
}

/// Why a handler could not do a task.
#[derive(Clone, Debug)]
pub struct Failure {
    /// One sentence.
    pub reason: String,
    /// What the sink shall know about the task when it has failed for good.
    pub context: Vec<u8>,
    /// Whether another attempt may go better.
    pub retry: bool,
}

impl Failure {
    /// A failure that another attempt may avoid.
    pub fn new(reason: impl Into<String>) -> Failure {
        Failure {
            reason: reason.into(),
            context: Vec::new(),
            retry: true,
        }
    }

    /// A failure that every attempt would meet.
    pub fn permanent(reason: impl Into<String>) -> Failure {
        Failure {
            retry: false,
            ..Failure::new(reason)
        }
    }

    /// The same with something for the sink to know.
    pub fn with_context(self, context: Vec<u8>) -> Failure {
        Failure { context, ..self }
    }
}

impl<S: Into<String>> From<S> for Failure {
    fn from(reason: S) -> Failure {
        Failure::new(reason)
    }
}

/// Why a worker has ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WorkerExit {
    /// The job is finished, and the worker was to stay for one.
    #[error("the job is finished")]
    Finished,
    /// It was asked to leave: what it had begun is done, the rest given back.
    #[error("left on request")]
    Left,
    /// It was asked to leave and did not get rid of its results in time; the tasks will be sent
    /// again to others.
    #[error("left with results that the sink did not take")]
    LeftUndone,
    /// A handshake failed.
    #[error("{0}")]
    Refused(String),
    /// A socket failed.
    #[error("{0}")]
    Failed(String),
}

/// Runs tasks of one type into results of another.
///
/// A handler that returns an error or panics fails the task, which is tried again up to the
/// ventilator's number of attempts. The worker lives on.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// The threads of a broker's worker.
    members: Arc<Members>,
}

#[derive(Debug)]
struct Shared {
    exit: Watched<Option<WorkerExit>>,
    stop: StopHandle,
}

impl Shared {
    fn end(&self, exit: WorkerExit) {
        self.exit.lock().get_or_insert(exit);
        self.exit.notify();
    }
}

impl Worker {
    /// Opens the sockets and starts the driver and the slots.
    ///
    /// # Errors
    ///
    /// An endpoint is unusable, or a limit makes no sense.
    pub fn start<T, R, F>(config: WorkerConfig, handler: F) -> Result<Worker, OpenError>
    where
        T: DeserializeOwned,
        R: Serialize,
        F: Fn(T, &TaskInfo) -> Result<R, Failure> + Send + Sync + 'static,
    {
        check(&config.limits)?;
        let (sleeper, waker) = Sleeper::new()?;
        let shared = Arc::new(Shared {
            exit: Watched::default(),
            stop: StopHandle::new(waker.clone()),
        });
        let slots = Slots::new(waker);
        let driver = WorkerDriver::open(&config, shared.clone(), slots.clone())?;
        let worker = Worker {
            shared,
            threads: vec![spawn("worker", driver, sleeper)?],
            members: Arc::default(),
        };
        let limit = config.socket.max_message_bytes;
        Ok(worker.with_slots(&slots, config.slots, limit, handler)?)
    }

    /// Starts a worker for a broker: it does what the jobs there ask for, of the operations that it
    /// names.
    ///
    /// # Errors
    ///
    /// The endpoint is unusable, or a limit makes no sense.
    pub fn start_at_broker<T, R, F>(
        config: BrokerWorkerConfig,
        handler: F,
    ) -> Result<Worker, OpenError>
    where
        T: DeserializeOwned,
        R: Serialize,
        F: Fn(T, &TaskInfo) -> Result<R, Failure> + Send + Sync + 'static,
    {
        config.validate().map_err(OpenError::Config)?;
        let (sleeper, waker) = Sleeper::new()?;
        let shared = Arc::new(Shared {
            exit: Watched::default(),
            stop: StopHandle::new(waker.clone()),
        });
        let slots = Slots::new(waker);
        let driver = LeaseholderDriver::open(&config, shared.clone(), slots.clone())?;
        let worker = Worker {
            shared,
            threads: Vec::new(),
            members: Arc::default(),
        };
        let crew = Arc::new(Crew::new(driver, sleeper, slots, worker.members.clone()));
        let (handler, limit) = (Arc::new(handler), config.socket.max_message_bytes);
        let run = move |work: &Work| work_off(work, limit, &*handler);
        // One more than there are slots, as one of them drives the machine.
        for _ in 0..=config.slots.max(1) {
            crew.enlist(run.clone())?;
        }
        Ok(worker)
    }

    /// Starts the slots; the worker is dropped, and so stopped, if the system refuses one.
    fn with_slots<T, R, F>(
        mut self,
        slots: &Slots,
        count: usize,
        max_result_bytes: usize,
        handler: F,
    ) -> std::io::Result<Worker>
    where
        T: DeserializeOwned,
        R: Serialize,
        F: Fn(T, &TaskInfo) -> Result<R, Failure> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        for slot in 0..count.max(1) {
            let (slots, handler) = (slots.clone(), handler.clone());
            let run = move || slots.serve(max_result_bytes, &*handler);
            let thread = std::thread::Builder::new().name(format!("slot {slot}"));
            self.threads.push(thread.spawn(run)?);
        }
        Ok(self)
    }

    /// Waits until the worker has ended, or for at most `patience`; `None` when it runs on.
    pub fn wait(&self, patience: Option<Duration>) -> Option<WorkerExit> {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut exit = self.shared.exit.lock();
        while exit.is_none() {
            exit = self.shared.exit.wait(exit, deadline)?;
        }
        exit.clone()
    }

    /// A handle that makes the worker leave, from any thread: it finishes what it has begun and
    /// gives back the rest.
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }
}

impl Drop for Worker {
    /// Makes the worker leave and waits for the tasks that run.
    fn drop(&mut self) {
        self.shared.stop.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.members.join();
    }
}
