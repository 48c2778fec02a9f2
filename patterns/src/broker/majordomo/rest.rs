//! Reading a message frame by frame, with the same checks in every direction.

use super::{Dialect, MAX_ADDRESS_BYTES, MAX_BODY_FRAMES, Malformed, Party, Version, service_name};
use crate::transport::Frame;

/// What of a message has not been read.
pub(super) struct Rest<'a> {
    pub(super) dialect: Dialect,
    frames: &'a [Frame],
}

impl<'a> Rest<'a> {
    /// Reads up to the protocol frame.
    ///
    /// MDP 0.2 leaves no room for the empty frame that a REQ socket sends: RFC 18 names the "removal of
    /// empty frames at start of commands" as a difference and says that "clients MUST use a DEALER
    /// socket". So the versions are told apart by that frame too, and a mix is refused with a sentence.
    pub(super) fn open(message: &'a [Frame]) -> Result<Rest<'a>, Malformed> {
        let (delimited, message) = match message {
            [] => return Err(Malformed::Nothing),
            [first, rest @ ..] if first.is_empty() => (true, rest),
            _ => (false, message),
        };
        let (protocol, frames) = message.split_first().ok_or(Malformed::SingleFrame)?;
        let (party, version) = match claim(protocol) {
            Some(claim) => claim,
            None if !delimited && frames.is_empty() => return Err(Malformed::SingleFrame),
            None => return Err(Malformed::Foreign),
        };
        let version = version.ok_or(Malformed::UnknownVersion { party, delimited })?;
        match (version, delimited) {
            (Version::V1, false) => return Err(Malformed::NoDelimiter(party)),
            (Version::V2, true) => return Err(Malformed::SurplusDelimiter(party)),
            (Version::V1, true) | (Version::V2, false) => {}
        }
        let dialect = Dialect { party, version };
        Ok(Rest { dialect, frames })
    }

    fn next(&mut self) -> Option<&'a Frame> {
        let (first, frames) = self.frames.split_first()?;
        self.frames = frames;
        Some(first)
    }

    pub(super) fn code(&mut self) -> Result<u8, Malformed> {
        let command = self.next().ok_or(Malformed::NoCommand(self.dialect))?;
        match **command {
            [code] => Ok(code),
            _ => Err(Malformed::UnknownCommand(self.dialect)),
        }
    }

    pub(super) fn service(&mut self) -> Result<&'a str, Malformed> {
        let name = self.next().ok_or(Malformed::NoService(self.dialect))?;
        service_name(name).map_err(|why| Malformed::BadService(self.dialect, why))
    }

    /// The client's address, and past the empty frame that must follow it.
    pub(super) fn client(&mut self) -> Result<&'a Frame, Malformed> {
        let missing = Malformed::NoAddress(self.dialect);
        let (client, delimiter) = (self.next().ok_or(missing)?, self.next().ok_or(missing)?);
        if client.is_empty() || client.len() > MAX_ADDRESS_BYTES {
            return Err(Malformed::BadAddress(self.dialect));
        }
        if !delimiter.is_empty() {
            return Err(Malformed::NoAddressDelimiter(self.dialect));
        }
        Ok(client)
    }

    pub(super) fn body(self) -> Result<&'a [Frame], Malformed> {
        match self.frames {
            [] => Err(Malformed::NoBody(self.dialect)),
            frames => Ok(frames),
        }
    }

    /// A body that the broker will pass on, so that it must fit the next message too.
    pub(super) fn passing_body(self) -> Result<&'a [Frame], Malformed> {
        let long = Malformed::LongBody(self.dialect);
        let body = self.body()?;
        if body.len() > MAX_BODY_FRAMES {
            Err(long)
        } else {
            Ok(body)
        }
    }
}

/// Who a protocol frame says the message is of, if it is one of MDP's, and the version if it is known.
fn claim(protocol: &[u8]) -> Option<(Party, Option<Version>)> {
    let (party, version) = if let Some(version) = protocol.strip_prefix(b"MDPC") {
        (Party::Client, version)
    } else {
        (Party::Worker, protocol.strip_prefix(b"MDPW")?)
    };
    let version = match version {
        b"01" => Some(Version::V1),
        b"02" => Some(Version::V2),
        _ => None,
    };
    Some((party, version))
}
