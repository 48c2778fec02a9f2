//! Writes the corpus that fuzzing begins with: short conversations as they really are.
//!
//! ```text
//! cargo run --bin seeds      # in fuzz/
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mutirao::broker::fuzzing::Broker;
use mutirao_fuzz::storage::LINES;
use mutirao_fuzz::{Step, play, write, write_moments};
use serde::Serialize;

const CLIENT: u8 = 9;
const WORKER: u8 = 10;

/// A frame of ours: the kind, then these bytes.
fn ours(kind: u8, rest: &[u8]) -> Vec<u8> {
    [b"MUT1", &[kind][..], rest].concat()
}

/// A control message.
fn say(kind: u8, name: &str, fields: impl Serialize) -> Vec<u8> {
    let message = BTreeMap::from([(name, fields)]);
    ours(kind, &rmp_serde::to_vec(&message).expect("plain values"))
}

fn to(peer: u8, frame: Vec<u8>) -> Step {
    Step::Message(peer, vec![frame])
}

fn mdp(peer: u8, frames: &[&[u8]]) -> Step {
    Step::Message(peer, frames.iter().map(|frame| frame.to_vec()).collect())
}

const NOTHING: [u8; 0] = [];

fn ready() -> Step {
    to(1, say(WORKER, "Ready", (5u64, 2, ["a"], NOTHING)))
}

fn open() -> Step {
    to(0, say(CLIENT, "Open", (7, ("a", "", 3, 0, 0, 60))))
}

fn submit() -> Step {
    to(0, ours(5, &[7, 0, 3, 1, 2, 3]))
}

/// What the first lease of a broker brings: one task, then more.
fn worked(lease: u8, first: u8, count: u8) -> Step {
    let outcomes = [0xc3, 1].repeat(usize::from(count));
    to(
        1,
        ours(7, &[&[lease, first, count, 9][..], &outcomes].concat()),
    )
}

fn broker() -> Vec<(&'static str, Vec<Step>)> {
    let fetch = || to(0, say(CLIENT, "Fetch", (7, 1000, NOTHING)));
    let close = || to(0, say(CLIENT, "Close", (7, 3)));
    let safe = || to(0, say(CLIENT, "Safe", (7, [(0, 3)])));
    let beat = |held: &[u8]| to(1, say(WORKER, "Beat", (9, held)));
    let job = vec![ready(), open(), submit(), Step::Stored, close(), fetch()];
    let mut whole = job.clone();
    whole.extend([
        worked(1, 0, 1),
        worked(2, 1, 1),
        worked(3, 2, 1),
        safe(),
        Step::Stored,
    ]);
    let mut lost = job.clone();
    lost.extend([
        Step::Lost(1),
        Step::Pause(60),
        ready(),
        beat(&[]),
        Step::Pause(5),
    ]);
    let mut failing = job.clone();
    failing.push(to(1, say(WORKER, "Failed", (1, 0, "no"))));
    failing.extend([
        Step::Pause(10),
        beat(&[1, 2]),
        to(1, say(WORKER, "Returned", ([2],))),
    ]);
    let mut leaving = job.clone();
    leaving.extend([to(1, say(WORKER, "Leaving", NOTHING)), worked(1, 0, 1)]);
    leaving.push(to(1, say(WORKER, "Gone", NOTHING)));
    let held = to(2, say(WORKER, "Ready", (5u64, 2, ["a"], [(1, 7, (0, 1))])));
    let mut asking = job.clone();
    asking.extend([Step::Full(true), submit(), Step::Full(false), held]);
    asking.push(to(0, say(CLIENT, "Beat", ([7], [7]))));
    asking.push(to(3, say(CLIENT, "Jobs", NOTHING)));
    asking.push(to(3, say(CLIENT, "Job", (7,))));
    asking.push(to(3, say(CLIENT, "Status", NOTHING)));
    asking.push(to(3, say(CLIENT, "Cancel", (7,))));
    let lease = [0, 0, 0, 0, 0, 0, 0, 1];
    let first = vec![
        mdp(4, &[b"", b"MDPW01", b"\x01", b"a"]),
        mdp(5, &[b"", b"MDPC01", b"a", b"x"]),
        mdp(4, &[b"", b"MDPW01", b"\x04"]),
        mdp(4, &[b"", b"MDPW01", b"\x03", &lease, b"", b"y"]),
        mdp(5, &[b"", b"MDPC01", b"mmi.service", b"a"]),
        mdp(4, &[b"", b"MDPW01", b"\x05"]),
    ];
    let second = vec![
        mdp(4, &[b"MDPW02", b"\x01", b"a"]),
        mdp(5, &[b"MDPC02", b"\x01", b"a", b"x", b"z"]),
        mdp(4, &[b"MDPW02", b"\x03", &lease, b"", b"part"]),
        mdp(4, &[b"MDPW02", b"\x04", &lease, b"", b"y"]),
        mdp(4, &[b"MDPW02", b"\x05"]),
        Step::Pause(255),
        mdp(4, &[b"MDPW02", b"\x06"]),
    ];
    let titanic = vec![
        mdp(5, &[b"", b"MDPC01", b"titanic.request", b"a", b"x"]),
        mdp(
            5,
            &[
                b"",
                b"MDPC01",
                b"titanic.reply",
                b"0123456789abcdef0123456789abcdef",
            ],
        ),
        mdp(
            5,
            &[
                b"",
                b"MDPC01",
                b"titanic.close",
                b"0123456789abcdef0123456789abcdef",
            ],
        ),
    ];
    vec![
        ("a-job", whole),
        ("a-worker-that-comes-back", lost),
        ("failures", failing),
        ("a-worker-that-leaves", leaving),
        ("a-full-disk-and-questions", asking),
        ("mdp-0.1", first),
        ("mdp-0.2", second),
        ("titanic", titanic),
        ("json", mixed()),
    ]
}

