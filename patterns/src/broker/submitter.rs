//! Handing in the tasks of a job.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::driver::{Node, spawn};
use crate::endpoint::Endpoint;
use crate::machine::{Machine, Time};
use crate::pipeline::{JobId, Span, TaskId};
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::{Source, TransportError};
use crate::wait::{Interest, Sleeper, Waker};
use crate::watched::Watched;
use crate::wire::{Kind, Writer};

use super::client::{ClientInput, ClientOutput};
use super::link::{ClientConfig, ClientError, Link};
use super::protocol::{JobSettings, Keeps};

/// A batch is sent off at the latest when it has so many bytes or tasks.
const BATCH_BYTES: usize = 59 << 10;
const BATCH_TASKS: u32 = 4096;

/// What the header of a batch takes at most.
const HEADER_BYTES: usize = 64;

/// Hands in the tasks of one job; each is accepted once, whatever breaks down in between.
///
/// Tasks are numbered in the order of [`submit`](Submitter::submit). A program that starts again and
/// submits the same tasks under the same job adds nothing twice.
#[derive(Debug)]
pub struct Submitter<T: ?Sized> {
    shared: Arc<Shared>,
    waker: Waker,
    broker: Endpoint,
    max_task_bytes: usize,
    window_bytes: usize,
    thread: Option<JoinHandle<()>>,
    tasks: PhantomData<fn(&T)>,
}

#[derive(Debug)]
struct Shared {
    stage: Arc<Watched<Stage>>,
    stop: StopHandle,
}

/// What the program has handed in and the driver has not taken yet.
#[derive(Debug, Default)]
struct Stage {
    records: Vec<u8>,
    count: u32,
    /// The number of the next task.
    next: TaskId,
    /// Batches that are full.
    full: VecDeque<(Span, Vec<u8>)>,
    full_bytes: usize,
    /// With the driver, and not accepted.
    unaccepted_bytes: usize,
    closed: bool,
    /// How long the broker keeps the job, once it knows it.
    opened: Option<Keeps>,
    /// Everything was accepted, and the broker knows that it is all.
    done: bool,
    trouble: Option<String>,
    end: Option<ClientError>,
}

impl Stage {
    fn bytes(&self) -> usize {
        self.records.len() + self.full_bytes + self.unaccepted_bytes
    }

    /// Ends the batch that is being gathered.
    fn cut(&mut self) {
        if self.count == 0 {
            return;
        }
        let span = Span {
            first: self.next - u64::from(self.count),
            count: self.count,
        };
        let records = std::mem::take(&mut self.records);
        self.full_bytes += records.len();
        self.full.push_back((span, records));
        self.count = 0;
    }
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock()
    }

    fn check(&self, stage: &Stage) -> Result<(), ClientError> {
        match &stage.end {
            Some(error) => Err(error.clone()),
            None if self.stop.is_stopped() => Err(ClientError::Stopped),
            None => Ok(()),
        }
    }
}

impl<T: Serialize + ?Sized> Submitter<T> {
    /// Connects to the broker, now or later, and begins the job or goes on with it.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used.
    pub fn open(
        config: ClientConfig,
        job: JobId,
        settings: JobSettings,
    ) -> Result<Submitter<T>, OpenError> {
        let (sleeper, waker) = Sleeper::new()?;
        let shared = Arc::new(Shared {
            stage: Arc::default(),
            stop: StopHandle::new(waker.clone()),
        });
        shared.stage.notify_when_stopped(&shared.stop);
        let mut link = Link::open(&config)?;
        let open = ClientInput::Open {
            job,
            settings: Some(settings),
            fetch: false,
            safe: Vec::new(),
        };
        link.machine.handle(Time::START, open);
        let node = Submitting {
            job,
            link,
            shared: shared.clone(),
            closed: false,
            confirmed: false,
        };
        let thread = Some(spawn("submitter", node, sleeper)?);
        Ok(Submitter {
            shared,
            waker,
            broker: config.broker,
            max_task_bytes: config.socket.max_message_bytes.saturating_sub(HEADER_BYTES),
            window_bytes: config.unaccepted_bytes,
            thread,
            tasks: PhantomData,
        })
    }

    /// Hands in a task and returns its number; blocks while too much waits to be accepted.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn submit(&mut self, task: &T) -> Result<TaskId, ClientError> {
        let mut stage = self.shared.stage();
        while stage.bytes() >= self.window_bytes && stage.end.is_none() {
            self.shared.check(&stage)?;
            stage = self.wait(stage, None)?;
        }
        self.shared.check(&stage)?;
        let before = stage.records.len();
        let written = rmp_serde::encode::write(&mut stage.records, task);
        let bytes = stage.records.len() - before;
        if let Some(reason) = self.unsendable(written, bytes) {
            stage.records.truncate(before);
            return Err(ClientError::Unsendable(reason));
        }
        let id = stage.next;
        stage.next += 1;
        stage.count += 1;
        if stage.records.len() >= BATCH_BYTES || stage.count >= BATCH_TASKS {
            stage.cut();
        }
        drop(stage);
        self.waker.wake();
        Ok(id)
    }

    fn unsendable(
        &self,
        written: Result<(), rmp_serde::encode::Error>,
        bytes: usize,
    ) -> Option<String> {
        match written {
            Err(error) => Some(error.to_string()),
            Ok(()) if bytes > self.max_task_bytes => Some(format!(
                "it takes {bytes} bytes and may take {}: raise max_message_bytes at all ends",
                self.max_task_bytes
            )),
            Ok(()) => None,
        }
    }
}

