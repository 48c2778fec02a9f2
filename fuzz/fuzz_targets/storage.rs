//! Anything that a head and a data node of the storage cluster may receive, from all who talk to them.

#![no_main]

use std::fmt::Debug;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mutirao::machine::{Machine, Time};
use mutirao::storage::{
    DataConfig, DataInput, DataMachine, DataOutput, HeadConfig, HeadId, HeadInput, HeadMachine,
    HeadOutput, HeadTells, InstanceId, ReadFailure, Register, read_frame, write_frame,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Serialize, de::DeserializeOwned};

fuzz_target!(|bytes: &[u8]| play(bytes));

/// Lets both live through frames, each with its length, its sender and the milliseconds before it.
fn play(mut rest: &[u8]) {
    let (mut head, mut data) = (head(), data());
    let (mut now, mut kept) = (Time::START, 0);
    head.handle(now, HeadInput::Lead(3));
    while let [length, from, millis, tail @ ..] = rest {
        let (frame, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        now = now + Duration::from_millis(u64::from(*millis) * 16);
        let frame = [b"MUT1\x0d", frame].concat();
        let _ = read::<HeadTells>(&frame);
        match from % 4 {
            0 => head.handle_some(now, read(&frame).map(|asks| HeadInput::Client(1, asks))),
            1 => head.handle_some(now, read(&frame).map(HeadInput::Data)),
            2 => head.handle_some(
                now,
                read(&frame).map(|says| HeadInput::Head(HeadId(2), says)),
            ),
            _ => data.handle_some(now, read(&frame).map(DataInput::Head)),
        }
        head.wake(now);
        keep(now, &mut head, &mut kept);
        assert!(head.deadline().is_none_or(|deadline| deadline > now));
        serve(now, &mut data);
    }
}

fn head() -> HeadMachine {
    let config = HeadConfig {
        peers: vec![HeadId(2), HeadId(3)],
        record_bytes: 1_000,
        ..HeadConfig::alone()
    };
    HeadMachine::new(config, Register::default(), StdRng::seed_from_u64(7))
}

fn data() -> DataMachine {
    let config = DataConfig {
        name: "norte".into(),
        start: 1,
        reserve_bytes: 100,
    };
    let mut data = DataMachine::new(config, InstanceId(1), []);
    data.handle(Time::START, DataInput::Free(1_000));
    data
}

/// Reads a message; what is understood says the same when it is written and read again.
fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(frame: &[u8]) -> Option<T> {
    let message = read_frame(frame).ok()?;
    let again = write_frame(&message).expect("it was read");
    assert_eq!(read_frame(&again).ok().as_ref(), Some(&message));
    Some(message)
}

trait HandleSome: Machine {
    fn handle_some(&mut self, now: Time, input: Option<Self::Input>) {
        if let Some(input) = input {
            self.handle(now, input);
        }
    }
}

impl<M: Machine> HandleSome for M {}

fn keep(now: Time, head: &mut HeadMachine, kept: &mut u64) {
    while let Some(output) = head.poll() {
        if let HeadOutput::Keep(_) = output {
            *kept += 1;
            head.handle(now, HeadInput::Kept(*kept));
        }
    }
}

/// The disk takes everything, and gives back nothing good.
fn serve(now: Time, data: &mut DataMachine) {
    while let Some(output) = data.poll() {
        match output {
            DataOutput::Keep(op, _) => data.handle(now, DataInput::Kept(op)),
            DataOutput::Read(op, _) => {
                data.handle(now, DataInput::Read(op, Err(ReadFailure::Damaged)));
            }
            DataOutput::ToHead(..) | DataOutput::TurnedAway(_) => {}
        }
    }
}
