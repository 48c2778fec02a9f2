//! The slots: threads that run a worker's tasks.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pipeline::{JobId, Results, Span, TaskId, WorkerId};
use crate::transport::Frame;
use crate::wait::Waker;

use super::bounds::Bounds;
use super::crew::Lead;
use super::progress::Progress;
use super::run::work_off;
use super::{Failure, TaskInfo};

/// On whose behalf a slot works, which its results name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A worker of a trio, for the sink.
    Worker(WorkerId),
    /// A lease of a broker.
    Lease(u64),
}

/// Tasks for a slot.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) author: Author,
    pub(crate) job: JobId,
    pub(crate) span: Span,
    pub(crate) attempt: u32,
    pub(crate) attempts: u32,
    /// What to do, where the tasks themselves do not say it.
    pub(crate) operation: Option<Arc<str>>,
    /// For tasks that have a time limit.
    pub(super) progress: Option<Arc<Progress>>,
    /// How far it has been begun, and shall be.
    pub(super) bounds: Arc<Bounds>,
    pub(crate) body: Body,
}

/// What has come of tasks.
#[derive(Debug)]
pub(crate) struct Worked {
    pub(crate) author: Author,
    pub(crate) job: JobId,
    pub(crate) span: Span,
    pub(crate) attempt: u32,
    pub(crate) operation: Option<Arc<str>>,
    /// Tasks from the first on that were gone through; the others were not begun.
    pub(crate) done: u32,
    pub(crate) busy: Duration,
    pub(crate) results: Vec<Results>,
    /// Tasks to be tried again, with the reason.
    pub(crate) failed: Vec<(TaskId, String)>,
}

/// A frame of tasks, from the first record on.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) frame: Frame,
    pub(crate) start: usize,
}

/// The queue between the driver and its slots.
#[derive(Clone, Debug)]
pub(crate) struct Slots(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    queues: Mutex<Queues>,
    /// There is something to do for one that waits, or there will never be.
    pub(super) more: Condvar,
    waker: Waker,
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Never more than there are slots: the machine hands out no more.
    pub(super) run: VecDeque<Work>,
    pub(super) worked: Vec<Worked>,
    pub(super) closed: bool,
    /// Which of the threads drives the machine, where none does nothing else.
    pub(super) lead: Lead,
}

impl Slots {
    pub(crate) fn new(waker: Waker) -> Slots {
        Slots(Arc::new(Shared {
            queues: Mutex::default(),
            more: Condvar::new(),
            waker,
        }))
    }

    pub(super) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0
            .queues
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Gives a free slot something to do.
    pub(crate) fn run(&self, work: Work) {
        self.queues().run.push_back(work);
        self.0.more.notify_one();
    }

    /// What the slots have worked off since the last call.
    pub(crate) fn worked(&self) -> Vec<Worked> {
        std::mem::take(&mut self.queues().worked)
    }

    /// Lets the slots end when their task is done.
    pub(crate) fn close(&self) {
        self.queues().closed = true;
        self.0.more.notify_all();
    }

    /// A slot's life; no result may take more than `max_result_bytes`.
    pub(crate) fn serve<T, R>(
        &self,
        max_result_bytes: usize,
        handler: &dyn Fn(T, &TaskInfo) -> Result<R, Failure>,
    ) where
        T: DeserializeOwned,
        R: Serialize,
    {
        while let Some(work) = self.next() {
            self.hand_in(work_off(&work, max_result_bytes, handler));
        }
    }

    /// Takes what came of a batch, and tells the driver.
    pub(super) fn hand_in(&self, worked: Worked) {
        self.queues().worked.push(worked);
        self.0.waker.wake();
    }

    fn next(&self) -> Option<Work> {
        let mut queues = self.queues();
        loop {
            if let Some(work) = queues.run.pop_front() {
                return Some(work);
            }
            if queues.closed {
                return None;
            }
            queues = self
                .0
                .more
                .wait(queues)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}
