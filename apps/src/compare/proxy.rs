//! The bad path that is put between two ends, without privileges: a proxy on this machine.
//!
//! What happens to what passes is decided by two machines without sockets or clocks, all of whose
//! chance follows from a seed: [`datagrams::DatagramPath`] and [`stream::StreamPath`]. `udp` and `tcp`
//! carry the bytes.

pub(super) mod datagrams;
pub(super) mod stream;
mod tcp;
mod udp;
mod window;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::control::Control;

/// How much longer than the others a datagram takes that shall be overtaken.
pub(super) const HELD_BACK: Duration = Duration::from_millis(5);

/// How bad a path is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Conditions {
    /// Packets (datagrams, parts of those that are too long for one, segments of a stream) that get lost, in per
    /// cent.
    pub(super) loss_percent: f64,
    /// Datagrams that are held back by [`HELD_BACK`], so that others overtake them, in per cent.
    pub(super) reorder_percent: f64,
    /// Datagrams that arrive twice, in per cent.
    pub(super) duplicate_percent: f64,
    /// What everything takes, each way, in milliseconds.
    pub(super) delay_ms: f64,
}

impl Conditions {
    /// What everything takes, each way.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.delay_ms / 1000.0)
    }
}

/// What a proxy did to those who talked through it, both ways together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Injected {
    /// Packets that entered the path: datagrams, parts of those that are too long for one, segments of a stream.
    pub(super) arrived: u64,
    /// Packets that it threw away on purpose, or whose loss it acted out. A datagram is lost with any of its packets.
    pub(super) lost: u64,
    /// Datagrams that it held back.
    pub(super) held_back: u64,
    /// Datagrams that it sent twice.
    pub(super) duplicated: u64,
    /// Times that a stream stood still.
    pub(super) stalls: u64,
    /// Datagrams for which it had no room, which is no part of the experiment.
    pub(super) overrun: u64,
}

impl std::ops::AddAssign for Injected {
    fn add_assign(&mut self, other: Injected) {
        self.arrived += other.arrived;
        self.lost += other.lost;
        self.held_back += other.held_back;
        self.duplicated += other.duplicated;
        self.stalls += other.stalls;
        self.overrun += other.overrun;
    }
}

/// Runs a proxy of datagrams or of streams before `target` until it is told to end.
///
/// `ready` is told where it listens.
pub(super) fn run(
    datagrams: bool,
    target: SocketAddr,
    conditions: Conditions,
    seed: u64,
    control: &Control,
    ready: impl FnOnce(SocketAddr),
) -> std::io::Result<Injected> {
    match datagrams {
        true => udp::run(target, conditions, seed, control, ready),
        false => tcp::run(target, conditions, seed, control, ready),
    }
}
