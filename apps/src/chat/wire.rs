//! What guests and the hall say to each other, and how it travels: one packet to a frame.
//!
//! ```text
//! "CHT" version   MessagePack value: Up from a guest, Down from the hall
//! 4 bytes
//! ```
//!
//! A packet is never longer than [`MAX_PACKET_BYTES`], so that it fits into a datagram.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What every packet begins with; the last byte is the version.
const TAG: &[u8; 4] = b"CHT1";

/// The longest packet, in bytes, with room to spare in a datagram.
pub(crate) const MAX_PACKET_BYTES: usize = 48 << 10;

/// What a packet with several parts is filled up to, in bytes; the last part may exceed it.
pub(crate) const FILL_BYTES: usize = 16 << 10;

/// The longest message, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 4 << 10;

/// No room hears so much; whoever says such a number does not mean it.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;

/// The longest name of a member or a room, in characters.
pub(crate) const MAX_NAME_CHARS: usize = 32;

/// Names a guest to the hall, over lost connections and restarts. Nobody else learns it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Session(pub(crate) u64);

impl fmt::Debug for Session {
    /// It is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(…)")
    }
}

/// A packet from a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Up {
    pub(crate) session: Session,
    /// The stream of letters that it follows; 0 for none.
    pub(crate) lane: u64,
    /// The letters up to this one have arrived.
    pub(crate) heard: u64,
    pub(crate) says: Says,
}

/// What a guest wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Says {
    /// Let me in; repeated until there is an answer.
    Knock(Knock),
    /// Do this once; repeated until it is confirmed.
    Word {
        /// Words are numbered from 1.
        number: u64,
        /// What is to be done.
        word: Word,
    },
    /// Give me what the room has heard from this number on.
    Fetch {
        /// The room, which must be the one that it is in.
        room: String,
        /// The first number wanted.
        from: u64,
    },
    /// I am here.
    Beat,
}

impl Says {
    /// Whether it is about the connection rather than what is said.
    pub(crate) fn is_control(&self) -> bool {
        matches!(self, Says::Knock(_) | Says::Beat)
    }
}

/// A guest at the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Knock {
    /// How its packets travel, as the command line calls it: where the sockets of two patterns get on with
    /// each other, only this tells.
    pub(crate) pattern: String,
    /// Grows with each time that it wants to get in anew; the same for repetitions.
    pub(crate) attempt: u32,
    pub(crate) name: String,
    pub(crate) room: String,
    /// How many of the last messages it wants to see.
    pub(crate) last: u32,
    /// What it has heard of the room already.
    pub(crate) after: Option<Place>,
    /// The first word that is not confirmed.
    pub(crate) next_word: u64,
}

/// A place in what a room has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Numbers of different stories have nothing to do with each other.
    pub(crate) story: u64,
    pub(crate) number: u64,
}

/// What a guest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// To everybody in the room.
    Say(String),
    /// To one member, in whichever room.
    Tell {
        /// The member's name.
        to: String,
        /// The message.
        text: String,
    },
    /// Another name.
    Nick(String),
    /// Into another room.
    Enter {
        /// The room, made if it is not there.
        room: String,
        /// How many of its last messages to show.
        last: u32,
    },
    /// Which rooms are there?
    Rooms,
    /// Who is in the room?
    Who,
    /// Goodbye.
    Leave,
}

