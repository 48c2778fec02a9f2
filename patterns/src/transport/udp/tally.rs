//! Counters that a socket and its pipes share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::transport::Counters;

use super::reliable::Stats;

/// A number that only the thread which uses the socket changes.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        let sum = self.get().wrapping_add(more);
        self.0.store(sum, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, less: u64) {
        let rest = self.get().saturating_sub(less);
        self.0.store(rest, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: Count,
    pub(super) received: Count,
    pub(super) lost: Count,
    pub(super) duplicated: Count,
    pub(super) reordered: Count,
    pub(super) resent: Count,
    pub(super) malformed: Count,
    pub(super) strangers: Count,
    pub(super) dropped: Count,
    /// The system took less than it was given: to be tried again soon.
    pub(super) blocked: AtomicBool,
}

impl Tally {
    pub(super) fn add(&self, stats: Stats) {
        self.lost.add(stats.lost);
        self.duplicated.add(stats.duplicated);
        self.reordered.add(stats.reordered);
        self.resent.add(stats.resent);
        self.dropped.add(stats.dropped);
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            sent: self.sent.get(),
            received: self.received.get(),
            lost: self.lost.get(),
            duplicated: self.duplicated.get(),
            reordered: self.reordered.get(),
            resent: self.resent.get(),
            malformed: self.malformed.get(),
            strangers: self.strangers.get(),
            dropped: self.dropped.get(),
        }
    }
}
