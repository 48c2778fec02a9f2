//! The batches that are on their way and not safe yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::machine::Time;
use crate::wire::Records;

use super::super::{Span, TaskId, WorkerId};
use super::Tasks;
use super::workers::Workers;

/// Waits for an acknowledgement double with each repetition, this many times at most.
const MAX_DOUBLINGS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits to be sent, for the first time or again.
    Waiting,
    /// Sent, and not worked off as far as we know.
    Out,
    /// Worked off; the result is on its way to the sink.
    Done,
    /// The result is at the sink, though not safe yet.
    Received,
}

/// Consecutive tasks that travel together.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    records: Arc<Records>,
    from: usize,
    to: usize,
    attempt: u32,
    repeats: u32,
    stage: Stage,
    since: Time,
    /// While `Out`: who holds it; `None` when nobody has said so.
    holder: Option<WorkerId>,
}

impl Flight {
    pub(super) fn new(records: Arc<Records>, from: usize, to: usize, now: Time) -> Flight {
        Flight {
            records,
            from,
            to,
            attempt: 1,
            repeats: 0,
            stage: Stage::Waiting,
            since: now,
            holder: None,
        }
    }

    fn count(&self) -> u32 {
        (self.to - self.from) as u32
    }

    fn bytes(&self) -> usize {
        self.records.slice(self.from, self.to).len()
    }

