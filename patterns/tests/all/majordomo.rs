//! The broker as Majordomo clients and workers see it: plain ZeroMQ sockets and the RFCs' frames.

use mutirao::Worker;
use mutirao::broker::majordomo::MAX_BODY_FRAMES;
use mutirao::broker::{Broker, ClientConfig, Console, Mode};
use mutirao::trio::BrokerWorkerConfig;
use serde_bytes::ByteBuf;

use crate::support::{PATIENCE, broker_in};

const MS: i32 = PATIENCE.as_millis() as i32;

fn broker() -> Broker {
    broker_in(Mode::LoadBalancing)
}

fn socket(kind: zmq::SocketType, broker: &Broker) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    socket.set_rcvtimeo(MS).unwrap();
    socket.set_linger(0).unwrap();
    socket.connect(&broker.endpoint().to_string()).unwrap();
    socket
}

fn send(socket: &zmq::Socket, frames: &[&[u8]]) {
    socket.send_multipart(frames, 0).unwrap();
}

/// The next message that is no heartbeat.
fn receive(socket: &zmq::Socket) -> Vec<Vec<u8>> {
    loop {
        let message = socket.recv_multipart(0).expect("a message in time");
        let beat = message.ends_with(&[b"MDPW01".to_vec(), vec![4]])
            || message.ends_with(&[b"MDPW02".to_vec(), vec![5]]);
        if !beat {
            return message;
        }
    }
}

fn ask(client: &zmq::Socket, service: &str, body: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut request: Vec<&[u8]> = vec![b"MDPC01", service.as_bytes()];
    request.extend(body);
    send(client, &request);
    let mut reply = receive(client);
    assert_eq!(
        reply[..2],
        [b"MDPC01".to_vec(), service.as_bytes().to_vec()]
    );
    reply.split_off(2)
}

/// A worker of MDP 0.1 that has registered, as mmi confirms.
fn worker(broker: &Broker, service: &str) -> zmq::Socket {
    let worker = socket(zmq::DEALER, broker);
    send(&worker, &[b"", b"MDPW01", b"\x01", service.as_bytes()]);
    let client = socket(zmq::REQ, broker);
    while ask(&client, "mmi.service", &[service.as_bytes()]) != [b"200"] {}
    worker
}

/// Takes a request and returns its address and body.
fn work(worker: &zmq::Socket) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut request = receive(worker);
    assert_eq!(request[..3], [vec![], b"MDPW01".to_vec(), vec![2]]);
    assert!(request[4].is_empty());
    let body = request.split_off(5);
    (request.remove(3), body)
}

fn reply(worker: &zmq::Socket, address: &[u8], body: &[u8]) {
    send(worker, &[b"", b"MDPW01", b"\x03", address, b"", body]);
}

#[test]
fn a_request_goes_to_a_worker_and_its_reply_back_byte_for_byte() {
    let broker = broker();
    let (client, worker) = (socket(zmq::REQ, &broker), worker(&broker, "echo"));
    send(&client, &[b"MDPC01", b"echo", b"one", b"two"]);
    let (address, body) = work(&worker);
    assert_eq!(body, [b"one", b"two"]);
    reply(&worker, &address, b"three");
    assert_eq!(receive(&client), [&b"MDPC01"[..], b"echo", b"three"]);
}

#[test]
fn version_0_2_has_partial_replies() {
    let broker = broker();
    let worker = socket(zmq::DEALER, &broker);
    send(&worker, &[b"MDPW02", b"\x01", b"echo"]);
    let client = socket(zmq::DEALER, &broker);
    send(&client, &[b"MDPC02", b"\x01", b"echo", b"ask"]);
    let request = receive(&worker);
    assert_eq!(request[..2], [&b"MDPW02"[..], b"\x02"]);
    assert_eq!(request[3..], [&b""[..], b"ask"]);
    send(&worker, &[b"MDPW02", b"\x03", &request[2], b"", b"part"]);
    send(&worker, &[b"MDPW02", b"\x04", &request[2], b"", b"end"]);
    assert_eq!(
        receive(&client),
        [&b"MDPC02"[..], b"\x02", b"echo", b"part"]
    );
    assert_eq!(receive(&client), [&b"MDPC02"[..], b"\x03", b"echo", b"end"]);
}

