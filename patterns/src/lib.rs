//! The ZeroMQ message patterns as typed, reliable, encrypted objects.

pub mod endpoint;
pub mod machine;
pub mod pipeline;
pub mod security;
pub mod sim;
pub mod transport;
pub mod wait;
pub mod wire;