/// A packet from the hall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Down {
    /// The answer to a knock.
    Welcome(Welcome),
    /// The other answer to a knock.
    Refused {
        /// Of the knock.
        attempt: u32,
        /// A sentence.
        reason: String,
    },
    /// Who are you? Knock again.
    Stranger,
    /// To be heard once and in order; repeated until it is confirmed.
    Letter {
        /// Letters of another lane are not for this connection.
        lane: u64,
        /// Letters are numbered from 1.
        number: u64,
        /// What it says.
        letter: Letter,
    },
    /// The words up to this one are done.
    Confirmed {
        /// The lane of the member.
        lane: u64,
        /// The last of the words.
        word: u64,
        /// The room of the member, and the last number that it has heard by now.
        room: String,
        latest: u64,
        /// The last letter that was written to the member: there may be an answer in it.
        letter: u64,
    },
    /// What a room has heard.
    Lines {
        /// Which room.
        room: String,
        /// The story that the numbers belong to.
        story: u64,
        /// The oldest number that is still known.
        oldest: u64,
        /// What follows is all that is known of the numbers from this one on …
        first: u64,
        /// … to the one before this.
        next: u64,
        /// Lines with their numbers, which grow. Where one is left out, somebody came or went, and it is
        /// forgotten.
        lines: Vec<(u64, Line)>,
    },
    /// The hall is here, and the room has heard so much.
    Beat {
        /// Which start of the hall.
        incarnation: u64,
        /// Which room.
        room: String,
        /// The story that the number belongs to.
        story: u64,
        /// The last number of the room; 0 for none.
        latest: u64,
    },
    /// Where the hall pushes what is for this guest: a port, or what is appended to a path.
    Door(String),
}

/// A guest is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Of the knock.
    pub(crate) attempt: u32,
    pub(crate) incarnation: u64,
    /// The stream of letters for this member.
    pub(crate) lane: u64,
    /// The words up to this one are done already.
    pub(crate) word: u64,
    pub(crate) name: String,
    /// Words that a member may say in a second, on average and at once.
    pub(crate) rate: u32,
    pub(crate) burst: u32,
}

/// What the hall says to one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Letter {
    /// You are in this room now.
    Entered {
        /// Its name.
        room: String,
        /// The story that its numbers belong to.
        story: u64,
        /// The number at which to begin to listen.
        first: u64,
        /// The last number of the room; 0 for none.
        latest: u64,
        /// Whether the hall does not know the place that the guest named: it begins anew.
        anew: bool,
    },
    /// Some of the members of the room.
    Members {
        /// Which room.
        room: String,
        /// The members are those after this number of the room.
        as_of: u64,
        /// Their names.
        names: Vec<String>,
        /// Whether that was all.
        done: bool,
    },
    /// The rooms, each with the number of its members.
    Rooms {
        /// Some of them.
        rooms: Vec<(String, u64)>,
        /// Whether that was all.
        done: bool,
    },
    /// A private message.
    Private {
        /// Who sent it.
        from: String,
        /// When, in milliseconds since 1970.
        at: u64,
        /// The message.
        text: String,
    },
    /// A private message of yours is on its way.
    Told {
        /// To whom.
        to: String,
        /// When, in milliseconds since 1970.
        at: u64,
        /// The message.
        text: String,
    },
    /// You are called so now.
    Renamed(String),
    /// A sentence.
    Notice(String),
    /// Why something that was said will never be heard.
    NotTaken(String),
}

/// Something that a room has heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// When, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) event: Event,
}

/// What happens in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// Somebody said something.
    Said {
        /// Who.
        who: String,
        /// What.
        text: String,
    },
    /// Somebody came.
    Joined {
        /// Who.
        who: String,
        /// After a lost connection.
        back: bool,
    },
    /// Somebody left.
    Left {
        /// Who.
        who: String,
        /// Why.
        how: Leaving,
    },
    /// Somebody has another name.
    Renamed {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
}

/// How somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Leaving {
    /// By saying so.
    Quit,
    /// To another room.
    Moved,
    /// Nothing was heard any more.
    Vanished,
}

impl Event {
    /// Whether it is a message, and not somebody's coming, going or renaming.
    pub(crate) fn is_said(&self) -> bool {
        matches!(self, Event::Said { .. })
    }
}

impl Line {
    /// About the length of the line in a packet, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let words = match &self.event {
            Event::Said { who, text } => who.len() + text.len(),
            Event::Joined { who, .. } | Event::Left { who, .. } => who.len(),
            Event::Renamed { from, to } => from.len() + to.len(),
        };
        words + 40
    }
}

