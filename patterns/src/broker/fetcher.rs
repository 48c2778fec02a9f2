//! Taking the results of jobs.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::driver::{Node, spawn};
use crate::machine::{Machine, Time};
use crate::pipeline::{JobId, Span, TaskFailure, TaskId};
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::{Source, TransportError};
use crate::trio::read_outcomes;
use crate::wait::{Interest, Sleeper, Waker};
use crate::watched::Watched;

use super::client::{ClientInput, ClientOutput};
use super::link::{ClientConfig, ClientError, Link};
use super::piece::Slice;
use super::protocol::JobCounts;

/// Confirmations that are gathered before they are passed on, if the program is busy.
const MAX_GATHERED: u64 = 16_384;

/// What a fetcher tells the program.
#[derive(Debug)]
pub enum FetchEvent<R> {
    /// A result, or the reason why there is none; each task comes once. Make it safe, then call
    /// [`Fetcher::confirm`].
    Result {
        /// The job.
        job: JobId,
        /// The task.
        task: TaskId,
        /// What came of it.
        outcome: Result<R, TaskFailure>,
    },
    /// All results of the job are safe.
    Complete {
        /// The job.
        job: JobId,
        /// How it ended.
        counts: JobCounts,
    },
    /// There will be no more of the job, for this reason.
    Refused {
        /// The job.
        job: JobId,
        /// One sentence.
        reason: String,
    },
}

/// Takes the results of jobs, each once.
#[derive(Debug)]
pub struct Fetcher<R> {
    shared: Arc<Shared>,
    waker: Waker,
    /// The results of the frame that is being read.
    current: std::vec::IntoIter<FetchEvent<R>>,
    gathered: Vec<(JobId, Range<TaskId>)>,
    gathered_tasks: u64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queues: Arc<Watched<Queues>>,
    stop: StopHandle,
}

#[derive(Debug, Default)]
struct Queues {
    notices: VecDeque<Notice>,
    orders: Vec<ClientInput>,
    end: Option<ClientError>,
}

#[derive(Debug)]
enum Notice {
    Delivery(JobId, Span, Vec<Range<TaskId>>, Slice),
    Complete(JobId, JobCounts),
    Refused(JobId, String),
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock()
    }
}

impl<R: DeserializeOwned> Fetcher<R> {
    /// Connects to the broker, now or later.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used.
    pub fn connect(config: ClientConfig) -> Result<Fetcher<R>, OpenError> {
        let (sleeper, waker) = Sleeper::new()?;
        let shared = Arc::new(Shared {
            queues: Arc::default(),
            stop: StopHandle::new(waker.clone()),
        });
        shared.queues.notify_when_stopped(&shared.stop);
        let node = Fetching {
            link: Link::open(&config)?,
            shared: shared.clone(),
            linger: config.socket.linger,
            leave_by: None,
            over: false,
        };
        let thread = Some(spawn("fetcher", node, sleeper)?);
        Ok(Fetcher {
            shared,
            waker,
            current: Vec::new().into_iter(),
            gathered: Vec::new(),
            gathered_tasks: 0,
            thread,
        })
    }

    /// The next event, or `None` when there is none for `patience`; zero does not wait at all, so
    /// that `None` then says "nothing more for now: a good moment to make results safe".
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn recv_within(
        &mut self,
        patience: Duration,
    ) -> Result<Option<FetchEvent<R>>, ClientError> {
        self.next_until(Instant::now().checked_add(patience))
    }

