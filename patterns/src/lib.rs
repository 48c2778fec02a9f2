//! The ZeroMQ message patterns as typed, reliable, encrypted objects.
//!
//! | pattern | objects | what is promised |
//! | --- | --- | --- |
//! | ventilator, worker, sink | [`Ventilator`], [`Worker`], [`Sink`] | every task's result arrives once, whoever dies |
//! | broker | [`Broker`](broker::Broker), [`Submitter`](broker::Submitter), [`Fetcher`](broker::Fetcher), [`Caller`](broker::Caller), [`Worker::start_at_broker`] | what it has accepted is done, whoever dies; with a store the broker, too |
//! | request, reply | [`Requester`], [`Replier`] | an answer or an error in time; a request may be handled twice |
//! | push, pull | [`Pusher`], [`Puller`] | nothing is dropped while both ends live |
//! | publish, subscribe | [`Publisher`], [`Subscriber`] | what is missed is counted and told |
//! | election | [`Election`](election::Election), [`Watcher`](election::Watcher) | never two leaders, in no epoch and at no moment |
//!
//! Values are anything serde knows, and travel as MessagePack, many small ones to a frame. Every
//! blocking call has a deadline or ends by a [`StopHandle`]; every queue is bounded; listening beyond
//! this machine needs [keys](security) or an explicit word.
//!
//! ```
//! use std::time::Duration;
//! use mutirao::pushpull::{PullerConfig, PusherConfig};
//! use mutirao::{Puller, Pusher};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut puller = Puller::<(u32, String)>::bind(&"tcp://127.0.0.1:*".parse()?, PullerConfig::default())?;
//! let pusher = Pusher::connect(puller.endpoint(), PusherConfig::default())?;
//! pusher.send(&(1, "muitas mãos".to_string()))?;
//! pusher.send(&(2, "fazem o trabalho leve".to_string()))?;
//! assert_eq!(puller.recv()?, (1, "muitas mãos".to_string()));
//! assert_eq!(puller.recv()?.0, 2);
//! # Ok(()) }
//! ```
//!
//! # Layers
//!
//! ```text
//! typed objects   trio · reqrep · pushpull · pubsub · election     what a program uses
//!     machines    pipeline · request · sequence · detector · election     protocols without sockets or clocks
//!     drivers     one thread owns the sockets            waits, feeds the machine, obeys it
//!     transports  zmq (tcp, ipc, inproc) · memory        whole messages between roles
//! ```
//!
//! Patterns and transports meet at the driver and nowhere else; the [endpoint]'s scheme picks the
//! transport. To read on: [`machine`], a small machine such as [`sequence`], then [`trio`]. Machines of
//! your own can be tested in the [simulator](sim).

pub mod broker;
pub mod complaints;
pub mod detector;
mod driver;
pub mod election;
pub mod endpoint;
mod fnv;
mod hex;
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
pub mod storage;
pub mod transport;
pub mod trio;
pub mod wait;
mod watched;
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
