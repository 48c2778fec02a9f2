//! The ZeroMQ message patterns as typed, reliable, encrypted objects.

mod complaints;
pub mod endpoint;
pub mod machine;
mod outbox;
pub mod pipeline;
pub mod pushpull;
pub mod security;
mod station;
pub mod stop;
pub mod transport;
pub mod wait;
pub mod wire;

pub use pushpull::{Puller, Pusher};
pub use station::OpenError;
