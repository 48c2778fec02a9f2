//! What clients, workers and the broker say to each other in our own protocol.
//!
//! Every message is one frame. Three kinds carry records and are read without copying them; all else
//! is a control message of one MessagePack value. `docs/protocol.md` describes them byte by byte.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::pipeline::{Incarnation, JobId, Span, TaskId, WorkerId};

/// The name of a batch of tasks at a worker; never used twice, not even after a restart.
pub type LeaseId = u64;

/// What a client wants of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSettings {
    /// The service: workers that registered for it get the tasks.
    pub operation: String,
    /// A name for people; may be empty.
    pub label: String,
    /// How often a failing task is tried in all; at least 1.
    pub attempts: u32,
    /// How long a task may take, in milliseconds; 0 for as long as it likes.
    pub time_limit_ms: u64,
    /// Jobs of a higher priority go first; those of lower ones still get a share.
    pub priority: u8,
    /// How long results wait for being fetched once the job is done, in seconds; 0 for ever.
    pub keep_seconds: u64,
    /// Who takes the results.
    #[serde(default)]
    pub results_to: ResultsTo,
}

/// Who takes the results of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultsTo {
    /// Whoever asks; the last one to ask gets what is not safe.
    #[default]
    Anyone,
    /// A sink, one that looks for such jobs: nobody else gets them while it is there.
    Sink,
}

/// What a broker keeps of the tasks and results that it has accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeps {
    /// All of it, over restarts.
    Disk,
    /// All of it, until the broker ends.
    #[default]
    Memory,
    /// Nothing: a job ends with the client that opened it.
    Nothing,
}

impl JobSettings {
    /// Three attempts, no time limit, priority 0, results kept for a week.
    pub fn new(operation: impl Into<String>) -> JobSettings {
        JobSettings {
            operation: operation.into(),
            label: String::new(),
            attempts: 3,
            time_limit_ms: 0,
            priority: 0,
            keep_seconds: 7 * 24 * 3600,
            results_to: ResultsTo::Anyone,
        }
    }
}

/// From a client to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientSays {
    /// "I am alive, and busy with these jobs." Answered by `Resume` for each that the broker does not
    /// connect with this client, as after a broken connection.
    Beat {
        /// Jobs whose tasks are not all accepted.
        submitting: Vec<JobId>,
        /// Jobs whose results are wanted.
        fetching: Vec<JobId>,
    },
    /// "I shall submit tasks of this job." The same again is harmless. Answered by `Opened` or
    /// `Refused`.
    Open {
        /// Which job; the client's choice, the same after a restart.
        job: JobId,
        /// What it is about.
        settings: JobSettings,
    },
    /// "That was all: the job has so many tasks." Answered by `Closed`.
    Close {
        /// Which job.
        job: JobId,
        /// The number of its tasks.
        tasks: u64,
    },
    /// "Send me the results as they come, at most so many bytes ahead of what I confirm." Whatever
    /// is not safe is sent, again if need be. Answered by results, and `Complete` at the end, or
    /// `Unknown`.
    Fetch {
        /// Which job.
        job: JobId,
        /// Bytes of results that may be on the way.
        window_bytes: u64,
        /// What is safe with the client already.
        safe: Vec<Range<TaskId>>,
    },
    /// "These results are safe with me: forget them."
    Safe {
        /// Which job.
        job: JobId,
        /// Which tasks.
        tasks: Vec<Range<TaskId>>,
    },
    /// "Do no more of this job, and forget it."
    Cancel {
        /// Which job.
        job: JobId,
    },
    /// "I still wait for the reply to this request." Answered by `Unknown` when there is no such
    /// request (any more): ask again.
    Await {
        /// Which request.
        job: JobId,
    },
    /// "Which jobs are there?" Answered by `Jobs`.
    Jobs {},
    /// "How does this job stand?" Answered by `Job` or `Unknown`.
    Job {
        /// Which job.
        job: JobId,
    },
    /// "How do you fare?" Answered by `Status`.
    Status {},
}

