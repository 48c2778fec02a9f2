//! Seeking votes and giving them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::election::{Ballot, ElectionOutput, Epoch, MemberId, Word};
use crate::machine::Time;

use super::{Promise, Quorum, Role, nanos};

impl Quorum {
    /// Asks who would vote for it: a member that cannot win must not disturb a leader by a new epoch.
    pub(super) fn sound(&mut self, now: Time) {
        self.follow(None);
        let epoch = self.seen.next();
        let backing = BTreeSet::new();
        self.role = Role::Sounding { epoch, backing };
        self.try_again(now);
        self.send_all(Word::AskPreVote { epoch });
        self.count_backing(now);
    }

    pub(super) fn asked_before(&mut self, now: Time, from: MemberId, epoch: Epoch) {
        let granted = self.would_vote(now, from, epoch);
        if granted && from > self.members.me() {
            self.make_way(now);
        }
        let seen = self.seen;
        self.send(
            from,
            Word::PreVote {
                epoch,
                granted,
                seen,
            },
        );
    }

    /// Does not run against a higher id that is about to stand: both might lose.
    fn make_way(&mut self, now: Time) {
        if let Role::Sounding { .. } = self.role {
            self.role = Role::Follower;
        }
        let later = now + 2 * self.timing.beat + self.draw();
        self.due = self.due.max(later);
    }

    fn would_vote(&self, now: Time, candidate: MemberId, epoch: Epoch) -> bool {
        let Ballot {
            epoch: last,
            voted_for,
        } = self.ballot;
        let is_free = epoch > last || epoch == last && voted_for.is_none_or(|to| to == candidate);
        let is_news = epoch > self.led;
        is_free && is_news && !self.is_leading() && self.promise.allows_vote(now, candidate)
    }

    pub(super) fn backed(&mut self, now: Time, from: MemberId, asked: Epoch) {
        if let Role::Sounding { epoch, backing } = &mut self.role
            && *epoch == asked
        {
            backing.insert(from);
            self.count_backing(now);
        }
    }

    fn count_backing(&mut self, now: Time) {
        if let Role::Sounding { epoch, backing } = &self.role
            && backing.len() + 1 >= self.members.majority()
        {
            self.stand(now, *epoch);
        }
    }

    /// Votes for itself, and asks the others to when that is durable.
    pub(super) fn stand(&mut self, now: Time, epoch: Epoch) {
        let me = self.members.me();
        if !self.would_vote(now, me, epoch) {
            return;
        }
        self.role = Role::Candidate {
            ask_at: None,
            votes: BTreeMap::new(),
        };
        self.due = now + self.timing.timeout_max;
        self.vote(now, me, epoch);
    }

    pub(super) fn asked(&mut self, now: Time, from: MemberId, epoch: Epoch, sent_ns: u64) {
        self.learn(epoch);
        if !self.would_vote(now, from, epoch) {
            let (granted, seen) = (false, self.seen);
            let refusal = Word::Vote {
                epoch,
                granted,
                seen,
                sent_ns,
            };
            return self.send(from, refusal);
        }
        self.role = Role::Follower;
        self.follow(None);
        // From now, and not only when the vote is durable: the candidate's lease counts from when it asked.
        self.asked_ns = sent_ns;
        self.promise = Promise::to(from, epoch, now + self.timing.timeout_min);
        self.wait_for_leader(now);
        self.vote(now, from, epoch);
    }

    /// Votes, once it is durable.
    fn vote(&mut self, now: Time, candidate: MemberId, epoch: Epoch) {
        self.learn(epoch);
        self.ballot = Ballot {
            epoch,
            voted_for: Some(candidate),
        };
        if self.ballot == self.durable {
            self.cast(now);
        } else if self.writing.is_none() {
            self.persist();
        }
    }

    fn persist(&mut self) {
        self.writing = Some(self.ballot);
        self.outbox.push_back(ElectionOutput::Persist(self.ballot));
    }

    pub(super) fn persisted(&mut self, now: Time, ballot: Ballot) {
        if self.writing != Some(ballot) {
            return;
        }
        self.writing = None;
        self.durable = ballot;
        match ballot == self.ballot {
            true => self.cast(now),
            false => self.persist(),
        }
    }

    /// The vote is not cast, and not given to anybody else either: it may be on disk all the same.
    pub(super) fn not_persisted(&mut self, now: Time, ballot: Ballot) {
        if self.writing != Some(ballot) {
            return;
        }
        self.writing = None;
        if matches!(self.role, Role::Candidate { ask_at: None, .. }) {
            self.role = Role::Follower;
            self.wait_for_leader(now);
        }
    }

    fn cast(&mut self, now: Time) {
        let Ballot { epoch, voted_for } = self.ballot;
        match voted_for {
            Some(member) if member == self.members.me() => self.begin(now),
            Some(member) => {
                let vote = Word::Vote {
                    epoch,
                    granted: true,
                    seen: self.seen,
                    sent_ns: self.asked_ns,
                };
                self.send(member, vote);
            }
            None => {}
        }
    }

    fn begin(&mut self, now: Time) {
        if matches!(self.role, Role::Candidate { ask_at: None, .. }) {
            self.due = now + self.timing.timeout_max;
            self.ask(now);
            self.count_votes(now);
        }
    }

    /// Asks everybody, those too who have voted for it: what they promised may be over when the last
    /// vote, from a slow disk, comes.
    pub(super) fn ask(&mut self, now: Time) {
        if let Role::Candidate { ask_at, .. } = &mut self.role {
            *ask_at = Some(now + self.timing.beat);
            let (epoch, sent_ns) = (self.ballot.epoch, nanos(now));
            self.send_all(Word::AskVote { epoch, sent_ns });
        }
    }

    pub(super) fn voted(&mut self, now: Time, from: MemberId, epoch: Epoch, sent_ns: u64) {
        let sent = Time::START + Duration::from_nanos(sent_ns);
        if let Role::Candidate { votes, .. } = &mut self.role
            && epoch == self.ballot.epoch
            && sent <= now
        {
            let vote = votes.entry(from).or_insert(sent);
            *vote = sent.max(*vote);
            self.count_votes(now);
        }
    }

    /// Leads if a majority has promised enough, lately enough: they may vote for others when that is over.
    fn count_votes(&mut self, now: Time) {
        if let Role::Candidate {
            votes,
            ask_at: Some(_),
        } = &self.role
        {
            let votes = votes.clone();
            let sent = |other| votes.get(other).copied().unwrap_or(Time::START);
            let heard: Vec<Time> = self.members.others().iter().map(sent).collect();
            match self.lease_of(now, &heard) {
                Some(until) if until > now => self.lead(now, heard, until),
                _ => {}
            }
        }
    }
}
