//! The workers that a ventilator knows, and how much each has room for.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machine::Time;

use super::super::{Limits, WorkerId};
use super::Dispatch;

/// Batches that a worker may hold for each task that it runs at once: one that runs, one that waits.
const BATCHES_PER_SLOT: u64 = 2;

/// More slots than any worker has; a larger claim is cut down to it.
const MAX_SLOTS: u32 = 4096;

/// The most workers that are known at once; others are ignored until one leaves.
const MAX_WORKERS: usize = 65_536;

#[derive(Debug)]
struct Worker {
    slots: u32,
    /// Batches sent to it and not worked off.
    batches: u64,
    /// Batches it has asked for and not been sent.
    asked: u64,
    seen: Time,
    /// How often it says that it beats.
    heartbeat: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Workers {
    known: BTreeMap<WorkerId, Worker>,
    subscribed: std::collections::BTreeSet<WorkerId>,
    /// Batches sent and not yet reported by any worker.
    adrift: u64,
    /// Batches that known workers hold.
    held: u64,
    slots: u64,
    /// The worker that got the last batch, so that equals take turns.
    last: Option<WorkerId>,
}

impl Workers {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.known.keys().copied().collect()
    }

    pub(super) fn contains(&self, worker: WorkerId) -> bool {
        self.known.contains_key(&worker)
    }

    /// Batches that all workers together have room for.
    pub(super) fn capacity(&self) -> u64 {
        self.slots * BATCHES_PER_SLOT
    }

    /// Notes a sign of life; whether the worker is known.
    pub(super) fn seen(&mut self, worker: WorkerId, now: Time) -> bool {
        match self.known.get_mut(&worker) {
            Some(known) => known.seen = now,
            None => return false,
        }
        true
    }

    /// Adds a worker or takes note of its new number of slots and heartbeat; whether it is new.
    pub(super) fn join(
        &mut self,
        worker: WorkerId,
        slots: u32,
        heartbeat: Duration,
        now: Time,
    ) -> bool {
        let slots = slots.clamp(1, MAX_SLOTS);
        if let Some(known) = self.known.get_mut(&worker) {
            self.slots = self.slots - u64::from(known.slots) + u64::from(slots);
            (known.slots, known.heartbeat) = (slots, heartbeat);
            return false;
        }
        if self.known.len() == MAX_WORKERS {
            return false;
        }
        self.slots += u64::from(slots);
        self.known.insert(
            worker,
            Worker {
                slots,
                batches: 0,
                asked: 0,
                seen: now,
                heartbeat,
            },
        );
        true
    }

    /// The worker is not reached where it asked from: what it asked for is void.
    pub(super) fn forget_asks(&mut self, worker: WorkerId) {
        if let Some(known) = self.known.get_mut(&worker) {
            known.asked = 0;
        }
    }

    pub(super) fn ask(&mut self, worker: WorkerId, batches: u32) {
        if let Some(known) = self.known.get_mut(&worker) {
            let most = u64::from(known.slots) * BATCHES_PER_SLOT;
            known.asked = (known.asked + u64::from(batches)).min(most);
        }
    }

    pub(super) fn subscribe(&mut self, worker: WorkerId, subscribed: bool) {
        if !subscribed {
            self.subscribed.remove(&worker);
        } else if self.subscribed.len() < MAX_WORKERS {
            self.subscribed.insert(worker);
        }
    }

    /// A leaving worker gets nothing more; it is forgotten when it falls silent.
    pub(super) fn leave(&mut self, worker: WorkerId) {
        if let Some(known) = self.known.get_mut(&worker) {
            self.slots -= u64::from(known.slots);
            (known.slots, known.asked) = (0, 0);
        }
    }

    pub(super) fn remove(&mut self, worker: WorkerId) {
        if let Some(known) = self.known.remove(&worker) {
            self.slots -= u64::from(known.slots);
            self.held -= known.batches;
        }
    }

    /// Counts the silence of all from now on.
    pub(super) fn forgive(&mut self, now: Time) {
        for worker in self.known.values_mut() {
            worker.seen = now;
        }
    }

    /// Those that have been silent for longer than befits their heartbeat and ours.
    pub(super) fn silent(&self, now: Time, limits: &Limits) -> Vec<WorkerId> {
        let silent = self
            .known
            .iter()
            .filter(|(_, worker)| now.since(worker.seen) >= limits.patience_with(worker.heartbeat));
        silent.map(|(&id, _)| id).collect()
    }

    /// Who gets the next batch: `None` when nobody has room, `Some(None)` when the socket picks.
    pub(super) fn pick(&mut self, dispatch: Dispatch) -> Option<Option<WorkerId>> {
        if dispatch == Dispatch::Anyone {
            return (self.adrift + self.held < self.capacity()).then_some(None);
        }
        let room = |(id, worker): (&WorkerId, &Worker)| {
            let free = (u64::from(worker.slots) * BATCHES_PER_SLOT).saturating_sub(worker.batches);
            let free = match dispatch {
                Dispatch::Addressed if !self.subscribed.contains(id) => 0,
                // It may have asked again before what it asked for came.
                Dispatch::Asked => worker.asked.min(free),
                _ => free,
            };
            let turn = self.last.is_none_or(|last| *id > last);
            (free > 0).then_some((free, turn, std::cmp::Reverse(*id)))
        };
        let (_, _, std::cmp::Reverse(best)) = self.known.iter().filter_map(room).max()?;
        self.last = Some(best);
        Some(Some(best))
    }

    /// Compares the counts with the batches that each worker has been given.
    pub(super) fn audit(&self, batches: &BTreeMap<Option<WorkerId>, u64>) -> Result<(), String> {
        let of = |worker| batches.get(&worker).copied().unwrap_or(0);
        if self.adrift != of(None) {
            return Err(format!("{} batches adrift, not {}", of(None), self.adrift));
        }
        for (&id, worker) in &self.known {
            if worker.batches != of(Some(id)) {
                let (is, counted) = (of(Some(id)), worker.batches);
                return Err(format!("worker {id} has {is} batches, not {counted}"));
            }
        }
        let held: u64 = self.known.values().map(|worker| worker.batches).sum();
        let slots: u64 = self
            .known
            .values()
            .map(|worker| u64::from(worker.slots))
            .sum();
        if (held, slots) != (self.held, self.slots) {
            return Err("the batches or slots of all workers are miscounted".into());
        }
        let total: u64 = batches.values().sum();
        if total != self.adrift + self.held {
            return Err("a forgotten worker still has batches".into());
        }
        Ok(())
    }

    /// A batch is on its way to a worker, or to whomever the socket picks.
    pub(super) fn load(&mut self, worker: Option<WorkerId>) {
        match worker.and_then(|worker| self.known.get_mut(&worker)) {
            Some(known) => {
                known.batches += 1;
                self.held += 1;
            }
            None => self.adrift += 1,
        }
    }

    /// The worker gets one of the batches that it asked for.
    pub(super) fn grant(&mut self, worker: Option<WorkerId>) {
        if let Some(known) = worker.and_then(|worker| self.known.get_mut(&worker)) {
            known.asked = known.asked.saturating_sub(1);
        }
    }

    /// A batch has left the worker, or is no longer adrift.
    pub(super) fn unload(&mut self, worker: Option<WorkerId>) {
        match worker {
            None => self.adrift -= 1,
            Some(worker) => {
                if let Some(known) = self.known.get_mut(&worker) {
                    known.batches -= 1;
                    self.held -= 1;
                }
            }
        }
    }
}
