//! Where the program and the ventilator's driver meet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pipeline::{Progress, TaskId};
use crate::stop::StopHandle;
use crate::wait::Waker;
use crate::wire::Records;

use super::{FinishError, Summary};
use crate::watched::Watched;

#[derive(Debug)]
pub(super) struct Shared {
    /// Changes when there is room, and at the end.
    pub(super) stage: Arc<Watched<Stage>>,
    pub(super) waker: Waker,
    pub(super) stop: StopHandle,
}

#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) records: Records,
    /// The program may hand in no more tasks.
    pub(super) closed: bool,
    /// The driver has yet to take back what was not sent.
    pub(super) cut: bool,
    /// Whatever the program says, the job is not at its end: some of its tasks were taken back.
    pub(super) stays_open: bool,
    /// The driver has yet to learn that there are no more tasks.
    pub(super) no_more: bool,
    pub(super) progress: Progress,
    pub(super) failures: Vec<(TaskId, String)>,
    pub(super) sink_is_open: bool,
    pub(super) end: Option<Result<(), FinishError>>,
}

impl Shared {
    pub(super) fn new(waker: &Waker) -> Shared {
        let shared = Shared {
            stage: Arc::default(),
            waker: waker.clone(),
            stop: StopHandle::new(waker.clone()),
        };
        shared.stage.notify_when_stopped(&shared.stop);
        shared
    }

    /// Waits until the job has ended or `done` holds.
    pub(super) fn wait_until(
        &self,
        patience: Option<Duration>,
        done: impl Fn(&Stage) -> bool,
    ) -> Result<Summary, FinishError> {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut stage = self.stage.lock();
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
                .stage
                .wait(stage, deadline)
                .ok_or(FinishError::Unfinished { safe, submitted })?;
        }
    }

    pub(super) fn ended(&self, stage: &Stage) -> Result<(), FinishError> {
        match &stage.end {
            Some(Err(error)) => Err(error.clone()),
            None if self.stop.is_stopped() => Err(FinishError::Stopped),
            _ => Ok(()),
        }
    }
}
