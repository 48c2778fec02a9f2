//! A member in the simulator: its machine, its clock, its disk.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::election::{Ballot, ElectionInput, ElectionMachine, ElectionOutput, MemberId, Word};
use crate::machine::{Machine, Time};
use crate::sim::{Node, NodeId, Rng};

/// A monotonic clock with a start and a rate of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalClock {
    /// What it shows at the simulation's start, in nanoseconds.
    offset_ns: u64,
    /// Nanoseconds that it counts in a thousandth of a real second.
    rate: u64,
}

const MILLION: u64 = 1_000_000;

impl LocalClock {
    /// A clock that runs wrong by at most so many millionths.
    pub(super) fn random(rng: &mut Rng, drift_ppm: u32) -> LocalClock {
        let drift = u64::from(drift_ppm).min(MILLION / 2);
        LocalClock {
            offset_ns: rng.below(1 << 40),
            rate: MILLION - drift + rng.below(2 * drift + 1),
        }
    }

    /// What it shows.
    pub(super) fn read(&self, real: Time) -> Time {
        let real_ns = real.since(Time::START).as_nanos();
        let local_ns = real_ns * u128::from(self.rate) / u128::from(MILLION);
        Time::START + Duration::from_nanos(self.offset_ns + local_ns as u64)
    }

    /// The first moment at which it shows `local`.
    fn real(&self, local: Time) -> Time {
        let local_ns = local.since(Time::START).as_nanos();
        let since = local_ns.saturating_sub(u128::from(self.offset_ns));
        let real_ns = (since * u128::from(MILLION)).div_ceil(u128::from(self.rate));
        Time::START + Duration::from_nanos(real_ns as u64)
    }
}

/// A disk that takes its time; what is being written when the power fails may be there or not.
#[derive(Debug)]
pub(super) struct Disk {
    stored: Ballot,
    writing: Option<(Time, Ballot)>,
    delay: Range<Duration>,
    rng: Rng,
}

impl Disk {
    pub(super) fn new(stored: Ballot, delay: Range<Duration>, rng: Rng) -> Disk {
        Disk {
            stored,
            writing: None,
            delay,
            rng,
        }
    }

    fn write(&mut self, now: Time, ballot: Ballot) {
        self.writing = Some((now + self.rng.within(&self.delay), ballot));
    }

    fn written(&mut self, now: Time) -> Option<Ballot> {
        let (_, ballot) = self.writing.take_if(|(at, _)| *at <= now)?;
        self.stored = ballot;
        Some(ballot)
    }

    /// What is on it after a crash.
    pub(super) fn after_crash(mut self) -> Ballot {
        match self.writing {
            Some((_, ballot)) if self.rng.chance(0.5) => ballot,
            _ => self.stored,
        }
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) machine: ElectionMachine,
    pub(super) clock: LocalClock,
    pub(super) disk: Disk,
    outbox: VecDeque<(NodeId, Word)>,
}

/// Where a member lives in the simulation.
pub(super) fn node_of(member: MemberId) -> NodeId {
    NodeId(member.0 as usize - 1)
}

pub(super) fn member_of(node: NodeId) -> MemberId {
    MemberId(node.0 as u64 + 1)
}

impl Member {
    pub(super) fn new(machine: ElectionMachine, clock: LocalClock, disk: Disk) -> Member {
        Member {
            machine,
            clock,
            disk,
            outbox: VecDeque::new(),
        }
    }

    /// Says that it leads no more, before it is stopped.
    pub(super) fn resign(&mut self, now: Time) {
        self.machine
            .handle(self.clock.read(now), ElectionInput::Resign);
        self.act(now);
    }

    fn act(&mut self, now: Time) {
        while let Some(output) = self.machine.poll() {
            match output {
                ElectionOutput::Send { to, word } => self.outbox.push_back((node_of(to), word)),
                ElectionOutput::Persist(ballot) => self.disk.write(now, ballot),
                ElectionOutput::Gained(_)
                | ElectionOutput::Lost(_)
                | ElectionOutput::Follows(_) => {}
            }
        }
    }
}

impl Node for Member {
    type Message = Word;

    fn handle(&mut self, now: Time, from: NodeId, word: Word) {
        let from = member_of(from);
        let input = ElectionInput::Word { from, word };
        self.machine.handle(self.clock.read(now), input);
        self.act(now);
    }

    fn wake(&mut self, now: Time) {
        let local = self.clock.read(now);
        if let Some(ballot) = self.disk.written(now) {
            self.machine.handle(local, ElectionInput::Persisted(ballot));
        }
        self.machine.wake(local);
        self.act(now);
    }

    fn poll(&mut self) -> Option<(NodeId, Word)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let machine = self.machine.deadline().map(|local| self.clock.real(local));
        let disk = self.disk.writing.map(|(at, _)| at);
        machine.into_iter().chain(disk).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_woken_at_a_deadline_finds_that_it_has_come() {
        let mut rng = Rng::new(7);
        for _ in 0..10_000 {
            let clock = LocalClock::random(&mut rng, 10_000);
            let local = clock.read(Time::START) + Duration::from_nanos(rng.below(1 << 40));
            let real = clock.real(local);
            assert!(clock.read(real) >= local);
            let a_little_before = Duration::from_nanos(3);
            let before = real.since(Time::START).saturating_sub(a_little_before);
            assert!(clock.read(Time::START + before) <= local);
        }
    }
}
