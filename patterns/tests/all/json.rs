//! A broker and its peers in JSON, beside those who speak otherwise.

use std::time::Duration;

use mutirao::broker::{
    Broker, BrokerConfig, CallError, Caller, CallerConfig, ClientConfig, ClientError, Codec,
    Console,
};
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Failure, Worker, WorkerExit};
use serde_bytes::ByteBuf;
use zmq::DEALER;

use crate::bare::Bare;
use crate::support::{PATIENCE, fresh_endpoint};

const CODECS: [Codec; 2] = [Codec::MessagePack, Codec::Json];

fn broker(scheme: &str, codec: Codec) -> Broker {
    let mut config = BrokerConfig::new(fresh_endpoint(scheme));
    config.codec = codec;
    config.socket.max_message_bytes = 2 << 20;
    Broker::start(config, None).expect("a broker")
}

/// Gives back what it gets, turned around.
fn worker(broker: &Endpoint, codec: Codec) -> Worker {
    let mut config = BrokerWorkerConfig::new(broker.clone(), vec!["turn".into()]);
    (config.codec, config.slots) = (codec, 2);
    let turn = |mut bytes: ByteBuf, _: &_| -> Result<ByteBuf, Failure> {
        match bytes.is_empty() {
            true => Err(Failure::permanent("nothing to turn")),
            false => {
                bytes.reverse();
                Ok(bytes)
            }
        }
    };
    Worker::start_at_broker(config, turn).expect("a worker")
}

fn caller(broker: &Endpoint, codec: Codec) -> Caller<ByteBuf, ByteBuf> {
    let mut config = CallerConfig::new(broker.clone(), "turn");
    (config.codec, config.within) = (codec, PATIENCE);
    config.heartbeat = Duration::from_millis(50);
    config.socket.max_message_bytes = 2 << 20;
    Caller::connect(config).expect("a caller")
}

/// Every byte, so that it is no text, and enough of them to be longer in base64 than a frame in MessagePack
/// may be.
fn large() -> ByteBuf {
    ByteBuf::from((0..(2 << 20) - 1024).map(|n| n as u8).collect::<Vec<u8>>())
}

#[test]
fn whoever_speaks_json_works_with_whoever_does_not_over_every_transport() {
    for scheme in ["tcp", "raw_tcp"] {
        let broker = broker(scheme, Codec::MessagePack);
        let at = broker.endpoint();
        for worker_codec in CODECS {
            let worker = worker(at, worker_codec);
            for codec in CODECS {
                let mut caller = caller(at, codec);
                for bytes in [&b"abc"[..], b"\xff\0\x01", "olá".as_bytes()] {
                    let turned = caller.call(&ByteBuf::from(bytes)).expect("a reply");
                    let expected: Vec<u8> = bytes.iter().rev().copied().collect();
                    assert_eq!(turned, expected, "{scheme} {worker_codec:?} {codec:?}");
                }
                let bytes = large();
                let turned = caller.call(&bytes).expect("a reply");
                assert!(turned.iter().eq(bytes.iter().rev()), "{scheme}");
                let failed = caller.call(&ByteBuf::new());
                let Err(CallError::Failed(failure)) = failed else {
                    panic!("{failed:?}")
                };
                assert_eq!(failure.reason, "nothing to turn");
            }
            worker.stop_handle().stop();
            assert!(matches!(
                worker.wait(Some(PATIENCE)),
                Some(WorkerExit::Left)
            ));
        }
    }
}

const SENTENCE: &str = "it speaks JSON only: add --codec json, or start it without";

#[test]
fn a_broker_of_json_only_tells_ours_why_it_does_not_answer() {
    let broker = broker("tcp", Codec::Json);
    let at = broker.endpoint();
    let refused = caller(at, Codec::MessagePack).call(&ByteBuf::from("a"));
    let Err(CallError::Refused(reason)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(reason, SENTENCE);
    let config = ClientConfig::new(at.clone());
    let status = Console::connect(&config, PATIENCE).unwrap().status();
    let expected = ClientError::Failed(format!("the broker: {SENTENCE}"));
    assert_eq!(status, Err(expected));
    let exit = worker(at, Codec::MessagePack).wait(Some(PATIENCE));
    let Some(WorkerExit::Refused(reason)) = exit else {
        panic!("{exit:?}")
    };
    assert_eq!(reason, format!("the broker: {SENTENCE}"));
    let _worker = worker(at, Codec::Json);
    let reply = caller(at, Codec::Json).call(&ByteBuf::from("ab"));
    assert_eq!(reply.expect("a reply"), b"ba");
}

#[test]
fn a_broker_of_json_only_tells_majordomo_peers_in_their_words() {
    let broker = broker("tcp", Codec::Json);
    let first = Bare::connect(DEALER, broker.endpoint());
    first.send(&[b"", b"MDPC01", b"turn", b"body"]);
    let reply = [b"", &b"MDPC01"[..], b"turn", b"", SENTENCE.as_bytes()];
    assert_eq!(first.receive(), reply);
    let second = Bare::connect(DEALER, broker.endpoint());
    second.send(&[b"MDPC02", b"\x01", b"turn", b"body"]);
    let reply = [&b"MDPC02"[..], b"\x03", b"turn", b"", SENTENCE.as_bytes()];
    assert_eq!(second.receive(), reply);
    let worker = Bare::connect(DEALER, broker.endpoint());
    worker.send(&[b"", b"MDPW01", b"\x01", b"turn"]);
    assert_eq!(worker.receive(), [b"", &b"MDPW01"[..], b"\x05"]);
}

#[test]
fn a_peer_is_answered_as_it_spoke_last() {
    let broker = broker("tcp", Codec::MessagePack);
    let peer = Bare::connect(DEALER, broker.endpoint());
    let status = |is_json: bool| match is_json {
        true => &br#"{"type":"BEAT","role":"client","what":"Job","job":"2a"}"#[..],
        false => b"MUT1\x09\x81\xa3Job\x91\x2a",
    };
    for is_json in [true, false, true] {
        peer.send(&[status(is_json)]);
        let answer = loop {
            // It hears that the broker lives, too.
            let [frame] = &peer.receive()[..] else {
                panic!("one frame")
            };
            if frame.windows(4).any(|part| part == b"Unkn") {
                break frame.clone();
            }
        };
        let expected = match is_json {
            true => &br#"{"type":"BEAT","what":"Unknown","job":"000000000000002a"}"#[..],
            false => b"MUT1\x09\x81\xa7Unknown\x91\x2a",
        };
        assert_eq!(answer, expected);
    }
}