    /// The next event; blocks until there is one.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn recv(&mut self) -> Result<FetchEvent<R>, ClientError> {
        loop {
            if let Some(event) = self.next_until(None)? {
                return Ok(event);
            }
        }
    }

    fn next_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<FetchEvent<R>>, ClientError> {
        loop {
            if let Some(event) = self.current.next() {
                return Ok(Some(event));
            }
            match self.next_notice(deadline)? {
                None => return Ok(None),
                Some(Notice::Delivery(job, span, fresh, records)) => {
                    self.current = events(job, span, &fresh, &records).into_iter();
                }
                Some(Notice::Complete(job, counts)) => {
                    return Ok(Some(FetchEvent::Complete { job, counts }));
                }
                Some(Notice::Refused(job, reason)) => {
                    return Ok(Some(FetchEvent::Refused { job, reason }));
                }
            }
        }
    }

    fn next_notice(&mut self, deadline: Option<Instant>) -> Result<Option<Notice>, ClientError> {
        if self.shared.queues().notices.is_empty() {
            self.pass_on();
        }
        let mut queues = self.shared.queues();
        loop {
            if let Some(notice) = queues.notices.pop_front() {
                return Ok(Some(notice));
            }
            if self.shared.stop.is_stopped() {
                return Err(ClientError::Stopped);
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

impl<R> Fetcher<R> {
    /// Asks for the results of a job; `safe` are those that a former start made safe.
    pub fn fetch(&mut self, job: JobId, safe: Vec<Range<TaskId>>) {
        self.order(ClientInput::Open {
            job,
            settings: None,
            fetch: true,
            safe,
        });
    }

    /// Lets go of a job: its results stay at the broker.
    pub fn leave(&mut self, job: JobId) {
        self.pass_on();
        self.order(ClientInput::Leave(job));
    }

    /// Says that the results of these tasks are safe for ever: the broker forgets them.
    ///
    /// Confirmations are gathered and passed on when no result waits, or by
    /// [`pass_on`](Fetcher::pass_on).
    pub fn confirm(&mut self, job: JobId, tasks: Range<TaskId>) {
        self.gathered_tasks += tasks.end.saturating_sub(tasks.start);
        match self.gathered.last_mut() {
            Some((last_job, last)) if *last_job == job && last.end == tasks.start => {
                last.end = tasks.end;
            }
            _ => self.gathered.push((job, tasks)),
        }
        if self.gathered_tasks >= MAX_GATHERED {
            self.pass_on();
        }
    }

    /// Passes on all that was confirmed.
    pub fn pass_on(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.gathered_tasks = 0;
        let mut queues = self.shared.queues();
        for (job, range) in self.gathered.drain(..) {
            match queues.orders.last_mut() {
                Some(ClientInput::Safe(last, tasks)) if *last == job => tasks.push(range),
                _ => queues.orders.push(ClientInput::Safe(job, vec![range])),
            }
        }
        drop(queues);
        self.waker.wake();
    }

    fn order(&mut self, order: ClientInput) {
        self.shared.queues().orders.push(order);
        self.waker.wake();
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }
}

impl<R> Drop for Fetcher<R> {
    fn drop(&mut self) {
        self.pass_on();
        self.shared.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn events<R: DeserializeOwned>(
    job: JobId,
    span: Span,
    fresh: &[Range<TaskId>],
    records: &Slice,
) -> Vec<FetchEvent<R>> {
    let outcomes = read_outcomes(records.bytes(), span, fresh).into_iter();
    outcomes
        .map(|(task, outcome)| FetchEvent::Result { job, task, outcome })
        .collect()
}

/// What the thread of a fetcher drives.
struct Fetching {
    link: Link,
    shared: Arc<Shared>,
    /// How long one that is stopped tries to say what is safe.
    linger: Duration,
    leave_by: Option<Time>,
    over: bool,
}

impl Fetching {
    fn obey(&mut self, now: Time) {
        let orders = std::mem::take(&mut self.shared.queues().orders);
        for order in orders {
            self.link.machine.handle(now, order);
        }
    }

    fn act(&mut self) -> Result<(), TransportError> {
        while let Some(output) = self.link.next()? {
            let notice = match output {
                ClientOutput::Deliver {
                    job,
                    span,
                    fresh,
                    records,
                } => Notice::Delivery(job, span, fresh, records),
                ClientOutput::Complete(job, counts) => Notice::Complete(job, counts),
                ClientOutput::Refused(job, reason) => Notice::Refused(job, reason),
                ClientOutput::Lost => {
                    log::warn!("the broker has been silent for too long");
                    continue;
                }
                _ => continue,
            };
            self.shared.queues().notices.push_back(notice);
            self.shared.queues.notify();
        }
        Ok(())
    }
}

impl Node for Fetching {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        if let Some(error) = self.link.refusal() {
            self.shared.queues().end.get_or_insert(error);
            self.over = true;
        }
        let more = self.link.receive(now)?;
        self.obey(now);
        self.act()?;
        if self.shared.stop.is_stopped() {
            let leave_by = *self.leave_by.get_or_insert(now + self.linger);
            self.over |= self.link.is_flushed() || now >= leave_by;
        }
        Ok(more)
    }

    fn deadline(&self) -> Option<Time> {
        self.link.deadline().into_iter().chain(self.leave_by).min()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.link.interests(sources);
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn close(&mut self, error: Option<TransportError>) {
        let mut queues = self.shared.queues();
        if let Some(error) = error {
            queues
                .end
                .get_or_insert(ClientError::Failed(error.to_string()));
        }
        self.shared.queues.notify();
    }
}