#[test]
fn a_request_in_flight_goes_to_another_worker_when_its_own_disconnects() {
    let broker = broker();
    let first = worker(&broker, "echo");
    let client = socket(zmq::REQ, &broker);
    send(&client, &[b"MDPC01", b"echo", b"ask"]);
    work(&first);
    let second = worker(&broker, "echo");
    send(&first, &[b"", b"MDPW01", b"\x05"]);
    let (address, body) = work(&second);
    assert_eq!(body, [b"ask"]);
    reply(&second, &address, b"answer");
    assert_eq!(receive(&client)[2], b"answer");
}

#[test]
fn a_late_reply_is_not_the_answer_to_another_request() {
    let broker = broker();
    let worker = worker(&broker, "echo");
    let client = socket(zmq::REQ, &broker);
    send(&client, &[b"MDPC01", b"echo", b"ask"]);
    let (address, _) = work(&worker);
    reply(&worker, &address, b"answer");
    reply(&worker, &address, b"once more");
    assert_eq!(receive(&client)[2], b"answer");
    send(&client, &[b"MDPC01", b"echo", b"ask"]);
    let (address, _) = work(&worker);
    reply(&worker, &address, b"second answer");
    assert_eq!(receive(&client)[2], b"second answer");
}

#[test]
fn our_own_worker_serves_majordomo_clients() {
    let broker = broker();
    let config = BrokerWorkerConfig::new(broker.endpoint().clone(), vec!["upper".into()]);
    let _worker = Worker::start_at_broker(config, |text: ByteBuf, _| {
        Ok(ByteBuf::from(text.to_ascii_uppercase()))
    })
    .unwrap();
    let client = socket(zmq::REQ, &broker);
    assert_eq!(ask(&client, "upper", &[b"muitas maos"]), [b"MUITAS MAOS"]);
}

#[test]
fn mmi_says_which_services_have_workers() {
    let broker = broker();
    let _worker = worker(&broker, "echo");
    let client = socket(zmq::REQ, &broker);
    assert_eq!(ask(&client, "mmi.service", &[b"echo"]), [b"200"]);
    assert_eq!(ask(&client, "mmi.service", &[b"other"]), [b"404"]);
    assert_eq!(ask(&client, "mmi.weather", &[b"?"]), [b"501"]);
}

#[test]
fn titanic_keeps_a_request_until_its_reply_is_fetched_and_closed() {
    let broker = broker();
    let client = socket(zmq::REQ, &broker);
    let kept = ask(&client, "titanic.request", &[b"echo", b"ask"]);
    assert_eq!(kept[0], b"200");
    let ticket = kept[1].clone();
    assert_eq!(ask(&client, "titanic.reply", &[&ticket]), [b"300"]);
    let worker = worker(&broker, "echo");
    let (address, body) = work(&worker);
    assert_eq!(body, [b"ask"]);
    reply(&worker, &address, b"answer");
    let mut answer = ask(&client, "titanic.reply", &[&ticket]);
    while answer == [b"300"] {
        answer = ask(&client, "titanic.reply", &[&ticket]);
    }
    assert_eq!(answer, [&b"200"[..], b"answer"]);
    assert_eq!(ask(&client, "titanic.close", &[&ticket]), [b"200"]);
    assert_eq!(ask(&client, "titanic.close", &[&ticket]), [b"200"]);
    assert_eq!(ask(&client, "titanic.reply", &[&ticket]), [b"400"]);
}

#[test]
fn by_request_and_reply_requests_are_served_and_titanic_is_refused() {
    let broker = broker_in(Mode::RequestReply);
    let worker = worker(&broker, "echo");
    let client = socket(zmq::REQ, &broker);
    send(&client, &[b"MDPC01", b"echo", b"ask"]);
    let (address, _) = work(&worker);
    reply(&worker, &address, b"answer");
    assert_eq!(receive(&client)[2], b"answer");
    for service in ["titanic.request", "titanic.reply", "titanic.close"] {
        let answer = ask(&client, service, &[b"echo", b"ask"]);
        assert_eq!(answer[0], b"500", "{service}");
        let words = String::from_utf8_lossy(&answer[1]);
        assert!(words.contains("ask the service itself"), "{words}");
        let known = ask(&client, "mmi.service", &[service.as_bytes()]);
        assert_eq!(known, [b"404"], "{service}");
    }
}

