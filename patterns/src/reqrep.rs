//! Questions and answers over a network that loses them.
//!
//! ```text
//! Requester                                         Replier, or any REP socket
//!     ── id │ ∅ │ request ────────────────────────▶
//!     ◀──────────────────────── id │ ∅ │ reply ──      answered
//!     ◀─────────────────── id │ ∅ │ ∅ │ sentence ──      refused
//! ```
//!
//! The `id` is eight bytes, chosen by the requester and echoed by the replier, as every REP socket
//! does. A [`Replier`] likewise serves plain REQ sockets (which send no id), with or without
//! `ZMQ_REQ_CORRELATE`, and clients behind any number of proxies. Requests and replies are plain
//! MessagePack, one frame each, so that other languages need no more than their ZeroMQ binding.

mod answers;
mod replier;
mod requester;

pub use replier::{Asker, NextError, Replier, ReplierConfig, ReplierStats, ReplyError, Request};
pub use requester::{CallAll, CallError, Requester, RequesterConfig, RequesterStats};
