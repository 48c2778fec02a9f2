//! The sink: hands each result to the program once and confirms what the program has made safe.

mod driver;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::driver::spawn;
use crate::endpoint::Endpoint;
use crate::pipeline::{Failures, JobId, Limits, Span, TaskFailure, TaskId};
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::{Frame, SocketOptions};
use crate::wait::{Sleeper, Waker};
use crate::watched::Watched;
use crate::wire::{Decoder, RecordError};

use super::{Pattern, check};
use driver::SinkDriver;

/// Confirmations that are gathered before they are passed on, if the program is busy.
const MAX_GATHERED: u64 = 16_384;

/// Settings of a [`Sink`].
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// How results arrive.
    pub pattern: Pattern,
    /// Where workers connect; ventilators connect next to it.
    pub bind: Endpoint,
    /// Bytes of results that may wait for the program; beyond it the workers are held up.
    pub queue_bytes: usize,
    /// Bounds and times.
    pub limits: Limits,
    /// Sockets and security.
    pub socket: SocketOptions,
}

impl SinkConfig {
    /// Settings with defaults for all but the endpoint.
    pub fn new(bind: Endpoint) -> SinkConfig {
        SinkConfig {
            pattern: Pattern::default(),
            bind,
            queue_bytes: 16 << 20,
            limits: Limits::default(),
            socket: SocketOptions::default(),
        }
    }
}

/// What a sink tells the program.
#[derive(Debug)]
pub enum SinkEvent<R> {
    /// A ventilator wants to send a job: answer with [`Sink::resume`] or [`Sink::refuse`].
    Opened(JobId),
    /// A result, or the reason why there is none; each task comes once. Make it safe, then call
    /// [`Sink::confirm`].
    Result {
        /// The job.
        job: JobId,
        /// The task.
        task: TaskId,
        /// What came of it.
        outcome: Result<R, TaskFailure>,
    },
    /// The job's ventilator has been silent for ten minutes: let go of what you hold of it. Should it
    /// come back, the job is [`Opened`](SinkEvent::Opened) again.
    Abandoned(JobId),
    /// All results of the job are safe: answer with [`Sink::close`].
    Complete(JobId),
}

/// Why a sink cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SinkError {
    /// It was stopped from outside.
    #[error("stopped")]
    Stopped,
    /// A socket failed.
    #[error("{0}")]
    Failed(String),
}

/// Receives results of type `R`, each once.
#[derive(Debug)]
pub struct Sink<R> {
    shared: Arc<Shared>,
    waker: Waker,
    endpoint: Endpoint,
    /// The results of the frame that is being read.
    current: Current<R>,
    /// Confirmed by the program and not passed on yet.
    gathered: BTreeMap<JobId, Gathered>,
    /// Failures handed to the program and not confirmed yet.
    failures: BTreeMap<(JobId, TaskId), String>,
    thread: Option<JoinHandle<()>>,
}

/// The results of one frame, read at once.
#[derive(Debug)]
struct Current<R> {
    job: JobId,
    results: std::vec::IntoIter<(TaskId, Result<R, TaskFailure>)>,
}

#[derive(Debug, Default)]
struct Gathered {
    safe: Vec<Range<TaskId>>,
    failed: Failures,
    tasks: u64,
}

/// A frame of results on its way to the program.
#[derive(Debug)]
struct Delivery {
    job: JobId,
    span: Span,
    fresh: Vec<Range<TaskId>>,
    frame: Frame,
    start: usize,
}

/// What the program says to the driver.
#[derive(Debug)]
enum Order {
    Resume(JobId, Vec<Range<TaskId>>, Failures),
    Refuse(JobId, String),
    Confirm(JobId, Vec<Range<TaskId>>, Failures),
    Defer(JobId, Vec<Range<TaskId>>),
    Close(JobId, u64),
}

#[derive(Debug)]
enum Notice {
    Abandoned(JobId),
    Opened(JobId),
    Delivery(Delivery),
    Complete(JobId),
}

#[derive(Debug)]
struct Shared {
    queues: Arc<Watched<Queues>>,
    stop: StopHandle,
}

#[derive(Debug, Default)]
struct Queues {
    notices: VecDeque<Notice>,
    bytes: usize,
    orders: Vec<Order>,
    end: Option<SinkError>,
    /// Whether the driver has stopped reading until the program catches up.
    choked: bool,
}

