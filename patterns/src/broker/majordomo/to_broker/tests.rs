use proptest::prelude::*;

use super::super::testing::{addresses, bodies, bytes, frames, is_tail, names, noise, versions};
use super::super::{BadName, MAX_BODY_FRAMES, disconnect, heartbeat, to_worker};
use super::*;

const C1: Dialect = Dialect {
    party: Party::Client,
    version: Version::V1,
};
const C2: Dialect = Dialect {
    party: Party::Client,
    version: Version::V2,
};
const W1: Dialect = Dialect {
    party: Party::Worker,
    version: Version::V1,
};
const W2: Dialect = Dialect {
    party: Party::Worker,
    version: Version::V2,
};

#[test]
fn messages_are_as_the_rfcs_write_them() {
    let expect = |message: Message, frames: Message| assert_eq!(bytes(&message), bytes(&frames));
    let client = || Frame::from(&b"\0abcd"[..]);
    expect(
        request(Version::V1, "echo", frames([b"x"])),
        frames([b"", b"MDPC01", b"echo", b"x"]),
    );
    expect(
        request(Version::V2, "echo", []),
        frames([b"MDPC02", b"\x01", b"echo", b""]),
    );
    expect(
        ready(Version::V1, "echo"),
        frames([b"", b"MDPW01", b"\x01", b"echo"]),
    );
    expect(
        ready(Version::V2, "echo"),
        frames([b"MDPW02", b"\x01", b"echo"]),
    );
    expect(
        reply(Version::V1, client(), frames([b"x"])),
        frames([b"", b"MDPW01", b"\x03", b"\0abcd", b"", b"x"]),
    );
    expect(
        reply(Version::V2, client(), frames([b"x"])),
        frames([b"MDPW02", b"\x04", b"\0abcd", b"", b"x"]),
    );
    expect(
        partial(client(), frames([b"x"])),
        frames([b"MDPW02", b"\x03", b"\0abcd", b"", b"x"]),
    );
}

#[test]
fn our_own_protocol_is_left_to_its_reader() {
    for message in [&b"MUT"[..], b"MUT1\x05", b"MUT9 whatever"] {
        assert!(matches!(read(&[Frame::from(message)]), Ok(Said::Ours)));
    }
}

#[test]
fn what_follows_a_complete_command_is_ignored() {
    let message = frames([b"", b"MDPW01", b"\x01", b"echo", b"more"]);
    assert!(matches!(
        read(&message),
        Ok(Said::Ready {
            service: "echo",
            ..
        })
    ));
    let message = frames([b"MDPW02", b"\x05", b"more"]);
    assert!(matches!(read(&message), Ok(Said::Heartbeat { .. })));
    let message = frames([b"", b"MDPW01", b"\x05", b"more", b""]);
    assert!(matches!(read(&message), Ok(Said::Disconnect { .. })));
}

/// A message written as its frames with blanks between; ∅ is an empty one.
fn message(text: &str) -> Message {
    let frame = |word: &str| Frame::from(if word == "∅" { b"" } else { word.as_bytes() });
    text.split(' ').map(frame).collect()
}

fn name(dialect: Dialect, why: BadName) -> Malformed {
    Malformed::BadService(dialect, why)
}

fn version(party: Party, delimited: bool) -> Malformed {
    Malformed::UnknownVersion { party, delimited }
}

