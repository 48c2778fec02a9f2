//! What members say to each other, and how it travels.
//!
//! ```text
//! "MUT1" 12   cluster to from instance   word   numbers of the word
//! 5 bytes     MessagePack unsigned integers, one after the other
//! ```
//!
//! `cluster` is the [`fingerprint`] of what all members must agree upon.

use crate::wire::{Kind, Reader, WireError, Writer};

use super::{Algorithm, Epoch, MemberId, Members, Standing, Timing};

/// No frame of an election is longer; what is longer is not read.
pub const MAX_FRAME_BYTES: usize = 96;

/// What one member says to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// "Would you vote for me in this epoch?" Nothing follows from the question.
    AskPreVote {
        /// The epoch that would begin.
        epoch: Epoch,
    },
    /// The answer, which promises nothing.
    PreVote {
        /// The epoch of the question.
        epoch: Epoch,
        /// Whether the speaker would.
        granted: bool,
        /// The highest epoch that the speaker knows of.
        seen: Epoch,
    },
    /// "Vote for me in this epoch." Repeated until it is decided.
    AskVote {
        /// The epoch that begins.
        epoch: Epoch,
        /// The asker's clock when it asked, in nanoseconds.
        sent_ns: u64,
    },
    /// The vote, which is durable, or a refusal.
    Vote {
        /// The epoch of the question.
        epoch: Epoch,
        /// Whether the asker has the vote.
        granted: bool,
        /// The highest epoch that the speaker knows of.
        seen: Epoch,
        /// What the question said of the asker's clock.
        sent_ns: u64,
    },
    /// "I lead."
    Beat {
        /// In this epoch.
        epoch: Epoch,
        /// The leader's clock when it said so, in nanoseconds.
        sent_ns: u64,
    },
    /// "I have heard you, and vote for nobody else for a while."
    BeatAck {
        /// The epoch of the heartbeat.
        epoch: Epoch,
        /// What the heartbeat said of the leader's clock.
        sent_ns: u64,
    },
    /// "I lead no more in this epoch, and never will again: what you promised me binds you no more."
    Resign {
        /// The epoch that is over.
        epoch: Epoch,
    },
    /// Bully: "I hold an election; do you live, who are above me?"
    Election,
    /// Bully: "I live, and take it over."
    Ok,
    /// Bully: "I am the coordinator", which the coordinator repeats for as long as it is.
    Coordinator,
    /// From somebody who looks on: "How do you see the election?"
    AskView,
    /// The answer.
    View {
        /// What the speaker is.
        standing: Standing,
        /// The highest epoch that it knows of.
        epoch: Epoch,
        /// Whom it takes for the leader.
        leader: Option<MemberId>,
        /// How much of its lease is left, in microseconds; 0 when it does not lead.
        lease_us: u64,
    },
}

/// A word with its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What all members must agree upon, as a number; 0 from somebody who looks on.
    pub cluster: u64,
    /// For whom it is; with the wrong endpoint it reaches somebody else.
    pub to: MemberId,
    /// Who speaks; meaningless with [`Word::AskView`].
    pub from: MemberId,
    /// Differs from start to start of the speaker; meaningless with [`Word::AskView`].
    pub instance: u64,
    /// What is said.
    pub word: Word,
}

impl Packet {
    /// The frame as it travels.
    pub fn encode(&self) -> Vec<u8> {
        let writer = Writer::new(Kind::Election)
            .uint(self.cluster)
            .uint(self.to.0)
            .uint(self.from.0)
            .uint(self.instance);
        let (tag, numbers) = parts(&self.word);
        let writer = numbers
            .into_iter()
            .flatten()
            .fold(writer.uint(tag), Writer::uint);
        writer.finish()
    }

    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// [`WireError`], when it is of another protocol, version or kind, too long, cut off, or not what a
    /// member says.
    pub fn decode(frame: &[u8]) -> Result<Packet, WireError> {
        let mut reader = Reader::expect(frame, Kind::Election)?;
        if frame.len() > MAX_FRAME_BYTES {
            return Err(WireError::Malformed);
        }
        let (cluster, to, from) = (reader.uint()?, reader.uint()?, reader.uint()?);
        let instance = reader.uint()?;
        let word = word(&mut reader)?;
        match reader.rest() {
            [] => Ok(Packet {
                cluster,
                to: MemberId(to),
                from: MemberId(from),
                instance,
                word,
            }),
            _ => Err(WireError::Malformed),
        }
    }
}

