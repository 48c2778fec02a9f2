//! The bully's order made safe: majorities, durable votes, epochs and leases.
//!
//! ```text
//!               silence for 150–300 ms                majority would vote       own vote is on disk
//!   Follower ───────────────────────────▶ Sounding ─────────────────────▶ Candidate ───┐
//!      ▲  ▲                                  │                              │  asks all │ majority
//!      │  └── heartbeat, or no majority ─────┴──────────────────────────────┘           ▼ votes
//!      └────────── lease over: no majority has answered the heartbeats ───────────── Leader
//! ```
//!
//! A member gives one *promise* at a time: not to vote for anybody else for `timeout_min` on its own clock.
//! It follows from a vote and from answering a heartbeat. A leader's lease counts from the moment *before*
//! it sent what a majority then promised upon, and is shorter. Any two majorities share a member, whose
//! promises do not overlap: so neither do leases. The structure of the argument is that of Nerio (van
//! Renesse, Schneider, Gehrke 2011); epochs, votes and pre-vote are those of Raft (Ongaro 2014, §3.4, §9.6).

#[cfg(test)]
mod exhaustive;
mod leading;
mod promise;
#[cfg(test)]
mod tests;
mod voting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::machine::{Machine, Time};
use crate::sim::Rng;

use super::{
    Ballot, ElectionInput, ElectionOutput, Epoch, MemberId, Members, Standing, Tenure, Timing,
    View, Word,
};
use promise::Promise;

/// An epoch so far beyond what a member knows is a mistake, not an election that it has missed: with a
/// million elections a second they last for over an hour.
const MAX_LEAP: u64 = 1 << 32;

/// A member that elects by majority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    members: Members,
    timing: Timing,
    rng: Rng,
    /// The last vote, which is cast once it is durable.
    ballot: Ballot,
    durable: Ballot,
    /// What is being written.
    writing: Option<Ballot>,
    /// What the candidate said of its clock when it last asked for that vote.
    asked_ns: u64,
    /// The highest epoch heard of.
    seen: Epoch,
    /// The highest epoch whose leader was heard.
    led: Epoch,
    leader: Option<MemberId>,
    promise: Promise,
    role: Role,
    /// When it looks for a new leader, unless it leads.
    due: Time,
    outbox: VecDeque<ElectionOutput>,
    refused: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    Follower,
    /// It asks who would vote for it.
    Sounding {
        epoch: Epoch,
        backing: BTreeSet<MemberId>,
    },
    /// It asks for votes, in the epoch of its ballot.
    Candidate {
        /// When it asks again; it does not ask before its own vote is durable.
        ask_at: Option<Time>,
        /// Who votes for it, with when it sent the last question that was answered.
        votes: BTreeMap<MemberId, Time>,
    },
    Leader {
        /// When the last heartbeat was sent that each of the others has answered.
        heard: Vec<Time>,
        until: Time,
        beat_at: Time,
    },
}

impl Quorum {
    /// A member that starts at `now` with the ballot that was last persisted.
    ///
    /// It may have promised something before it was restarted, and so promises nothing at first.
    pub fn new(members: Members, timing: Timing, ballot: Ballot, now: Time, seed: u64) -> Quorum {
        let mut quorum = Quorum {
            promise: Promise::unknown(now + timing.timeout_min),
            members,
            timing,
            rng: Rng::new(seed),
            ballot,
            durable: ballot,
            writing: None,
            asked_ns: 0,
            seen: ballot.epoch,
            led: Epoch::default(),
            leader: None,
            role: Role::Follower,
            due: now,
            outbox: VecDeque::new(),
            refused: 0,
        };
        quorum.wait_for_leader(now);
        quorum
    }

    /// The leadership of this member, if it leads at `now`, which is to be read just before.
    pub fn tenure(&self, now: Time) -> Option<Tenure> {
        match self.role {
            Role::Leader { until, .. } if now < until => Some(Tenure {
                epoch: self.ballot.epoch,
                until: Some(until),
            }),
            _ => None,
        }
    }

    /// How this member sees the election.
    pub fn view(&self) -> View {
        View {
            standing: match self.role {
                Role::Follower => Standing::Follower,
                Role::Sounding { .. } | Role::Candidate { .. } => Standing::Candidate,
                Role::Leader { .. } => Standing::Leader,
            },
            epoch: self.seen,
            leader: self.leader,
        }
    }

