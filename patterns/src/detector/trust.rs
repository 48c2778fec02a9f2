//! Flap damping: who keeps dying is trusted later.

use crate::machine::Time;

use super::{CALM_INTERVALS, MAX_PROBATION, Rules};

/// How far a peer is trusted that may have died before.
///
/// One that returns from the dead for the `n`th time must send 2^(n-1) heartbeats in a row, at most
/// [`MAX_PROBATION`]; after [`CALM_INTERVALS`] intervals without a death one of them is forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    /// How often it died, as far as that is remembered.
    deaths: u32,
    calm_since: Time,
    /// Heartbeats in a row that it still has to send.
    probation: u32,
}

impl Trust {
    /// That of a peer without a past.
    pub fn new(now: Time) -> Trust {
        Trust {
            deaths: 0,
            calm_since: now,
            probation: 0,
        }
    }

    /// It has died, and is back or will be: its first word is the first heartbeat.
    pub fn lose(&mut self, now: Time) {
        self.deaths = (self.deaths + 1).min(MAX_PROBATION.ilog2() + 1);
        self.calm_since = now;
        self.probation = self.needed() - 1;
    }

    /// Takes a heartbeat; one that is late begins the row anew.
    pub fn beat(&mut self, now: Time, is_late: bool, rules: &Rules) {
        if self.deaths == 0 {
            return;
        }
        if is_late && self.probation > 0 {
            self.probation = self.needed();
        }
        self.probation = self.probation.saturating_sub(1);
        if self.is_calm(now, rules) {
            self.deaths -= 1;
            self.calm_since = now;
        }
    }

    /// Whether it has nothing to prove.
    pub fn is_full(&self) -> bool {
        self.probation == 0
    }

    /// Whether it never died, as far as that is remembered.
    pub fn has_no_past(&self) -> bool {
        self.deaths == 0
    }

    /// Whether there was no death for so long that one may be forgotten.
    pub fn is_calm(&self, now: Time, rules: &Rules) -> bool {
        now.since(self.calm_since) >= rules.interval.saturating_mul(CALM_INTERVALS)
    }

    /// Heartbeats in a row that it takes.
    fn needed(&self) -> u32 {
        1 << self.deaths.saturating_sub(1)
    }
}
