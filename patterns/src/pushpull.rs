//! Work handed from pushers to pullers: each record goes to one puller, in turn.
//!
//! ```text
//! Pusher ──┐                ┌──▶ Puller
//!          ├── one of them ─┤
//! Pusher ──┘                └──▶ Puller
//! ```
//!
//! Records are never dropped while both ends live: a slow puller fills the queues between them and
//! then the pusher blocks. What is on its way to a puller that dies is lost with it; where that
//! must not be, use the [pipeline](crate::pipeline).

mod puller;
mod pusher;

pub use puller::{PullError, Puller, PullerConfig, PullerStats};
pub use pusher::{Batching, PushError, Pusher, PusherConfig};
