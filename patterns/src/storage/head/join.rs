//! Before a head reigns: a majority has promised to take nothing from earlier reigns, and what the best
//! register among them has is here.
//!
//! Every entry that was ever confirmed is on a majority, and so at one at least of those that promised;
//! the one with the last place in order has them all (the argument of Raft's election, made after it).

use std::collections::BTreeMap;

use crate::machine::Time;

use super::super::{Entry, Epoch, HeadSays, Position};
use super::HeadId;
use super::desk::Desk;

/// Times that a head is asked for entries before another majority is sought, without it.
const ATTEMPTS: u32 = 5;

/// Entries in one message.
pub(super) const ENTRIES_AT_ONCE: usize = 256;

#[derive(Debug)]
pub(super) struct Joining {
    pub(super) epoch: Epoch,
    promised: BTreeMap<HeadId, Position>,
    /// From whom entries are fetched, up to where, and behind which place they were asked for.
    fetch: Option<(HeadId, Position, Position)>,
    attempts: u32,
    next_send: Time,
}

impl Joining {
    pub(super) fn new(now: Time, epoch: Epoch, desk: &mut Desk) -> Joining {
        let mut joining = Joining {
            epoch,
            promised: BTreeMap::new(),
            fetch: None,
            attempts: 0,
            next_send: now,
        };
        joining.wake(now, desk);
        joining
    }

    pub(super) fn deadline(&self) -> Time {
        self.next_send
    }

    /// Says again what has not been answered.
    pub(super) fn wake(&mut self, now: Time, desk: &mut Desk) {
        if now < self.next_send {
            return;
        }
        self.next_send = now + desk.config.resend;
        let epoch = self.epoch;
        self.attempts += 1;
        if let Some((donor, ..)) = self.fetch.take_if(|_| self.attempts > ATTEMPTS) {
            self.promised.remove(&donor);
            self.attempts = 0;
            return self.choose(now, desk);
        }
        match self.fetch {
            Some((donor, _, after)) => desk.say_to_head(donor, HeadSays::Fetch { epoch, after }),
            None => {
                for peer in desk.config.peers.clone() {
                    if !self.promised.contains_key(&peer) {
                        desk.say_to_head(peer, HeadSays::Promise { epoch });
                    }
                }
            }
        }
    }

    pub(super) fn promised(&mut self, now: Time, from: HeadId, last: Position, desk: &mut Desk) {
        self.promised.insert(from, last);
        self.choose(now, desk);
    }

    /// Picks the best register when enough have promised, this head among them.
    fn choose(&mut self, now: Time, desk: &mut Desk) {
        if self.fetch.is_some() || self.promised.len() + 1 < desk.majority() {
            return;
        }
        let best = self.promised.iter().max_by_key(|(_, last)| **last);
        let Some((&donor, &last)) = best else { return };
        if last > desk.register.last() {
            let after = desk.register.common(last);
            self.fetch = Some((donor, last, after));
            (self.next_send, self.attempts) = (now, 0);
            self.wake(now, desk);
        }
    }

    pub(super) fn fetched(
        &mut self,
        now: Time,
        from: HeadId,
        after: Position,
        entries: Vec<Entry>,
        desk: &mut Desk,
    ) {
        let Some((donor, target, asked)) = self.fetch else {
            return;
        };
        if from != donor {
            return;
        }
        let here = desk.register.has(after);
        let next = match here && !entries.is_empty() {
            true => {
                let count = after.index + entries.len() as u64;
                desk.graft(after, entries);
                desk.register.position(count).unwrap_or_default()
            }
            false => desk.register.common(after),
        };
        if desk.register.has(target) {
            self.fetch = None;
            return self.choose(now, desk);
        }
        // A late answer to an earlier question says nothing new.
        if next != asked {
            self.fetch = Some((donor, target, next));
            (self.next_send, self.attempts) = (now, 0);
            self.wake(now, desk);
        }
    }

    /// Whether this head may reign: enough have promised, the best register is here, all is on disk.
    pub(super) fn is_complete(&self, desk: &Desk) -> bool {
        let enough = self.promised.len() + 1 >= desk.majority();
        let last = desk.register.last();
        let complete = self.promised.values().all(|other| *other <= last);
        enough && complete && desk.is_durable()
    }
}