/// The tag of a word and its numbers.
fn parts(word: &Word) -> (u64, [Option<u64>; 5]) {
    let numbers = |numbers: &[u64]| std::array::from_fn(|i| numbers.get(i).copied());
    match *word {
        Word::AskPreVote { epoch } => (0, numbers(&[epoch.0])),
        Word::PreVote {
            epoch,
            granted,
            seen,
        } => (1, numbers(&[epoch.0, granted.into(), seen.0])),
        Word::AskVote { epoch, sent_ns } => (2, numbers(&[epoch.0, sent_ns])),
        Word::Vote {
            epoch,
            granted,
            seen,
            sent_ns,
        } => (3, numbers(&[epoch.0, granted.into(), seen.0, sent_ns])),
        Word::Beat { epoch, sent_ns } => (4, numbers(&[epoch.0, sent_ns])),
        Word::BeatAck { epoch, sent_ns } => (5, numbers(&[epoch.0, sent_ns])),
        Word::Election => (6, numbers(&[])),
        Word::Ok => (7, numbers(&[])),
        Word::Coordinator => (8, numbers(&[])),
        Word::AskView => (9, numbers(&[])),
        Word::View {
            standing,
            epoch,
            leader,
            lease_us,
        } => {
            let known = u64::from(leader.is_some());
            let leader = leader.map_or(0, |leader| leader.0);
            (
                10,
                numbers(&[standing_tag(standing), epoch.0, lease_us, known, leader]),
            )
        }
        Word::Resign { epoch } => (11, numbers(&[epoch.0])),
    }
}

fn word(reader: &mut Reader<'_>) -> Result<Word, WireError> {
    Ok(match reader.uint()? {
        0 => Word::AskPreVote {
            epoch: epoch(reader)?,
        },
        1 => Word::PreVote {
            epoch: epoch(reader)?,
            granted: flag(reader)?,
            seen: epoch(reader)?,
        },
        2 => Word::AskVote {
            epoch: epoch(reader)?,
            sent_ns: reader.uint()?,
        },
        3 => Word::Vote {
            epoch: epoch(reader)?,
            granted: flag(reader)?,
            seen: epoch(reader)?,
            sent_ns: reader.uint()?,
        },
        4 => Word::Beat {
            epoch: epoch(reader)?,
            sent_ns: reader.uint()?,
        },
        5 => Word::BeatAck {
            epoch: epoch(reader)?,
            sent_ns: reader.uint()?,
        },
        6 => Word::Election,
        7 => Word::Ok,
        8 => Word::Coordinator,
        9 => Word::AskView,
        10 => view(reader)?,
        11 => Word::Resign {
            epoch: epoch(reader)?,
        },
        _ => return Err(WireError::Malformed),
    })
}

fn view(reader: &mut Reader<'_>) -> Result<Word, WireError> {
    let standing = match reader.uint()? {
        0 => Standing::Follower,
        1 => Standing::Candidate,
        2 => Standing::Leader,
        _ => return Err(WireError::Malformed),
    };
    let (epoch, lease_us) = (epoch(reader)?, reader.uint()?);
    let (known, leader) = (flag(reader)?, MemberId(reader.uint()?));
    Ok(Word::View {
        standing,
        epoch,
        leader: known.then_some(leader),
        lease_us,
    })
}

fn standing_tag(standing: Standing) -> u64 {
    match standing {
        Standing::Follower => 0,
        Standing::Candidate => 1,
        Standing::Leader => 2,
    }
}

fn epoch(reader: &mut Reader<'_>) -> Result<Epoch, WireError> {
    reader.uint().map(Epoch)
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.uint()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Malformed),
    }
}

