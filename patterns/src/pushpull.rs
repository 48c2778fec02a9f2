//! Work handed from pushers to pullers: each record goes to one puller, in turn.
//!
//! ```text
//! Pusher ──┐                ┌──▶ Puller
//!          ├── one of them ─┤
//! Pusher ──┘                └──▶ Puller
//! ```
//!
//! Records are never dropped while both ends live: a slow puller fills the queues between them and
//! then the pusher blocks. What is on its way to a puller that dies is lost with it. Over `ipc`, what
//! a puller with a full queue has not read is also lost when its pusher closes, as libzmq takes the
//! hang-up for the end (4.3.4; `tcp` is not affected): there, keep the pusher until the work is
//! done. The same happens over `tcp` where the other end is a foreign socket that sends heartbeats: ours
//! send none here, see [`Heartbeat`](crate::transport::Heartbeat). Where nothing may be lost at all, use the [pipeline](crate::pipeline).

mod puller;
mod pusher;

pub use puller::{PullError, Puller, PullerConfig, PullerStats};
pub use pusher::{Batching, PushError, Pusher, PusherConfig};
