//! The ZeroMQ message patterns as typed, reliable, encrypted objects.

mod driver;
pub mod endpoint;
pub mod machine;
pub mod pipeline;
pub mod security;
pub mod sim;
pub mod transport;
pub mod trio;
pub mod wait;
pub mod wire;

pub use driver::StartError;
pub use endpoint::Endpoint;
pub use trio::{
    Failure, Pattern, Sink, SinkConfig, SinkEvent, TaskInfo, Ventilator, VentilatorConfig, Worker,
    WorkerConfig, WorkerExit,
};
