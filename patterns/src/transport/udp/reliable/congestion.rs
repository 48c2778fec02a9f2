//! How much may be under way: additive increase, multiplicative decrease.
//!
//! RFC 9002, section 7 (NewReno), but that a loss takes three tenths of the window instead of half, for which
//! the window then grows by 0.53 instead of 1 datagram per round trip, as in RFC 9438, section 4.3: as fair
//! in the end, and less shaken by a single loss.

use crate::machine::Time;

const KEPT: f64 = 0.7;
const GROWTH: f64 = 0.53;

/// In datagrams.
const LEAST: usize = 2;
const INITIAL: usize = 10;

/// Where the initial window of [`INITIAL`] datagrams ends, in bytes (RFC 9002, section 7.2).
const INITIAL_BYTES: usize = 14_720;

#[derive(Debug)]
pub(super) struct Congestion {
    datagram_bytes: usize,
    max_bytes: usize,
    window: usize,
    /// Below it the window grows by all that is acknowledged.
    threshold: usize,
    /// What was sent up to here has been reacted to.
    recovered: Option<Time>,
    /// Part of a byte by which the window has grown.
    fraction: f64,
}

impl Congestion {
    pub(super) fn new(datagram_bytes: usize, max_bytes: usize) -> Congestion {
        let least = LEAST * datagram_bytes;
        let max_bytes = max_bytes.max(least);
        Congestion {
            datagram_bytes,
            max_bytes,
            window: (INITIAL * datagram_bytes).min(INITIAL_BYTES).max(least),
            threshold: max_bytes,
            recovered: None,
            fraction: 0.0,
        }
    }

    /// What may be under way, in bytes.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// So many bytes that were sent then have arrived, while so many were under way.
    pub(super) fn acknowledge(&mut self, bytes: usize, sent: Time, in_flight: usize) {
        // A window that is not used says nothing about the path.
        if self.recovered.is_some_and(|at| sent <= at) || 2 * in_flight < self.window {
            return;
        }
        if self.window < self.threshold {
            self.window += bytes;
        } else {
            let grown = GROWTH * (self.datagram_bytes * bytes) as f64 / self.window as f64;
            self.fraction += grown;
            self.window += self.fraction as usize;
            self.fraction = self.fraction.fract();
        }
        self.window = self.window.min(self.max_bytes);
    }

    /// Something that was sent then is lost.
    pub(super) fn lose(&mut self, now: Time, sent: Time) {
        if self.recovered.is_some_and(|at| sent <= at) {
            return;
        }
        self.recovered = Some(now);
        self.window = self.reduced(KEPT);
        self.threshold = self.window;
    }

    /// Nothing gets through any more.
    pub(super) fn collapse(&mut self) {
        self.threshold = self.reduced(KEPT).min(self.threshold);
        self.window = self.reduced(0.0);
    }

    fn reduced(&self, kept: f64) -> usize {
        let window = (self.window as f64 * kept) as usize;
        window.max(LEAST * self.datagram_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_window_doubles_then_grows_slowly_and_shrinks_once_for_each_loss() {
        let at = |ms| Time::START + Duration::from_millis(ms);
        let mut congestion = Congestion::new(1000, 1_000_000);
        assert_eq!(congestion.window(), 10_000);
        congestion.acknowledge(10_000, at(1), 10_000);
        assert_eq!(congestion.window(), 20_000);
        // Not used.
        congestion.acknowledge(1000, at(2), 5000);
        assert_eq!(congestion.window(), 20_000);
        congestion.lose(at(5), at(4));
        congestion.lose(at(6), at(3));
        assert_eq!(congestion.window(), 14_000);
        // Sent before the loss was noticed.
        congestion.acknowledge(14_000, at(4), 14_000);
        assert_eq!(congestion.window(), 14_000);
        congestion.acknowledge(14_000, at(6), 14_000);
        assert_eq!(congestion.window(), 14_530);
        congestion.collapse();
        assert_eq!(congestion.window(), 2000);
        for _ in 0..100_000 {
            congestion.acknowledge(100_000, at(9), 1_000_000);
        }
        assert_eq!(congestion.window(), 1_000_000);
    }
}