fn client() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let counts = [3, 0, 0, 3, 0, 0, 3];
    vec![
        (
            "a-job",
            vec![
                say(CLIENT, "Opened", (7, 1, true, NOTHING)),
                say(CLIENT, "Accepted", (7, [(0, 3)])),
                say(CLIENT, "Closed", (7, 3)),
                ours(
                    8,
                    &[7, 0, 3, 0xc3, 1, 0xc3, 2, 0xc2, 0x92, 0xa1, b'x', 0xc4, 0],
                ),
                say(CLIENT, "Complete", (7, counts)),
            ],
        ),
        (
            "trouble",
            vec![
                say(CLIENT, "Beat", (1,)),
                say(CLIENT, "Full", (7, 0, "full")),
                say(CLIENT, "Room", (7,)),
                say(CLIENT, "Beat", (2,)),
                say(CLIENT, "Resume", (7,)),
                say(CLIENT, "Unknown", (7,)),
                say(CLIENT, "Refused", (7, "no")),
                say(CLIENT, "Cancelled", (7,)),
            ],
        ),
    ]
}

/// A datagram of a UDP peer: its kind, then this.
fn datagram(kind: u8, rest: &[u8]) -> Vec<u8> {
    [b"MUTU1", &[kind, 0, 0][..], &[0; 8], rest].concat()
}

/// What stands behind the header of a reliable datagram, up to the segment.
fn reliable(number: u64, credit: u64, flags: u8, acknowledged: &[u8]) -> Vec<u8> {
    let ranges = acknowledged.len().saturating_sub(4) / 8;
    let body = [number.to_be_bytes(), credit.to_be_bytes()].concat();
    [&body[..], &[flags, ranges as u8, 0, 1], acknowledged].concat()
}

fn udp() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let number = |number: u64| number.to_be_bytes();
    let message = |at| {
        datagram(
            7,
            &[&number(at)[..], &[0x80, 0, 0, 1, 7, 0, 0, 0, 0]].concat(),
        )
    };
    let greeting = |kind, role, mode, body: &[u8]| {
        let mut datagram = datagram(kind, body);
        datagram[6..8].copy_from_slice(&[role, mode]);
        datagram
    };
    let topics = |at, topics: &[u8]| datagram(8, &[&number(at)[..], topics].concat());
    let segment = |at, offset: u64, bytes: &[u8]| {
        let body = reliable(at, 20_000, 3, &[&number(0)[..], &[0; 4]].concat());
        datagram(11, &[&body[..], &offset.to_be_bytes(), bytes].concat())
    };
    vec![
        (
            "plain",
            vec![
                message(0),
                message(3),
                message(1),
                message(1),
                datagram(9, &number(9)),
                datagram(10, &[number(9), number(4)].concat()),
                topics(4, &[0, 1, b'a', 0, 2, b'b', b'c']),
                topics(5, &[0, 1, b'a']),
                datagram(5, &[]),
            ],
        ),
        (
            "greetings",
            vec![
                greeting(1, 5, 1, &[0; 16]),
                greeting(1, 5, 2, &[0; 16]),
                greeting(1, 1, 1, &[0; 16]),
                greeting(2, 6, 1, &number(7)),
                greeting(3, 6, 1, &number(9)),
                greeting(4, 6, 1, &[2]),
            ],
        ),
        (
            "reliable",
            vec![
                segment(0, 0, &[0, 0, 0, 1, 7]),
                segment(2, 10, &[0x80, 0, 0, 0]),
                segment(1, 5, &[0, 0, 0, 1, 9]),
                segment(3, 12, &[0, 0, 0, 0, 0, 0]),
                datagram(11, &reliable(4, 30_000, 1, &[])),
                datagram(
                    11,
                    &reliable(5, 30_000, 0, &[&number(2)[..], &[0; 12]].concat()),
                ),
            ],
        ),
    ]
}

