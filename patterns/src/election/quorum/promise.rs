//! A member's word not to vote for anybody else.

use crate::election::{Epoch, MemberId};
use crate::machine::Time;

/// What a member has promised last. There is never more than one that holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Promise {
    /// To whom; `None` when that is not known any more.
    pub(super) to: Option<MemberId>,
    /// For which epoch.
    pub(super) epoch: Epoch,
    /// Until when.
    pub(super) until: Time,
}

impl Promise {
    /// A promise to `member`.
    pub(super) fn to(member: MemberId, epoch: Epoch, until: Time) -> Promise {
        let to = Some(member);
        Promise { to, epoch, until }
    }

    /// What may have been promised before a restart: anything.
    pub(super) fn unknown(until: Time) -> Promise {
        Promise {
            to: None,
            epoch: Epoch(u64::MAX),
            until,
        }
    }

    /// Whether nothing depends on it any more once `member` leads no more in `epoch`, nor in any before.
    pub(super) fn ends_with(&self, member: MemberId, epoch: Epoch) -> bool {
        self.to == Some(member) && self.epoch <= epoch
    }

    /// Whether a vote for `candidate` would keep it.
    pub(super) fn allows_vote(&self, now: Time, candidate: MemberId) -> bool {
        now >= self.until || self.to == Some(candidate)
    }

    /// Whether a heartbeat of a leader in `epoch` may be answered.
    ///
    /// That it was elected in a later epoch than the promise was given for, or in the same, proves that
    /// nothing depends on the promise any more: enough of those who gave the same had it behind them.
    pub(super) fn allows_following(&self, now: Time, epoch: Epoch) -> bool {
        now >= self.until || epoch >= self.epoch
    }
}
