//! The ventilator: hands out tasks and keeps each until its result is safe.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::complaints::Complaints;
use crate::driver::{self, Delivery, Node, Port};
use crate::endpoint::Endpoint;
use crate::machine::{Machine, Time};
use crate::pipeline::{
    Incarnation, JobId, Limits, Progress, TaskId, VentilatorInput, VentilatorMachine,
    VentilatorOutput, VentilatorSays, WorkerId, WorkerSays,
};
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::{self, Frame, Role, Side, SocketOptions, Source, TransportError};
use crate::wait::{Interest, Sleeper, Waker};
use crate::wire::{RecordError, Records};

use super::doors::Doors;
use super::{Pattern, check, listen, partition};

/// Bytes and tasks that wait between the program and the driver.
const STAGE_BYTES: usize = 1 << 20;
const STAGE_TASKS: usize = 16 << 10;

/// Failures that are kept with their reasons; more are only counted.
const MAX_FAILURES: usize = 1000;

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
        self.0.stage().progress
    }

    /// Whether the sink has opened the job and been heard of lately.
    pub fn sink_is_open(&self) -> bool {
        self.0.stage().sink_is_open
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
        let mut stage = self.0.stage();
        (stage.closed, stage.cut, stage.no_more) = (true, true, false);
        stage.stays_open = after == AfterCut::StayOpen;
        stage.records.clear();
        drop(stage);
        self.0.changed.notify_all();
        self.0.waker.wake();
    }

    /// Takes no more tasks, says that there are none, and waits until every result is safe.
    ///
    /// # Errors
    ///
    /// See [`FinishError`]. After [`FinishError::Unfinished`] it may be called again.
    pub fn finish(&self, patience: Option<Duration>) -> Result<Summary, FinishError> {
        {
            let mut stage = self.0.stage();
            stage.closed = true;
            stage.no_more = !stage.stays_open;
        }
        self.0.changed.notify_all();
        self.0.waker.wake();
        self.0.wait_until(patience, |_| false)
    }
}

#[derive(Debug)]
struct Shared {
    stage: Mutex<Stage>,
    /// Room in the stage, or the end.
    changed: Condvar,
    waker: Waker,
    stop: StopHandle,
}

#[derive(Debug, Default)]
struct Stage {
    records: Records,
    /// The program may hand in no more tasks.
    closed: bool,
    /// The driver has yet to take back what was not sent.
    cut: bool,
    /// Whatever the program says, the job is not at its end: some of its tasks were taken back.
    stays_open: bool,
    /// The driver has yet to learn that there are no more tasks.
    no_more: bool,
    progress: Progress,
    failures: Vec<(TaskId, String)>,
    sink_is_open: bool,
    end: Option<Result<(), FinishError>>,
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes whoever waits for a change; under the lock, so that nobody misses it who is about to wait.
fn notify(shared: &Weak<Shared>) {
    if let Some(shared) = shared.upgrade() {
        let _stage = shared.stage();
        shared.changed.notify_all();
    }
}

impl Shared {
    /// Waits until the job has ended or `done` holds.
    fn wait_until(
        &self,
        patience: Option<Duration>,
        done: impl Fn(&Stage) -> bool,
    ) -> Result<Summary, FinishError> {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut stage = self.stage();
        loop {
            self.ended(&stage)?;
            if stage.end.is_some() || done(&stage) {
                return Ok(Summary {
                    progress: stage.progress,
                    failures: stage.failures.clone(),
                });
            }
            let (safe, submitted) = (stage.progress.safe, stage.progress.submitted);
            stage = self
                .wait(stage, deadline)
                .ok_or(FinishError::Unfinished { safe, submitted })?;
        }
    }

