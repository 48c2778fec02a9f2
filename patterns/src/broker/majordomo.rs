//! The Majordomo protocols, which programs in other languages already speak, as pure functions.
//!
//! | who to whom | [MDP 0.1](https://rfc.zeromq.org/spec/7/) | [MDP 0.2](https://rfc.zeromq.org/spec/18/) |
//! | --- | --- | --- |
//! | client to broker | ∅, `MDPC01`, service, body… | `MDPC02`, 1, service, body… |
//! | broker to client | ∅, `MDPC01`, service, body… | `MDPC02`, 2 partial or 3 final, service, body… |
//! | worker to broker | ∅, `MDPW01`, 1 ready, service | `MDPW02`, 1 ready, service |
//! | broker to worker | ∅, `MDPW01`, 2 request, client, ∅, body… | `MDPW02`, 2 request, client, ∅, body… |
//! | worker to broker | ∅, `MDPW01`, 3 reply, client, ∅, body… | `MDPW02`, 3 partial or 4 final, client, ∅, body… |
//! | both ways | ∅, `MDPW01`, 4 heartbeat or 5 disconnect | `MDPW02`, 5 heartbeat or 6 disconnect |
//!
//! Commands are one byte; ∅ is an empty frame; a body is one frame or more. The routing id that a ROUTER
//! puts in front is never part of a message here. There is one module for each receiver, with what is
//! read and written in that direction, and one for each set of services that the broker answers by
//! itself: [`mmi`] and [`titanic`].
//!
//! Readers borrow from the message and allocate nothing. A body is always the last frames of its
//! message, so that `message.split_off(message.len() - body.len())` takes it along without a copy.

mod malformed;
pub mod mmi;
mod rest;
pub mod titanic;
pub mod to_broker;
pub mod to_client;
pub mod to_worker;

use std::fmt;

use crate::transport::{Frame, MAX_FRAMES, Message};

pub use malformed::{BadName, Malformed};
pub use to_broker::{Said, read};

/// Most bytes of a service name. The RFCs set no bound.
pub const MAX_SERVICE_BYTES: usize = 255;

/// Most bytes of a client's address, as ZeroMQ bounds routing ids.
pub const MAX_ADDRESS_BYTES: usize = 255;

/// Most frames of a body that the broker takes: what still fits a request to a worker, with the worker's
/// routing id, ∅, protocol, command, client and ∅ in front.
pub const MAX_BODY_FRAMES: usize = MAX_FRAMES - 6;

/// A version of the Majordomo protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MDP 0.1, RFC 7: an empty frame first, one reply to a request.
    V1,
    /// MDP 0.2, RFC 18: no empty frame first, any number of partial replies before the final one.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V1 => "MDP 0.1",
            Version::V2 => "MDP 0.2",
        })
    }
}

/// At which side of the broker a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// Makes requests: MDP/Client, `MDPC…`.
    Client,
    /// Serves them: MDP/Worker, `MDPW…`.
    Worker,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Party::Client => "client",
            Party::Worker => "worker",
        })
    }
}

/// Which half of which version a message belongs to, by its protocol frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// The client's half or the worker's.
    pub party: Party,
    /// Of which version.
    pub version: Version,
}

impl Dialect {
    fn client(version: Version) -> Dialect {
        let party = Party::Client;
        Dialect { party, version }
    }

    fn worker(version: Version) -> Dialect {
        let party = Party::Worker;
        Dialect { party, version }
    }

    /// The protocol frame.
    #[must_use]
    pub fn protocol(self) -> &'static [u8] {
        match (self.party, self.version) {
            (Party::Client, Version::V1) => b"MDPC01",
            (Party::Client, Version::V2) => b"MDPC02",
            (Party::Worker, Version::V1) => b"MDPW01",
            (Party::Worker, Version::V2) => b"MDPW02",
        }
    }

    /// What a message begins with, up to the protocol frame.
    fn head(self) -> Message {
        // Room for the longest head, the routing id that the sender puts in front, and a body frame.
        let mut message = Vec::with_capacity(8);
        if self.version == Version::V1 {
            message.push(empty());
        }
        message.push(Frame::from(self.protocol()));
        message
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.party)
    }
}

/// What workers and the broker say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Ready,
    Request,
    /// In MDP 0.2 only.
    Partial,
    /// REPLY in MDP 0.1, FINAL in 0.2.
    Reply,
    Heartbeat,
    Disconnect,
}

impl Command {
    fn code(self, version: Version) -> u8 {
        // MDP 0.2 has put PARTIAL in between.
        let shift = u8::from(version == Version::V2);
        match self {
            Command::Ready => 1,
            Command::Request => 2,
            Command::Partial => 3,
            Command::Reply => 3 + shift,
            Command::Heartbeat => 4 + shift,
            Command::Disconnect => 5 + shift,
        }
    }

    fn read(code: u8, version: Version) -> Option<Command> {
        Some(match (code, version) {
            (1, _) => Command::Ready,
            (2, _) => Command::Request,
            (3, Version::V1) | (4, Version::V2) => Command::Reply,
            (3, Version::V2) => Command::Partial,
            (4, Version::V1) | (5, Version::V2) => Command::Heartbeat,
            (5, Version::V1) | (6, Version::V2) => Command::Disconnect,
            _ => return None,
        })
    }

    /// A message of the worker's half, up to the command.
    fn head(self, version: Version) -> Message {
        let mut message = Dialect::worker(version).head();
        message.push(Frame::from(&[self.code(version)][..]));
        message
    }

