//! Anything from several peers, while time passes and a disk fills up.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mutirao_fuzz::{play, steps};

fuzz_target!(|bytes: &[u8]| {
    if let Some((&first, bytes)) = bytes.split_first() {
        play(first & 1 == 1, &steps(bytes));
    }
});
