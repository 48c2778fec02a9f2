//! What the ends of a measurement know of the way between them.

use std::time::Duration;

use mutirao::transport::SocketOptions;
use serde::{Deserialize, Serialize};

/// How long it may take on this machine until somebody answers.
const CONNECT: Duration = Duration::from_secs(5);

/// How long is waited on this machine after the sender's end for what still comes.
const DRAIN: Duration = Duration::from_secs(3);

/// Round trips that are waited for on top: greetings, and what has to be repeated several times.
const ROUND_TRIPS: u32 = 10;

/// The same for all ends of a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::compare) struct Way {
    /// What a path in between adds to a round trip, in milliseconds.
    pub(in crate::compare) round_trip_ms: f64,
    /// The longest datagram that reliable UDP sends, in bytes; `None` leaves it to that.
    pub(in crate::compare) datagram_bytes: Option<usize>,
}

impl Way {
    pub(super) fn options(&self) -> SocketOptions {
        SocketOptions {
            datagram_bytes: self.datagram_bytes,
            ..SocketOptions::default()
        }
    }

    /// How long to wait for somebody who answers.
    pub(in crate::compare) fn connect(&self) -> Duration {
        CONNECT + self.round_trips(ROUND_TRIPS)
    }

    /// How long is waited after the sender's end for what still comes.
    pub(in crate::compare) fn drain(&self) -> Duration {
        DRAIN + self.round_trips(ROUND_TRIPS)
    }

    /// What so many of them take more than on this machine.
    pub(in crate::compare) fn round_trips(&self, count: u32) -> Duration {
        Duration::from_secs_f64(self.round_trip_ms / 1000.0) * count
    }
}
