//! What the tasks of a simulated job are, how long they take and which of them fail.

use std::time::Duration;

use mutirao::pipeline::TaskId;
use mutirao::sim::Rng;

/// How long tasks take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// Microseconds.
    Short,
    /// Seconds.
    Long,
    /// Mostly microseconds, some of them seconds.
    Mixed,
    /// Just so long.
    Exactly(Duration),
    /// The first task takes a minute, the others a millisecond.
    SlowStart,
}

/// A job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) seed: u64,
    pub(super) tasks: u64,
    pub(super) pace: Pace,
    /// The probability that a task fails at least once.
    pub(super) failing: f64,
}

impl Work {
    fn rng(&self, task: TaskId, what: u64) -> Rng {
        let mut rng = Rng::new(self.seed ^ task.wrapping_mul(0x1_0000_0001) ^ (what << 60));
        rng.bits();
        rng
    }

    /// How many attempts of the task fail; `u32::MAX` when all do.
    pub(super) fn failures(&self, task: TaskId) -> u32 {
        let mut rng = self.rng(task, 1);
        match rng.chance(self.failing) {
            false => 0,
            true => *rng.pick(&[1, 2, u32::MAX]).unwrap_or(&1),
        }
    }

    pub(super) fn duration(&self, task: TaskId) -> Duration {
        let mut rng = self.rng(task, 2);
        let micros = Duration::from_micros(1 + rng.below(200));
        let seconds = Duration::from_millis(1000 + rng.below(5000));
        match self.pace {
            Pace::Short => micros,
            Pace::Long => seconds,
            Pace::Mixed if rng.chance(0.05) => seconds,
            Pace::Mixed => micros,
            Pace::Exactly(time) => time,
            Pace::SlowStart if task == 0 => Duration::from_secs(60),
            Pace::SlowStart => Duration::from_millis(1),
        }
    }

    /// What travels to the worker as the task.
    pub(super) fn content(&self, task: TaskId) -> u64 {
        task.wrapping_mul(3) ^ self.seed
    }

    /// What must come of it in the end, when a task may be tried so often.
    pub(super) fn outcome(&self, task: TaskId, attempts: u32) -> Outcome {
        if self.failures(task) >= attempts {
            Outcome::Failed(attempts)
        } else {
            Outcome::Result(answer(self.content(task)))
        }
    }
}

/// The result of a task.
pub(super) fn answer(content: u64) -> u64 {
    !content
}

/// What came of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Outcome {
    Result(u64),
    /// The reason names the attempt that failed last.
    Failed(u32),
}

/// The reason of a failure, as it travels.
pub(super) fn reason(attempt: u32) -> String {
    format!("attempt {attempt} failed")
}
