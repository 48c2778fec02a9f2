//! What goes wrong, when, and when it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machine::Time;
use crate::sim::{NodeId, Rng};

use super::Experiment;

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A member is killed, and started again with what was on its disk.
    Crash(NodeId),
    /// A member is stopped, says so, and is started again.
    Stop(NodeId),
    /// A member stands still, as under SIGSTOP, and goes on.
    Pause(NodeId),
    /// Nothing passes between these members and the others.
    Partition(Vec<NodeId>),
    /// Nothing passes from the first of each pair to the second.
    OneWay(Vec<(NodeId, NodeId)>),
}

/// Which kind of fault, before its victim is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Crash,
    Stop,
    Pause,
    Partition,
    OneWay,
}

/// Something that is due.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Begin(Kind),
    End(Fault),
}

/// What is due when.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    deeds: BTreeMap<(Time, u64), Deed>,
    added: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Time, deed: Deed) {
        self.added += 1;
        self.deeds.insert((at, self.added), deed);
    }

    /// Faults of all kinds in the time from `now` to `end`.
    pub(super) fn plan(&mut self, experiment: &Experiment, rng: &mut Rng, now: Time, end: Time) {
        let kinds = [
            (Kind::Crash, experiment.crashes),
            (Kind::Pause, experiment.pauses),
            (Kind::Partition, experiment.partitions),
            (Kind::OneWay, experiment.one_way_cuts),
            (Kind::Stop, experiment.stops),
        ];
        // What is left out takes no chances, so that the seeds find the same with it and without.
        for (kind, average) in kinds.into_iter().filter(|(_, average)| *average > 0.0) {
            for _ in 0..count(rng, average) {
                self.add(
                    now + rng.within(&(Duration::ZERO..end.since(now))),
                    Deed::Begin(kind),
                );
            }
        }
    }

    pub(super) fn next_time(&self) -> Option<Time> {
        self.deeds.keys().next().map(|&(time, _)| time)
    }

    pub(super) fn next(&mut self) -> Option<Deed> {
        self.deeds.pop_first().map(|(_, deed)| deed)
    }
}

/// From nothing to twice the average, so that some runs are calm and some are wild.
fn count(rng: &mut Rng, average: f64) -> u64 {
    let most = (2.0 * average).max(0.0);
    rng.below(most.ceil() as u64 + 1)
}

/// How long a fault lasts: often about as long as a timeout, sometimes much longer.
pub(super) fn duration(rng: &mut Rng, experiment: &Experiment) -> Duration {
    let longest = experiment.timing.timeout_max * *rng.pick(&[1, 3, 10]).unwrap_or(&1);
    rng.within(&(Duration::from_millis(1)..longest))
}
