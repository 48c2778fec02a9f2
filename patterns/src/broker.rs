//! The load-balancing broker: takes tasks in, keeps them until they are done, gives them to whoever
//! has room, keeps the results until they are fetched.
//!
//! ```text
//!  clients ── tasks ──▶ ┌────────┐ ── leases ──▶ workers
//!          ◀─ accepted ─│ broker │ ◀─ results ──
//!          ◀─ results ──└────────┘
//!                           │ store
//! ```
//!
//! A *service* is an operation: workers register for operations, a job names one. Tasks of a job are
//! numbered from 0 by its client, so that a client that repeats itself, after a lost confirmation or a
//! restart, adds nothing twice. A task that a worker is given is *leased*: the lease ends with its
//! results, with the worker's silence, or when it is given back; results under a lease that has
//! ended are dropped.
//!
//! In [`Mode::RequestReply`] nothing is kept: a job ends with the client that opened it.

/// What sockets are opened for, as it is called where their transport does not do.
pub(crate) const BROKER: &str = "a broker";

mod assign;
mod bodies;
mod caller;
mod client;
mod clients;
mod console;
mod fetcher;
mod frames;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hands;
mod inbox;
mod intake;
mod job;
mod json;
mod keeper;
mod leaseholder;
mod link;
mod machine;
pub mod majordomo;
mod node;
mod object;
mod patience;
mod piece;
mod protocol;
mod pulse;
mod recovery;
mod requests;
mod run;
mod service;
mod silence;
pub mod store;
mod submitter;
mod synchronous;
mod throughput;
mod workers;

pub use caller::{CallError, Caller, CallerConfig};
pub use client::{ClientInput, ClientLimits, ClientMachine, ClientOutput};
pub use console::{Console, Fetched};
pub use fetcher::{FetchEvent, Fetcher};
pub(crate) use frames::{AtWorker, read_at_worker};
pub use hands::Deed;
pub use json::Codec;
pub(crate) use json::End;
pub use leaseholder::{Leased, Leaseholder, LeaseholderInput, LeaseholderOutput};
pub use link::{ClientConfig, ClientError};
pub use machine::{
    BrokerCounts, BrokerInput, BrokerLimits, BrokerMachine, BrokerOutput, Grant, Mode,
};
pub use object::{Broker, BrokerConfig, BrokerError};
pub use patience::Detection;
pub use piece::Slice;
pub use protocol::{
    BrokerSays, BrokerTells, ClientSays, Held, JobCounts, JobSettings, JobView, Keeps, LeaseId,
    ResultsTo, ServiceView, StatusView, Takes, WorkerTells, WorkerView,
};
pub use recovery::Recovery;
pub use submitter::Submitter;
