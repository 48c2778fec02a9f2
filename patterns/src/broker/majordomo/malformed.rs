//! What is wrong with a message, and what its sender is told.

use super::{Dialect, MAX_SERVICE_BYTES, Party, Version, disconnect, empty, to_client};
use crate::transport::{Frame, Message};

/// Why a message is no message of the protocol; nothing else changes by it.
///
/// RFC 7 and 18 want such messages dropped and the peer treated as invalid. A client that is answered
/// nothing tries again; a worker is told to disconnect, and may then start anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No frame at all.
    #[error("the message has no frames")]
    Nothing,
    /// One frame, neither of our own protocol nor of MDP.
    #[error("a single frame is no MDP message, and it is not of mutirao's own protocol")]
    SingleFrame,
    /// The protocol frame is none that is known.
    #[error("the message is neither MDP nor mutirao's own protocol: check what is connected here")]
    Foreign,
    /// A version of MDP that does not exist yet.
    #[error("a {party} speaks a version of MDP that is not known here: use MDP 0.1 or 0.2")]
    UnknownVersion {
        /// Who it says it is.
        party: Party,
        /// Whether an empty frame comes first.
        delimited: bool,
    },
    /// An MDP 0.1 message does not begin with an empty frame.
    #[error("an MDP 0.1 {0} leaves out the empty frame in front: use a REQ socket or send it")]
    NoDelimiter(Party),
    /// An MDP 0.2 message begins with an empty frame.
    #[error("an MDP 0.2 {0} sends an empty frame in front: use a DEALER socket and leave it out")]
    SurplusDelimiter(Party),
    /// The message ends before the command.
    #[error("a message of an {0} ends before the command")]
    NoCommand(Dialect),
    /// The command is not one byte, or a byte without a meaning.
    #[error("an {0} sends a command that does not exist")]
    UnknownCommand(Dialect),
    /// A command that exists, but only in the other direction.
    #[error("a message of an {0} goes the wrong way: its receiver is the one that sends such")]
    WrongWay(Dialect),
    /// The message ends before the service name.
    #[error("a message of an {0} ends before the service name")]
    NoService(Dialect),
    /// The service name cannot be one.
    #[error("an {0} names a service in a way that cannot be: {1}")]
    BadService(Dialect, BadName),
    /// The message ends before the client's address or the empty frame after it.
    #[error("a message of an {0} ends before the client's address and the empty frame after it")]
    NoAddress(Dialect),
    /// The client's address is empty or longer than a routing id can be.
    #[error("an {0} gives a client address that no client can have")]
    BadAddress(Dialect),
    /// No empty frame follows the client's address.
    #[error("an {0} leaves out the empty frame after the client's address")]
    NoAddressDelimiter(Dialect),
    /// The message ends before the body.
    #[error("a message of an {0} has no body: send an empty frame for an empty one")]
    NoBody(Dialect),
    /// The body has more frames than would fit the message in which it travels on.
    #[error("a message of an {0} has more body frames than fit a message: put several in one")]
    LongBody(Dialect),
}

/// Why a service cannot have that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It has no bytes.
    #[error("the name is empty")]
    Empty,
    /// It has more bytes than [`MAX_SERVICE_BYTES`].
    #[error("the name has {0} bytes and may have {MAX_SERVICE_BYTES}")]
    Long(usize),
    /// It is not UTF-8, or has control characters (a final zero byte, often).
    #[error("the name is not printable text")]
    Unprintable,
}

/// The service in whose name a client is refused. RFC 8 gives all `mmi.*` to the broker, and `501` to
/// those that are not implemented.
pub(super) const REFUSED: &str = "mmi.version";

impl Malformed {
    /// Who the sender says it is; `None` if the message does not even tell that.
    #[must_use]
    pub fn party(&self) -> Option<Party> {
        self.dialect().map(|(dialect, _)| dialect.party)
    }

    /// Whether the sender says it is a worker. The broker forgets it and sends it the
    /// [answer](Malformed::answer), a DISCONNECT.
    #[must_use]
    pub fn claims_worker(&self) -> bool {
        self.party() == Some(Party::Worker)
    }

