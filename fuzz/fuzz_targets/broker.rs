//! Anything from several peers, while time passes and a disk fills up.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mutirao::broker::fuzzing::Broker;
use mutirao_fuzz::{Step, steps};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };
    let mut broker = Broker::new(first & 1 == 1);
    for step in steps(bytes) {
        match step {
            Step::Message(peer, frames) => broker.receive(&[peer], &frames),
            Step::Lost(peer) => broker.lose(&[peer]),
            Step::Pause(time) => broker.pass(40 * Duration::from_millis(u64::from(time))),
            Step::Stored => broker.store(),
            Step::Full(full) => broker.trouble(full),
        }
    }
});