impl<R: DeserializeOwned> Sink<R> {
    /// Opens the sockets and starts the driver.
    ///
    /// # Errors
    ///
    /// The endpoint is in use, unusable or exposed without encryption, or a limit makes no sense.
    pub fn start(config: SinkConfig) -> Result<Sink<R>, OpenError> {
        check(&config.limits)?;
        let (sleeper, waker) = Sleeper::new()?;
        let shared = Arc::new(Shared {
            queues: Arc::default(),
            stop: StopHandle::new(waker.clone()),
        });
        shared.queues.notify_when_stopped(&shared.stop);
        let driver = SinkDriver::open(&config, shared.clone())?;
        let endpoint = driver.endpoint().clone();
        let thread = Some(spawn("sink", driver, sleeper)?);
        Ok(Sink {
            shared,
            waker,
            endpoint,
            current: Current {
                job: JobId(0),
                results: Vec::new().into_iter(),
            },
            gathered: BTreeMap::new(),
            failures: BTreeMap::new(),
            thread,
        })
    }

    /// The next event; blocks until there is one.
    ///
    /// # Errors
    ///
    /// The sink was stopped or a socket failed.
    pub fn recv(&mut self) -> Result<SinkEvent<R>, SinkError> {
        loop {
            if let Some(event) = self.next_until(None)? {
                return Ok(event);
            }
        }
    }

    /// The next event, or `None` when there is none for `patience`; zero does not wait at all, so
    /// that `None` then says "nothing more for now: a good moment to make results safe".
    ///
    /// # Errors
    ///
    /// The sink was stopped or a socket failed.
    pub fn recv_within(&mut self, patience: Duration) -> Result<Option<SinkEvent<R>>, SinkError> {
        if patience.is_zero()
            && self.current.results.len() == 0
            && self.shared.queues.lock().notices.is_empty()
        {
            self.pass_on();
            return Ok(None);
        }
        self.next_until(Instant::now().checked_add(patience))
    }

    /// Takes one job from its announcement to its end and hands each outcome to `keep`, which must
    /// have made it safe when it returns. For more than one job, or to make results safe in groups,
    /// use [`recv`](Sink::recv).
    ///
    /// # Errors
    ///
    /// The sink was stopped or a socket failed.
    pub fn collect_job(
        &mut self,
        mut keep: impl FnMut(TaskId, Result<R, TaskFailure>),
    ) -> Result<JobId, SinkError> {
        loop {
            match self.recv()? {
                SinkEvent::Opened(job) => self.resume(job, Vec::new(), Vec::new()),
                SinkEvent::Abandoned(_) => {}
                SinkEvent::Result { job, task, outcome } => {
                    keep(task, outcome);
                    self.confirm(job, task..task + 1);
                }
                SinkEvent::Complete(job) => {
                    self.close(job, 0);
                    return Ok(job);
                }
            }
        }
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<SinkEvent<R>>, SinkError> {
        loop {
            if let Some((task, outcome)) = self.current.results.next() {
                let job = self.current.job;
                if let Err(failure) = &outcome {
                    self.failures.insert((job, task), failure.reason.clone());
                }
                return Ok(Some(SinkEvent::Result { job, task, outcome }));
            }
            match self.next_notice(deadline)? {
                None => return Ok(None),
                Some(Notice::Opened(job)) => return Ok(Some(SinkEvent::Opened(job))),
                Some(Notice::Abandoned(job)) => return Ok(Some(SinkEvent::Abandoned(job))),
                Some(Notice::Complete(job)) => return Ok(Some(SinkEvent::Complete(job))),
                Some(Notice::Delivery(delivery)) => {
                    let (job, results) = (delivery.job, delivery.read().into_iter());
                    self.current = Current { job, results };
                }
            }
        }
    }

    fn next_notice(&mut self, deadline: Option<Instant>) -> Result<Option<Notice>, SinkError> {
        if self.shared.queues.lock().notices.is_empty() {
            self.pass_on();
        }
        let mut queues = self.shared.queues.lock();
        loop {
            if let Some(notice) = queues.notices.pop_front() {
                if let Notice::Delivery(delivery) = &notice {
                    queues.bytes -= delivery.frame.len();
                }
                if queues.choked && queues.bytes == 0 {
                    queues.choked = false;
                    self.waker.wake();
                }
                return Ok(Some(notice));
            }
            if self.shared.stop.is_stopped() {
                return Err(SinkError::Stopped);
            }
            if let Some(end) = &queues.end {
                return Err(end.clone());
            }
            queues = match self.shared.queues.wait(queues, deadline) {
                Some(queues) => queues,
                None => return Ok(None),
            };
        }
    }
}

impl<R> Sink<R> {
    /// Where workers connect, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes a job; `safe` and `failed` are what a former start of the program made safe of it.
    pub fn resume(&mut self, job: JobId, safe: Vec<Range<TaskId>>, failed: Failures) {
        self.order(Order::Resume(job, safe, failed));
    }