    /// The tasks `from..to` of it, counted from its first.
    fn part(&self, from: usize, to: usize) -> Flight {
        Flight {
            from: self.from + from,
            to: self.from + to,
            ..self.clone()
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    all: BTreeMap<TaskId, Flight>,
    /// Those that wait to be sent.
    waiting: BTreeSet<TaskId>,
    /// Those that wait for a moment to come before they wait to be sent.
    postponed: BTreeSet<(Time, TaskId)>,
    /// Those that are out, by their holder.
    out: BTreeSet<(Option<WorkerId>, TaskId)>,
    tasks: u64,
    bytes: usize,
}

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn tasks(&self) -> u64 {
        self.tasks
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(&mut self, first: TaskId, flight: Flight) {
        self.tasks += u64::from(flight.count());
        self.bytes += flight.bytes();
        self.waiting.insert(first);
        self.all.insert(first, flight);
    }

    pub(super) fn remove(&mut self, first: TaskId, workers: &mut Workers) {
        let Some(flight) = self.all.remove(&first) else {
            return;
        };
        self.tasks -= u64::from(flight.count());
        self.bytes -= flight.bytes();
        self.waiting.remove(&first);
        if flight.stage == Stage::Waiting {
            self.postponed.remove(&(flight.since, first));
        }
        if flight.stage == Stage::Out {
            self.out.remove(&(flight.holder, first));
            workers.unload(flight.holder);
        }
    }

    pub(super) fn span(&self, first: TaskId) -> Span {
        Span {
            first,
            count: self.all[&first].count(),
        }
    }

    pub(super) fn stage(&self, first: TaskId) -> Stage {
        self.all[&first].stage
    }

    pub(super) fn holder(&self, first: TaskId) -> Option<WorkerId> {
        self.all[&first].holder
    }

    pub(super) fn since(&self, first: TaskId) -> Time {
        self.all[&first].since
    }

    /// How often the flight was sent again because nothing was heard of it.
    pub(super) fn repeats(&self, first: TaskId) -> u32 {
        self.all[&first].repeats
    }

    pub(super) fn attempt(&self, first: TaskId) -> u32 {
        self.all[&first].attempt
    }

    /// The flights that have a task in `range`, by their first task.
    pub(super) fn overlapping(&self, range: Range<TaskId>) -> Vec<TaskId> {
        let before = self.all.range(..range.start).next_back();
        let before = before.filter(|_| !range.is_empty());
        let before =
            before.filter(|(first, flight)| **first + u64::from(flight.count()) > range.start);
        let within = self.all.range(range.start..range.end.max(range.start));
        before
            .into_iter()
            .chain(within)
            .map(|(&first, _)| first)
            .collect()
    }

    /// The flight that carries the task.
    pub(super) fn covering(&self, task: TaskId) -> Option<TaskId> {
        self.overlapping(task..task.checked_add(1)?)
            .first()
            .copied()
    }

    pub(super) fn in_stage(&self, stage: Stage) -> Vec<TaskId> {
        self.ids(|flight| flight.stage == stage)
    }

    pub(super) fn held_by(&self, worker: WorkerId) -> Vec<TaskId> {
        let all = (Some(worker), 0)..=(Some(worker), TaskId::MAX);
        self.out.range(all).map(|&(_, first)| first).collect()
    }

    /// Those whose acknowledgement is overdue: sent and held by nobody, or worked off and not
    /// received within `to_sink` at the least; `None` while the sink does not listen.
    pub(super) fn expired(
        &self,
        now: Time,
        patience: Duration,
        to_sink: Option<Duration>,
    ) -> Vec<TaskId> {
        self.ids(|flight| {
            let least = match flight.stage {
                Stage::Out if flight.holder.is_none() => Some(Duration::ZERO),
                Stage::Done => to_sink,
                Stage::Out | Stage::Waiting | Stage::Received => None,
            };
            let wait = patience.saturating_mul(1 << flight.repeats.min(MAX_DOUBLINGS));
            least.is_some_and(|least| now.since(flight.since) >= wait.max(least))
        })
    }

    /// Whether the result of some flight is on its way to the sink, or at it, for this long.
    pub(super) fn worked_off_before(&self, now: Time, wait: Duration) -> bool {
        self.all.values().any(|flight| {
            matches!(flight.stage, Stage::Done | Stage::Received) && now.since(flight.since) >= wait
        })
    }

    /// Counts again what is otherwise counted on the way; an error names the count that drifted.
    pub(super) fn audit(&self, workers: &Workers) -> Result<(), String> {
        let mut batches = BTreeMap::new();
        let (mut tasks, mut bytes, mut next) = (0, 0, 0);
        for (&first, flight) in &self.all {
            if first < next {
                return Err(format!("batches overlap at task {first}"));
            }
            next = first + u64::from(flight.count());
            tasks += u64::from(flight.count());
            bytes += flight.bytes();
            let waits = self.waiting.contains(&first);
            let postponed = self.postponed.contains(&(flight.since, first));
            if (waits || postponed) != (flight.stage == Stage::Waiting) || (waits && postponed) {
                return Err(format!("task {first} waits in the wrong place"));
            }
            if flight.stage == Stage::Out {
                *batches.entry(flight.holder).or_insert(0) += 1;
                if !self.out.contains(&(flight.holder, first)) {
                    return Err(format!("task {first} is not among those of its holder"));
                }
            }
        }
        if (tasks, bytes) != (self.tasks, self.bytes) {
            return Err("the tasks or bytes on their way are miscounted".into());
        }
        if self.waiting.len() + self.postponed.len() > self.all.len() {
            return Err("forgotten batches still wait".into());
        }
        if self.out.len() as u64 != batches.values().sum::<u64>() {
            return Err("forgotten batches still have a holder".into());
        }
        workers.audit(&batches)
    }

    /// How long the result of a flight that was sent once has been on its way to the sink.
    pub(super) fn age_of_result(&self, first: TaskId, now: Time) -> Option<Duration> {
        let flight = self.all.get(&first)?;
        let known = flight.stage == Stage::Done && flight.repeats == 0;
        known.then(|| now.since(flight.since))
    }

    fn ids(&self, keep: impl Fn(&Flight) -> bool) -> Vec<TaskId> {
        self.all
            .iter()
            .filter(|(_, flight)| keep(flight))
            .map(|(&first, _)| first)
            .collect()
    }

    /// The waiting flight with the lowest number: the sink may be waiting for just that one.
    pub(super) fn next_waiting(&self) -> Option<TaskId> {
        self.waiting.first().copied()
    }

    pub(super) fn send(
        &mut self,
        first: TaskId,
        to: Option<WorkerId>,
        now: Time,
        workers: &mut Workers,
        attempts: u32,
    ) -> Tasks {
        self.waiting.remove(&first);
        workers.load(to);
        workers.grant(to);
        self.out.insert((to, first));
        let flight = self
            .all
            .get_mut(&first)
            .expect("only flights that exist are sent");
        (flight.stage, flight.since, flight.holder) = (Stage::Out, now, to);
        let span = Span {
            first,
            count: flight.count(),
        };
        Tasks {
            span,
            attempt: flight.attempt,
            attempts,
            records: flight.records.clone(),
            from: flight.from,
        }
    }

    /// A worker says that it holds the flight.
    pub(super) fn occupy(
        &mut self,
        first: TaskId,
        worker: WorkerId,
        now: Time,
        workers: &mut Workers,
    ) {
        let Some(flight) = self.all.get_mut(&first) else {
            return;
        };
        self.out.remove(&(flight.holder, first));
        self.out.insert((Some(worker), first));
        workers.unload(flight.holder);
        workers.load(Some(worker));
        (flight.holder, flight.since) = (Some(worker), now);
    }

    /// Moves a flight on to a later stage.
    pub(super) fn advance(
        &mut self,
        first: TaskId,
        stage: Stage,
        now: Time,
        workers: &mut Workers,
    ) {
        let Some(flight) = self.all.get_mut(&first) else {
            return;
        };
        match flight.stage {
            Stage::Out => {
                self.out.remove(&(flight.holder, first));
                workers.unload(flight.holder);
            }
            Stage::Waiting => {
                self.waiting.remove(&first);
                self.postponed.remove(&(flight.since, first));
            }
            Stage::Done | Stage::Received => {}
        }
        (flight.stage, flight.since, flight.holder) = (stage, now, None);
    }

    /// Puts a flight back among those that wait to be sent.
    pub(super) fn requeue(&mut self, first: TaskId, now: Time, workers: &mut Workers) {
        self.advance(first, Stage::Waiting, now, workers);
        if let Some(flight) = self.all.get_mut(&first) {
            flight.repeats = flight.repeats.saturating_add(1);
            self.waiting.insert(first);
        }
    }

    /// The same, from `when` on.
    pub(super) fn postpone(&mut self, first: TaskId, when: Time, workers: &mut Workers) {
        self.advance(first, Stage::Waiting, when, workers);
        // `since` is where `advance` finds it again.
        self.postponed.insert((when, first));
    }

    /// Lets the postponed flights wait to be sent whose moment has come.
    pub(super) fn mature(&mut self, now: Time) {
        while let Some(&(when, first)) = self.postponed.first().filter(|(when, _)| *when <= now) {
            self.postponed.remove(&(when, first));
            self.waiting.insert(first);
        }
    }

    /// When the next postponed flight is due.
    pub(super) fn next_maturity(&self) -> Option<Time> {
        self.postponed.first().map(|&(when, _)| when)
    }

    /// Gives one task of a flight its next attempt from `when` on, in a flight of its own; the
    /// others stay where they are.
    pub(super) fn next_attempt(
        &mut self,
        first: TaskId,
        task: TaskId,
        when: Time,
        workers: &mut Workers,
    ) {
        let Some(flight) = self.all.remove(&first) else {
            return;
        };
        let (at, count) = ((task - first) as usize, flight.count() as usize);
        let out = flight.stage == Stage::Out;
        for (from, to) in [(0, at), (at, at + 1), (at + 1, count)] {
            if from == to {
                continue;
            }
            let part = flight.part(from, to);
            if out {
                self.out.insert((flight.holder, first + from as u64));
                workers.load(flight.holder);
            }
            self.all.insert(first + from as u64, part);
        }
        if out {
            workers.unload(flight.holder);
        }
        self.postpone(task, when, workers);
        if let Some(single) = self.all.get_mut(&task) {
            single.attempt += 1;
        }
    }
}
