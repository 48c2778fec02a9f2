//! Leader election: one of several members leads, and the others know which.
//!
//! | algorithm | promise |
//! | --- | --- |
//! | [`Quorum`], the default | at no moment two leaders, and in no epoch two leaders, whatever is lost, late, paused or restarted |
//! | [`Bully`] | Garcia-Molina's, as published: right only where nothing is lost or late; for study |
//!
//! Both prefer the higher id and speak through one interface, [`ElectionMachine`]. [`Election`] runs one
//! over the transports; [`Watcher`] looks on from outside; [`experiment`] lets many run in the simulator.
//!
//! A leader holds a *lease*: until it ends on the leader's own monotonic clock nobody else can be elected.
//! So a member that was stopped and goes on knows by itself that it leads no more. Its *epoch* is higher
//! than that of every leader before it; whoever takes orders refuses those of a lower epoch than it has
//! seen, and a late order of a deposed leader does no harm. `docs/election.md` says why this is safe.

mod ballot;
mod bully;
pub mod experiment;
mod members;
mod node;
mod object;
mod quorum;
mod timing;
mod twins;
mod watcher;
mod words;

use std::fmt;

use crate::machine::{Machine, Time};

pub use ballot::{BallotError, BallotFile};
pub use bully::Bully;
pub use members::{MAX_MEMBERS, MemberId, Members};
pub use object::{Callbacks, Election, ElectionError, ElectionSetup, Lease};
pub use quorum::Quorum;
pub use timing::Timing;
pub use watcher::{Sighting, Watcher};
pub use words::{MAX_FRAME_BYTES, Packet, Word};

/// The number of a leadership; higher than that of every leader before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a member must not forget: for whom it voted last, and in which epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// The epoch.
    pub epoch: Epoch,
    /// Who got the vote; nobody before the first one.
    pub voted_for: Option<MemberId>,
}

/// How the leader is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Garcia-Molina's bully algorithm.
    Bully,
    /// The same order by id, with a majority, durable votes and leases.
    #[default]
    Quorum,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Bully => "bully",
            Algorithm::Quorum => "quorum",
        })
    }
}

/// What happens to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElectionInput {
    /// Another member speaks. `now` must have been read after the word arrived: a promise that follows
    /// from it counts from then.
    Word {
        /// Who.
        from: MemberId,
        /// What.
        word: Word,
    },
    /// The ballot is on disk.
    Persisted(Ballot),
    /// The ballot could not be written, or it is not known whether it was.
    NotPersisted(Ballot),
    /// What is led obeys this epoch already, as after the ballots were lost: this member leads in none up to
    /// it.
    Seen(Epoch),
    /// This member is to lead no more, as it is about to stop; others need not wait until its lease is over.
    Resign,
}

/// What a member wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ElectionOutput {
    /// Send a word; it may get lost.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        word: Word,
    },
    /// Write the ballot to disk and answer [`ElectionInput::Persisted`]; until then the vote is not cast.
    Persist(Ballot),
    /// This member leads from now on.
    Gained(Epoch),
    /// This member leads no more.
    Lost(Epoch),
    /// This member takes that one for the leader, or knows none.
    Follows(Option<MemberId>),
}

/// What a member is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It follows a leader, or waits for one.
    Follower,
    /// It seeks to become leader.
    Candidate,
    /// It leads, as far as it knew when it last looked at the clock; see [`ElectionMachine::tenure`].
    Leader,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Follower => "follower",
            Standing::Candidate => "candidate",
            Standing::Leader => "leader",
        })
    }
}

/// A member's view of the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// What it is.
    pub standing: Standing,
    /// The highest epoch that it knows of; with [`Bully`], how often it has won.
    pub epoch: Epoch,
    /// Whom it takes for the leader.
    pub leader: Option<MemberId>,
}

/// A leadership, for as long as it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Its number, which every order of the leader carries.
    pub epoch: Epoch,
    /// The end of the lease on the member's own clock; `None` for [`Bully`], which has no leases.
    pub until: Option<Time>,
}

/// A member of either algorithm.
#[derive(Clone, Debug)]
pub enum ElectionMachine {
    /// See [`Bully`].
    Bully(Bully),
    /// See [`Quorum`].
    Quorum(Quorum),
}

impl ElectionMachine {
    /// A member that starts at `now` with the ballot that was last persisted; `seed` must differ from
    /// member to member and from start to start.
    ///
    /// `timing` must be [valid](Timing::validate), and the same for all members.
    pub fn new(
        algorithm: Algorithm,
        members: Members,
        timing: Timing,
        ballot: Ballot,
        now: Time,
        seed: u64,
    ) -> ElectionMachine {
        match algorithm {
            Algorithm::Bully => ElectionMachine::Bully(Bully::new(members, timing, now)),
            Algorithm::Quorum => {
                ElectionMachine::Quorum(Quorum::new(members, timing, ballot, now, seed))
            }
        }
    }

    /// The leadership of this member, if it leads at `now`, which is to be read just before.
    pub fn tenure(&self, now: Time) -> Option<Tenure> {
        match self {
            ElectionMachine::Bully(bully) => bully.tenure(),
            ElectionMachine::Quorum(quorum) => quorum.tenure(now),
        }
    }

    /// Whether this member leads at `now`, which is to be read just before.
    pub fn is_leader(&self, now: Time) -> bool {
        self.tenure(now).is_some()
    }

    /// How this member sees the election.
    pub fn view(&self) -> View {
        match self {
            ElectionMachine::Bully(bully) => bully.view(),
            ElectionMachine::Quorum(quorum) => quorum.view(),
        }
    }

    fn as_dyn(&mut self) -> &mut dyn Machine<Input = ElectionInput, Output = ElectionOutput> {
        match self {
            ElectionMachine::Bully(bully) => bully,
            ElectionMachine::Quorum(quorum) => quorum,
        }
    }
}

impl Machine for ElectionMachine {
    type Input = ElectionInput;
    type Output = ElectionOutput;

    fn handle(&mut self, now: Time, input: ElectionInput) {
        self.as_dyn().handle(now, input);
    }

    fn wake(&mut self, now: Time) {
        self.as_dyn().wake(now);
    }

    fn poll(&mut self) -> Option<ElectionOutput> {
        self.as_dyn().poll()
    }

    fn deadline(&self) -> Option<Time> {
        match self {
            ElectionMachine::Bully(bully) => bully.deadline(),
            ElectionMachine::Quorum(quorum) => quorum.deadline(),
        }
    }
}
