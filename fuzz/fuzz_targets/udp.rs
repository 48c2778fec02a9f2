//! Anything that a UDP socket may receive, from strangers and from who knows a session.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    |bytes: &[u8]| mutirao::transport::udp::fuzzing::receive(&mutirao_fuzz::moments(bytes))
);
