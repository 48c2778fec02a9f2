//! What the broker says to clients.

use super::rest::Rest;
use super::{Dialect, Malformed, Party, Version, with_body};
use crate::transport::{Frame, Message};

/// The codes of the client's half of MDP 0.2; 0.1 has none.
const PARTIAL: u8 = 2;
const FINAL: u8 = 3;

/// What a message to a client says; it borrows from the message.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    /// A part of the reply, and more will come. Only MDP 0.2 has it.
    Partial {
        /// The service that was asked.
        service: &'a str,
        /// What it replies: at least one frame.
        body: &'a [Frame],
    },
    /// The reply, or the last part of it: REPLY in MDP 0.1, FINAL in 0.2.
    Final {
        /// In which version.
        version: Version,
        /// The service that was asked, or `mmi.version` if the broker refuses the client.
        service: &'a str,
        /// What it replies: at least one frame.
        body: &'a [Frame],
    },
}

/// Reads a message as a client's DEALER receives it.
///
/// Source: RFC 7 and RFC 18.
///
/// # Errors
///
/// [`Malformed`] says what is wrong.
pub fn read(message: &[Frame]) -> Result<Reply<'_>, Malformed> {
    let mut rest = Rest::open(message)?;
    let (dialect, version) = (rest.dialect, rest.dialect.version);
    if dialect.party == Party::Worker {
        return Err(Malformed::WrongWay(dialect));
    }
    let code = match version {
        Version::V1 => FINAL,
        Version::V2 => rest.code()?,
    };
    let reply = |service, body| match code {
        PARTIAL => Ok(Reply::Partial { service, body }),
        FINAL => Ok(Reply::Final {
            version,
            service,
            body,
        }),
        1 => Err(Malformed::WrongWay(dialect)),
        _ => Err(Malformed::UnknownCommand(dialect)),
    };
    reply(rest.service()?, rest.body()?)
}

/// A part of a reply to a client of MDP 0.2: `MDPC02`, 2 PARTIAL, service, body….
#[must_use]
pub fn partial(service: &str, body: impl IntoIterator<Item = Frame>) -> Message {
    write(Version::V2, PARTIAL, service, body)
}

/// The whole or last reply to a client: ∅, `MDPC01`, service, body… or `MDPC02`, 3 FINAL, service,
/// body….
#[must_use]
pub fn reply(version: Version, service: &str, body: impl IntoIterator<Item = Frame>) -> Message {
    write(version, FINAL, service, body)
}

fn write(
    version: Version,
    code: u8,
    service: &str,
    body: impl IntoIterator<Item = Frame>,
) -> Message {
    let mut message = Dialect::client(version).head();
    if version == Version::V2 {
        message.push(Frame::from(&[code][..]));
    }
    message.push(Frame::from(service.as_bytes()));
    with_body(message, body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{
        addresses, bodies, bytes, frames, is_tail, names, noise, versions,
    };
    use super::super::{to_broker, to_worker};
    use super::*;

    #[test]
    fn replies_are_as_the_rfcs_write_them() {
        let expect =
            |message: Message, frames: Message| assert_eq!(bytes(&message), bytes(&frames));
        let body = || frames([b"a", b""]);
        expect(
            reply(Version::V1, "echo", body()),
            frames([b"", b"MDPC01", b"echo", b"a", b""]),
        );
        expect(
            reply(Version::V2, "echo", body()),
            frames([b"MDPC02", b"\x03", b"echo", b"a", b""]),
        );
        expect(
            partial("echo", body()),
            frames([b"MDPC02", b"\x02", b"echo", b"a", b""]),
        );
    }

    #[test]
    fn what_goes_the_other_way_is_refused() {
        let way = |message: Message| read(&message).map(|_| ()).unwrap_err();
        let dialect = Dialect::client(Version::V2);
        let request = to_broker::request(Version::V2, "echo", []);
        assert_eq!(way(request), Malformed::WrongWay(dialect));
        let dialect = Dialect::worker(Version::V1);
        let request = to_worker::request(Version::V1, Frame::from(&b"c"[..]), []);
        assert_eq!(way(request), Malformed::WrongWay(dialect));
        let dialect = Dialect::client(Version::V2);
        assert_eq!(
            way(frames([b"MDPC02", b"\x04", b"echo", b"x"])),
            Malformed::UnknownCommand(dialect)
        );
    }

    proptest! {
        #[test]
        fn replies_survive_the_round_trip(version in versions(), name in names(), body in bodies()) {
            let message = reply(version, &name, body.clone());
            match read(&message).unwrap() {
                Reply::Final { version: v, service, body: b } => {
                    prop_assert_eq!((v, service, bytes(b)), (version, &*name, bytes(&body)));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn partial_replies_survive_the_round_trip(name in names(), body in bodies()) {
            let message = partial(&name, body.clone());
            match read(&message).unwrap() {
                Reply::Partial { service, body: b } => {
                    prop_assert_eq!((service, bytes(b)), (&*name, bytes(&body)));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn what_a_worker_replies_reaches_the_client(client in addresses(), body in bodies()) {
            let mut message = to_broker::reply(Version::V1, client, body.clone());
            let Ok(to_broker::Said::Reply { body: b, .. }) = to_broker::read(&message) else {
                panic!("it is a reply");
            };
            let start = message.len() - b.len();
            let message = reply(Version::V2, "echo", message.split_off(start));
            let Reply::Final { body: b, .. } = read(&message).unwrap() else {
                panic!("it is final");
            };
            prop_assert_eq!(bytes(b), bytes(&body));
        }

        #[test]
        fn noise_never_panics_and_nothing_is_copied(message in noise()) {
            if let Ok(Reply::Partial { body, .. } | Reply::Final { body, .. }) = read(&message) {
                prop_assert!(is_tail(body, &message));
            }
        }
    }
}
