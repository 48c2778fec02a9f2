//! Anything that may stand in the four files of the storage cluster.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use mutirao::storage::{
    BeatLine, Checksum, ClientLine, DataLine, LineError, Lines, Register, RegisterLine, TextLine,
};

fuzz_target!(|bytes: &[u8]| {
    read::<DataLine>(bytes);
    read::<ClientLine>(bytes);
    read::<BeatLine>(bytes);
    replay(read(bytes));
    let summed = sum(bytes);
    read::<DataLine>(&summed);
    read::<ClientLine>(&summed);
    read::<BeatLine>(&summed);
    replay(read(&summed));
});

/// The same lines with the checksums that they need to be read.
fn sum(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split(|&byte| byte == b'\n');
    let line = |line: &[u8]| [line, format!(" #{}\n", Checksum::of(line)).as_bytes()].concat();
    lines.flat_map(line).collect()
}

/// Reads all lines: they follow each other without a gap, only the last may be torn, and what is understood says
/// the same when it is written and read again.
fn read<T: TextLine + PartialEq + Debug>(bytes: &[u8]) -> Vec<T> {
    let mut understood = Vec::new();
    let mut at = 0;
    for named in Lines::<_, T>::new(bytes, 256) {
        let named = named.expect("memory does not fail");
        assert_eq!(named.offset, at);
        at += named.length;
        match named.line {
            Ok(line) => {
                assert_eq!(T::from_line(line.to_line().as_bytes()).as_ref(), Ok(&line));
                understood.push(line);
            }
            Err(error) => assert!(error != LineError::Torn || at == bytes.len() as u64),
        }
    }
    assert_eq!(at, bytes.len() as u64);
    understood
}

/// A register with gaps is refused, or salvaged and then whole.
fn replay(lines: Vec<RegisterLine>) {
    let (mut register, mut salvaged) = (Register::default(), Register::default());
    for line in lines {
        let _ = register.replay(line.clone());
        salvaged.salvage(line);
    }
    let mut whole = Register::default();
    for line in salvaged.lines() {
        whole.replay(line).expect("no gap");
    }
    assert_eq!(whole.entries(), salvaged.entries());
    assert_eq!(whole.promised(), salvaged.promised());
}
