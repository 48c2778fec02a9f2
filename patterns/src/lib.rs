//! The ZeroMQ message patterns as typed, reliable, encrypted objects.

pub mod endpoint;
pub mod machine;
pub mod security;
pub mod transport;
pub mod wait;
