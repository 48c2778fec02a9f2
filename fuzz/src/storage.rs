//! The storage cluster: what each of its programs says to begin with, and what stands in its files.

use mutirao::storage::{
    ClientAsks, Copy, DataSays, Deed, Entry, Fact, HeadAsks, HeadId, HeadSays, HeadTells,
    InstanceId, Outcome, Payload, Position, RecordId, Refusal, Stamp, write_frame,
};
use serde::Serialize;

const ID: RecordId = RecordId(42);
const NODE: InstanceId = InstanceId(1);

/// Who speaks in the target `storage`.
const CLIENT: u8 = 0;
const DATA: u8 = 1;
const HEAD: u8 = 2;
const TO_DATA: u8 = 3;

/// A frame without what each begins with, behind its length, its sender and the time.
fn step(from: u8, message: &impl Serialize) -> Vec<u8> {
    let frame = write_frame(message).expect("plain values");
    let frame = &frame[5..];
    let length = u8::try_from(frame.len()).expect("a short one");
    [&[length, from, 1][..], frame].concat()
}

/// Messages for a head and a data node.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("clients", clients().concat()),
        ("data-nodes", data_nodes().concat()),
        ("heads", heads().concat()),
        ("orders", orders().concat()),
    ]
}

fn payload() -> Payload {
    Payload::from(&b"milho"[..])
}

fn clients() -> Vec<Vec<u8>> {
    let (bytes, after) = (payload(), Some(ID));
    let checksum = bytes.checksum();
    let asks = [
        ClientAsks::Put {
            id: ID,
            checksum,
            bytes,
        },
        ClientAsks::Get { id: ID },
        ClientAsks::List { after },
        ClientAsks::Status {},
        ClientAsks::Verify {},
    ];
    // What a client hears is read, and nothing more.
    let why = Refusal::Unavailable("no".into());
    let tells = HeadTells::Refused { id: ID, why };
    let asks = asks.iter().map(|asks| step(CLIENT, asks));
    promised()
        .into_iter()
        .chain(asks)
        .chain([step(CLIENT, &tells)])
        .collect()
}

/// With these the head, which is one of three, reigns.
fn promised() -> Vec<Vec<u8>> {
    let last = Position::default();
    let appended = Position { epoch: 3, index: 1 };
    let says = [
        HeadSays::Promised { epoch: 3, last },
        HeadSays::Appended {
            epoch: 3,
            matched: true,
            last: appended,
        },
    ];
    let alive = DataSays::Alive {
        instance: NODE,
        start: 1,
        name: "norte".into(),
        epoch: 3,
        round: 1,
        records: 1,
        bytes: 5,
        free: 1_000,
        digest: 7,
    };
    let says = says.iter().map(|says| step(HEAD, says));
    says.chain([step(DATA, &alive)]).collect()
}

fn done(seq: u64, outcome: Outcome) -> Vec<u8> {
    let stamp = Stamp { epoch: 3, seq };
    let instance = NODE;
    let done = DataSays::Done {
        instance,
        stamp,
        outcome,
    };
    step(DATA, &done)
}

fn data_nodes() -> Vec<Vec<u8>> {
    let copy = Copy {
        id: ID,
        checksum: payload().checksum(),
        length: 5,
    };
    let outcomes = [
        Outcome::Listed {
            copies: vec![copy],
            more: false,
        },
        Outcome::Bytes(payload()),
        Outcome::Stored,
        Outcome::NotHere,
        Outcome::Dropped,
        Outcome::Checked {
            checked: 1,
            damaged: vec![ID],
            next: None,
        },
        Outcome::NotStored {
            reason: "full".into(),
        },
    ];
    let mut steps = promised();
    steps.extend((1..).zip(outcomes).map(|(seq, outcome)| done(seq, outcome)));
    let deposed = DataSays::Deposed {
        instance: NODE,
        epoch: 4,
    };
    steps.push(step(DATA, &deposed));
    steps
}

fn heads() -> Vec<Vec<u8>> {
    let (epoch, after) = (4, Position::default());
    let fact = Fact::Record {
        id: ID,
        length: 5,
        checksum: payload().checksum(),
        places: vec![NODE],
    };
    let entries = vec![Entry { epoch: 3, fact }];
    let says = [
        HeadSays::Promise { epoch },
        HeadSays::Fetch { epoch, after },
        HeadSays::Append {
            epoch,
            after,
            entries: entries.clone(),
        },
        HeadSays::Fetched {
            epoch,
            after,
            entries,
        },
        HeadSays::Refused { epoch },
    ];
    says.iter().map(|says| step(HEAD, says)).collect()
}

fn orders() -> Vec<Vec<u8>> {
    let (bytes, head) = (payload(), HeadId(1));
    let checksum = bytes.checksum();
    let deeds = [
        Deed::List { after: None },
        Deed::Store {
            id: ID,
            checksum,
            bytes,
        },
        Deed::Read { id: ID },
        Deed::Check { after: None },
        Deed::Drop { id: ID },
    ];
    let order = |(seq, deed)| HeadAsks::Order {
        to: NODE,
        head,
        stamp: Stamp { epoch: 3, seq },
        deed,
    };
    let beat = HeadAsks::Beat {
        epoch: 3,
        head,
        round: 1,
    };
    let orders = (1..).zip(deeds).map(order);
    let asks: Vec<HeadAsks> = [beat].into_iter().chain(orders).collect();
    asks.iter().map(|asks| step(TO_DATA, asks)).collect()
}

/// A line of each kind, without the checksums: the target adds them.
pub const LINES: &str = "node 0000000000000001 norte
epoch 3 1
record 000000000000002a 3 1 5 d04a534a text milho
record 000000000000002b 3 2 2 6cdbfd72 base64 AP8=
dropped 000000000000002a 3 4
damaged 000000000000002b 3 2
promise 3 1
entry 1 3 lead 1
entry 2 3 node 0000000000000001 norte
entry 3 3 record 000000000000002a 5 d04a534a at 0000000000000001 0000000000000002
entry 5 3 places 000000000000002a at 0000000000000001
cut 3
stored 000000000000002a 3 5 d04a534a at norte sul
round 1 3 norte up 1 5 1000 sul silent 0 0 0
";