fn worker() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let leased = |lease| ours(6, &[lease, 7, 0, 2, 1, 3, 0, 0xa1, b'a', 1, 2]);
    vec![(
        "leases",
        vec![
            say(WORKER, "Beat", (1,)),
            leased(1),
            leased(2),
            leased(3),
            leased(4),
            say(WORKER, "Recall", ([3, 4],)),
            say(WORKER, "Drop", ([1, 2],)),
            say(WORKER, "WhoAreYou", NOTHING),
            say(WORKER, "Beat", (2,)),
        ],
    )]
}

/// The examples of the description, each with who reads it.
fn json() -> Vec<(String, Vec<u8>)> {
    let text = include_str!("../../docs/protocol.md");
    let blocks = text.split("```json\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("\n```").next());
    let examples = blocks.flat_map(str::lines).enumerate();
    let each = examples.flat_map(|(number, example)| {
        (0..3u8).map(move |end| {
            let bytes = [&[end][..], example.as_bytes()].concat();
            (format!("example-{number}-{end}"), bytes)
        })
    });
    each.collect()
}

/// A worker in JSON and a client in MessagePack.
fn mixed() -> Vec<Step> {
    let worker = |text: &str| to(1, text.as_bytes().to_vec());
    vec![
        worker(r#"{"type":"READY","name":"a","operations":["a"]}"#),
        open(),
        submit(),
        Step::Stored,
        worker(r#"{"type":"RESULT","id":"1.0","ok":true,"body":1}"#),
        worker(r#"{"type":"RESULT","id":"2.1","ok":false,"error":"no","retry":true}"#),
        worker(r#"{"type":"BEAT","holding":["3.2"]}"#),
        worker(r#"{"type":"BEAT","what":"Gone"}"#),
    ]
}

/// A conversation that the broker does not understand is none to begin with.
fn check(name: &str, broker: &Broker) {
    assert_eq!(broker.malformed(), 0, "{name}");
    let least = match name {
        "a-job" => 3,
        "a-worker-that-leaves" | "mdp-0.1" | "mdp-0.2" | "json" => 1,
        _ => 0,
    };
    assert!(
        broker.done() >= least,
        "{name}: {} tasks done",
        broker.done()
    );
}

fn main() -> std::io::Result<()> {
    let mut seeds = Vec::new();
    for (name, steps) in broker() {
        for (durable, way) in [(0, "memory"), (1, "store")] {
            check(name, &play(durable == 1, &steps));
            let bytes = [&[durable][..], &write(&steps)].concat();
            seeds.push(("broker", format!("{name}-{way}"), bytes));
        }
    }
    for (target, talks) in [("client", client()), ("worker", worker()), ("udp", udp())] {
        let talks = talks.into_iter();
        seeds.extend(talks.map(|(name, frames)| (target, name.into(), write_moments(&frames))));
    }
    for (name, bytes) in mutirao_fuzz::chat::seeds() {
        seeds.push(("chat", name, bytes));
    }
    for (name, bytes) in mutirao_fuzz::storage::seeds() {
        seeds.push(("storage", name.into(), bytes));
    }
    seeds.push(("registers", "lines".into(), LINES.into()));
    for (name, bytes) in json() {
        seeds.push(("json", name, bytes));
    }
    for (target, name, bytes) in seeds {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