    /// Waits for a change; `None` when the deadline has passed.
    fn wait<'a>(
        &self,
        stage: MutexGuard<'a, Stage>,
        deadline: Option<Instant>,
    ) -> Option<MutexGuard<'a, Stage>> {
        let Some(deadline) = deadline else {
            return Some(
                self.changed
                    .wait(stage)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout(stage, left);
        (!left.is_zero()).then(|| waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn ended(&self, stage: &Stage) -> Result<(), FinishError> {
        match &stage.end {
            Some(Err(error)) => Err(error.clone()),
            None if self.stop.is_stopped() => Err(FinishError::Stopped),
            _ => Ok(()),
        }
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
        let shared = Arc::new(Shared {
            stage: Mutex::default(),
            changed: Condvar::new(),
            waker: waker.clone(),
            stop: StopHandle::new(waker.clone()),
        });
        let weak = Arc::downgrade(&shared);
        shared.stop.on_stop(move || notify(&weak));
        let driver = VentilatorDriver::open(&config, shared.clone())?;
        let endpoint = driver.endpoint.clone();
        let thread = driver::spawn("ventilator", driver, sleeper)?;
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
        let mut stage = self.shared.stage();
        loop {
            self.shared.ended(&stage)?;
            if stage.closed || stage.end.is_some() {
                return Err(FinishError::Stopped.into());
            }
            if stage.records.len() < STAGE_TASKS && stage.records.bytes().len() < STAGE_BYTES {
                break;
            }
            stage = self.shared.wait(stage, deadline).ok_or(SubmitError::Full)?;
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
        self.shared.stage().progress
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

/// The ventilator's machine with its sockets.
struct VentilatorDriver {
    machine: VentilatorMachine,
    pattern: Pattern,
    shared: Arc<Shared>,
    endpoint: Endpoint,
    data: Port,
    control: Port,
    sink: Port,
    /// Routing ids of the workers on the control socket and, where they ask, on the data socket.
    control_routes: HashMap<WorkerId, Vec<u8>>,
    data_routes: HashMap<WorkerId, Vec<u8>>,
    doors: Doors,
    mistakes: Complaints,
    over: bool,
}

impl VentilatorDriver {
    fn open(config: &VentilatorConfig, shared: Arc<Shared>) -> Result<VentilatorDriver, OpenError> {
        let role = match config.pattern {
            Pattern::ReqRep => Role::Router,
            pattern => pattern.roles().0,
        };
        let (data, control) = listen(role, &config.bind, &config.socket)?;
        let watched = SocketOptions {
            watch_links: true,
            ..config.socket.clone()
        };
        let sink = transport::open(
            Role::Dealer,
            Side::Connect,
            &config.sink.control()?,
            &watched,
        )?;
        let machine = VentilatorMachine::new(
            config.job,
            Incarnation(rand::random()),
            config.pattern.dispatch(),
            config.limits.clone(),
        );
        Ok(VentilatorDriver {
            machine,
            pattern: config.pattern,
            shared,
            endpoint: data.endpoint().clone(),
            data: Port::new(data),
            control: Port::new(control),
            sink: Port::new(sink),
            control_routes: HashMap::new(),
            data_routes: HashMap::new(),
            doors: Doors::default(),
            mistakes: Complaints::default(),
            over: false,
        })
    }

    /// Takes tasks from the program while the window has room.
    fn take_tasks(&mut self, now: Time) -> bool {
        let mut stage = self.shared.stage();
        let safe_before = stage.progress.safe;
        stage.progress = self.machine.progress();
        stage.sink_is_open = self.machine.sink_is_alive(now);
        if stage.closed && stage.progress.safe != safe_before {
            self.shared.changed.notify_all();
        }
        if stage.cut {
            self.machine.handle(now, VentilatorInput::Cut);
            stage.progress = self.machine.progress();
            stage.cut = false;
            self.shared.changed.notify_all();
        }
        let mut taken = false;
        if self.machine.has_room() && !stage.records.is_empty() {
            let records = std::mem::take(&mut stage.records);
            stage.progress.submitted += records.len() as u64;
            self.shared.changed.notify_all();
            drop(stage);
            self.machine.handle(now, VentilatorInput::Submit(records));
            stage = self.shared.stage();
            taken = true;
        }
        if stage.no_more && stage.records.is_empty() {
            stage.no_more = false;
            drop(stage);
            self.machine.handle(now, VentilatorInput::Finish);
        }
        taken
    }

    fn receive(&mut self, now: Time) -> Result<bool, TransportError> {
        let VentilatorDriver {
            machine,
            data,
            control,
            sink,
            mistakes,
            control_routes,
            data_routes,
            ..
        } = self;
        let mut more = control.receive(|message| {
            if let [route, body] = message.as_slice() {
                match driver::read_control::<WorkerSays>(body) {
                    Ok(says) => {
                        learn(control_routes, says.worker(), route);
                        machine.handle(now, VentilatorInput::Worker(says));
                    }
                    Err(error) => mistakes.add(&"ventilator, control", &error),
                }
            }
        })?;
        more |= sink.receive(|message| match driver::read_control(&message[0]) {
            Ok(says) => machine.handle(now, VentilatorInput::Sink(says)),
            Err(error) => mistakes.add(&"ventilator, from the sink", &error),
        })?;
        more |= match self.pattern {
            Pattern::PushPull => false,
            Pattern::ReqRep => data.receive(|message| {
                if let [route, body] = message.as_slice() {
                    match driver::read_control::<WorkerSays>(body) {
                        Ok(says) => {
                            learn(data_routes, says.worker(), route);
                            machine.handle(now, VentilatorInput::Worker(says));
                        }
                        Err(error) => mistakes.add(&"ventilator, requests", &error),
                    }
                }
            })?,
            Pattern::PubSub => data.receive(|message| {
                if let Some(input) = subscription(&message[0]) {
                    machine.handle(now, input);
                }
            })?,
        };
        Ok(more)
    }

    fn act(&mut self, now: Time) -> Result<(), TransportError> {
        let job = self.machine.job();
        while let Some(output) = self.machine.poll() {
            match output {
                VentilatorOutput::Tasks(to, tasks) => {
                    let sent = self.send_tasks(to, tasks.frame(job))?;
                    if let (Delivery::Unroutable, Some(worker)) = (sent, to) {
                        let undelivered = VentilatorInput::Undelivered(worker, tasks.span);
                        self.machine.handle(now, undelivered);
                    }
                }
                VentilatorOutput::ToWorker(worker, says) => self.tell_worker(worker, &says)?,
                VentilatorOutput::ToSink(tells) => {
                    self.sink.post(vec![driver::control(&tells).into()])?
                }
                VentilatorOutput::WorkerJoined(worker) => log::info!("worker {worker} has joined"),
                VentilatorOutput::Stubborn(span) => log::warn!(
                    "tasks {} to {} were sent several times and nothing came of it: is the largest payload the same for all roles, or do these tasks kill their workers?",
                    span.first,
                    span.end() - 1
                ),
                VentilatorOutput::WorkerLost(worker) => {
                    log::warn!(
                        "worker {worker} has been silent for too long; its tasks go to others"
                    );
                    self.control_routes.remove(&worker);
                    self.data_routes.remove(&worker);
                }
                VentilatorOutput::SinkOpened(safe) => {
                    log::info!(
                        "the sink is ready; results safe there, unknown to us so far: {safe}"
                    );
                }
                VentilatorOutput::SinkRefused(reason) => {
                    self.end(Err(FinishError::Refused(reason)))
                }
                VentilatorOutput::TaskFailed(task, reason) => self.note_failure(task, reason),
                VentilatorOutput::Finished => self.end(Ok(())),
            }
        }
        Ok(())
    }

    /// Sends a batch; whether there is somebody to send it to.
    fn send_tasks(
        &mut self,
        to: Option<WorkerId>,
        frame: Vec<u8>,
    ) -> Result<Delivery, TransportError> {
        let address: Option<Frame> = match (self.pattern, to) {
            (Pattern::ReqRep, Some(worker)) => match self.data_routes.get(&worker) {
                Some(route) => Some(route.clone().into()),
                None => return Ok(Delivery::Unroutable),
            },
            (Pattern::PubSub, Some(worker)) => Some(partition(worker).into_bytes().into()),
            _ => None,
        };
        self.data
            .send(address.into_iter().chain([frame.into()]).collect())
    }

    fn tell_worker(
        &mut self,
        worker: WorkerId,
        says: &VentilatorSays,
    ) -> Result<(), TransportError> {
        match self.control_routes.get(&worker) {
            Some(route) => self
                .control
                .post_to(vec![route.clone().into(), driver::control(says).into()]),
            None => Ok(()),
        }
    }

    fn note_failure(&self, task: TaskId, reason: String) {
        let mut stage = self.shared.stage();
        if stage.failures.len() < MAX_FAILURES {
            stage.failures.push((task, reason));
        }
    }

    fn end(&mut self, result: Result<(), FinishError>) {
        self.over = true;
        let mut stage = self.shared.stage();
        stage.progress = self.machine.progress();
        stage.end.get_or_insert(result);
        self.shared.changed.notify_all();
    }
}

/// Remembers where a worker is reached; it may have reconnected.
fn learn(routes: &mut HashMap<WorkerId, Vec<u8>>, worker: WorkerId, route: &[u8]) {
    const MAX_ROUTES: usize = 1 << 17;
    let full = routes.len() >= MAX_ROUTES;
    match routes.get_mut(&worker) {
        Some(known) if known == route => {}
        Some(known) => *known = route.to_vec(),
        None if full => {}
        None => {
            routes.insert(worker, route.to_vec());
        }
    }
}

/// Reads a worker's subscription to its partition.
fn subscription(message: &[u8]) -> Option<VentilatorInput> {
    let (&subscribes, topic) = message.split_first()?;
    let worker = std::str::from_utf8(topic).ok()?.strip_prefix("tasks/")?;
    let worker = WorkerId(u64::from_str_radix(worker, 16).ok()?);
    Some(match subscribes {
        0 => VentilatorInput::Unsubscribed(worker),
        _ => VentilatorInput::Subscribed(worker),
    })
}

impl Node for VentilatorDriver {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        if self.shared.stop.is_stopped() {
            self.end(Err(FinishError::Stopped));
            return Ok(false);
        }
        if let Some(reason) = self.sink.refusal() {
            self.end(Err(FinishError::Refused(format!("the sink: {reason}"))));
            return Ok(false);
        }
        self.doors.look([&mut self.data, &mut self.control]);
        self.machine.wake(now);
        let mut more = self.receive(now)?;
        more |= self.take_tasks(now);
        self.act(now)?;
        for port in [&mut self.data, &mut self.control, &mut self.sink] {
            port.flush()?;
        }
        Ok(more)
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        for port in [&self.data, &self.control, &self.sink] {
            port.interests(sources);
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn close(&mut self, error: Option<TransportError>) {
        if self.mistakes.count() > 0 {
            log::warn!(
                "malformed messages that the ventilator dropped: {}",
                self.mistakes.count()
            );
        }
        let error = error.map_or(FinishError::Stopped, |error| {
            FinishError::Failed(error.to_string())
        });
        self.end(Err(error));
    }
}
