//! How long an acknowledgement takes, so that a slow peer is not taken for a lossy one.

use std::time::Duration;

/// Waits are this many times the longest of the recent delays.
const MARGIN: u32 = 4;

/// A slowly falling maximum of delays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag(Duration);

impl Lag {
    /// Takes note of one delay.
    pub(super) fn note(&mut self, delay: Duration) {
        self.0 = (self.0 - self.0 / 8).max(delay);
    }

    /// How long to wait at the least before something counts as lost.
    pub(super) fn wait(self) -> Duration {
        self.0.saturating_mul(MARGIN)
    }
}
