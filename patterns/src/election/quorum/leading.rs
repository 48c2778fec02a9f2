//! Leading, and following a leader.

use std::time::Duration;

use crate::election::{ElectionOutput, Epoch, MemberId, Word};
use crate::machine::Time;

use super::{Promise, Quorum, Role, nanos};

impl Quorum {
    /// Leads from now on: votes hold as answers to a heartbeat would.
    pub(super) fn lead(&mut self, now: Time, heard: Vec<Time>, until: Time) {
        self.role = Role::Leader {
            heard,
            until,
            beat_at: now,
        };
        self.led = self.ballot.epoch;
        self.outbox
            .push_back(ElectionOutput::Gained(self.ballot.epoch));
        self.follow(Some(self.members.me()));
        self.beat(now);
    }

    pub(super) fn beat(&mut self, now: Time) {
        let epoch = self.ballot.epoch;
        let sent_ns = nanos(now);
        self.send_all(Word::Beat { epoch, sent_ns });
        if let Role::Leader { beat_at, .. } = &mut self.role {
            *beat_at = now + self.timing.beat;
        }
        self.renew(now);
    }

    fn renew(&mut self, now: Time) {
        if let Role::Leader { heard, .. } = &self.role {
            let lease = self.lease_of(now, heard);
            if let (Role::Leader { until, .. }, Some(lease)) = (&mut self.role, lease) {
                *until = lease.max(*until);
            }
        }
    }

    /// Until when a majority, this member included, votes for nobody else, if each of the others has
    /// `heard` what was sent at that moment; `None` if some of the majority have heard nothing.
    pub(super) fn lease_of(&self, now: Time, heard: &[Time]) -> Option<Time> {
        let mut heard: Vec<Time> = heard.to_vec();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        let since = match self.members.majority() - 1 {
            0 => now,
            others => *heard.get(others - 1)?,
        };
        (since > Time::START).then(|| since + self.timing.lease)
    }

    pub(super) fn acknowledged(&mut self, now: Time, from: MemberId, epoch: Epoch, sent_ns: u64) {
        let sent = Time::START + Duration::from_nanos(sent_ns);
        let place = self
            .members
            .others()
            .iter()
            .position(|&other| other == from);
        if let (Role::Leader { heard, .. }, Some(place)) = (&mut self.role, place)
            && epoch == self.ballot.epoch
            && sent <= now
        {
            heard[place] = heard[place].max(sent);
            self.renew(now);
        }
    }

    /// Gives up a lease that has ended.
    pub(super) fn look_at_lease(&mut self, now: Time) {
        if let Role::Leader { until, .. } = self.role
            && now >= until
        {
            self.step_down();
            self.follow(None);
            self.try_again(now);
        }
    }

    /// Somebody has led in this epoch, or later than this member does.
    pub(super) fn outdated(&mut self, now: Time, epoch: Epoch) {
        self.learn(epoch);
        if self.is_leading() && self.ballot.epoch <= epoch {
            self.step_down();
            self.follow(None);
            self.try_again(now);
        }
    }

    /// Gives up the lease before its end, and says so to whoever waits for that.
    ///
    /// A leadership that was given up never comes back: heartbeats of its epoch are sent by a leader only, and
    /// this member begins a new epoch for the next. So promises for it may be forgotten, however late that is heard.
    pub(super) fn resign(&mut self, now: Time) {
        if self.is_leading() {
            let epoch = self.ballot.epoch;
            self.step_down();
            self.follow(None);
            self.wait_for_leader(now);
            self.send_all(Word::Resign { epoch });
        }
    }

    /// The leader of an epoch has given it up.
    pub(super) fn resigned(&mut self, now: Time, from: MemberId, epoch: Epoch) {
        if !self.promise.ends_with(from, epoch) {
            return;
        }
        self.promise.until = self.promise.until.min(now);
        if matches!(self.role, Role::Follower) {
            self.follow(None);
            self.due = self.due.min(now + self.draw());
        }
    }

    fn step_down(&mut self) {
        if self.is_leading() {
            let epoch = self.ballot.epoch;
            self.outbox.push_back(ElectionOutput::Lost(epoch));
        }
        self.role = Role::Follower;
    }

    /// A leader is heard.
    pub(super) fn beaten(&mut self, now: Time, from: MemberId, epoch: Epoch, sent_ns: u64) {
        let is_past = epoch < self.led || self.is_leading() && epoch == self.ballot.epoch;
        if is_past || !self.promise.allows_following(now, epoch) {
            return;
        }
        self.step_down();
        self.led = epoch;
        self.learn(epoch);
        self.promise = Promise::to(from, epoch, now + self.timing.timeout_min);
        self.wait_for_leader(now);
        self.follow(Some(from));
        self.send(from, Word::BeatAck { epoch, sent_ns });
    }
}
