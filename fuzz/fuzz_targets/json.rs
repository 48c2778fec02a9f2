//! Anything that a broker, a client or a worker may be sent as JSON, and back.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mutirao::broker::fuzzing::json(bytes));