/// Why a packet cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It does not begin as ours do.
    #[error("the packet is of no chat: check which program is at the other end")]
    Foreign,
    /// It is of another version.
    #[error("the packet is of another version of the chat: update the older program")]
    Version,
    /// It is too long.
    #[error("the packet is longer than any packet of a chat")]
    TooLong,
    /// It ends early, or is not what it should be.
    #[error("the packet is truncated or damaged")]
    Damaged,
}

/// A packet as bytes.
pub(crate) fn encode<T: Serialize>(packet: &T) -> Vec<u8> {
    let mut bytes = TAG.to_vec();
    // Writing to memory cannot fail, and packets hold nothing that MessagePack cannot express.
    let _ = rmp_serde::encode::write(&mut bytes, packet);
    bytes
}

/// Reads a packet.
///
/// # Errors
///
/// The bytes are no packet of this version.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    if bytes.len() > MAX_PACKET_BYTES {
        return Err(Unreadable::TooLong);
    }
    let (tag, mut value) = bytes
        .split_at_checked(TAG.len())
        .ok_or(Unreadable::Foreign)?;
    if tag[..3] != TAG[..3] {
        return Err(Unreadable::Foreign);
    }
    if tag != TAG {
        return Err(Unreadable::Version);
    }
    let packet = rmp_serde::from_read(&mut value).map_err(|_| Unreadable::Damaged)?;
    match value.is_empty() {
        true => Ok(packet),
        false => Err(Unreadable::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_come_back_as_they_were() {
        let up = Up {
            session: Session(7),
            lane: 3,
            heard: 9,
            says: Says::Word {
                number: 1,
                word: Word::Say("olá 中文 👩‍🚀".into()),
            },
        };
        assert_eq!(decode(&encode(&up)), Ok(up));
        let line = Line {
            at: 5,
            event: Event::Left {
                who: "ana".into(),
                how: Leaving::Vanished,
            },
        };
        let down = Down::Lines {
            room: "sala".into(),
            story: 1,
            oldest: 1,
            first: 2,
            next: 4,
            lines: vec![(3, line)],
        };
        assert_eq!(decode(&encode(&down)), Ok(down));
    }

    #[test]
    fn what_is_no_packet_is_told_apart() {
        let read = decode::<Up>;
        let good = encode(&Up {
            session: Session(1),
            lane: 0,
            heard: 0,
            says: Says::Beat,
        });
        assert_eq!(read(b"MUT1"), Err(Unreadable::Foreign));
        assert_eq!(read(b""), Err(Unreadable::Foreign));
        assert_eq!(read(b"CHT2\x90"), Err(Unreadable::Version));
        assert_eq!(read(&good[..good.len() - 1]), Err(Unreadable::Damaged));
        assert_eq!(read(&[&good[..], b"x"].concat()), Err(Unreadable::Damaged));
        let long = vec![0; MAX_PACKET_BYTES + 1];
        assert_eq!(read(&long), Err(Unreadable::TooLong));
    }

    #[test]
    fn the_description_has_all_of_them() {
        let description = include_str!("../../../docs/chat.md");
        let ours = include_str!("wire.rs");
        for kind in ["Says", "Word", "Down", "Letter", "Event"] {
            let start = format!("pub(crate) enum {kind} {{\n");
            let body = ours.split(&start).nth(1).unwrap().split("\n}\n").next();
            let variants = body.unwrap().lines().filter_map(|line| {
                let name = line
                    .strip_prefix("    ")?
                    .split(['(', '{', ',', ' '])
                    .next()?;
                name.starts_with(char::is_uppercase).then_some(name)
            });
            let variants: Vec<&str> = variants.collect();
            assert!(variants.len() >= 4, "{kind}: {variants:?}");
            for name in variants {
                assert!(description.contains(&format!("`{name}`")), "{kind}::{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let tagged = [&TAG[..], &bytes].concat();
            let _ = decode::<Up>(&tagged);
            let _ = decode::<Down>(&tagged);
        }
    }
}
