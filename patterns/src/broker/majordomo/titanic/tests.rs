use proptest::prelude::*;

use super::super::testing::{bodies, bytes, frames, is_tail, noise};
use super::super::{BadName, MAX_BODY_FRAMES, Version, to_client};
use super::*;
use crate::transport::MAX_FRAMES;

const UUID: &[u8] = b"0123456789abcdef0123456789abcdef";

fn ticket() -> Ticket {
    Ticket::read(UUID).unwrap()
}

fn services() -> impl Strategy<Value = Service> {
    prop::sample::select(vec![Service::Request, Service::Reply, Service::Close])
}

#[test]
fn services_are_known_by_their_names() {
    for service in [Service::Request, Service::Reply, Service::Close] {
        assert_eq!(Service::named(service.name()), Some(service));
    }
    assert_eq!(Service::named("titanic.sink"), None);
    assert_eq!(Service::named("echo"), None);
}

#[test]
fn questions_are_as_the_rfc_writes_them() {
    let asked = request("echo", frames([b"Hello world"]));
    assert_eq!(bytes(&asked), bytes(&frames([b"echo", b"Hello world"])));
    assert!(
        matches!(read(Service::Request, &asked), Ok(Asked::Request { service: "echo", body }) if is_tail(body, &asked))
    );
    assert_eq!(bytes(&about(ticket())), bytes(&frames([UUID])));
    let asked = frames([UUID]);
    assert!(matches!(read(Service::Reply, &asked), Ok(Asked::Reply(t)) if t == ticket()));
    assert!(matches!(read(Service::Close, &asked), Ok(Asked::Close(t)) if t == ticket()));
}

#[test]
fn what_is_asked_badly_is_told_apart() {
    let why = |service, body: Message| read(service, &body).map(|_| ()).unwrap_err();
    for service in [Service::Request, Service::Reply, Service::Close] {
        assert_eq!(why(service, vec![]), BadAsk::Short);
    }
    assert_eq!(why(Service::Request, frames([b"echo"])), BadAsk::Short);
    let unnamed = why(Service::Request, frames([b"", b"x"]));
    assert_eq!(unnamed, BadAsk::BadService(BadName::Empty));
    for service in [&b"mmi.service"[..], b"titanic.request"] {
        assert_eq!(
            why(Service::Request, frames([service, b"x"])),
            BadAsk::Reserved
        );
    }
    assert_eq!(why(Service::Reply, frames([b"7"])), BadAsk::NoTicket);
    assert_eq!(why(Service::Close, frames([b"../x"])), BadAsk::NoTicket);
}

#[test]
fn answers_are_as_the_rfc_writes_them() {
    let expect =
        |answer: Answer, frames: Message| assert_eq!(bytes(&answer.body()), bytes(&frames));
    expect(Answer::Kept(ticket()), frames([b"200", UUID]));
    expect(
        Answer::Done(frames([b"a", b""])),
        frames([b"200", b"a", b""]),
    );
    expect(Answer::Closed, frames([b"200"]));
    expect(Answer::Pending, frames([b"300"]));
    expect(Answer::Unknown, frames([b"400"]));
    expect(Answer::Failed, frames([b"500"]));
}

#[test]
fn words_after_the_digits_mean_nothing() {
    let answer = |status: &[u8]| Answer::read(Service::Reply, &frames([status]));
    assert!(matches!(
        answer(b"300 Pending, sorry"),
        Some(Answer::Pending)
    ));
    assert!(matches!(answer(b"400 "), Some(Answer::Unknown)));
    assert!(answer(b"300Pending").is_none());
    assert!(answer(b"3000").is_none());
    assert!(answer(b"404").is_none());
    assert!(answer(b"30").is_none());
    assert!(Answer::read(Service::Request, &frames([b"200"])).is_none());
    assert!(Answer::read(Service::Request, &frames([b"200", b"7"])).is_none());
}

#[test]
fn the_longest_reply_that_is_taken_reaches_a_client() {
    let kept = vec![Frame::from(&b""[..]); MAX_BODY_FRAMES];
    let sent = to_client::reply(Version::V1, "titanic.reply", Answer::Done(kept).body());
    let routing_id = 1;
    assert!(sent.len() + routing_id <= MAX_FRAMES);
    assert!(to_client::read(&sent).is_ok());
}

proptest! {
    #[test]
    fn requests_survive_the_round_trip(body in bodies()) {
        let asked = request("echo", body.clone());
        match read(Service::Request, &asked).unwrap() {
            Asked::Request { service, body: b } => {
                prop_assert_eq!((service, bytes(b)), ("echo", bytes(&body)));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn answers_survive_the_round_trip(body in bodies(), bits in any::<u128>()) {
        let all = [
            (Service::Request, Answer::Kept(Ticket::from_random(bits))),
            (Service::Reply, Answer::Done(body)),
            (Service::Close, Answer::Closed),
            (Service::Reply, Answer::Pending),
            (Service::Reply, Answer::Unknown),
            (Service::Request, Answer::Failed),
        ];
        for (service, answer) in all {
            let sent = answer.body();
            let read = Answer::read(service, &sent).unwrap();
            prop_assert_eq!(bytes(&read.body()), bytes(&sent));
        }
    }

    #[test]
    fn noise_never_panics_and_nothing_is_copied(service in services(), message in noise()) {
        if let Ok(Asked::Request { body, .. }) = read(service, &message) {
            prop_assert!(is_tail(body, &message));
        }
        if let Some(Answer::Done(reply)) = Answer::read(service, &message) {
            prop_assert!(reply.len() < message.len());
        }
    }
}
