//! What the broker says to workers.

use super::rest::Rest;
use super::{Command, Malformed, Party, Version};
use crate::transport::{Frame, Message};

/// What a message to a worker says; it borrows from the message.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// Work to do.
    Request {
        /// In which version.
        version: Version,
        /// To be sent back with the reply as it is.
        client: &'a Frame,
        /// What is asked: at least one frame.
        body: &'a [Frame],
    },
    /// The broker lives.
    Heartbeat {
        /// In which version.
        version: Version,
    },
    /// The worker must close its socket and may start anew with another.
    Disconnect {
        /// In which version.
        version: Version,
    },
}

/// Reads a message as a worker's DEALER receives it.
///
/// Source: RFC 7 and RFC 18.
///
/// # Errors
///
/// [`Malformed`] says what is wrong.
pub fn read(message: &[Frame]) -> Result<Order<'_>, Malformed> {
    let mut rest = Rest::open(message)?;
    let (dialect, version) = (rest.dialect, rest.dialect.version);
    if dialect.party == Party::Client {
        return Err(Malformed::WrongWay(dialect));
    }
    let unknown = Malformed::UnknownCommand(dialect);
    match Command::read(rest.code()?, version).ok_or(unknown)? {
        Command::Request => {
            let (client, body) = (rest.client()?, rest.body()?);
            Ok(Order::Request {
                version,
                client,
                body,
            })
        }
        Command::Heartbeat => Ok(Order::Heartbeat { version }),
        Command::Disconnect => Ok(Order::Disconnect { version }),
        Command::Ready | Command::Partial | Command::Reply => Err(Malformed::WrongWay(dialect)),
    }
}

/// Work for a worker: ∅, `MDPW01`, 2 REQUEST, client, ∅, body… or `MDPW02`, 2 REQUEST, client, ∅, body….
///
/// `client` is any 1 to [`MAX_ADDRESS_BYTES`](super::MAX_ADDRESS_BYTES) bytes by which the broker knows
/// the request again: workers send it back unread.
#[must_use]
pub fn request(version: Version, client: Frame, body: impl IntoIterator<Item = Frame>) -> Message {
    Command::Request.carry(version, client, body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{addresses, bodies, bytes, frames, is_tail, noise, versions};
    use super::super::{Dialect, disconnect, heartbeat, to_broker};
    use super::*;

    #[test]
    fn requests_are_as_the_rfcs_write_them() {
        let client = || Frame::from(&b"\0abcd"[..]);
        assert_eq!(
            bytes(&request(Version::V1, client(), frames([b"x", b"y"]))),
            bytes(&frames([
                b"", b"MDPW01", b"\x02", b"\0abcd", b"", b"x", b"y"
            ]))
        );
        assert_eq!(
            bytes(&request(Version::V2, client(), [])),
            bytes(&frames([b"MDPW02", b"\x02", b"\0abcd", b"", b""]))
        );
    }

    #[test]
    fn what_goes_the_other_way_is_refused() {
        for version in [Version::V1, Version::V2] {
            let way = |message: Message| read(&message).map(|_| ()).unwrap_err();
            let client = Frame::from(&b"c"[..]);
            let worker = Malformed::WrongWay(Dialect::worker(version));
            assert_eq!(way(to_broker::ready(version, "echo")), worker);
            assert_eq!(way(to_broker::reply(version, client, [])), worker);
            let asked = way(to_broker::request(version, "echo", []));
            assert_eq!(asked, Malformed::WrongWay(Dialect::client(version)));
        }
    }

    proptest! {
        #[test]
        fn requests_survive_the_round_trip(
            version in versions(), client in addresses(), body in bodies(),
        ) {
            let message = request(version, client.clone(), body.clone());
            match read(&message).unwrap() {
                Order::Request { version: v, client: c, body: b } => {
                    prop_assert_eq!((v, &**c, bytes(b)), (version, &*client, bytes(&body)));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn signs_of_life_and_death_survive_the_round_trip(version in versions()) {
            let message = heartbeat(version);
            let alike = matches!(read(&message), Ok(Order::Heartbeat { version: v }) if v == version);
        prop_assert!(alike);
            let message = disconnect(version);
            let alike = matches!(read(&message), Ok(Order::Disconnect { version: v }) if v == version);
        prop_assert!(alike);
        }

        #[test]
        fn noise_never_panics_and_nothing_is_copied(message in noise()) {
            if let Ok(Order::Request { body, .. }) = read(&message) {
                prop_assert!(is_tail(body, &message));
            }
        }
    }
}