    /// Whether the sender can never be understood as it speaks, so that it should be told rather than
    /// left to try again.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        matches!(
            self,
            Malformed::UnknownVersion { .. }
                | Malformed::NoDelimiter(_)
                | Malformed::SurplusDelimiter(_)
        )
    }

    /// What the broker sends back: DISCONNECT to a worker; a final reply of the service `mmi.version`,
    /// with `501` and this error's sentence, to a client that is [hopeless](Malformed::is_hopeless);
    /// nothing to others.
    ///
    /// The first frames are as the sender wrote them, so that its own reader understands the answer. A
    /// version that is not known is answered by the one of ours that begins the same way.
    #[must_use]
    pub fn answer(&self) -> Option<Message> {
        let (dialect, delimited) = self.dialect()?;
        let version = dialect.version;
        let mut message = match dialect.party {
            Party::Worker => disconnect(version),
            Party::Client if self.is_hopeless() => {
                let body = [
                    Frame::from(&b"501"[..]),
                    self.to_string().into_bytes().into(),
                ];
                to_client::reply(version, REFUSED, body)
            }
            Party::Client => return None,
        };
        match (version, delimited) {
            (Version::V1, false) => drop(message.remove(0)),
            (Version::V2, true) => message.insert(0, empty()),
            (Version::V1, true) | (Version::V2, false) => {}
        }
        Some(message)
    }

    /// What the sender speaks, as far as it can be told, and whether an empty frame comes first.
    fn dialect(&self) -> Option<(Dialect, bool)> {
        use Malformed::*;
        let (party, version, delimited) = match *self {
            Nothing | SingleFrame | Foreign => return None,
            UnknownVersion { party, delimited } if delimited => (party, Version::V1, true),
            UnknownVersion { party, .. } => (party, Version::V2, false),
            NoDelimiter(party) => (party, Version::V1, false),
            SurplusDelimiter(party) => (party, Version::V2, true),
            NoCommand(dialect)
            | UnknownCommand(dialect)
            | WrongWay(dialect)
            | NoService(dialect)
            | BadService(dialect, _)
            | NoAddress(dialect)
            | BadAddress(dialect)
            | NoAddressDelimiter(dialect)
            | NoBody(dialect)
            | LongBody(dialect) => {
                return Some((dialect, dialect.version == Version::V1));
            }
        };
        Some((Dialect { party, version }, delimited))
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::testing::{bytes, frames};
    use super::*;

    fn answer<const N: usize>(message: [&[u8]; N]) -> Option<Vec<Vec<u8>>> {
        let error = read(&frames(message)).unwrap_err();
        error.answer().map(|answer| bytes(&answer))
    }

    #[test]
    fn a_client_of_an_unknown_version_is_refused_in_words() {
        let words = "a client speaks a version of MDP that is not known here: use MDP 0.1 or 0.2";
        let message: [&[u8]; 5] = [b"", b"MDPC01", b"mmi.version", b"501", words.as_bytes()];
        assert_eq!(
            answer([b"", b"MDPC03", b"echo", b"x"]),
            Some(bytes(&frames(message)))
        );
        let message: [&[u8]; 5] = [b"MDPC02", b"\x03", b"mmi.version", b"501", words.as_bytes()];
        assert_eq!(
            answer([b"MDPC03", b"\x01", b"echo", b"x"]),
            Some(bytes(&frames(message)))
        );
    }

    #[test]
    fn a_client_with_the_other_versions_first_frame_is_refused_in_its_own_way() {
        let refused = answer([b"MDPC01", b"echo", b"x"]).unwrap();
        assert_eq!(
            refused[..3],
            bytes(&frames([b"MDPC01", b"mmi.version", b"501"]))
        );
        let refused = answer([b"", b"MDPC02", b"\x01", b"echo", b"x"]).unwrap();
        let message: [&[u8]; 5] = [b"", b"MDPC02", b"\x03", b"mmi.version", b"501"];
        assert_eq!(refused[..5], bytes(&frames(message)));
    }

    #[test]
    fn a_worker_is_disconnected_in_the_frames_it_speaks() {
        let expect =
            |answer: Option<Vec<_>>, message: Message| assert_eq!(answer, Some(bytes(&message)));
        expect(answer([b"", b"MDPW01"]), frames([b"", b"MDPW01", b"\x05"]));
        expect(answer([b"MDPW02"]), frames([b"MDPW02", b"\x06"]));
        expect(
            answer([b"MDPW01", b"\x01", b"echo"]),
            frames([b"MDPW01", b"\x05"]),
        );
        expect(
            answer([b"", b"MDPW02", b"\x01", b"echo"]),
            frames([b"", b"MDPW02", b"\x06"]),
        );
        expect(
            answer([b"", b"MDPW03", b"x"]),
            frames([b"", b"MDPW01", b"\x05"]),
        );
        expect(answer([b"MDPW03", b"x"]), frames([b"MDPW02", b"\x06"]));
    }

    #[test]
    fn what_a_client_may_yet_do_right_and_strangers_are_not_answered() {
        assert_eq!(answer([b"", b"MDPC01", b"echo"]), None);
        assert_eq!(answer([b"MDPC02", b"\x01", b"echo"]), None);
        assert_eq!(answer([b"GET / HTTP/1.1"]), None);
        assert_eq!(answer([b"hello", b"world"]), None);
        assert!(Malformed::Nothing.answer().is_none());
    }
}
