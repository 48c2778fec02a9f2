//! Requesters and repliers over every transport, with strangers, restarts and lost replies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mutirao::reqrep::{CallError, NextError, ReplierConfig, RequesterConfig};
use mutirao::request::Retry;
use mutirao::{Endpoint, Replier, Requester, StopHandle};
use proptest::prelude::*;

use crate::bare::{Bare, SCHEMES, until};
use crate::support::{PATIENCE, fresh_endpoint};

/// Retries soon, so that tests end soon.
fn quick() -> RequesterConfig {
    RequesterConfig {
        retry: Retry {
            timeout: Duration::from_millis(100),
            attempts: 100,
            pause_min: Duration::from_millis(5),
            pause_max: Duration::from_millis(20),
        },
        ..RequesterConfig::default()
    }
}

/// Retries so late that the test would notice.
fn patient() -> RequesterConfig {
    let mut config = quick();
    config.retry.timeout = PATIENCE;
    config
}

fn requester(endpoint: &Endpoint, config: RequesterConfig) -> Requester<u32, u32> {
    Requester::connect(endpoint, config).expect("a requester")
}

fn replier(endpoint: &Endpoint) -> Replier<u32, u32> {
    Replier::bind(endpoint, ReplierConfig::default()).expect("a replier")
}

/// Doubles numbers below 1,000 until dropped.
struct Doubler {
    endpoint: Endpoint,
    stop: StopHandle,
    thread: Option<JoinHandle<Replier<u32, u32>>>,
}

impl Doubler {
    fn start(scheme: &str) -> Doubler {
        let mut replier = replier(&fresh_endpoint(scheme));
        Doubler {
            endpoint: replier.endpoint().clone(),
            stop: replier.stop_handle(),
            thread: Some(thread::spawn(move || {
                replier.serve(double).expect("a socket that works");
                replier
            })),
        }
    }

    fn stop(mut self) -> Replier<u32, u32> {
        self.stop.stop();
        self.thread
            .take()
            .expect("running")
            .join()
            .expect("no panic")
    }
}

fn double(number: u32) -> Result<u32, String> {
    match number {
        0..1_000 => Ok(2 * number),
        _ => Err(format!("{number} is too large")),
    }
}

#[test]
fn every_transport_carries_replies_and_refusals() {
    for scheme in SCHEMES {
        let doubler = Doubler::start(scheme);
        let mut requester = requester(&doubler.endpoint, patient());
        for number in 0..100 {
            assert_eq!(requester.call(&number).unwrap(), 2 * number, "{scheme}");
        }
        assert_eq!(requester.call_within(&4, PATIENCE).unwrap(), 8);
        let refused = requester.call(&1_000).unwrap_err();
        assert!(matches!(refused, CallError::Refused(reason) if reason == "1000 is too large"));
        assert_eq!(doubler.stop().stats().requests, 102);
    }
}

#[test]
fn many_requests_at_once_are_answered_in_order() {
    let doubler = Doubler::start("tcp");
    let mut requester = requester(&doubler.endpoint, patient());
    let answers: Vec<_> = requester.call_all(990..1_010_u32).collect();
    for (number, answer) in (990..).zip(answers) {
        match answer {
            Ok(doubled) => assert_eq!(doubled, 2 * number),
            Err(CallError::Refused(_)) => assert!(number >= 1_000),
            Err(error) => panic!("{error}"),
        }
    }
    // What was begun and not taken is forgotten, and does not disturb what follows.
    assert_eq!(requester.call_all(0..500_u32).take(3).count(), 3);
    assert_eq!(requester.call(&7).unwrap(), 14);
    let many = requester.call_all(0..999_u32).map(Result::unwrap);
    assert!(many.eq((0..999).map(|number| 2 * number)));
}