#[test]
fn workers_that_break_the_rules_are_disconnected() {
    let broker = broker();
    let messages: [&[&[u8]]; 5] = [
        &[b"", b"MDPW01", b"\x04"],
        &[b"", b"MDPW01", b"\x01", b"mmi.service"],
        &[b"", b"MDPW01", b"\x01", b"mmi.echo"],
        &[b"", b"MDPW01", b"\x01", b"titanic.reply"],
        &[b"", b"MDPW01", b"\x03", b"nobody", b"", b"answer"],
    ];
    for message in messages {
        let worker = socket(zmq::DEALER, &broker);
        send(&worker, message);
        assert_eq!(receive(&worker), [&b""[..], b"MDPW01", b"\x05"]);
    }
}

/// What a peer hears after a message.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Nothing,
    /// To begin anew, in these frames.
    Disconnect(&'static [&'static [u8]]),
    /// That it can never be understood, in frames that begin with these.
    Refused(&'static [&'static [u8]]),
}

const LEAVE_1: Answer = Answer::Disconnect(&[b"", b"MDPW01", b"\x05"]);
const LEAVE_2: Answer = Answer::Disconnect(&[b"MDPW02", b"\x06"]);
const REFUSED_1: Answer = Answer::Refused(&[b"", b"MDPC01", b"mmi.version", b"501"]);
const REFUSED_2: Answer = Answer::Refused(&[b"MDPC02", b"\x03", b"mmi.version", b"501"]);

type Case = (&'static [&'static [u8]], Answer);

/// Longer than a name or an address can be.
const LONG: &[u8] = &[b's'; 256];

const OF_CLIENTS: &[Case] = &[
    (&[b""], Answer::Nothing),
    (&[b"hello"], Answer::Nothing),
    (&[b"", b""], Answer::Nothing),
    (&[b"", b"hello", b"x"], Answer::Nothing),
    (&[b"GET / HTTP/1.1"], Answer::Nothing),
    (&[b"", b"MDPC01"], Answer::Nothing),
    (&[b"", b"MDPC01", b"echo"], Answer::Nothing),
    (&[b"", b"MDPC01", b"", b"x"], Answer::Nothing),
    (&[b"", b"MDPC01", b"echo\0", b"x"], Answer::Nothing),
    (&[b"", b"MDPC01", b"\xff\xfe", b"x"], Answer::Nothing),
    (&[b"", b"MDPC01", LONG, b"x"], Answer::Nothing),
    (&[b"id", b"", b"MDPC01", b"echo", b"x"], Answer::Nothing),
    (&[b"", b"", b"MDPC01", b"echo", b"x"], Answer::Nothing),
    (
        &[b"MDPC01", b"echo", b"x"],
        Answer::Refused(&[b"MDPC01", b"mmi.version", b"501"]),
    ),
    (&[b"", b"MDPC09", b"echo", b"x"], REFUSED_1),
    (&[b"MDPC02"], Answer::Nothing),
    (&[b"MDPC02", b"\x01"], Answer::Nothing),
    (&[b"MDPC02", b"\x01", b"echo"], Answer::Nothing),
    (&[b"MDPC02", b"\x02", b"echo", b"x"], Answer::Nothing),
    (&[b"MDPC02", b"\x03", b"echo", b"x"], Answer::Nothing),
    (&[b"MDPC02", b"\x07", b"echo", b"x"], Answer::Nothing),
    (&[b"MDPC02", b"echo", b"x"], Answer::Nothing),
    (
        &[b"", b"MDPC02", b"\x01", b"echo", b"x"],
        Answer::Refused(&[b"", b"MDPC02", b"\x03", b"mmi.version", b"501"]),
    ),
    (&[b"MDPC09", b"\x01", b"echo", b"x"], REFUSED_2),
];

