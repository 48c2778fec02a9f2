//! Whatever peers say, no machine panics, loops, or sends more than a little for what it hears.

use mutirao::machine::{Machine, Time};
use mutirao::sim::{Rng, run_seeds};
use mutirao::storage::{
    Checksum, ClientAsks, ClientConfig, ClientInput, ClientMachine, Copy, DataConfig, DataInput,
    DataMachine, DataSays, Deed, Entry, Fact, HeadAsks, HeadConfig, HeadId, HeadInput, HeadMachine,
    HeadSays, HeadTells, Health, InstanceId, Outcome, Payload, Position, ReadFailure, RecordId,
    Refusal, Register, Request, Stamp, Verification,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Small numbers, which mean something, and now and then the largest.
fn number(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => u64::MAX,
        1 | 2 => rng.below(60),
        _ => rng.below(6),
    }
}

fn head(rng: &mut Rng) -> HeadId {
    HeadId(rng.below(4) as u32)
}

fn position(rng: &mut Rng) -> Position {
    Position {
        epoch: number(rng),
        index: number(rng),
    }
}

fn stamp(rng: &mut Rng) -> Stamp {
    Stamp {
        epoch: number(rng),
        seq: number(rng),
    }
}

fn payload(rng: &mut Rng) -> Payload {
    Payload::from(vec![b'x'; rng.below(3) as usize])
}

fn checksum(rng: &mut Rng, bytes: &Payload) -> Checksum {
    match rng.chance(0.8) {
        true => bytes.checksum(),
        false => Checksum(rng.bits() as u32),
    }
}

fn id(rng: &mut Rng) -> RecordId {
    RecordId(number(rng))
}

fn after(rng: &mut Rng) -> Option<RecordId> {
    rng.chance(0.5).then(|| id(rng))
}

fn entries(rng: &mut Rng) -> Vec<Entry> {
    let entry = |rng: &mut Rng| Entry {
        epoch: number(rng),
        fact: match rng.below(4) {
            0 => Fact::Lead { head: head(rng) },
            1 => Fact::Node {
                instance: InstanceId(number(rng)),
                name: format!("n{}", number(rng)),
            },
            2 => Fact::Record {
                id: id(rng),
                length: number(rng),
                checksum: Checksum(0),
                places: vec![InstanceId(number(rng))],
            },
            _ => Fact::Places {
                id: id(rng),
                places: vec![InstanceId(number(rng))],
            },
        },
    };
    (0..rng.below(4)).map(|_| entry(rng)).collect()
}

fn deed(rng: &mut Rng) -> Deed {
    match rng.below(5) {
        0 => {
            let bytes = payload(rng);
            Deed::Store {
                id: id(rng),
                checksum: checksum(rng, &bytes),
                bytes,
            }
        }
        1 => Deed::Read { id: id(rng) },
        2 => Deed::Drop { id: id(rng) },
        3 => Deed::List { after: after(rng) },
        _ => Deed::Check { after: after(rng) },
    }
}

fn outcome(rng: &mut Rng) -> Outcome {
    match rng.below(7) {
        0 => Outcome::Stored,
        1 => Outcome::NotStored {
            reason: "no".into(),
        },
        2 => Outcome::Bytes(payload(rng)),
        3 => Outcome::NotHere,
        4 => Outcome::Dropped,
        5 => {
            let copy = |rng: &mut Rng| Copy {
                id: id(rng),
                checksum: Checksum(0),
                length: number(rng),
            };
            Outcome::Listed {
                copies: (0..rng.below(4)).map(|_| copy(rng)).collect(),
                more: rng.chance(0.5),
            }
        }
        _ => Outcome::Checked {
            checked: number(rng),
            damaged: vec![id(rng)],
            next: after(rng),
        },
    }
}

fn data_says(rng: &mut Rng) -> DataSays {
    let instance = InstanceId(rng.below(4));
    match rng.below(8) {
        0 => DataSays::Deposed {
            instance,
            epoch: number(rng),
        },
        1..4 => DataSays::Alive {
            instance,
            start: number(rng),
            name: (*rng.pick(&["norte", "sul", "", "a b"]).unwrap()).to_string(),
            epoch: number(rng),
            round: number(rng),
            records: number(rng),
            bytes: number(rng),
            free: number(rng),
            digest: number(rng),
        },
        _ => DataSays::Done {
            instance,
            stamp: stamp(rng),
            outcome: outcome(rng),
        },
    }
}

fn head_says(rng: &mut Rng) -> HeadSays {
    let epoch = number(rng);
    match rng.below(7) {
        0 => HeadSays::Promise { epoch },
        1 => HeadSays::Promised {
            epoch,
            last: position(rng),
        },
        2 => HeadSays::Fetch {
            epoch,
            after: position(rng),
        },
        3 => HeadSays::Fetched {
            epoch,
            after: position(rng),
            entries: entries(rng),
        },
        4 => HeadSays::Append {
            epoch,
            after: position(rng),
            entries: entries(rng),
        },
        5 => HeadSays::Appended {
            epoch,
            matched: rng.chance(0.5),
            last: position(rng),
        },
        _ => HeadSays::Refused { epoch },
    }
}

