//! The ZeroMQ message patterns as typed, reliable, encrypted objects.

mod complaints;
mod driver;
pub mod endpoint;
pub mod machine;
mod outbox;
pub mod pipeline;
pub mod pubsub;
pub mod pushpull;
pub mod reqrep;
pub mod request;
pub mod security;
pub mod sequence;
pub mod sim;
mod station;
pub mod stop;
pub mod transport;
pub mod trio;
pub mod wait;
pub mod wire;

pub use endpoint::Endpoint;
pub use pubsub::{Publisher, Subscriber};
pub use pushpull::{Puller, Pusher};
pub use reqrep::{Replier, Requester};
pub use station::OpenError;
pub use stop::StopHandle;
pub use trio::{
    Failure, Pattern, Sink, SinkConfig, SinkEvent, TaskInfo, Ventilator, VentilatorConfig, Worker,
    WorkerConfig, WorkerExit,
};
