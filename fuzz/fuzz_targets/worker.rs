//! Anything that a broker, or what poses as one, may send a worker.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mutirao::broker::fuzzing::worker(&mutirao_fuzz::moments(bytes)));