#[test]
fn without_a_replier_a_call_ends_after_its_attempts_or_its_deadline() {
    for scheme in SCHEMES {
        let mut config = quick();
        config.retry.timeout = Duration::from_millis(5);
        config.retry.attempts = 3;
        let nobody = Endpoint::clone(replier(&fresh_endpoint(scheme)).endpoint());
        let mut requester = requester(&nobody, config);
        let error = requester.call(&1).unwrap_err();
        assert!(
            matches!(error, CallError::TimedOut { attempts: 3, .. }),
            "{error}"
        );
        let error = requester.call_within(&1, Duration::from_millis(30));
        assert!(matches!(error, Err(CallError::TimedOut { .. })));
    }
}

#[test]
fn what_was_given_up_without_a_replier_is_not_done_when_one_comes() {
    for scheme in ["tcp", "ipc", "memory"] {
        let nobody = Endpoint::clone(replier(&fresh_endpoint(scheme)).endpoint());
        let mut requester = requester(&nobody, quick());
        for number in [1, 2] {
            let given_up = requester.call_within(&number, Duration::from_millis(150));
            assert!(matches!(given_up, Err(CallError::TimedOut { .. })));
        }
        let mut replier = until("free endpoint", || {
            thread::yield_now();
            Replier::<u32, u32>::bind(&nobody, ReplierConfig::default()).ok()
        });
        let stop = replier.stop_handle();
        let serving = thread::spawn(move || {
            let mut seen = Vec::new();
            let serve = |number| {
                seen.push(number);
                double(number)
            };
            replier.serve(serve).expect("a socket that works");
            seen
        });
        assert_eq!(requester.call(&3).unwrap(), 6, "{scheme}");
        stop.stop();
        assert_eq!(serving.join().unwrap(), [3], "{scheme}");
    }
}

#[test]
fn a_requester_survives_restarts_of_its_replier() {
    let mut replier = replier(&fresh_endpoint("tcp"));
    let endpoint = replier.endpoint().clone();
    let mut requester = requester(&endpoint, quick());
    for round in 0..3 {
        let stop = replier.stop_handle();
        let serving = thread::spawn(move || replier.serve(double));
        assert_eq!(requester.call(&round).unwrap(), 2 * round);
        stop.stop();
        serving.join().unwrap().unwrap();
        // The call begins while nobody listens.
        let (begun, has_begun) = mpsc::channel();
        let restarting = thread::spawn({
            let endpoint = endpoint.clone();
            move || {
                has_begun.recv().unwrap();
                // The port is free as soon as libzmq has closed the old socket.
                let mut replier = until("free port", || {
                    thread::yield_now();
                    Replier::bind(&endpoint, ReplierConfig::default()).ok()
                });
                let request = replier.next(PATIENCE).unwrap();
                replier.reply(request.asker, &77).unwrap();
                replier
            }
        });
        begun.send(()).unwrap();
        assert_eq!(requester.call(&5).unwrap(), 77);
        replier = restarting.join().unwrap();
    }
}

#[test]
fn a_lost_reply_is_asked_for_again() {
    let mut replier = replier(&fresh_endpoint("tcp"));
    let mut requester = requester(replier.endpoint(), quick());
    let calling = thread::spawn(move || (requester.call(&1), requester));
    // Dropping the asker loses the reply, so that the request is new when it comes again.
    drop(replier.next(PATIENCE).unwrap());
    let request = replier.next(PATIENCE).unwrap();
    replier.reply(request.asker, &9).unwrap();
    let (answer, requester) = calling.join().unwrap();
    assert_eq!(answer.unwrap(), 9);
    assert_eq!(requester.stats().retried, 1);
}

