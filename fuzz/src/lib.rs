//! How the bytes of a fuzzer become messages and moments.
//!
//! ```text
//! 0x00..0x07  peer 0 to 7 sends a message: a byte with the number of frames, then the frames
//! 0x08..0x0f  peer 0 to 7 cannot be reached any more
//! 0x10        time passes: a byte, times 40 ms
//! 0x11        the store has made everything safe
//! 0x12, 0x13  the store is full, has room again
//! frame       a byte with its length, 0xff for two bytes that follow, then its bytes
//! ```
//!
//! Other bytes count modulo the number of steps, so that every input means something.

pub mod chat;
pub mod storage;

use std::time::Duration;

use mutirao::broker::fuzzing::Broker;

/// Steps there are.
const STEPS: u8 = 0x14;

/// One thing that happens to a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Message(u8, Vec<Vec<u8>>),
    Lost(u8),
    Pause(u8),
    Stored,
    Full(bool),
}

/// Lets a broker live through steps, with a store or without.
pub fn play(durable: bool, steps: &[Step]) -> Broker {
    let mut broker = Broker::new(durable);
    for step in steps {
        match step {
            Step::Message(peer, frames) => broker.receive(&[*peer], frames),
            Step::Lost(peer) => broker.lose(&[*peer]),
            Step::Pause(time) => broker.pass(40 * Duration::from_millis(u64::from(*time))),
            Step::Stored => broker.store(),
            Step::Full(full) => broker.trouble(*full),
        }
    }
    broker
}

/// Reads steps until the bytes end.
pub fn steps(mut bytes: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(tag) = byte(&mut bytes) {
        steps.push(match tag % STEPS {
            peer @ 0..0x08 => Step::Message(peer, frames(&mut bytes)),
            peer @ 0x08..0x10 => Step::Lost(peer - 0x08),
            0x10 => Step::Pause(byte(&mut bytes).unwrap_or(0)),
            0x11 => Step::Stored,
            full => Step::Full(full == 0x12),
        });
    }
    steps
}

/// Writes them down.
pub fn write(steps: &[Step]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for step in steps {
        match step {
            Step::Message(peer, frames) => {
                bytes.extend([*peer, frames.len() as u8]);
                frames
                    .iter()
                    .for_each(|frame| write_frame(&mut bytes, frame));
            }
            Step::Lost(peer) => bytes.push(0x08 + peer),
            Step::Pause(time) => bytes.extend([0x10, *time]),
            Step::Stored => bytes.push(0x11),
            Step::Full(full) => bytes.push(if *full { 0x12 } else { 0x13 }),
        }
    }
    bytes
}

/// The frames that a client or a worker receives, each after a pause in milliseconds.
pub fn moments(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut moments = Vec::new();
    while let Some(pause) = byte(&mut bytes) {
        moments.push((u64::from(pause) * 40, frame(&mut bytes)));
    }
    moments
}

/// Writes them down, without pauses.
pub fn write_moments(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.push(0);
        write_frame(&mut bytes, frame);
    }
    bytes
}

fn write_frame(bytes: &mut Vec<u8>, frame: &[u8]) {
    match frame.len() {
        short @ 0..0xff => bytes.push(short as u8),
        long => {
            bytes.push(0xff);
            bytes.extend((long as u16).to_be_bytes());
        }
    }
    bytes.extend(frame);
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(first)
}

fn frames(bytes: &mut &[u8]) -> Vec<Vec<u8>> {
    let count = byte(bytes).unwrap_or(0) % 10;
    (0..count).map(|_| frame(bytes)).collect()
}

/// As long as it says, or as there are bytes.
fn frame(bytes: &mut &[u8]) -> Vec<u8> {
    let mut len = usize::from(byte(bytes).unwrap_or(0));
    if len == 0xff {
        let high = usize::from(byte(bytes).unwrap_or(0));
        len = high << 8 | usize::from(byte(bytes).unwrap_or(0));
    }
    let (frame, rest) = bytes.split_at(len.min(bytes.len()));
    *bytes = rest;
    frame.to_vec()
}
