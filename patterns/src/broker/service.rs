//! A service: the jobs of one operation that have tasks waiting, and the workers with room for them.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::machine::Time;
use crate::pipeline::{JobId, PeerId};

use super::protocol::ServiceView;
use super::throughput::Throughput;

/// Every so many picks the job that has waited longest goes first, whatever its priority.
const PATIENT_PICKS: u64 = 8;

/// How much room a worker has: those that idle are served first, those that are late last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// A slot is free.
    Idle,
    /// All slots are busy, and the next batch may already wait there.
    Ahead,
    /// There is room, but the worker is late, and may be gone.
    Late,
}

/// A worker's place among those with room: the one that was served longest ago is first.
pub(super) type Place = (Room, u64, PeerId);

#[derive(Debug, Default)]
pub(super) struct Service {
    by_rank: BTreeSet<(Reverse<u8>, u64, JobId)>,
    by_turn: BTreeSet<(u64, JobId)>,
    picks: u64,
    /// Workers with room.
    pub(super) open: BTreeSet<Place>,
    /// Those of them that hold nothing that may have killed others.
    pub(super) clean: BTreeSet<Place>,
    /// Jobs with tasks waiting that may have killed their workers.
    pub(super) suspects: BTreeSet<JobId>,
    pub(super) pace: Pace,
    /// Jobs whose client was told that there is no room, and waits to hear otherwise.
    pub(super) wanting: BTreeSet<JobId>,
    pub(super) queued: u64,
    pub(super) queued_bytes: usize,
    pub(super) leased: u64,
    pub(super) done: u64,
    pub(super) throughput: Throughput,
    /// Time that its tasks take of the workers, in nanoseconds, as it was when they were given out; it
    /// begins where that of the others stands.
    pub(super) spent_ns: u64,
    pub(super) workers: u64,
    pub(super) jobs: u64,
}

impl Service {
    /// Puts a job in line; `turn` grows with every call.
    pub(super) fn line_up(&mut self, job: JobId, priority: u8, turn: u64) {
        self.by_rank.insert((Reverse(priority), turn, job));
        self.by_turn.insert((turn, job));
    }

    /// Takes a job out of the line.
    pub(super) fn step_out(&mut self, job: JobId, priority: u8, turn: u64) {
        self.by_rank.remove(&(Reverse(priority), turn, job));
        self.by_turn.remove(&(turn, job));
    }

    /// The job that is served next: of the highest priority the one that was served longest ago, and
    /// now and then the one that was served longest ago of all, so that none starves.
    pub(super) fn pick(&mut self) -> Option<JobId> {
        self.picks += 1;
        if self.picks.is_multiple_of(PATIENT_PICKS) {
            return self.by_turn.first().map(|&(_, job)| job);
        }
        self.by_rank.first().map(|&(_, _, job)| job)
    }

    /// The worker and the job that are served next, and whether with a suspect.
    pub(super) fn pair(&mut self) -> Option<(PeerId, JobId, bool)> {
        if let (Some(&job), Some(&(_, _, peer))) = (self.suspects.first(), self.clean.first()) {
            return Some((peer, job, true));
        }
        let &(_, _, peer) = self.open.first()?;
        Some((peer, self.pick()?, false))
    }

    pub(super) fn has_work(&self) -> bool {
        !self.by_turn.is_empty()
    }

    /// Whether there is a worker with room for something that waits.
    pub(super) fn can_serve(&self) -> bool {
        self.has_work() && !self.open.is_empty()
            || !self.suspects.is_empty() && !self.clean.is_empty()
    }

    /// For tests: how many things it remembers.
    pub(super) fn footprint(&self) -> usize {
        let lines = self.by_rank.len() + self.by_turn.len() + self.suspects.len();
        1 + lines + self.open.len() + self.clean.len() + self.wanting.len()
    }

    /// Notes that tasks go out which take about so long.
    pub(super) fn charge(&mut self, tasks: u32, unknown: Duration) {
        let time_ns = self.pace.time_ns(tasks, unknown);
        self.spent_ns = self.spent_ns.saturating_add(time_ns);
    }

    /// Whether nobody has use for it, and there is nothing to tell of it.
    pub(super) fn is_idle(&self) -> bool {
        self.workers == 0 && self.jobs == 0 && self.done == 0
    }

    pub(super) fn view(&self, now: Time) -> ServiceView {
        ServiceView {
            queued: self.queued,
            leased: self.leased,
            done: self.done,
            workers: self.workers,
            done_per_second: self.throughput.per_second(now),
        }
    }
}

/// How long a task of a service takes; a moving average.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    task_ns: Option<u64>,
}

impl Pace {
    pub(super) fn note(&mut self, busy: Duration, tasks: u32) {
        let sample = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX) / u64::from(tasks.max(1));
        self.task_ns = Some(match self.task_ns {
            None => sample,
            Some(before) => before - before / 4 + sample / 4,
        });
    }

    /// How long so many tasks take; `unknown` as long as nothing is known.
    fn time_ns(self, tasks: u32, unknown: Duration) -> u64 {
        let unknown_ns = u64::try_from(unknown.as_nanos()).unwrap_or(u64::MAX);
        self.task_ns.map_or(unknown_ns, |task_ns| {
            task_ns.saturating_mul(u64::from(tasks))
        })
    }

    /// How many tasks keep a worker busy for so long; one as long as nothing is known.
    pub(super) fn tasks_in(&self, time: Duration) -> u32 {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let tasks = self.task_ns.map_or(1, |task_ns| time_ns / task_ns.max(1));
        u32::try_from(tasks).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_priority_goes_first_and_the_lower_one_does_not_starve() {
        let mut service = Service::default();
        let (low, high) = (JobId(1), JobId(2));
        let mut turns = [0, 1];
        service.line_up(low, 0, 0);
        service.line_up(high, 9, 1);
        let mut served = [0, 0];
        for turn in 2..82 {
            let job = service.pick().unwrap();
            let which = usize::from(job == high);
            served[which] += 1;
            service.step_out(job, [0, 9][which], turns[which]);
            turns[which] = turn;
            service.line_up(job, [0, 9][which], turn);
        }
        assert_eq!(served, [10, 70]);
    }

    #[test]
    fn batches_follow_the_clock() {
        let mut pace = Pace::default();
        assert_eq!(pace.tasks_in(Duration::from_millis(5)), 1);
        pace.note(Duration::from_millis(10), 100);
        assert_eq!(pace.tasks_in(Duration::from_millis(5)), 50);
        for _ in 0..50 {
            pace.note(Duration::from_secs(2), 1);
        }
        assert_eq!(pace.tasks_in(Duration::from_millis(5)), 1);
    }
}