/// Malformed messages of clients, and of nobody in particular.
fn malformed_requests() -> Vec<(String, Malformed)> {
    use Malformed::*;
    use Party::Client;
    let long = "s".repeat(256);
    let cases = [
        ("hello", SingleFrame),
        ("∅", SingleFrame),
        ("∅ ∅ ∅", Foreign),
        ("∅ HELLO x", Foreign),
        ("∅ MUT1\x05", Foreign),
        ("id ∅ MDPC01 echo x", Foreign),
        ("∅ MDPC03 echo x", version(Client, true)),
        ("MDPC03", version(Client, false)),
        ("MDPC010 echo x", version(Client, false)),
        ("MDPC01 echo x", NoDelimiter(Client)),
        ("MDPC01", NoDelimiter(Client)),
        ("∅ MDPC02 \x01 echo x", SurplusDelimiter(Client)),
        ("∅ MDPC01", NoService(C1)),
        ("MDPC02", NoCommand(C2)),
        ("MDPC02 \x01", NoService(C2)),
        ("∅ MDPC01 echo", NoBody(C1)),
        ("MDPC02 \x01 echo", NoBody(C2)),
        ("MDPC02 \x04 echo x", UnknownCommand(C2)),
        ("MDPC02 echo x", UnknownCommand(C2)),
        ("MDPC02 ∅ echo x", UnknownCommand(C2)),
        ("MDPC02 \x02 echo x", WrongWay(C2)),
        ("MDPC02 \x03 echo x", WrongWay(C2)),
        ("∅ MDPC01 ∅ x", name(C1, BadName::Empty)),
        ("MDPC02 \x01 ∅ x", name(C2, BadName::Empty)),
        ("∅ MDPC01 echo\0 x", name(C1, BadName::Unprintable)),
        (&format!("∅ MDPC01 {long} x"), name(C1, BadName::Long(256))),
    ];
    cases.map(|(text, why)| (text.to_string(), why)).into()
}

/// Malformed messages of workers.
fn malformed_work() -> Vec<(String, Malformed)> {
    use Malformed::*;
    use Party::Worker;
    let long = "c".repeat(256);
    let cases = [
        ("∅ MDPW03 \x01 echo", version(Worker, true)),
        ("MDPW0X \x01 echo", version(Worker, false)),
        ("MDPW01 \x01 echo", NoDelimiter(Worker)),
        ("∅ MDPW02 \x01 echo", SurplusDelimiter(Worker)),
        ("∅ MDPW01", NoCommand(W1)),
        ("MDPW02", NoCommand(W2)),
        ("∅ MDPW01 \x06", UnknownCommand(W1)),
        ("MDPW02 \x07", UnknownCommand(W2)),
        ("∅ MDPW01 \0", UnknownCommand(W1)),
        ("∅ MDPW01 ∅", UnknownCommand(W1)),
        ("∅ MDPW01 \x01\x01 echo", UnknownCommand(W1)),
        ("∅ MDPW01 \x01", NoService(W1)),
        ("MDPW02 \x01", NoService(W2)),
        ("∅ MDPW01 \x01 ∅", name(W1, BadName::Empty)),
        (&format!("MDPW02 \x01 {long}"), name(W2, BadName::Long(256))),
        ("∅ MDPW01 \x02 client ∅ x", WrongWay(W1)),
        ("∅ MDPW01 \x03", NoAddress(W1)),
        ("∅ MDPW01 \x03 client", NoAddress(W1)),
        ("∅ MDPW01 \x03 client ∅", NoBody(W1)),
        ("MDPW02 \x04 client", NoAddress(W2)),
        ("MDPW02 \x04 client ∅", NoBody(W2)),
        ("MDPW02 \x03", NoAddress(W2)),
        ("∅ MDPW01 \x03 client x", NoAddressDelimiter(W1)),
        ("MDPW02 \x03 one two ∅ x", NoAddressDelimiter(W2)),
        ("∅ MDPW01 \x03 ∅ ∅ x", BadAddress(W1)),
        (&format!("MDPW02 \x04 {long} ∅ x"), BadAddress(W2)),
    ];
    cases.map(|(text, why)| (text.to_string(), why)).into()
}