    /// Does not take a job; the ventilator ends with the reason.
    pub fn refuse(&mut self, job: JobId, reason: String) {
        self.order(Order::Refuse(job, reason));
    }

    /// Says that the results of these tasks are safe for ever: the ventilator forgets the tasks.
    ///
    /// Confirmations are gathered and passed on when no result waits, or by
    /// [`pass_on`](Sink::pass_on).
    pub fn confirm(&mut self, job: JobId, tasks: Range<TaskId>) {
        let gathered = self.gathered.entry(job).or_default();
        gathered.tasks += tasks.end.saturating_sub(tasks.start);
        if !self.failures.is_empty() {
            let known = self.failures.range((job, tasks.start)..(job, tasks.end));
            let known: Vec<_> = known.map(|(key, _)| *key).collect();
            for key in known {
                let reason = self.failures.remove(&key).unwrap_or_default();
                gathered.failed.push((key.1, reason));
            }
        }
        match gathered.safe.last_mut() {
            Some(last) if last.end == tasks.start => last.end = tasks.end,
            _ => gathered.safe.push(tasks),
        }
        if gathered.tasks >= MAX_GATHERED {
            self.pass_on();
        }
    }

    /// Says, before the task is confirmed, that its result came to nothing here; the reason is a
    /// sentence.
    pub fn fail(&mut self, job: JobId, task: TaskId, reason: String) {
        self.failures.insert((job, task), reason);
    }

    /// Says that these results could not be kept: the tasks will come again later.
    pub fn defer(&mut self, job: JobId, tasks: Range<TaskId>) {
        self.order(Order::Defer(job, vec![tasks]));
    }

    /// Says that a complete job is put away; `bytes` is what its results take, for the summary.
    pub fn close(&mut self, job: JobId, bytes: u64) {
        self.pass_on();
        self.order(Order::Close(job, bytes));
    }

    /// Passes on all that was confirmed.
    pub fn pass_on(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let mut queues = self.shared.queues.lock();
        for (job, gathered) in std::mem::take(&mut self.gathered) {
            queues
                .orders
                .push(Order::Confirm(job, gathered.safe, gathered.failed));
        }
        drop(queues);
        self.waker.wake();
    }

    fn order(&mut self, order: Order) {
        self.shared.queues.lock().orders.push(order);
        self.waker.wake();
    }

    /// A handle that stops the sink from any thread: [`recv`](Sink::recv) then returns
    /// [`SinkError::Stopped`].
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }
}

impl<R> Drop for Sink<R> {
    fn drop(&mut self) {
        self.pass_on();
        self.shared.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Delivery {
    /// Reads the fresh results of the frame.
    fn read<R: DeserializeOwned>(&self) -> Vec<(TaskId, Result<R, TaskFailure>)> {
        read_outcomes(&self.frame[self.start..], self.span, &self.fresh)
    }
}

/// Reads those outcomes of `span` that are in `fresh`.
pub(crate) fn read_outcomes<R: DeserializeOwned>(
    records: &[u8],
    span: Span,
    fresh: &[Range<TaskId>],
) -> Vec<(TaskId, Result<R, TaskFailure>)> {
    let mut values = Decoder::<R>::new(records, u64::from(span.count));
    let mut results = Vec::with_capacity(span.count as usize);
    for task in span.range() {
        let outcome = read_outcome(&mut values);
        if fresh.iter().any(|range| range.contains(&task)) {
            results.push((task, outcome));
        }
    }
    results
}

fn read_outcome<R: DeserializeOwned>(values: &mut Decoder<'_, R>) -> Result<R, TaskFailure> {
    let outcome = match values.value::<bool>() {
        Ok(true) => values.value::<R>().map(Ok),
        Ok(false) => values.value::<TaskFailure>().map(Err),
        Err(error) => Err(error),
    };
    outcome.unwrap_or_else(|error: RecordError| {
        Err(TaskFailure {
            reason: format!("the sink cannot read its result: {error}"),
            context: Vec::new(),
        })
    })
}