/// From the broker to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BrokerSays {
    /// "I am alive."
    Beat {
        /// Which start of the broker speaks.
        incarnation: Incarnation,
    },
    /// "Open the job again, and say again that you fetch it."
    Resume {
        /// Which job.
        job: JobId,
    },
    /// "I know the job, and have these tasks of it."
    Opened {
        /// Which job.
        job: JobId,
        /// Which start of the broker speaks.
        incarnation: Incarnation,
        /// How long it keeps what it accepts.
        keeps: Keeps,
        /// Tasks that need not be submitted any more.
        accepted: Vec<Range<TaskId>>,
    },
    /// "I have these tasks, for good."
    Accepted {
        /// Which job.
        job: JobId,
        /// Which tasks.
        tasks: Vec<Range<TaskId>>,
    },
    /// "I know, for good, how many tasks the job has." The answer to `Close`.
    Closed {
        /// Which job.
        job: JobId,
        /// The number of its tasks.
        tasks: u64,
    },
    /// "There is no room for these tasks now: submit them again when I say `Room`."
    Full {
        /// Which job.
        job: JobId,
        /// The first of the tasks that were not taken.
        first: TaskId,
        /// One sentence.
        reason: String,
    },
    /// "There is room again."
    Room {
        /// Which job.
        job: JobId,
    },
    /// "I do not take this job."
    Refused {
        /// Which job.
        job: JobId,
        /// One sentence.
        reason: String,
    },
    /// "All of the job is done, and safe with you."
    Complete {
        /// Which job.
        job: JobId,
        /// How it ended.
        counts: JobCounts,
    },
    /// "I have no such job."
    Unknown {
        /// Which job.
        job: JobId,
    },
    /// "The job is cancelled."
    Cancelled {
        /// Which job.
        job: JobId,
    },
    /// The jobs, newest first.
    Jobs {
        /// What is known of each.
        jobs: Vec<JobView>,
    },
    /// A job.
    Job {
        /// What is known of it.
        job: JobView,
        /// The tasks whose results were fetched, while the broker has the job.
        #[serde(default)]
        fetched: Vec<Range<TaskId>>,
    },
    /// How the broker fares.
    Status {
        /// What it does.
        status: StatusView,
    },
}

impl BrokerSays {
    /// Why the broker wants nothing to do with this peer: it refuses job 0, which nobody has.
    pub(crate) fn refuses_all(&self) -> Option<&str> {
        match self {
            BrokerSays::Refused {
                job: JobId(0),
                reason,
            } => Some(reason),
            _ => None,
        }
    }
}

/// The tasks of a job by what has become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// Taken in.
    pub accepted: u64,
    /// Waiting for a worker.
    pub queued: u64,
    /// With a worker.
    pub leased: u64,
    /// Done, with a result or a failure.
    pub done: u64,
    /// Those of them that failed for good.
    pub failed: u64,
    /// Attempts after the first.
    pub retried: u64,
    /// Those whose result was fetched.
    pub fetched: u64,
}

/// A job as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Which.
    pub job: JobId,
    /// What it is about.
    pub settings: JobSettings,
    /// The number of its tasks, once the client has said it.
    pub tasks: Option<u64>,
    /// What has become of them.
    pub counts: JobCounts,
    /// Seconds since it was opened, or since the broker was started again.
    pub age_seconds: u64,
    /// Whether a client takes its results as they come.
    pub fetching: bool,
    /// Whether the broker has let go of it: it was fetched, cancelled, or kept for too long.
    pub over: bool,
}

/// The broker as people see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Seconds since the broker started.
    pub up_seconds: u64,
    /// Workers that are connected.
    pub workers: Vec<WorkerView>,
    /// Queues by operation.
    pub services: BTreeMap<String, ServiceView>,
    /// Jobs that are not forgotten.
    pub jobs: u64,
    /// Clients that spoke lately.
    pub clients: u64,
    /// Tasks done since the start.
    pub done: u64,
    /// Those of them that failed for good.
    pub failed: u64,
    /// Attempts after the first since the start.
    pub retried: u64,
    /// Tasks done in a second, on the average of the last five seconds.
    pub done_per_second: u64,
    /// Messages that were dropped because they were malformed.
    pub malformed: u64,
    /// Bytes of tasks and results that are kept.
    pub kept_bytes: u64,
    /// Why no tasks are taken in, if so.
    pub trouble: Option<String>,
    /// How long tasks and results are kept.
    pub keeps: Keeps,
}