#[test]
fn a_repeated_request_is_answered_from_memory() {
    let mut replier = replier(&fresh_endpoint("tcp"));
    let client = Bare::connect(zmq::DEALER, replier.endpoint());
    let ask = |attempt: u8| {
        let id = [0xb5, 0x9e, 0, 0, 0, 0, 1, attempt];
        client.send(&[&id, b"", b"\x05"]);
        id.to_vec()
    };
    let first = ask(1);
    let request = replier.next(PATIENCE).unwrap();
    // It comes again while it is worked on, and once more when it is answered.
    ask(2);
    assert!(matches!(
        replier.next(Duration::from_millis(50)),
        Err(NextError::TimedOut)
    ));
    replier.reply(request.asker, &10).unwrap();
    assert_eq!(client.receive(), [first, vec![], vec![10]]);
    let third = ask(3);
    client.send(&[b"end", b"", b"\x06"]);
    assert_eq!(replier.next(PATIENCE).unwrap().value, 6);
    assert_eq!(client.receive(), [third, vec![], vec![10]]);
    assert_eq!(replier.stats().requests, 2);
}

#[test]
fn the_same_id_of_another_client_is_another_request() {
    let mut replier = replier(&fresh_endpoint("tcp"));
    for number in [5, 6] {
        let client = Bare::connect(zmq::DEALER, replier.endpoint());
        client.send(&[&[0xb5, 0x9e, 0, 0, 0, 0, 1, 1], b"", &[number]]);
        let request = replier.next(PATIENCE).unwrap();
        assert_eq!(request.value, u32::from(number));
        replier.reply(request.asker, &0).unwrap();
    }
}

#[test]
fn plain_clients_are_served() {
    let doubler = Doubler::start("tcp");
    let plain = Bare::connect(zmq::REQ, &doubler.endpoint);
    let correlated = crate::bare::bare(zmq::REQ);
    correlated.socket.set_req_correlate(true).unwrap();
    correlated.socket.set_req_relaxed(true).unwrap();
    correlated
        .socket
        .connect(&doubler.endpoint.to_string())
        .unwrap();
    for client in [plain, correlated] {
        for _ in 0..2 {
            client.send(&[b"\x15"]);
            assert_eq!(client.receive(), [b"\x2a"]);
        }
        client.send(&[b"\xcd\x03\xe8"]);
        assert_eq!(client.receive(), [&b""[..], b"1000 is too large"]);
    }
}

#[test]
fn plain_servers_are_understood() {
    let (server, endpoint) = Bare::bind(zmq::REP);
    let mut requester = requester(&endpoint, patient());
    let serving = thread::spawn(move || {
        for answer in [&[&b"\x07"[..]][..], &[b"", b"no"], &[b"\xa1x"]] {
            assert_eq!(server.receive(), [b"\x05"]);
            server.send(answer);
        }
        server
    });
    assert_eq!(requester.call(&5).unwrap(), 7);
    assert!(matches!(requester.call(&5), Err(CallError::Refused(reason)) if reason == "no"));
    assert!(matches!(requester.call(&5), Err(CallError::Unreadable(_))));
    serving.join().unwrap();
}

#[test]
fn late_and_foreign_replies_are_counted_and_dropped() {
    let (server, endpoint) = Bare::bind(zmq::ROUTER);
    let mut requester = requester(&endpoint, patient());
    let serving = thread::spawn(move || {
        for _ in 0..2 {
            let request = server.receive();
            let (peer, id) = (&request[0], &request[1]);
            server.send(&[peer, b"rubbish"]);
            server.send(&[peer, b"not an id", b"", b"\x01"]);
            server.send(&[peer, id, b"no delimiter", b"\x01"]);
            server.send(&[peer, id, b"", b"\x2a"]);
            server.send(&[peer, id, b"", b"\x2b"]);
        }
        server
    });
    assert_eq!(requester.call(&1).unwrap(), 42);
    assert_eq!(requester.call(&2).unwrap(), 42);
    let stats = requester.stats();
    assert_eq!((stats.late, stats.foreign, stats.retried), (1, 6, 0));
    serving.join().unwrap();
}

