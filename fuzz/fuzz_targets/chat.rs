//! Anything that a chat server or one of its clients may be sent as a packet, and back.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mutirao_fuzz::chat::read(bytes));
