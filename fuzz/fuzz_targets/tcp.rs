//! Anything that a raw TCP socket may be sent, in pieces of any size.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mutirao::transport::fuzzing::tcp(bytes));
