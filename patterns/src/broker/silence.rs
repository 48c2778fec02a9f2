//! Who has been silent for how long: late, and gone.
//!
//! What the failure detector has to know of a peer is in the record of that peer ([`Heard`](crate::detector::Heard)), so
//! that hearing it costs a store and no look-up; timers are moved when they ring.

use crate::detector::Trust;
use crate::machine::Time;
use crate::pipeline::{PeerId, WorkerId};

use super::machine::{BrokerMachine, BrokerOutput};

/// Workers that died of which that is remembered.
const FALLEN_MOST: usize = 1_000;

impl BrokerMachine {
    /// Looks in time whether a peer is still there, so that none is remembered for ever.
    pub(super) fn watch(&mut self, now: Time, peer: PeerId) {
        if !self.watched.contains_key(&peer) {
            self.look_at(now + self.limits.patience(), peer);
        }
    }

    /// Finds a worker its place that is new, or was late or out of sight, and serves it as it has room.
    pub(super) fn welcome(&mut self, now: Time, peer: PeerId) {
        let Some(worker) = self.workers.get_mut(&peer) else {
            return;
        };
        worker.late = !worker.trust.is_full();
        let late_at = worker.heard.suspect_at(self.patience.with_worker(worker));
        if self.watched.get(&peer).is_none_or(|&due| late_at < due) {
            self.look_at(late_at, peer);
        }
        self.replace(peer);
        self.give(now, peer);
    }

    /// Looks after those who may have been silent for too long.
    pub(super) fn look_after(&mut self, now: Time) {
        let grace = self.grace(now);
        while let Some(&(due, peer)) = self.silence.first()
            && due <= now
        {
            let end = self.end_of(peer).max(grace).filter(|&end| end > now);
            let Some(end) = end else {
                self.bury(now, peer);
                continue;
            };
            let late_at = self.late_at(peer).and_then(|at| Some(at).max(grace));
            match late_at.filter(|&at| at < end) {
                Some(at) if at > now => self.look_at(at, peer),
                late => {
                    if late.is_some() {
                        self.doubt(peer);
                    }
                    self.look_at(end, peer);
                }
            }
        }
    }

    /// Until when nobody is blamed: who stood still, or did not listen, has not heard what was said, and first listens
    /// for a while.
    fn grace(&self, now: Time) -> Option<Time> {
        let heartbeat = self.limits.heartbeat;
        let while_long = heartbeat.saturating_mul(2);
        let stood_still = now.since(self.woken) > while_long;
        let has_not_heard = stood_still || self.deaf || now < self.heard_again + while_long;
        has_not_heard.then(|| now + heartbeat)
    }

    /// How long a peer is believed alive as far as is known now.
    fn end_of(&self, peer: PeerId) -> Option<Time> {
        let worker = self.workers.get(&peer);
        let worker = worker.map(|it| it.heard.dead_at(self.patience.with_worker(it)));
        let client = self.clients.get(&peer);
        let client = client.map(|it| it.heard.dead_at(self.patience.with_client(it)));
        worker.max(client)
    }

    /// When a worker is late that is not.
    fn late_at(&self, peer: PeerId) -> Option<Time> {
        let worker = self.workers.get(&peer).filter(|worker| !worker.late)?;
        Some(worker.heard.suspect_at(self.patience.with_worker(worker)))
    }

    /// A worker is late: it gets nothing while others have room.
    fn doubt(&mut self, peer: PeerId) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.late = true;
            self.replace(peer);
        }
    }

    /// Lets go of a peer that has been silent for too long.
    fn bury(&mut self, now: Time, peer: PeerId) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.trust.lose(now);
        }
        if let Some(due) = self.watched.remove(&peer) {
            self.silence.remove(&(due, peer));
        }
        self.outbox.push_back(BrokerOutput::Gone(peer));
        self.lose_worker(now, peer);
        self.lose_client(now, peer);
    }

    /// Keeps in mind that a worker has died, for when it comes back; of too many, some are forgotten.
    pub(super) fn remember_trust(&mut self, id: WorkerId, trust: Trust) {
        if trust.has_no_past() {
            return;
        }
        if self.fallen.len() >= FALLEN_MOST {
            self.fallen.pop_first();
        }
        self.fallen.insert(id, trust);
    }

    /// Forgets of those that are away what is long past.
    pub(super) fn forgive(&mut self, now: Time) {
        let rules = &self.patience.workers;
        self.fallen.retain(|_, trust| !trust.is_calm(now, rules));
    }

    fn look_at(&mut self, due: Time, peer: PeerId) {
        if let Some(before) = self.watched.insert(peer, due) {
            self.silence.remove(&(before, peer));
        }
        self.silence.insert((due, peer));
    }

    /// A broken connection is no death: a worker has the time of its heartbeats to come back, and
    /// gets nothing until then.
    pub(super) fn lose_sight(&mut self, now: Time, peer: PeerId) {
        self.lose_client(now, peer);
        match self.workers.get_mut(&peer) {
            // It comes back as somebody else, and knows nothing of what it held.
            Some(worker) if worker.majordomo.is_some() => {
                self.lose_worker(now, peer);
                self.outbox.push_back(BrokerOutput::Gone(peer));
            }
            Some(worker) => {
                worker.unreachable = true;
                self.unplace(peer);
            }
            None => self.outbox.push_back(BrokerOutput::Gone(peer)),
        }
    }
}
