//! The ZeroMQ message patterns as typed, reliable, encrypted objects.

mod complaints;
mod driver;
pub mod endpoint;
pub mod machine;
mod outbox;
pub mod pipeline;
pub mod pushpull;
pub mod security;
pub mod sim;
mod station;
pub mod stop;
pub mod transport;
pub mod trio;
pub mod wait;
pub mod wire;

pub use driver::StartError;
pub use endpoint::Endpoint;
pub use pushpull::{Puller, Pusher};
pub use station::OpenError;
pub use trio::{
    Failure, Pattern, Sink, SinkConfig, SinkEvent, TaskInfo, Ventilator, VentilatorConfig, Worker,
    WorkerConfig, WorkerExit,
};
