//! Datagrams: what each begins with, and those that peers greet each other with.
//!
//! ```text
//! header   "MUTU" │ version, 1 byte │ kind, 1 byte │ role, 1 byte │ mode, 1 byte │ session, 8 bytes
//! ```
//!
//! Numbers are big-endian. The session is a random number that the sender chose for this connection; where
//! a datagram answers somebody who is no peer (yet), it is the one that the other had sent. Role and mode are 0
//! once a connection stands.

use crate::transport::Role;

const MAGIC: &[u8; 4] = b"MUTU";
const VERSION: u8 = b'1';

/// What every datagram begins with.
pub(super) const HEADER_BYTES: usize = 16;

/// Header and cookie, made as long as any answer to it, so that nobody gets more than he sends.
pub(super) const HELLO_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Would like to be a peer; a cookie, 0 at first, and eight bytes that count for nothing.
    Hello = 1,
    /// The cookie to say hello with.
    Cookie,
    /// Is a peer now; the session of the one that answers.
    Welcome,
    /// Cannot be a peer; a byte with the reason.
    Refused,
    /// The connection ends.
    Bye,
    /// No peer has this session.
    Unknown,
    /// Plain: a number and a message.
    Message,
    /// Plain: a number and what is subscribed to.
    Topics,
    /// Plain: the number that comes next. Asks for a pong.
    Ping,
    /// Plain: the number that comes next, then that of the topics that were taken note of last.
    Pong,
    /// Reliable: anything.
    Data,
}

const KINDS: [Kind; 11] = [
    Kind::Hello,
    Kind::Cookie,
    Kind::Welcome,
    Kind::Refused,
    Kind::Bye,
    Kind::Unknown,
    Kind::Message,
    Kind::Topics,
    Kind::Ping,
    Kind::Pong,
    Kind::Data,
];

/// Whether datagrams are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    Reliable,
}

/// Why somebody cannot be a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Version = 1,
    Role,
    Mode,
    Crowded,
}

impl Refusal {
    pub(super) fn from_byte(byte: u8) -> Option<Refusal> {
        let all = [
            Refusal::Version,
            Refusal::Role,
            Refusal::Mode,
            Refusal::Crowded,
        ];
        all.into_iter().find(|refusal| *refusal as u8 == byte)
    }
}

/// Why a datagram is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is not of this protocol")]
    Foreign,
    #[error("it is of version {0:?} of the protocol")]
    Version(char),
    #[error("it makes no sense")]
    Senseless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    role: u8,
    mode: u8,
    pub(super) session: u64,
}

impl Header {
    /// The header of a datagram between peers.
    pub(super) fn new(kind: Kind, session: u64) -> Header {
        Header {
            kind,
            role: 0,
            mode: 0,
            session,
        }
    }

    /// The same, and what the sender is.
    pub(super) fn greeting(kind: Kind, session: u64, role: Role, mode: Mode) -> Header {
        Header {
            role: role.number() + 1,
            mode: mode as u8 + 1,
            ..Header::new(kind, session)
        }
    }

    /// What the sender is, where it says so.
    pub(super) fn role(&self) -> Option<Role> {
        Role::from_number(self.role.checked_sub(1)?)
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        match self.mode {
            1 => Some(Mode::Plain),
            2 => Some(Mode::Reliable),
            _ => None,
        }
    }

    pub(super) fn write(&self, datagram: &mut Vec<u8>) {
        datagram.extend_from_slice(MAGIC);
        datagram.extend_from_slice(&[VERSION, self.kind as u8, self.role, self.mode]);
        datagram.extend_from_slice(&self.session.to_be_bytes());
    }

    /// Takes the header off a datagram.
    pub(super) fn read(datagram: &[u8]) -> Result<(Header, &[u8]), Malformed> {
        let (header, rest) = datagram
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(Malformed::Foreign)?;
        let [m, u, t, r, version, kind, role, mode, session @ ..] = *header;
        if [m, u, t, r] != *MAGIC {
            return Err(Malformed::Foreign);
        }
        if version != VERSION {
            return Err(Malformed::Version(char::from(version)));
        }
        let known = KINDS.into_iter().find(|known| *known as u8 == kind);
        let header = Header {
            kind: known.ok_or(Malformed::Senseless)?,
            role,
            mode,
            session: u64::from_be_bytes(session),
        };
        Ok((header, rest))
    }

