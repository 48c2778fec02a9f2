//! The bully algorithm of Garcia-Molina (Elections in a Distributed Computing System, 1982).
//!
//! Whoever misses the coordinator asks those above it whether they live. If one does, it takes over; if
//! none does, the asker is coordinator and tells everybody. That is right as long as no message is lost or
//! late and nobody stands still: then silence means death. Where that does not hold, two believe that they
//! lead, as `mutirao election experiment --algorithm bully` shows. Use [`Quorum`](super::Quorum) for work.
//!
//! Where the paper has members ask the coordinator now and then whether it is up, the coordinator repeats
//! here that it is.

use std::collections::VecDeque;

use crate::machine::{Machine, Time};

use super::{
    ElectionInput, ElectionOutput, Epoch, MemberId, Members, Standing, Tenure, Timing, View, Word,
};

/// A member that elects by the bully algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bully {
    members: Members,
    timing: Timing,
    role: Role,
    /// When silence, or the wait for an answer, is over; when the coordinator says so again.
    due: Time,
    leader: Option<MemberId>,
    wins: Epoch,
    outbox: VecDeque<ElectionOutput>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// It hears the coordinator.
    Following,
    /// It has asked those above it.
    Asking,
    /// One of them has taken over.
    Waiting,
    Coordinator,
}

impl Bully {
    /// A member that starts at `now`, and by the algorithm holds an election at once.
    pub fn new(members: Members, timing: Timing, now: Time) -> Bully {
        Bully {
            members,
            timing,
            role: Role::Following,
            due: now,
            leader: None,
            wins: Epoch::default(),
            outbox: VecDeque::new(),
        }
    }

    /// The leadership of this member, if it believes that it leads.
    pub fn tenure(&self) -> Option<Tenure> {
        (self.role == Role::Coordinator).then_some(Tenure {
            epoch: self.wins,
            until: None,
        })
    }

    /// How this member sees the election.
    pub fn view(&self) -> View {
        View {
            standing: match self.role {
                Role::Following => Standing::Follower,
                Role::Asking | Role::Waiting => Standing::Candidate,
                Role::Coordinator => Standing::Leader,
            },
            epoch: self.wins,
            leader: self.leader,
        }
    }

    fn hold_election(&mut self, now: Time) {
        let above = self.members.others().iter().copied();
        let above: Vec<MemberId> = above.filter(|&other| other > self.members.me()).collect();
        if above.is_empty() {
            return self.win(now);
        }
        self.leave(Role::Asking, None);
        self.due = now + self.timing.timeout_min;
        for to in above {
            self.send(to, Word::Election);
        }
    }

    fn win(&mut self, now: Time) {
        self.wins = self.wins.next();
        self.role = Role::Coordinator;
        self.outbox.push_back(ElectionOutput::Gained(self.wins));
        self.follow(Some(self.members.me()));
        self.tell_all(now);
    }

    fn tell_all(&mut self, now: Time) {
        self.due = now + self.timing.beat;
        for to in self.members.others().to_vec() {
            self.send(to, Word::Coordinator);
        }
    }

    fn leave(&mut self, role: Role, leader: Option<MemberId>) {
        if self.role == Role::Coordinator {
            self.outbox.push_back(ElectionOutput::Lost(self.wins));
        }
        self.role = role;
        self.follow(leader);
    }

    fn follow(&mut self, leader: Option<MemberId>) {
        if self.leader != leader {
            self.leader = leader;
            self.outbox.push_back(ElectionOutput::Follows(leader));
        }
    }

    fn hear(&mut self, now: Time, from: MemberId, word: Word) {
        if !self.members.others().contains(&from) {
            return;
        }
        match word {
            Word::Election if from < self.members.me() => self.take_over(now, from),
            Word::Ok if self.role == Role::Asking => {
                self.role = Role::Waiting;
                self.due = now + self.timing.timeout_max;
            }
            Word::Coordinator if from > self.members.me() => {
                self.leave(Role::Following, Some(from));
                self.due = now + self.timing.timeout_max;
            }
            // Somebody below does not know that this member lives.
            Word::Coordinator => self.put_in_place(now, from),
            _ => {}
        }
    }

    fn take_over(&mut self, now: Time, from: MemberId) {
        self.send(from, Word::Ok);
        match self.role {
            Role::Following => self.hold_election(now),
            Role::Coordinator => self.send(from, Word::Coordinator),
            Role::Asking | Role::Waiting => {}
        }
    }

    fn put_in_place(&mut self, now: Time, from: MemberId) {
        match self.role {
            Role::Following => self.hold_election(now),
            Role::Coordinator => self.send(from, Word::Coordinator),
            Role::Asking | Role::Waiting => {}
        }
    }

    fn send(&mut self, to: MemberId, word: Word) {
        self.outbox.push_back(ElectionOutput::Send { to, word });
    }
}

impl Machine for Bully {
    type Input = ElectionInput;
    type Output = ElectionOutput;

    fn handle(&mut self, now: Time, input: ElectionInput) {
        match input {
            ElectionInput::Word { from, word } => self.hear(now, from, word),
            // The paper knows no farewell.
            ElectionInput::Resign if self.role == Role::Coordinator => {
                self.leave(Role::Following, None);
                self.due = now + self.timing.timeout_max;
            }
            _ => {}
        }
    }

    fn wake(&mut self, now: Time) {
        if now < self.due {
            return;
        }
        match self.role {
            Role::Following | Role::Waiting => self.hold_election(now),
            Role::Asking => self.win(now),
            Role::Coordinator => self.tell_all(now),
        }
    }

    fn poll(&mut self) -> Option<ElectionOutput> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.due)
    }
}
