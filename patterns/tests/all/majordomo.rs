//! The broker as Majordomo clients and workers see it: plain ZeroMQ sockets and the RFCs' frames.

use mutirao::Worker;
use mutirao::broker::{Broker, Mode};
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
    let messages: [&[&[u8]]; 3] = [
        &[b"", b"MDPW01", b"\x04"],
        &[b"", b"MDPW01", b"\x01", b"mmi.service"],
        &[b"", b"MDPW01", b"\x03", b"nobody", b"", b"answer"],
    ];
    for message in messages {
        let worker = socket(zmq::DEALER, &broker);
        send(&worker, message);
        assert_eq!(receive(&worker), [&b""[..], b"MDPW01", b"\x05"]);
    }
}

#[test]
fn no_malformed_message_stops_the_broker() {
    let broker = broker();
    let stranger = socket(zmq::DEALER, &broker);
    let messages: [&[&[u8]]; 14] = [
        &[b"MDPC01"],
        &[b"", b"MDPC01"],
        &[b"", b"MDPC01", b"echo"],
        &[b""],
        &[b"", b""],
        &[b"", b"MDPW01"],
        &[b"", b"MDPW01", b"\x01"],
        &[b"", b"MDPW01", b"\x01", b""],
        &[b"", b"MDPW01", b"\x03"],
        &[b"", b"MDPW01", b"\x03", b"x"],
        &[b"", b"MDPW01", b"\x09"],
        &[b"", b"MDPC09", b"echo", b"x"],
        &[b"MUT9\x09"],
        &[b"MUT1\x09\xdd\xff\xff\xff\xff"],
    ];
    for message in messages {
        send(&stranger, message);
    }
    let (client, worker) = (socket(zmq::REQ, &broker), worker(&broker, "echo"));
    send(&client, &[b"MDPC01", b"echo", b"ask"]);
    let (address, _) = work(&worker);
    // From a busy worker, too.
    send(&worker, &[b"", b"MDPW01", b"\x03", &address]);
    reply(&worker, &address, b"answer");
    assert_eq!(receive(&client)[2], b"answer");
}