#[test]
fn every_malformed_message_is_told_apart() {
    assert_eq!(read(&[]).map(|_| ()), Err(Malformed::Nothing));
    for (text, expected) in malformed_requests() {
        assert_eq!(read(&message(&text)).map(|_| ()), Err(expected), "{text:?}");
        assert!(!expected.claims_worker(), "{text:?}");
    }
    for (text, expected) in malformed_work() {
        assert_eq!(read(&message(&text)).map(|_| ()), Err(expected), "{text:?}");
        assert!(expected.claims_worker(), "{text:?}");
        assert!(expected.answer().is_some(), "{text:?}");
    }
}

#[test]
fn every_reason_is_one_sentence() {
    let all = malformed_requests().into_iter().chain(malformed_work());
    for sentence in all.map(|(_, why)| why.to_string()) {
        assert!(
            !sentence.contains(". ") && !sentence.ends_with('.'),
            "{sentence}"
        );
    }
}

#[test]
fn a_body_that_is_taken_fits_the_message_to_the_worker() {
    let body = |frames| vec![Frame::from(&b""[..]); frames];
    let message = request(Version::V1, "echo", body(MAX_BODY_FRAMES));
    assert!(read(&message).is_ok());
    let client = Frame::from(&b"client"[..]);
    let message = to_worker::request(Version::V1, client, body(MAX_BODY_FRAMES));
    let routing_id = 1;
    assert_eq!(message.len() + routing_id, crate::transport::MAX_FRAMES);
    let message = request(Version::V2, "echo", body(MAX_BODY_FRAMES + 1));
    assert_eq!(read(&message).map(|_| ()), Err(Malformed::LongBody(C2)));
}

proptest! {
    #[test]
    fn requests_survive_the_round_trip(version in versions(), name in names(), body in bodies()) {
        let message = request(version, &name, body.clone());
        match read(&message).unwrap() {
            Said::Request { version: v, service, body: b } => {
                prop_assert_eq!((v, service, bytes(b)), (version, &*name, bytes(&body)));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn registrations_survive_the_round_trip(version in versions(), name in names()) {
        let message = ready(version, &name);
        match read(&message).unwrap() {
            Said::Ready { version: v, service } => prop_assert_eq!((v, service), (version, &*name)),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn replies_survive_the_round_trip(
        version in versions(), client in addresses(), body in bodies(),
    ) {
        let message = reply(version, client.clone(), body.clone());
        match read(&message).unwrap() {
            Said::Reply { version: v, client: c, body: b } => {
                prop_assert_eq!((v, &**c, bytes(b)), (version, &*client, bytes(&body)));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn partial_replies_survive_the_round_trip(client in addresses(), body in bodies()) {
        let message = partial(client.clone(), body.clone());
        match read(&message).unwrap() {
            Said::Partial { client: c, body: b } => {
                prop_assert_eq!((&**c, bytes(b)), (&*client, bytes(&body)));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn signs_of_life_and_death_survive_the_round_trip(version in versions()) {
        let message = heartbeat(version);
        let alike = matches!(read(&message), Ok(Said::Heartbeat { version: v }) if v == version);
        prop_assert!(alike);
        let message = disconnect(version);
        let alike = matches!(read(&message), Ok(Said::Disconnect { version: v }) if v == version);
        prop_assert!(alike);
    }

    /// What is read lies in the message itself, so nothing is allocated for it.
    #[test]
    fn noise_never_panics_and_nothing_is_copied(message in noise()) {
        match read(&message) {
            Ok(Said::Request { body, service, .. }) => {
                prop_assert!(is_tail(body, &message));
                prop_assert!(message.iter().any(|frame| frame.as_ptr() == service.as_ptr()));
            }
            Ok(Said::Partial { body, client } | Said::Reply { body, client, .. }) => {
                prop_assert!(is_tail(body, &message));
                prop_assert!(message.iter().any(|frame| std::ptr::eq(frame, client)));
            }
            Ok(_) => {}
            Err(why) => prop_assert_eq!(why.answer().is_some(), why.claims_worker() || (
                why.party().is_some() && why.is_hopeless()
            )),
        }
    }
}