    /// The session of a datagram of another version, to answer it.
    pub(super) fn session_of(datagram: &[u8]) -> u64 {
        let session = datagram
            .get(8..HEADER_BYTES)
            .and_then(|bytes| bytes.try_into().ok());
        session.map_or(0, u64::from_be_bytes)
    }
}

/// Takes a number off the front.
pub(super) fn take_number(bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk::<8>().ok_or(Malformed::Senseless)?;
    Ok((u64::from_be_bytes(*number), rest))
}

/// A datagram that consists of a header and a number.
pub(super) fn numbered(header: Header, number: u64) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(HEADER_BYTES + 8);
    header.write(&mut datagram);
    datagram.extend_from_slice(&number.to_be_bytes());
    datagram
}

/// A hello with this cookie.
pub(super) fn hello(session: u64, role: Role, mode: Mode, cookie: u64) -> Vec<u8> {
    let header = Header::greeting(Kind::Hello, session, role, mode);
    let mut datagram = numbered(header, cookie);
    datagram.resize(HELLO_BYTES, 0);
    datagram
}

/// Says no to a hello.
pub(super) fn refused(session: u64, role: Role, mode: Mode, refusal: Refusal) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(HEADER_BYTES + 1);
    Header::greeting(Kind::Refused, session, role, mode).write(&mut datagram);
    datagram.push(refusal as u8);
    datagram
}

/// A datagram that consists of a header.
pub(super) fn bare(kind: Kind, session: u64) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(HEADER_BYTES);
    Header::new(kind, session).write(&mut datagram);
    datagram
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for kind in KINDS {
            for role in Role::ALL {
                for mode in [Mode::Plain, Mode::Reliable] {
                    let header = Header::greeting(kind, 0x0123_4567_89ab_cdef, role, mode);
                    let bytes = numbered(header, 7);
                    let (read, rest) = Header::read(&bytes).unwrap();
                    assert_eq!(read, header);
                    assert_eq!((read.role(), read.mode()), (Some(role), Some(mode)));
                    assert_eq!(take_number(rest), Ok((7, &[][..])));
                }
            }
        }
        let (read, _) = Header::read(&bare(Kind::Bye, 9))
            .map(|(h, r)| (h, r.len()))
            .unwrap();
        assert_eq!((read.role(), read.mode()), (None, None));
    }

    #[test]
    fn what_is_not_of_this_protocol_is_told_apart() {
        let mut bytes = bare(Kind::Bye, 9);
        assert_eq!(Header::read(&bytes[..15]), Err(Malformed::Foreign));
        assert_eq!(Header::read(b"GET / HTTP/1.1\r\n"), Err(Malformed::Foreign));
        bytes[5] = 12;
        assert_eq!(Header::read(&bytes), Err(Malformed::Senseless));
        bytes[4] = b'2';
        assert_eq!(Header::read(&bytes), Err(Malformed::Version('2')));
        assert_eq!(Header::session_of(&bytes), 9);
    }

    #[test]
    fn no_answer_to_a_stranger_is_longer_than_its_hello() {
        let most = hello(1, Role::Push, Mode::Plain, 0).len();
        assert_eq!(most, HELLO_BYTES);
        let cookie = Header::greeting(Kind::Cookie, 1, Role::Push, Mode::Plain);
        assert!(numbered(cookie, 9).len() <= most);
        assert!(refused(1, Role::Push, Mode::Plain, Refusal::Role).len() <= most);
        assert!(bare(Kind::Unknown, 1).len() <= HEADER_BYTES);
    }

    proptest! {
        #[test]
        fn rubbish_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Header::read(&bytes);
            let _ = Header::session_of(&bytes);
            let mut bytes = [&b"MUTU1"[..], &bytes].concat();
            let _ = Header::read(&bytes);
            bytes.truncate(20);
            let _ = take_number(&bytes);
        }
    }
}
