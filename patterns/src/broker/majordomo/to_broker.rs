//! What clients and workers say to the broker.

use super::rest::Rest;
use super::{Command, Dialect, Malformed, Party, Version, with_body};
use crate::transport::{Frame, Message};
use crate::wire::PROTOCOL;

/// The code of REQUEST in the client's half of MDP 0.2; 0.1 has no codes there.
const CLIENT_REQUEST: u8 = 1;

/// What a message to the broker says; it borrows from the message.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// It is of our own protocol: the first frame begins with [`PROTOCOL`]. Nothing else was checked.
    Ours,
    /// A client asks a service.
    Request {
        /// In which version to reply.
        version: Version,
        /// Which service; `mmi.*` and `titanic.*` included.
        service: &'a str,
        /// What it asks: at least one frame.
        body: &'a [Frame],
    },
    /// A worker registers for a service.
    Ready {
        /// In which version to speak to it.
        version: Version,
        /// For which; `mmi.*` included, which the broker must refuse.
        service: &'a str,
    },
    /// A worker sends a part of its reply, and more will come. Only MDP 0.2 has it.
    Partial {
        /// The address that came with the request.
        client: &'a Frame,
        /// What it replies: at least one frame.
        body: &'a [Frame],
    },
    /// A worker sends its reply, or the last part of it: REPLY in MDP 0.1, FINAL in 0.2.
    Reply {
        /// In which version.
        version: Version,
        /// The address that came with the request.
        client: &'a Frame,
        /// What it replies: at least one frame.
        body: &'a [Frame],
    },
    /// A worker lives.
    Heartbeat {
        /// In which version.
        version: Version,
    },
    /// A worker leaves.
    Disconnect {
        /// In which version.
        version: Version,
    },
}

/// Reads a message as a ROUTER receives it, without the routing id.
///
/// What follows a complete READY, HEARTBEAT or DISCONNECT is ignored, as the Guide's brokers do.
///
/// Source: RFC 7 and RFC 18.
///
/// # Errors
///
/// [`Malformed`] says what is wrong, and what to [answer](Malformed::answer).
pub fn read(message: &[Frame]) -> Result<Said<'_>, Malformed> {
    if message
        .first()
        .is_some_and(|frame| frame.starts_with(PROTOCOL))
    {
        return Ok(Said::Ours);
    }
    let rest = Rest::open(message)?;
    match rest.dialect.party {
        Party::Client => of_client(rest),
        Party::Worker => of_worker(rest),
    }
}

fn of_client(mut rest: Rest<'_>) -> Result<Said<'_>, Malformed> {
    let version = rest.dialect.version;
    if version == Version::V2 {
        match rest.code()? {
            CLIENT_REQUEST => {}
            2 | 3 => return Err(Malformed::WrongWay(rest.dialect)),
            _ => return Err(Malformed::UnknownCommand(rest.dialect)),
        }
    }
    let (service, body) = (rest.service()?, rest.passing_body()?);
    Ok(Said::Request {
        version,
        service,
        body,
    })
}

fn of_worker(mut rest: Rest<'_>) -> Result<Said<'_>, Malformed> {
    let (dialect, version) = (rest.dialect, rest.dialect.version);
    let unknown = Malformed::UnknownCommand(dialect);
    Ok(match Command::read(rest.code()?, version).ok_or(unknown)? {
        Command::Ready => {
            let service = rest.service()?;
            Said::Ready { version, service }
        }
        Command::Request => return Err(Malformed::WrongWay(dialect)),
        Command::Partial => {
            let (client, body) = (rest.client()?, rest.passing_body()?);
            Said::Partial { client, body }
        }
        Command::Reply => {
            let (client, body) = (rest.client()?, rest.passing_body()?);
            Said::Reply {
                version,
                client,
                body,
            }
        }
        Command::Heartbeat => Said::Heartbeat { version },
        Command::Disconnect => Said::Disconnect { version },
    })
}

/// A client's REQUEST: ∅, `MDPC01`, service, body… or `MDPC02`, 1, service, body….
///
/// The name is one that [`service_name`](super::service_name) has passed.
#[must_use]
pub fn request(version: Version, service: &str, body: impl IntoIterator<Item = Frame>) -> Message {
    let mut message = Dialect::client(version).head();
    if version == Version::V2 {
        message.push(Frame::from(&[CLIENT_REQUEST][..]));
    }
    message.push(Frame::from(service.as_bytes()));
    with_body(message, body)
}

/// A worker's READY: ∅, `MDPW01`, 1, service or `MDPW02`, 1, service.
///
/// The name is one that [`service_name`](super::service_name) has passed.
#[must_use]
pub fn ready(version: Version, service: &str) -> Message {
    let mut message = Command::Ready.head(version);
    message.push(Frame::from(service.as_bytes()));
    message
}

/// A worker's PARTIAL: `MDPW02`, 3, client, ∅, body….
#[must_use]
pub fn partial(client: Frame, body: impl IntoIterator<Item = Frame>) -> Message {
    Command::Partial.carry(Version::V2, client, body)
}

/// A worker's whole or last reply: ∅, `MDPW01`, 3 REPLY, client, ∅, body… or `MDPW02`, 4 FINAL, client,
/// ∅, body….
#[must_use]
pub fn reply(version: Version, client: Frame, body: impl IntoIterator<Item = Frame>) -> Message {
    Command::Reply.carry(version, client, body)
}

#[cfg(test)]
mod tests;