/// A number that differs when members do not agree on who takes part, by which algorithm, or on a time. Never 0.
pub(super) fn fingerprint(members: &Members, algorithm: Algorithm, timing: &Timing) -> u64 {
    let ids = members.all().into_iter().map(|id| id.0);
    let Timing {
        beat,
        timeout_min,
        timeout_max,
        lease,
        drift_ppm,
    } = *timing;
    let times = [beat, timeout_min, timeout_max, lease].map(|time| time.as_nanos() as u64);
    let numbers = ids
        .chain([algorithm as u64, u64::from(drift_ppm)])
        .chain(times);
    crate::fnv::hash(numbers.flat_map(u64::to_be_bytes)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every_word(epoch: Epoch, number: u64, flag: bool) -> Vec<Word> {
        let (granted, seen, sent_ns) = (flag, Epoch(number), number);
        let leader = flag.then_some(MemberId(number));
        let view = |standing| Word::View {
            standing,
            epoch,
            leader,
            lease_us: number,
        };
        vec![
            Word::AskPreVote { epoch },
            Word::PreVote {
                epoch,
                granted,
                seen,
            },
            Word::AskVote { epoch, sent_ns },
            Word::Vote {
                epoch,
                granted,
                seen,
                sent_ns,
            },
            Word::Beat { epoch, sent_ns },
            Word::BeatAck { epoch, sent_ns },
            Word::Resign { epoch },
            Word::Election,
            Word::Ok,
            Word::Coordinator,
            Word::AskView,
            view(Standing::Follower),
            view(Standing::Candidate),
            view(Standing::Leader),
        ]
    }

    fn packet(cluster: u64, word: Word) -> Packet {
        let (to, from) = (MemberId(cluster), MemberId(7));
        Packet {
            cluster,
            to,
            from,
            instance: cluster,
            word,
        }
    }

    proptest! {
        #[test]
        fn every_word_survives_the_round_trip(cluster: u64, epoch: u64, number: u64, flag: bool) {
            for word in every_word(Epoch(epoch), number, flag) {
                let packet = packet(cluster, word);
                let frame = packet.encode();
                prop_assert!(frame.len() <= MAX_FRAME_BYTES);
                prop_assert_eq!(Packet::decode(&frame), Ok(packet));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let mut frame = b"MUT1\x0c".to_vec();
            frame.extend_from_slice(&bytes);
            if let Ok(packet) = Packet::decode(&frame) {
                prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
            }
            let _ = Packet::decode(&bytes);
        }
    }

    #[test]
    fn the_longest_frame_fits() {
        for word in every_word(Epoch(u64::MAX), u64::MAX, true) {
            assert!(packet(u64::MAX, word).encode().len() <= MAX_FRAME_BYTES);
        }
    }

    #[test]
    fn frames_that_are_cut_lengthened_or_of_another_version_are_refused() {
        for word in every_word(Epoch(3), 300, true) {
            let frame = packet(1, word).encode();
            for end in 0..frame.len() {
                assert!(
                    Packet::decode(&frame[..end]).is_err(),
                    "{word:?} up to {end}"
                );
            }
            let mut longer = frame.clone();
            longer.push(0);
            assert_eq!(Packet::decode(&longer), Err(WireError::Malformed));
            longer.resize(1 << 20, 0);
            assert_eq!(Packet::decode(&longer), Err(WireError::Malformed));
            let mut newer = frame.clone();
            newer[3] = b'2';
            assert_eq!(Packet::decode(&newer), Err(WireError::Version('2')));
            let mut other = frame;
            other[4] = Kind::Control as u8;
            assert_eq!(Packet::decode(&other), Err(WireError::Unexpected(3)));
        }
        assert_eq!(Packet::decode(b"GET / HTTP/1.1"), Err(WireError::Foreign));
    }

    #[test]
    fn members_that_disagree_have_other_fingerprints() {
        let members =
            |all: &[u64]| Members::new(MemberId(1), all.iter().copied().map(MemberId)).unwrap();
        let timing = Timing::default();
        let three = fingerprint(&members(&[1, 2, 3]), Algorithm::Quorum, &timing);
        let other_me = Members::new(MemberId(3), [1, 2, 3].map(MemberId)).unwrap();
        assert_eq!(three, fingerprint(&other_me, Algorithm::Quorum, &timing));
        let others = [
            fingerprint(&members(&[1, 2, 4]), Algorithm::Quorum, &timing),
            fingerprint(&members(&[1, 2]), Algorithm::Quorum, &timing),
            fingerprint(&members(&[1, 2, 3]), Algorithm::Bully, &timing),
            fingerprint(
                &members(&[1, 2, 3]),
                Algorithm::Quorum,
                &Timing::stretched(2),
            ),
        ];
        assert!(others.iter().all(|&other| other != three));
    }
}
