//! The tasks of the simulated jobs: how long each takes, how often it fails, and what comes of it.

use std::time::Duration;

use mutirao::broker::Slice;
use mutirao::pipeline::{JobId, TaskFailure, TaskId};
use mutirao::sim::Rng;
use serde::Deserialize;

/// What every attempt of a task that fails says.
pub(super) const REASON: &str = "it is not to be";

/// How long tasks take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Up to 2 ms.
    Short,
    /// One in ten takes up to 2 s.
    Mixed,
    /// 1 to 20 s.
    Long,
    /// All the same.
    Exactly(Duration),
    /// Those of job 1, and those of all others.
    OfJobs(Duration, Duration),
}

#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) seed: u64,
    pub(super) pace: Pace,
    /// The share of tasks that fail at least once.
    pub(super) failing: f64,
    /// The task of job 1 that kills every worker that tries it.
    pub(super) poison: Option<TaskId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Result(u64),
    Failed(String),
}

impl Work {
    fn rng(&self, job: JobId, task: TaskId, salt: u64) -> Rng {
        Rng::new(self.seed ^ (job.0 << 40) ^ (task << 8) ^ salt)
    }

    pub(super) fn duration(&self, job: JobId, task: TaskId) -> Duration {
        let mut rng = self.rng(job, task, 1);
        let us = |most_us: u64, rng: &mut Rng| Duration::from_micros(1 + rng.below(most_us));
        match self.pace {
            Pace::Short => us(2000, &mut rng),
            Pace::Mixed if rng.chance(0.1) => us(2_000_000, &mut rng),
            Pace::Mixed => us(2000, &mut rng),
            Pace::Long => Duration::from_millis(1000 + rng.below(19_000)),
            Pace::Exactly(time) => time,
            Pace::OfJobs(time, _) if job == JobId(1) => time,
            Pace::OfJobs(_, time) => time,
        }
    }

    /// How many attempts of the task fail.
    pub(super) fn failures(&self, job: JobId, task: TaskId) -> u32 {
        let mut rng = self.rng(job, task, 2);
        match rng.chance(self.failing) {
            true => *rng.pick(&[1, 1, 2, u32::MAX]).unwrap(),
            false => 0,
        }
    }

    pub(super) fn kills(&self, job: JobId, task: TaskId) -> bool {
        job == JobId(1) && self.poison == Some(task)
    }

    /// What must come of a task whose workers survive.
    pub(super) fn outcome(&self, job: JobId, task: TaskId, attempts: u32) -> Outcome {
        match self.failures(job, task) < attempts {
            true => Outcome::Result(answer(content(job, task))),
            false => Outcome::Failed(REASON.into()),
        }
    }
}

pub(super) fn content(job: JobId, task: TaskId) -> u64 {
    job.0 * 1_000_000 + task
}

pub(super) fn answer(content: u64) -> u64 {
    !content
}

/// Tasks as records.
pub(super) fn encode_tasks(job: JobId, tasks: std::ops::Range<TaskId>) -> Slice {
    let mut bytes = Vec::new();
    for task in tasks {
        rmp::encode::write_uint(&mut bytes, content(job, task)).expect("memory");
    }
    Slice::from(bytes.into(), 0)
}

pub(super) fn decode_tasks(records: &Slice) -> Vec<u64> {
    let (mut bytes, mut tasks) = (records.bytes(), Vec::new());
    while !bytes.is_empty() {
        tasks.push(rmp::decode::read_int(&mut bytes).expect("a number"));
    }
    tasks
}

pub(super) fn encode_outcome(outcome: &Outcome, bytes: &mut Vec<u8>) {
    rmp::encode::write_bool(bytes, matches!(outcome, Outcome::Result(_))).expect("memory");
    match outcome {
        Outcome::Result(value) => rmp_serde::encode::write(bytes, value),
        Outcome::Failed(reason) => rmp_serde::encode::write(
            bytes,
            &TaskFailure {
                reason: reason.clone(),
                context: Vec::new(),
            },
        ),
    }
    .expect("memory");
}

pub(super) fn decode_outcomes(records: &Slice) -> Vec<Outcome> {
    let (mut bytes, mut outcomes) = (records.bytes(), Vec::new());
    while !bytes.is_empty() {
        let done = rmp::decode::read_bool(&mut bytes).expect("done or failed");
        let mut values = rmp_serde::Deserializer::new(&mut bytes);
        outcomes.push(match done {
            true => Outcome::Result(u64::deserialize(&mut values).expect("a result")),
            false => Outcome::Failed(TaskFailure::deserialize(&mut values).expect("why").reason),
        });
    }
    outcomes
}
