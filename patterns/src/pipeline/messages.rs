//! What ventilator, workers and sink say to each other beside tasks and results.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Incarnation, JobId, Span, TaskId, WorkerId};

/// Why a task failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure {
    /// One sentence.
    pub reason: String,
    /// What the handler wants the sink to know about the task; opaque to the pipeline.
    #[serde(with = "bytes")]
    pub context: Vec<u8>,
}

/// From a worker to the ventilator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerSays {
    /// "I am here and run `slots` tasks at once."
    Hello {
        /// Who speaks.
        worker: WorkerId,
        /// Tasks it runs at once.
        slots: u32,
        /// How often it gives a sign of life.
        heartbeat: Duration,
    },
    /// "Send me `batches` more"; only where work is asked for.
    Ask {
        /// Who speaks.
        worker: WorkerId,
        /// How many batches it has room for.
        batches: u32,
    },
    /// "These tasks have arrived here."
    Held {
        /// Who speaks.
        worker: WorkerId,
        /// Whose tasks.
        job: JobId,
        /// Which.
        span: Span,
    },
    /// "These tasks are worked off and their results are on the way to the sink."
    Done {
        /// Who speaks.
        worker: WorkerId,
        /// Whose tasks.
        job: JobId,
        /// Which.
        span: Span,
        /// Time spent on them, in microseconds.
        busy_us: u64,
    },
    /// "This task failed; it may be tried again."
    Failed {
        /// Who speaks.
        worker: WorkerId,
        /// Whose task.
        job: JobId,
        /// Which.
        task: TaskId,
        /// The attempt that failed, counted from 1.
        attempt: u32,
        /// One sentence.
        reason: String,
    },
    /// "I am alive and hold exactly these."
    Beat {
        /// Who speaks.
        worker: WorkerId,
        /// Whose tasks.
        job: JobId,
        /// What it holds and has not reported as done.
        held: Vec<Span>,
    },
    /// "I am leaving: give these to others; I finish what I have begun."
    Bye {
        /// Who speaks.
        worker: WorkerId,
        /// Whose tasks.
        job: JobId,
        /// What it has not begun.
        unbegun: Vec<Span>,
    },
}

impl WorkerSays {
    /// Who speaks.
    pub fn worker(&self) -> WorkerId {
        match *self {
            WorkerSays::Hello { worker, .. }
            | WorkerSays::Ask { worker, .. }
            | WorkerSays::Held { worker, .. }
            | WorkerSays::Done { worker, .. }
            | WorkerSays::Failed { worker, .. }
            | WorkerSays::Beat { worker, .. }
            | WorkerSays::Bye { worker, .. } => worker,
        }
    }
}

/// From the ventilator to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VentilatorSays {
    /// "I know you, and I am alive."
    Beat {
        /// The job at hand.
        job: JobId,
        /// Which start of the ventilator speaks.
        incarnation: Incarnation,
        /// How often it gives a sign of life.
        heartbeat: Duration,
    },
    /// "I do not know you: say hello."
    WhoAreYou,
    /// "The job is finished and I am leaving."
    Finished {
        /// Which job.
        job: JobId,
    },
}

/// From the ventilator to the sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VentilatorTells {
    /// "I shall send this job; what of it is safe with you already?" Also asked again now and
    /// then, because what the sink said in the meantime may have been lost.
    Open {
        /// Which job.
        job: JobId,
        /// Which start of the ventilator speaks.
        incarnation: Incarnation,
        /// What the sink, or one before it, has confirmed to this ventilator.
        safe: Vec<Range<TaskId>>,
        /// How often it gives a sign of life.
        heartbeat: Duration,
    },
    /// "I am alive."
    Beat {
        /// The job at hand.
        job: JobId,
        /// Which start of the ventilator speaks.
        incarnation: Incarnation,
    },
    /// "That was all: the job has `tasks` tasks."
    Close {
        /// Which job.
        job: JobId,
        /// Which start of the ventilator speaks.
        incarnation: Incarnation,
        /// The number of tasks in all.
        tasks: u64,
    },
}

/// From the sink to the ventilator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkSays {
    /// "I am ready for the job; these tasks need not be sent."
    Opened {
        /// Which job.
        job: JobId,
        /// Which start of the sink speaks.
        incarnation: Incarnation,
        /// How often it gives a sign of life.
        heartbeat: Duration,
        /// Tasks whose results are safe.
        safe: Vec<Range<TaskId>>,
        /// Tasks whose results are here, though not safe yet.
        received: Vec<Range<TaskId>>,
        /// Safe tasks that failed for good, with the reason; those that the ventilator did not
        /// name as safe itself.
        failed: Vec<(TaskId, String)>,
    },
    /// "These results are here, though not safe yet: no need to send the tasks again."
    Received {
        /// Which job.
        job: JobId,
        /// Tasks whose results have arrived.
        tasks: Vec<Range<TaskId>>,
    },
    /// "I had to let these results go for lack of memory: send the tasks again, later."
    Deferred {
        /// Which job.
        job: JobId,
        /// Tasks whose results were dropped.
        tasks: Vec<Range<TaskId>>,
    },
    /// "These results are safe: forget the tasks."
    Confirmed {
        /// Which job.
        job: JobId,
        /// Newly safe tasks.
        safe: Vec<Range<TaskId>>,
        /// Those among them that failed for good, with the reason.
        failed: Vec<(TaskId, String)>,
    },
    /// "I am alive; everything below `safe_below` is safe."
    Beat {
        /// Which job.
        job: JobId,
        /// Which start of the sink speaks.
        incarnation: Incarnation,
        /// The first task that is not safe.
        safe_below: TaskId,
        /// Results received again and dropped.
        duplicates: u64,
        /// Whether it has stopped reading results because its program does not keep up.
        busy: bool,
    },
    /// "The job is complete and put away."
    Closed {
        /// Which job.
        job: JobId,
        /// Results received again and dropped.
        duplicates: u64,
        /// Bytes of results, as the application counts them.
        bytes: u64,
    },
    /// "I cannot take the job."
    Refused {
        /// Which job.
        job: JobId,
        /// One sentence.
        reason: String,
    },
}

/// Bytes as MessagePack `bin`, not as an array of numbers.
mod bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
