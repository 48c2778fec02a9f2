//! Anything that a broker, or what poses as one, may send a client.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mutirao::broker::fuzzing::client(&mutirao_fuzz::moments(bytes)));