/// A worker as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its name, or a number where it has given none.
    pub worker: String,
    /// The protocol that it speaks.
    pub protocol: String,
    /// What it registered for.
    pub operations: Vec<String>,
    /// Tasks that it runs at once.
    pub slots: u32,
    /// Tasks that it holds.
    pub leased: u64,
    /// Tasks that it has done.
    pub done: u64,
    /// Milliseconds since it was heard of.
    pub seen_ms: u64,
    /// That is longer than usual: it gets nothing while others have room.
    pub suspect: bool,
}

/// A service as people see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Tasks that wait.
    pub queued: u64,
    /// Tasks with a worker.
    pub leased: u64,
    /// Tasks done since the start.
    pub done: u64,
    /// Workers that registered for it.
    pub workers: u64,
    /// Tasks done in a second, on the average of the last five seconds.
    pub done_per_second: u64,
}

/// From a worker to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerTells {
    /// "I am here and run `slots` tasks at once." Answered by leases, or by `Drop` for what it holds
    /// and nobody wants any more.
    Ready {
        /// Which start of the worker speaks; the same over broken connections.
        worker: WorkerId,
        /// Tasks it runs at once.
        slots: u32,
        /// What it can do.
        operations: Vec<String>,
        /// What it holds from before, after a broken connection or a restart of the broker.
        held: Vec<Held>,
        /// How many tasks it takes under one lease.
        #[serde(default)]
        takes: Takes,
        /// What people call it, if they do; shown in the place of `worker`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// "I am alive, have seen leases up to `seen`, and hold exactly these."
    Beat {
        /// The newest lease that has arrived.
        #[serde(with = "crate::hex")]
        seen: LeaseId,
        /// What it holds and has not reported as done.
        #[serde(with = "crate::hex::list")]
        held: Vec<LeaseId>,
    },
    /// "This task failed; it may be tried again."
    Failed {
        /// Of which lease.
        #[serde(with = "crate::hex")]
        lease: LeaseId,
        /// Which task.
        task: TaskId,
        /// One sentence.
        reason: String,
    },
    /// "I have not begun these: give them to others." The answer to `Recall`, or before leaving.
    Returned {
        /// Which.
        #[serde(with = "crate::hex::list")]
        leases: Vec<LeaseId>,
    },
    /// "I have not begun the tasks of this lease from this one on, and will not: give them to others."
    Cut {
        /// Which lease.
        #[serde(with = "crate::hex")]
        lease: LeaseId,
        /// The first of these tasks.
        from: TaskId,
    },
    /// "I am leaving: send no more. I finish what I have begun."
    Leaving {},
    /// "I am gone."
    Gone {},
}

/// How many tasks a worker takes under one lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Takes {
    /// As many as keep a slot busy for a while, and one lease ahead for each slot.
    #[default]
    Batches,
    /// One task, and nothing that would wait while its slots are busy.
    One,
}

/// A lease as a worker holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which lease.
    #[serde(with = "crate::hex")]
    pub lease: LeaseId,
    /// Whose tasks.
    pub job: JobId,
    /// Which tasks.
    pub span: Span,
}

/// From the broker to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerTells {
    /// "I am alive."
    Beat {
        /// Which start of the broker speaks.
        incarnation: Incarnation,
    },
    /// "I do not know you: say that you are ready."
    WhoAreYou {},
    /// "Give back what of this you have not begun: somebody else is idle."
    Recall {
        /// Which leases.
        #[serde(with = "crate::hex::list")]
        leases: Vec<LeaseId>,
    },
    /// "Forget these: nobody wants the results."
    Drop {
        /// Which leases.
        #[serde(with = "crate::hex::list")]
        leases: Vec<LeaseId>,
    },
}
