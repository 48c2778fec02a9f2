//! What the hall knows of a member.

use mutirao::machine::Time;
use sha2::{Digest as _, Sha256};

use super::Limits;
use crate::chat::bucket::Bucket;
use crate::chat::lane::{Incoming, Outgoing};
use crate::chat::wire::{Letter, Session, Word};

/// Who said something, in the history: it follows from the session, which does not follow from it.
pub(crate) type Author = u64;

/// The author that a session is.
pub(crate) fn author(session: Session) -> Author {
    let digest = Sha256::digest(session.0.to_be_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// Somebody in the hall.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) room: String,
    /// The knock that is answered.
    pub(super) attempt: u32,
    /// Names its stream of letters; never used again.
    pub(super) lane: u64,
    pub(super) author: Author,
    pub(super) words: Incoming<Word>,
    pub(super) letters: Outgoing<Letter>,
    /// When it was last heard of.
    pub(super) heard: Time,
    /// What it may say.
    pub(super) patience: Bucket,
    /// What it may ask for of the history.
    pub(super) fetches: Bucket,
    /// Words that were refused since it was last told.
    pub(super) refused: u64,
    /// When it may be told so again.
    pub(super) scold_at: Time,
    /// When it is to be looked at; an entry of the hall's list.
    pub(super) due: Option<Time>,
}

impl Member {
    /// When something is to be done about it.
    pub(super) fn deadline(&self, limits: &Limits) -> Time {
        let silent = self.heard + limits.silence;
        let scold = (self.refused > 0).then_some(self.scold_at);
        let letters = self.letters.deadline();
        letters.into_iter().chain(scold).fold(silent, Time::min)
    }
}