    /// A message of the worker's half that carries a client's body.
    fn carry(
        self,
        version: Version,
        client: Frame,
        body: impl IntoIterator<Item = Frame>,
    ) -> Message {
        let mut message = self.head(version);
        message.extend([client, empty()]);
        with_body(message, body)
    }
}

/// HEARTBEAT, which workers and the broker send each other while they have nothing else to say.
#[must_use]
pub fn heartbeat(version: Version) -> Message {
    Command::Heartbeat.head(version)
}

/// DISCONNECT, after which neither a worker nor the broker sends the other anything.
#[must_use]
pub fn disconnect(version: Version) -> Message {
    Command::Disconnect.head(version)
}

/// A service name as it may travel: the RFCs say "printable string", which here is UTF-8 without control
/// characters, of 1 to [`MAX_SERVICE_BYTES`] bytes.
///
/// # Errors
///
/// [`BadName`] says what is wrong with it.
pub fn service_name(bytes: &[u8]) -> Result<&str, BadName> {
    if bytes.is_empty() {
        return Err(BadName::Empty);
    }
    if bytes.len() > MAX_SERVICE_BYTES {
        return Err(BadName::Long(bytes.len()));
    }
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.chars().any(char::is_control) => Ok(name),
        _ => Err(BadName::Unprintable),
    }
}

fn empty() -> Frame {
    Frame::from(&b""[..])
}

/// Appends the body, which is one empty frame if there is nothing: the RFCs want at least one.
fn with_body(mut message: Message, body: impl IntoIterator<Item = Frame>) -> Message {
    let head = message.len();
    message.extend(body);
    if message.len() == head {
        message.push(empty());
    }
    message
}

#[cfg(test)]
mod testing {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn frames<const N: usize>(frames: [&[u8]; N]) -> Message {
        frames.into_iter().map(Frame::from).collect()
    }

    pub(super) fn bytes(message: &[Frame]) -> Vec<Vec<u8>> {
        message.iter().map(|frame| frame.to_vec()).collect()
    }

    pub(super) fn versions() -> impl Strategy<Value = Version> {
        prop_oneof![Just(Version::V1), Just(Version::V2)]
    }

    pub(super) fn names() -> impl Strategy<Value = String> {
        "[ -~ãé]{1,40}"
    }

    pub(super) fn addresses() -> impl Strategy<Value = Frame> {
        prop::collection::vec(any::<u8>(), 1..=MAX_ADDRESS_BYTES).prop_map(Frame::from)
    }

    pub(super) fn bodies() -> impl Strategy<Value = Message> {
        let frame = prop::collection::vec(any::<u8>(), 0..40).prop_map(Frame::from);
        prop::collection::vec(frame, 1..=MAX_BODY_FRAMES)
    }

    /// Messages that look like the real ones often enough to reach every reader's end.
    pub(super) fn noise() -> impl Strategy<Value = Message> {
        let likely: &[&[u8]] = &[
            b"",
            b"MDPC01",
            b"MDPC02",
            b"MDPW01",
            b"MDPW02",
            b"MDPC03",
            b"MDPWxx",
            b"MUT1\x05",
            b"\x01",
            b"\x02",
            b"\x03",
            b"\x04",
            b"\x05",
            b"\x06",
            b"\x07",
            b"echo",
            b"mmi.service",
        ];
        let likely = prop::sample::select(likely.to_vec()).prop_map(Frame::from);
        let random = prop::collection::vec(any::<u8>(), 0..300).prop_map(Frame::from);
        prop::collection::vec(prop_oneof![6 => likely, 1 => random], 0..9)
    }

    /// Whether `body` is the last frames of `message` themselves, not a copy of them.
    pub(super) fn is_tail(body: &[Frame], message: &[Frame]) -> bool {
        let start = message.len().checked_sub(body.len());
        start.is_some_and(|start| std::ptr::eq(&message[start..], body))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{bytes, frames};
    use super::*;

    #[test]
    fn heartbeat_and_disconnect_are_as_the_rfcs_write_them() {
        let expect =
            |message: Message, frames: Message| assert_eq!(bytes(&message), bytes(&frames));
        expect(heartbeat(Version::V1), frames([b"", b"MDPW01", b"\x04"]));
        expect(heartbeat(Version::V2), frames([b"MDPW02", b"\x05"]));
        expect(disconnect(Version::V1), frames([b"", b"MDPW01", b"\x05"]));
        expect(disconnect(Version::V2), frames([b"MDPW02", b"\x06"]));
    }

    #[test]
    fn every_command_is_read_as_it_is_written() {
        for version in [Version::V1, Version::V2] {
            for code in 0..=255 {
                let command = Command::read(code, version);
                assert_eq!(command.map_or(code, |command| command.code(version)), code);
            }
        }
        assert_eq!(Command::read(6, Version::V1), None);
        assert_eq!(Command::read(7, Version::V2), None);
        assert_eq!(Command::read(0, Version::V2), None);
    }

    #[test]
    fn service_names_are_short_and_printable() {
        assert_eq!(service_name("mutirão".as_bytes()), Ok("mutirão"));
        assert_eq!(service_name(b""), Err(BadName::Empty));
        assert_eq!(service_name(&[b'a'; 255]).map(str::len), Ok(255));
        assert_eq!(service_name(&[b'a'; 256]), Err(BadName::Long(256)));
        assert_eq!(service_name(b"echo\0"), Err(BadName::Unprintable));
        assert_eq!(service_name(b"\xff\xfe"), Err(BadName::Unprintable));
    }
}