fn client_asks(rng: &mut Rng) -> ClientAsks {
    match rng.below(5) {
        0 => {
            let bytes = payload(rng);
            ClientAsks::Put {
                id: id(rng),
                checksum: checksum(rng, &bytes),
                bytes,
            }
        }
        1 => ClientAsks::Get { id: id(rng) },
        2 => ClientAsks::List { after: after(rng) },
        3 => ClientAsks::Status {},
        _ => ClientAsks::Verify {},
    }
}

#[test]
fn a_head_bears_whatever_it_is_told() {
    run_seeds(0..200, |seed| {
        let mut rng = Rng::new(seed);
        let config = HeadConfig {
            head: HeadId(0),
            peers: (1..1 + rng.below(3) as u32).map(HeadId).collect(),
            ..HeadConfig::alone()
        };
        let stdrng = StdRng::seed_from_u64(seed);
        let mut machine = HeadMachine::new(config, Register::default(), stdrng);
        let (mut now, mut kept) = (Time::START, 0);
        for _ in 0..500 {
            let health = *rng
                .pick(&[Health::Alive, Health::Stale, Health::Dead])
                .unwrap();
            let input = match rng.below(10) {
                0 => HeadInput::Lead(rng.below(60)),
                1 => HeadInput::Head(head(&mut rng), head_says(&mut rng)),
                2 => HeadInput::Health(InstanceId(rng.below(4)), health),
                3 | 4 => HeadInput::Client(rng.below(3), client_asks(&mut rng)),
                5 => HeadInput::DiskFull(rng.chance(0.1)),
                6 => HeadInput::Kept(number(&mut rng)),
                _ => HeadInput::Data(data_says(&mut rng)),
            };
            machine.handle(now, input);
            now = now + std::time::Duration::from_millis(rng.below(900));
            machine.wake(now);
            assert!(machine.deadline().is_none_or(|deadline| deadline > now));
            let outputs = std::iter::from_fn(|| machine.poll()).count();
            assert!(outputs < 1_000, "{outputs} outputs for one message");
            kept += outputs as u64;
            machine.handle(now, HeadInput::Kept(kept));
        }
    });
}

#[test]
fn a_data_node_bears_whatever_it_is_told() {
    run_seeds(0..200, |seed| {
        let mut rng = Rng::new(seed);
        let config = DataConfig {
            name: "norte".into(),
            start: 1,
            reserve_bytes: number(&mut rng),
        };
        let mut machine = DataMachine::new(config, InstanceId(1), []);
        for _ in 0..500 {
            let (to, op) = (InstanceId(rng.below(2)), rng.below(200));
            let input = match rng.below(8) {
                0 => DataInput::Kept(op),
                1 => DataInput::NotKept(op, "no".into()),
                2 => {
                    let (damaged, unreadable) = (ReadFailure::Damaged, ReadFailure::Unreadable);
                    let bytes = payload(&mut rng);
                    let results = [Ok(bytes), Err(damaged), Err(unreadable)];
                    DataInput::Read(op, rng.pick(&results).unwrap().clone())
                }
                3 => DataInput::Free(number(&mut rng)),
                4 => DataInput::Head(HeadAsks::Beat {
                    epoch: number(&mut rng),
                    head: head(&mut rng),
                    round: number(&mut rng),
                }),
                _ => DataInput::Head(HeadAsks::Order {
                    to,
                    head: head(&mut rng),
                    stamp: stamp(&mut rng),
                    deed: deed(&mut rng),
                }),
            };
            machine.handle(Time::START, input);
            let outputs = std::iter::from_fn(|| machine.poll()).count();
            assert!(outputs <= 4, "{outputs} outputs for one message");
        }
    });
}

#[test]
fn a_client_bears_whatever_it_is_told() {
    run_seeds(0..100, |seed| {
        let mut rng = Rng::new(seed);
        let mut machine = ClientMachine::new(ClientConfig {
            heads: vec![HeadId(0), HeadId(1)],
            resend: std::time::Duration::from_millis(500),
            patience: std::time::Duration::from_secs(5),
        });
        let mut now = Time::START;
        for _ in 0..300 {
            let id = RecordId(rng.below(3));
            let bytes = payload(&mut rng);
            let tells = match rng.below(6) {
                0 => HeadTells::Confirmed {
                    id,
                    epoch: number(&mut rng),
                    places: vec!["norte".into()],
                },
                1 => HeadTells::Found {
                    id,
                    checksum: checksum(&mut rng, &bytes),
                    bytes: bytes.clone(),
                },
                2 => HeadTells::Unknown { id },
                3 => HeadTells::Refused {
                    id,
                    why: Refusal::Damaged,
                },
                4 => HeadTells::NotLeading {
                    leader: rng.chance(0.5).then(|| HeadId(rng.below(3) as u32)),
                },
                _ => HeadTells::Verified(Verification {
                    checked: number(&mut rng),
                    ..Verification::default()
                }),
            };
            let input = match rng.below(3) {
                0 => ClientInput::Do(Request::Put(id, bytes)),
                1 => ClientInput::Do(Request::Get(id)),
                _ => ClientInput::Head(head(&mut rng), tells),
            };
            machine.handle(now, input);
            now = now + std::time::Duration::from_millis(rng.below(300));
            machine.wake(now);
            assert!(machine.deadline().is_none_or(|deadline| deadline > now));
            let outputs = std::iter::from_fn(|| machine.poll()).count();
            assert!(outputs <= 20, "{outputs} outputs for one message");
        }
    });
}