#[test]
fn malformed_requests_get_an_error_reply() {
    let doubler = Doubler::start("tcp");
    let client = Bare::connect(zmq::DEALER, &doubler.endpoint);
    let error_to = |frames: &[&[u8]]| -> String {
        client.send(frames);
        let reply = client.receive();
        let (reason, before) = reply.split_last().expect("a reason");
        assert_eq!(
            before.last(),
            Some(&vec![]),
            "an empty frame marks the error"
        );
        String::from_utf8(reason.clone()).expect("text")
    };
    assert!(error_to(&[b"no delimiter"]).contains("empty frame"));
    assert!(error_to(&[b"", b"\x01", b"\x02"]).contains("more than one frame"));
    for body in [&b""[..], b"\xa4text", b"\xc1", b"\xdb\xff\xff\xff\xff"] {
        assert!(error_to(&[b"id", b"", body]).contains("not of the expected type"));
    }
    // A probe, which gets no answer; then a good request.
    client.send(&[b""]);
    client.send(&[b"id", b"", b"\x02"]);
    assert_eq!(client.receive(), [&b"id"[..], b"", b"\x04"]);
    assert_eq!(doubler.stop().stats().malformed, 7);
}

#[test]
fn random_requests_never_panic_and_never_stop_the_good_ones() {
    let doubler = Doubler::start("tcp");
    let strategy = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 1..6);
    proptest!(ProptestConfig::with_cases(200), |(frames in strategy)| {
        let client = Bare::connect(zmq::DEALER, &doubler.endpoint);
        client.send(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
        client.send(&[b"good", b"", b"\x02"]);
        while client.receive() != [&b"good"[..], b"", b"\x04"] {}
    });
}

#[test]
fn a_panic_of_the_handler_reaches_the_server_and_the_requester_hears_of_it() {
    let mut replier = replier(&fresh_endpoint("tcp"));
    let mut requester = requester(replier.endpoint(), patient());
    let serving = thread::spawn(move || {
        let serve = || replier.serve(|_| -> Result<u32, String> { panic!("on purpose") });
        assert!(catch_unwind(AssertUnwindSafe(serve)).is_err());
        // A socket that closes while a repeated request is unread takes its last answers with it.
        replier
    });
    let error = requester.call(&1).unwrap_err();
    assert!(matches!(error, CallError::Refused(reason) if reason == "the handler panicked"));
    serving.join().unwrap();
}

#[test]
fn stopping_ends_blocked_calls_at_once() {
    let (_server, endpoint) = Bare::bind(zmq::ROUTER);
    let mut requester = requester(&endpoint, patient());
    let stop = requester.stop_handle();
    let calling = thread::spawn(move || requester.call_within(&1, Duration::MAX));
    stop.stop();
    assert!(matches!(calling.join().unwrap(), Err(CallError::Stopped)));

    let mut replier = replier(&fresh_endpoint("tcp"));
    let stop = replier.stop_handle();
    let waiting = thread::spawn(move || replier.next(Duration::MAX).map(|request| request.value));
    stop.stop();
    assert!(matches!(waiting.join().unwrap(), Err(NextError::Stopped)));
}

#[test]
fn what_is_over_the_limit_is_refused_on_either_side() {
    let mut config = ReplierConfig::default();
    config.socket.max_message_bytes = 1_000;
    let mut replier = Replier::<u32, String>::bind(&fresh_endpoint("tcp"), config).unwrap();
    let endpoint = replier.endpoint().clone();
    let stop = replier.stop_handle();
    let serving =
        thread::spawn(move || replier.serve(|bytes| Ok::<_, String>("x".repeat(bytes as usize))));
    let mut requester = Requester::<u32, String>::connect(&endpoint, patient()).unwrap();
    assert_eq!(requester.call(&900).unwrap().len(), 900);
    let error = requester.call(&2_000).unwrap_err().to_string();
    assert!(error.contains("over the size limit"), "{error}");

    let mut config = patient();
    config.socket.max_message_bytes = 1_000;
    let mut requester = Requester::<str, u32>::connect(&endpoint, config).unwrap();
    let error = requester.call(&"x".repeat(1_000)).unwrap_err();
    assert!(matches!(
        error,
        CallError::TooLarge {
            bytes: 1_003,
            limit_bytes: 1_000
        }
    ));
    stop.stop();
    serving.join().unwrap().unwrap();
}
