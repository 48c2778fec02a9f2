//! The machines of the pipeline: ventilator → workers → sink, and the sink's word back.
//!
//! ```text
//!              tasks (push, reply or publish)           results (push, request or publish)
//!  Ventilator ───────────────────────────────▶ Worker ───────────────────────────────▶ Sink
//!      ▲  ▲                                      │                                      │
//!      │  └── hello, held, done, failed, beat ───┘                                      │
//!      └─────────────── opened, confirmed (what is safe for ever), closed ──────────────┘
//! ```
//!
//! Delivery is at least once, and the sink makes it exactly once: the ventilator keeps every task
//! until the sink confirms it, and sends it again when its worker dies, gives it back, or stays
//! silent; the sink drops what it has had. Tasks are numbered from 0 in the order of submission, so
//! a ventilator that starts again and submits the same tasks under the same job goes on where the
//! first one died.

mod lag;
mod messages;
mod ranges;
mod sink;
mod ventilator;
mod worker;

use std::fmt;
use std::time::Duration;

pub use messages::{SinkSays, TaskFailure, VentilatorSays, VentilatorTells, WorkerSays};
pub use ranges::RangeSet;
pub use sink::{Failures, PeerId, SinkInput, SinkMachine, SinkOutput};
pub use ventilator::{
    Dispatch, Progress, Tasks, VentilatorInput, VentilatorMachine, VentilatorOutput,
};
pub use worker::{Batch, Results, WorkerInput, WorkerMachine, WorkerOutput};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(#[serde(with = "crate::hex")] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

id! {
    /// A job: all tasks that one ventilator submits. The same work keeps the same id over restarts.
    JobId
}
id! {
    /// One start of a program; a restart gets another.
    Incarnation
}
id! {
    /// One start of a worker.
    WorkerId
}

/// The number of a task within its job, counted from 0 in the order of submission.
pub type TaskId = u64;

/// Consecutive tasks that travel together.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Span {
    /// The first task.
    pub first: TaskId,
    /// How many tasks; at least one.
    pub count: u32,
}

impl Span {
    /// One past the last task.
    pub fn end(self) -> TaskId {
        self.first.saturating_add(u64::from(self.count))
    }

    /// The tasks as a range.
    pub fn range(self) -> std::ops::Range<TaskId> {
        self.first..self.end()
    }

    /// Whether the two have a task in common.
    pub fn overlaps(self, other: Span) -> bool {
        self.first < other.end() && other.first < self.end()
    }
}

/// The longest interval of heartbeats that is granted to a peer which merely claims it; with a longer
/// one of our own, we are as patient as that.
const LONGEST_CLAIM: Duration = Duration::from_secs(60);

/// Bounds and times of a pipeline.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Interval of heartbeats between ventilator, workers and sink. Shorter finds the dead sooner
    /// and costs more small messages. Of two that differ, the longer counts, up to a minute.
    pub heartbeat: Duration,
    /// Heartbeats that a peer may miss before its tasks go to others; at least 2.
    pub liveness: u32,
    /// How often a failing task is tried in all; at least 1.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles with every further one.
    pub retry_delay: Duration,
    /// Tasks that may be unconfirmed at once; submitting blocks beyond it.
    pub window_tasks: usize,
    /// Bytes that unconfirmed tasks may take; one task larger than that travels alone.
    pub window_bytes: usize,
    /// Most tasks in one frame.
    pub batch_tasks: usize,
    /// Most bytes in one frame, unless a single task is larger.
    pub batch_bytes: usize,
    /// How long a worker should be busy with one frame of tasks: long tasks travel alone, tiny ones
    /// by the thousand.
    pub batch_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            heartbeat: Duration::from_millis(500),
            liveness: 4,
            attempts: 3,
            retry_delay: Duration::from_millis(100),
            window_tasks: 1 << 17,
            window_bytes: 32 << 20,
            batch_tasks: 4096,
            batch_bytes: 256 << 10,
            batch_time: Duration::from_millis(5),
        }
    }
}

impl Limits {
    /// How long a silent peer is believed alive.
    pub fn patience(&self) -> Duration {
        self.heartbeat.saturating_mul(self.liveness)
    }

    /// The same for a peer that says that it beats at this interval.
    pub fn patience_with(&self, heartbeat: Duration) -> Duration {
        let slower = self.heartbeat.max(heartbeat.min(LONGEST_CLAIM));
        slower.saturating_mul(self.liveness)
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("window_tasks", self.window_tasks),
            ("window_bytes", self.window_bytes),
            ("batch_tasks", self.batch_tasks),
            ("batch_bytes", self.batch_bytes),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0: give at least 1"));
        }
        if self.heartbeat < Duration::from_millis(10) {
            return Err("heartbeat is shorter than 10 ms: give at least that".into());
        }
        if self.liveness < 2 {
            return Err("liveness is below 2: one late heartbeat would count as a death".into());
        }
        if self.attempts == 0 {
            return Err("attempts is 0: no task would ever run".into());
        }
        Ok(())
    }
}
