use proptest::prelude::*;

use super::super::{Checksum, Entry, Fact, HeadId, InstanceId, Payload, RecordId, Stamp};
use super::*;

fn record(bytes: &[u8]) -> DataLine {
    DataLine::Record {
        id: RecordId(0x2a),
        stamp: Stamp { epoch: 3, seq: 7 },
        checksum: Checksum::of(bytes),
        bytes: Payload::from(bytes),
    }
}

fn read(bytes: &[u8]) -> Vec<Named<DataLine>> {
    let lines = Lines::new(bytes, 1 << 20);
    lines.map(|line| line.expect("memory")).collect()
}

#[test]
fn lines_can_be_read_by_people() {
    let line = record("muitas mãos\nfazem".as_bytes()).to_line();
    let (words, _) = line.rsplit_once(" #").unwrap();
    assert_eq!(
        words,
        "record 000000000000002a 3 7 18 c290850b text muitas mãos\\nfazem"
    );
    let binary = record(b"\x1b[2J\xff").to_line();
    assert!(binary.contains(" base64 G1sySv8= #"), "{binary}");
    let entry = RegisterLine::Entry {
        index: 4,
        entry: Entry {
            epoch: 2,
            fact: Fact::Places {
                id: RecordId(1),
                places: vec![InstanceId(2), InstanceId(3)],
            },
        },
    };
    let words = "entry 4 2 places 0000000000000001 at 0000000000000002 0000000000000003 #";
    assert!(entry.to_line().starts_with(words));
}

#[test]
fn every_kind_of_line_is_read_as_it_was_written() {
    let name = || "norte-1.a_b".to_string();
    let data = [
        DataLine::Node {
            instance: InstanceId(1),
            name: name(),
        },
        DataLine::Epoch {
            epoch: u64::MAX,
            head: HeadId(9),
        },
        DataLine::Dropped {
            id: RecordId(5),
            stamp: Stamp::default(),
        },
        DataLine::Damaged {
            id: RecordId(6),
            stamp: Stamp { epoch: 1, seq: 2 },
        },
    ];
    for line in data {
        assert_eq!(DataLine::from_line(line.to_line().as_bytes()), Ok(line));
    }
    let fact = |fact| RegisterLine::Entry {
        index: 1,
        entry: Entry { epoch: 2, fact },
    };
    let register = [
        RegisterLine::Promise {
            epoch: 4,
            head: HeadId(2),
        },
        RegisterLine::Cut { index: 8 },
        fact(Fact::Lead { head: HeadId(3) }),
        fact(Fact::Node {
            instance: InstanceId(7),
            name: name(),
        }),
        fact(Fact::Record {
            id: RecordId(1),
            length: 9,
            checksum: Checksum(5),
            places: Vec::new(),
        }),
    ];
    for line in register {
        assert_eq!(RegisterLine::from_line(line.to_line().as_bytes()), Ok(line));
    }
    let client = ClientLine {
        id: RecordId(1),
        epoch: 2,
        length: 3,
        checksum: Checksum(4),
        places: vec![name(), name()],
    };
    assert_eq!(
        ClientLine::from_line(client.to_line().as_bytes()),
        Ok(client)
    );
    let node = NodeBeat {
        name: name(),
        answered: true,
        records: 1,
        bytes: 2,
        free: 3,
    };
    let beat = BeatLine {
        round: 1,
        epoch: 2,
        nodes: vec![node.clone(), node],
    };
    assert_eq!(BeatLine::from_line(beat.to_line().as_bytes()), Ok(beat));
}

#[test]
fn a_torn_last_line_is_told_from_a_damaged_one() {
    let mut file = record(b"one").to_line();
    let second = file.len();
    file.push_str(&record(b"two").to_line());
    let torn = read(&file.as_bytes()[..file.len() - 1]);
    assert_eq!(torn[0].line, Ok(record(b"one")));
    assert_eq!(torn[1].line, Err(LineError::Torn));
    assert_eq!(torn[1].offset, second as u64);

    let mut bytes = file.into_bytes();
    bytes[20] ^= 1;
    let damaged = read(&bytes);
    assert_eq!(damaged[0].line, Err(LineError::Damaged));
    assert_eq!(damaged[1].line, Ok(record(b"two")));
    assert_eq!(damaged[1].number, 2);
}

#[test]
fn a_line_that_is_too_long_is_passed_over() {
    let long = record(&[b'a'; 500]).to_line();
    let file = format!("{long}{}", record(b"two").to_line());
    let lines: Vec<_> = Lines::<_, DataLine>::new(file.as_bytes(), 200)
        .map(|line| line.expect("memory"))
        .collect();
    assert_eq!(lines[0].line, Err(LineError::TooLong));
    assert_eq!(lines[0].length, long.len() as u64);
    assert_eq!(lines[1].line, Ok(record(b"two")));
}

#[test]
fn names_that_would_break_a_line_are_refused() {
    for wrong in ["", "a b", "a\n", "é", &"x".repeat(65)] {
        assert!(check_name(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(check_name("norte-1"), Ok(()));
}

proptest! {
    #[test]
    fn any_bytes_survive(bytes: Vec<u8>, text: String) {
        for line in [record(&bytes), record(text.as_bytes())] {
            let written = line.to_line();
            prop_assert_eq!(written.matches('\n').count(), 1);
            prop_assert_eq!(DataLine::from_line(written.as_bytes()), Ok(line));
        }
    }

    #[test]
    fn a_flipped_bit_is_found(bytes: Vec<u8>, at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut line = record(&bytes).to_line().into_bytes();
        let at = at.index(line.len());
        line[at] ^= 1_u8 << bit;
        prop_assert!(DataLine::from_line(&line).is_err());
    }

    #[test]
    fn a_file_of_rubbish_is_read_to_its_end(bytes: Vec<u8>) {
        let length: u64 = read(&bytes).iter().map(|line| line.length).sum();
        prop_assert_eq!(length, bytes.len() as u64);
    }
}