    /// Words that were ignored because their epoch cannot be right.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    fn hear(&mut self, now: Time, from: MemberId, word: Word) {
        if !self.members.others().contains(&from) {
            return;
        }
        if epoch_of(&word).is_some_and(|epoch| epoch.0 > self.seen.0.saturating_add(MAX_LEAP)) {
            self.refused += 1;
            return;
        }
        match word {
            Word::AskPreVote { epoch } => self.asked_before(now, from, epoch),
            Word::PreVote {
                epoch,
                granted,
                seen,
            } => {
                self.learn(seen);
                if granted {
                    self.backed(now, from, epoch);
                }
            }
            Word::AskVote { epoch, sent_ns } => self.asked(now, from, epoch, sent_ns),
            Word::Vote {
                epoch,
                granted,
                seen,
                sent_ns,
            } => {
                self.learn(seen);
                if granted {
                    self.voted(now, from, epoch, sent_ns);
                }
            }
            Word::Beat { epoch, sent_ns } => self.beaten(now, from, epoch, sent_ns),
            Word::BeatAck { epoch, sent_ns } => self.acknowledged(now, from, epoch, sent_ns),
            Word::Resign { epoch } => self.resigned(now, from, epoch),
            // The words of another algorithm, or of those who look on.
            Word::Election | Word::Ok | Word::Coordinator | Word::AskView | Word::View { .. } => {}
        }
    }

    fn learn(&mut self, epoch: Epoch) {
        self.seen = self.seen.max(epoch);
    }

    fn follow(&mut self, leader: Option<MemberId>) {
        if self.leader != leader {
            self.leader = leader;
            self.outbox.push_back(ElectionOutput::Follows(leader));
        }
    }

    /// Leaves a leader, or whoever has the vote, the time to be heard.
    fn wait_for_leader(&mut self, now: Time) {
        self.due = now + self.timing.timeout_min + self.draw();
    }

    /// Goes on looking for one, without haste.
    fn try_again(&mut self, now: Time) {
        self.due = now + self.timing.beat + self.draw();
    }

    /// Higher ids come first, and those that have drawn alike draw again.
    fn draw(&mut self) -> Duration {
        let spread = self
            .timing
            .timeout_max
            .saturating_sub(self.timing.timeout_min);
        let slot = spread / self.members.count() as u32;
        slot * self.members.above() as u32 + self.rng.within(&(Duration::ZERO..slot))
    }

    fn send(&mut self, to: MemberId, word: Word) {
        self.outbox.push_back(ElectionOutput::Send { to, word });
    }

    fn send_all(&mut self, word: Word) {
        let sends = self.members.others().iter();
        self.outbox
            .extend(sends.map(|&to| ElectionOutput::Send { to, word }));
    }
}

/// A moment as it travels.
fn nanos(time: Time) -> u64 {
    u64::try_from(time.since(Time::START).as_nanos()).unwrap_or(u64::MAX)
}

/// What a word wants the hearer to believe of epochs.
fn epoch_of(word: &Word) -> Option<Epoch> {
    match *word {
        Word::PreVote { epoch, seen, .. } | Word::Vote { epoch, seen, .. } => Some(epoch.max(seen)),
        Word::AskPreVote { epoch }
        | Word::AskVote { epoch, .. }
        | Word::Beat { epoch, .. }
        | Word::BeatAck { epoch, .. }
        | Word::Resign { epoch } => Some(epoch),
        _ => None,
    }
}

impl Machine for Quorum {
    type Input = ElectionInput;
    type Output = ElectionOutput;

    fn handle(&mut self, now: Time, input: ElectionInput) {
        // What has ended while nobody looked is not brought back by an answer that comes late.
        self.look_at_lease(now);
        match input {
            ElectionInput::Word { from, word } => self.hear(now, from, word),
            ElectionInput::Persisted(ballot) => self.persisted(now, ballot),
            ElectionInput::NotPersisted(ballot) => self.not_persisted(now, ballot),
            ElectionInput::Seen(epoch) => self.outdated(now, epoch),
            ElectionInput::Resign => self.resign(now),
        }
    }

    fn wake(&mut self, now: Time) {
        self.look_at_lease(now);
        match self.role {
            Role::Leader { beat_at, .. } if now >= beat_at => self.beat(now),
            Role::Leader { .. } => {}
            _ if now >= self.due => self.sound(now),
            Role::Candidate {
                ask_at: Some(at), ..
            } if now >= at => self.ask(now),
            _ => {}
        }
    }

    fn poll(&mut self) -> Option<ElectionOutput> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        Some(match self.role {
            Role::Leader { until, beat_at, .. } => until.min(beat_at),
            Role::Candidate {
                ask_at: Some(at), ..
            } => at.min(self.due),
            _ => self.due,
        })
    }
}