impl<T: ?Sized> Submitter<T> {
    /// Why the broker takes nothing for now, if so.
    pub fn trouble(&self) -> Option<String> {
        self.shared.stage().trouble.clone()
    }

    /// Says that there are no more tasks, and waits until the broker has accepted all of them, for at
    /// most `within`. Returns their number.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; after [`ClientError::TimedOut`] it may be called again.
    pub fn finish(&mut self, within: Option<Duration>) -> Result<u64, ClientError> {
        self.shared.stage().closed = true;
        self.waker.wake();
        self.wait_until(within, |stage| stage.done)
            .map(|stage| stage.next)
    }

    /// Waits until the broker knows the job, for at most `within`: others can fetch it from then on,
    /// as long as the broker keeps it.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; after [`ClientError::TimedOut`] it may be called again.
    pub fn opened(&self, within: Option<Duration>) -> Result<Keeps, ClientError> {
        let stage = self.wait_until(within, |stage| stage.opened.is_some())?;
        Ok(stage.opened.unwrap_or_default())
    }

    fn wait_until(
        &self,
        within: Option<Duration>,
        is_there: impl Fn(&Stage) -> bool,
    ) -> Result<MutexGuard<'_, Stage>, ClientError> {
        let deadline = within.and_then(|within| Instant::now().checked_add(within));
        let mut stage = self.shared.stage();
        loop {
            if is_there(&stage) {
                return Ok(stage);
            }
            self.shared.check(&stage)?;
            stage = self.wait(stage, deadline)?;
        }
    }

    fn wait<'a>(
        &'a self,
        stage: MutexGuard<'a, Stage>,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'a, Stage>, ClientError> {
        let waited = self.shared.stage.wait(stage, deadline);
        waited.ok_or_else(|| ClientError::TimedOut(self.broker.clone()))
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }
}

impl<T: ?Sized> Drop for Submitter<T> {
    fn drop(&mut self) {
        self.shared.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread of a submitter drives.
struct Submitting {
    job: JobId,
    link: Link,
    shared: Arc<Shared>,
    closed: bool,
    /// The broker knows that it is all.
    confirmed: bool,
}

impl Submitting {
    /// Takes what the program has handed in.
    fn take(&mut self, now: Time) {
        let mut stage = self.shared.stage();
        if stage.full.is_empty() {
            // Nothing more waits, so what there is goes.
            stage.cut();
        }
        stage.full_bytes = 0;
        let batches = std::mem::take(&mut stage.full);
        let close = (stage.closed && !self.closed && stage.count == 0).then_some(stage.next);
        drop(stage);
        let job = self.job;
        for (span, records) in batches {
            let buffer = Vec::with_capacity(records.len() + HEADER_BYTES);
            let frame = Writer::with_buffer(buffer, Kind::Submitted)
                .uint(job.0)
                .span(span)
                .records(&records)
                .finish()
                .into();
            self.link
                .machine
                .handle(now, ClientInput::Submit { job, span, frame });
        }
        if let Some(tasks) = close {
            self.closed = true;
            self.link
                .machine
                .handle(now, ClientInput::Close(job, tasks));
        }
    }

    fn act(&mut self) -> Result<(), TransportError> {
        while let Some(output) = self.link.next()? {
            let mut stage = self.shared.stage();
            match output {
                ClientOutput::Refused(job, reason) => {
                    stage
                        .end
                        .get_or_insert(ClientError::Refused { job, reason });
                }
                ClientOutput::Full(_, reason) => {
                    log::warn!("the broker takes no tasks for now: {reason}");
                    stage.trouble = Some(reason);
                }
                ClientOutput::Lost => log::warn!("the broker has been silent for too long"),
                // Of a job that was handed in before, all may be done and fetched.
                ClientOutput::Closed(_) | ClientOutput::Complete(..) => self.confirmed = true,
                ClientOutput::Accepted(_) => stage.trouble = None,
                ClientOutput::Opened(_, keeps) => {
                    stage.opened = Some(keeps);
                    self.shared.stage.notify();
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells the program how far things are.
    fn report(&mut self) {
        let bytes = self.link.machine.unaccepted_bytes();
        let mut stage = self.shared.stage();
        let done = self.confirmed;
        if stage.unaccepted_bytes != bytes || stage.done != done || stage.end.is_some() {
            stage.unaccepted_bytes = bytes;
            stage.done = done;
            self.shared.stage.notify();
        }
    }
}

impl Node for Submitting {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        if let Some(error) = self.link.refusal() {
            self.shared.stage().end.get_or_insert(error);
        }
        let more = self.link.receive(now)?;
        self.take(now);
        self.act()?;
        self.report();
        let waits = !self.shared.stage().full.is_empty();
        Ok(more || waits)
    }

    fn deadline(&self) -> Option<Time> {
        self.link.deadline()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.link.interests(sources);
    }

    fn is_over(&self) -> bool {
        self.shared.stop.is_stopped() || self.shared.stage().end.is_some()
    }

    fn close(&mut self, error: Option<TransportError>) {
        let mut stage = self.shared.stage();
        if let Some(error) = error {
            stage
                .end
                .get_or_insert(ClientError::Failed(error.to_string()));
        }
        self.shared.stage.notify();
    }
}