const OF_WORKERS: &[Case] = &[
    (&[b"", b"MDPW01"], LEAVE_1),
    (&[b"", b"MDPW01", b""], LEAVE_1),
    (&[b"", b"MDPW01", b"\x00"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x09"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x01\x01", b"echo"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x01"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x01", b""], LEAVE_1),
    (&[b"", b"MDPW01", b"\x01", LONG], LEAVE_1),
    (&[b"", b"MDPW01", b"\x02", b"x", b"", b"x"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x03"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x03", b"x"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x03", b"x", b""], LEAVE_1),
    (&[b"", b"MDPW01", b"\x03", b"x", b"x", b"x"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x03", b"", b"", b"x"], LEAVE_1),
    (&[b"", b"MDPW01", b"\x03", LONG, b"", b"x"], LEAVE_1),
    (&[b"", b"MDPW09", b"\x01", b"echo"], LEAVE_1),
    (
        &[b"MDPW01", b"\x01", b"echo"],
        Answer::Disconnect(&[b"MDPW01", b"\x05"]),
    ),
    (&[b"MDPW02"], LEAVE_2),
    (&[b"MDPW02", b"\x01"], LEAVE_2),
    (&[b"MDPW02", b"\x02", b"x", b"", b"x"], LEAVE_2),
    (&[b"MDPW02", b"\x03", b"x", b""], LEAVE_2),
    (&[b"MDPW02", b"\x04", b"x"], LEAVE_2),
    (&[b"MDPW02", b"\x07"], LEAVE_2),
    (&[b"MDPW09", b"\x01", b"echo"], LEAVE_2),
    (
        &[b"", b"MDPW02", b"\x01", b"echo"],
        Answer::Disconnect(&[b"", b"MDPW02", b"\x06"]),
    ),
];

const OF_OURS: &[Case] = &[
    (&[b"MUT"], Answer::Nothing),
    (&[b"MUT1"], Answer::Nothing),
    (&[b"MUT1\xff"], Answer::Nothing),
    (&[b"MUT1\x00"], Answer::Nothing),
    (&[b"MUT1\x06\x01\x01\x00\x01"], Answer::Nothing),
    (&[b"MUT1\x08\x01\x00\x01\xc3\x01"], Answer::Nothing),
    (&[b"MUT1\x09"], Answer::Nothing),
    (&[b"MUT1\x09\xdd\xff\xff\xff\xff"], Answer::Nothing),
    (&[b"MUT1\x09\x81\xa5Hello\x90"], Answer::Nothing),
    (
        &[b"MUT1\x0a\x81\xa4Beat\x92\x00\xdd\xff\xff\xff\xff"],
        Answer::Nothing,
    ),
    (
        &[b"MUT1\x05\x07\x00\xce\xff\xff\xff\xff\x01"],
        Answer::Nothing,
    ),
    (&[b"MUT1\x05\x07\x00\x02\x01"], Answer::Nothing),
    (
        &[b"MUT1\x05\x07\x00\x01\xc6\xff\xff\xff\xff"],
        Answer::Nothing,
    ),
    (
        &[b"MUT1\x05\x07\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01"],
        Answer::Nothing,
    ),
    (&[b"MUT1\x07\x07"], Answer::Nothing),
    (&[b"MUT1\x09\x81\xa4Jobs\x90", b"more"], Answer::Nothing),
    (&[b"MUT9\x09"], Answer::Refused(&[])),
];

/// Sends a message, and then a request that is in order: what comes back is the answer that is due
/// to the first and the reply to the second.
fn try_out(broker: &Broker, (message, answer): &Case) {
    let stranger = socket(zmq::DEALER, broker);
    send(&stranger, message);
    send(&stranger, &[b"", b"MDPC01", b"mmi.service", b"echo"]);
    match answer {
        Answer::Nothing => {}
        Answer::Disconnect(frames) => assert_eq!(receive(&stranger), **frames, "{message:?}"),
        Answer::Refused(first) => {
            let refusal = receive(&stranger);
            assert_eq!(refusal[..first.len()], **first, "{message:?}");
            let words = refusal.last().expect("frames");
            let sentence = String::from_utf8_lossy(words);
            assert!(
                sentence.contains("version") || sentence.contains("empty frame"),
                "{sentence}"
            );
        }
    }
    let served = receive(&stranger);
    assert_eq!(
        served,
        [&b""[..], b"MDPC01", b"mmi.service", b"200"],
        "{message:?}"
    );
}

#[test]
fn a_malformed_message_is_counted_and_answered_as_it_must_be_and_the_broker_works_on() {
    let broker = broker();
    let worker = worker(&broker, "echo");
    let client = socket(zmq::REQ, &broker);
    let cases = [OF_CLIENTS, OF_WORKERS, OF_OURS].concat();
    for case in &cases {
        try_out(&broker, case);
        serve(&client, &worker);
    }
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    let status = console.status().unwrap();
    assert_eq!(status.malformed, cases.len() as u64);
    assert_eq!((status.services.len(), status.jobs), (1, 0));
    assert_eq!(status.workers.len(), 1);
}

/// A request and its reply.
fn serve(client: &zmq::Socket, worker: &zmq::Socket) {
    send(client, &[b"MDPC01", b"echo", b"ask"]);
    let (address, body) = work(worker);
    assert_eq!(body, [b"ask"]);
    reply(worker, &address, b"answer");
    assert_eq!(receive(client)[2], b"answer");
}

#[test]
fn a_body_of_more_frames_than_fit_is_dropped() {
    let broker = broker();
    let worker = worker(&broker, "echo");
    let client = socket(zmq::REQ, &broker);
    let stranger = socket(zmq::DEALER, &broker);
    let mut message: Vec<&[u8]> = vec![b"", b"MDPC01", b"echo"];
    message.resize(3 + MAX_BODY_FRAMES + 1, b"");
    send(&stranger, &message);
    send(&stranger, &[b"", b"MDPC01", b"mmi.service", b"echo"]);
    assert_eq!(receive(&stranger)[3], b"200");
    serve(&client, &worker);
}

/// The Guide's brokers never give the request of such a worker to another.
#[test]
fn a_busy_worker_may_send_rubbish_and_leave() {
    let rubbish: &[&[&[u8]]] = &[
        &[b"", b"MDPW01"],
        &[b"", b"MDPW01", b"\x03"],
        &[b"", b"MDPW01", b"\x03", b"nobody", b"", b"x"],
        &[b"", b"MDPW01", b"\x03", b"01234567", b"", b"x"],
        &[b"", b"MDPW01", b"\x02", b"x", b"", b"x"],
        &[b"", b"MDPW01", b"\x04", b"more", b"frames"],
        &[b"hello"],
    ];
    let endings: &[&[&[u8]]] = &[
        &[b"", b"MDPW01", b"\x05"],
        // Once more, though it has not left.
        &[b"", b"MDPW01", b"\x01", b"echo"],
    ];
    for ending in endings {
        let broker = broker();
        let first = worker(&broker, "echo");
        let client = socket(zmq::REQ, &broker);
        send(&client, &[b"MDPC01", b"echo", b"ask"]);
        let (address, _) = work(&first);
        for message in rubbish {
            send(&first, message);
        }
        let second = worker(&broker, "echo");
        send(&first, ending);
        let (others, body) = work(&second);
        assert_eq!(body, [b"ask"]);
        // The first one's reply comes too late.
        reply(&first, &address, b"late");
        reply(&second, &others, b"answer");
        assert_eq!(receive(&client)[2], b"answer");
        serve(&client, &second);
    }
}

/// What a worker sent in the middle of its request is dropped, and its reply still counts.
#[test]
fn rubbish_from_a_busy_worker_does_not_cost_its_request() {
    let broker = broker();
    let (client, worker) = (socket(zmq::REQ, &broker), worker(&broker, "echo"));
    send(&client, &[b"MDPC01", b"echo", b"ask"]);
    let (address, _) = work(&worker);
    send(&worker, &[b"", b"MDPW01", b"\x03", &address]);
    reply(&worker, &address, b"answer");
    assert_eq!(receive(&client)[2], b"answer");
}

#[test]
fn a_service_that_was_only_asked_for_has_no_worker() {
    let broker = broker();
    let (client, asking) = (socket(zmq::REQ, &broker), socket(zmq::DEALER, &broker));
    send(&asking, &[b"", b"MDPC01", b"nobody", b"ask"]);
    send(&asking, &[b"", b"MDPC01", b"mmi.service", b"nobody"]);
    assert_eq!(receive(&asking)[3], b"404");
    assert_eq!(ask(&client, "mmi.service", &[b"nobody"]), [b"404"]);
    assert_eq!(ask(&client, "mmi.service", &[b"mmi.service"]).len(), 1);
}
