//! The other heads' copies of the register: what they have, what they are sent.

use std::collections::BTreeMap;

use crate::machine::Time;

use super::super::{Epoch, HeadSays, Position};
use super::HeadId;
use super::desk::Desk;
use super::join::ENTRIES_AT_ONCE;

#[derive(Debug)]
struct Follower {
    /// The last entry that it has on disk and that is the same as ours.
    agreed: u64,
    /// Behind which place it is sent entries next.
    after: Position,
    /// When it is sent them again, while it owes an answer.
    resend: Option<Time>,
}

/// All other heads.
#[derive(Debug)]
pub(super) struct Followers {
    epoch: Epoch,
    followers: BTreeMap<HeadId, Follower>,
}

impl Followers {
    pub(super) fn new(epoch: Epoch, desk: &Desk) -> Followers {
        let after = desk.register.last();
        let follower = |&peer| {
            let follower = Follower {
                agreed: 0,
                after,
                resend: None,
            };
            (peer, follower)
        };
        Followers {
            epoch,
            followers: desk.config.peers.iter().map(follower).collect(),
        }
    }

    /// The last entry that a majority has on disk, this head among it.
    pub(super) fn agreed_by_most(&self, desk: &Desk) -> u64 {
        let others = self.followers.values().map(|follower| follower.agreed);
        let mut all: Vec<u64> = others.chain([desk.durable()]).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all[desk.majority() - 1]
    }

    pub(super) fn appended(&mut self, from: HeadId, matched: bool, last: Position, desk: &Desk) {
        let Some(follower) = self.followers.get_mut(&from) else {
            return;
        };
        let here = desk.register.has(last);
        if matched && here {
            follower.agreed = follower.agreed.max(last.index);
        }
        // An answer that comes late must not send us back behind what is known.
        let common = desk.register.common(last);
        if common.index >= follower.agreed {
            follower.after = common;
            follower.resend = None;
        }
    }

    /// Sends what is new, and again what was not answered.
    pub(super) fn send(&mut self, now: Time, desk: &mut Desk) {
        let last = desk.register.last().index;
        for (&peer, follower) in &mut self.followers {
            if follower.agreed == last {
                follower.resend = None;
                continue;
            }
            if follower.resend.is_some_and(|resend| now < resend) {
                continue;
            }
            let (epoch, after) = (self.epoch, follower.after);
            let entries = desk.register.behind(after.index, ENTRIES_AT_ONCE).to_vec();
            follower.resend = Some(now + desk.config.resend);
            let append = HeadSays::Append {
                epoch,
                after,
                entries,
            };
            desk.say_to_head(peer, append);
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let resends = self
            .followers
            .values()
            .filter_map(|follower| follower.resend);
        resends.min()
    }
}
