//! How long an answer takes: RFC 6298 and RFC 9002, section 5.

use std::time::Duration;

/// Assumed until something has been measured.
const INITIAL: Duration = Duration::from_millis(100);

/// No smaller variation is taken for real.
const GRANULARITY: Duration = Duration::from_millis(1);

/// How late a peer may acknowledge: its delay, and some time until its thread has its turn.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(25);

/// The longest pause between two tries.
const MAX_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Rtt {
    measured: bool,
    smoothed: Duration,
    variation: Duration,
    latest: Duration,
    least: Duration,
}

impl Rtt {
    pub(super) fn new() -> Rtt {
        Rtt {
            measured: false,
            smoothed: INITIAL,
            variation: INITIAL / 2,
            latest: INITIAL,
            least: Duration::MAX,
        }
    }

    /// An answer came after so long, of which the peer says that it took `delay` before it answered.
    pub(super) fn measure(&mut self, sample: Duration, delay: Duration) {
        self.least = self.least.min(sample);
        self.latest = sample;
        let delay = delay.min(ACKNOWLEDGED_WITHIN);
        let sample = match sample.saturating_sub(delay) {
            adjusted if adjusted >= self.least => adjusted,
            _ => sample,
        };
        if !std::mem::replace(&mut self.measured, true) {
            (self.smoothed, self.variation) = (sample, sample / 2);
            return;
        }
        self.variation = (3 * self.variation + self.smoothed.abs_diff(sample)) / 4;
        self.smoothed = (7 * self.smoothed + sample) / 8;
    }

    /// How long to wait for an answer before asking again, the `times`th time.
    pub(super) fn timeout(&self, times: u32) -> Duration {
        let once = self.smoothed + (4 * self.variation).max(GRANULARITY) + ACKNOWLEDGED_WITHIN;
        once.saturating_mul(1 << times.min(10)).min(MAX_TIMEOUT)
    }

    /// How much later than its successors a datagram may come before it counts as lost.
    pub(super) fn reordering(&self) -> Duration {
        (self.smoothed.max(self.latest) * 9 / 8).max(GRANULARITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn timeouts_follow_what_was_measured_and_double() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.timeout(0), 325 * MS);
        rtt.measure(10 * MS, Duration::ZERO);
        assert_eq!(rtt.timeout(0), 55 * MS);
        assert_eq!(rtt.timeout(1), 110 * MS);
        assert_eq!(rtt.timeout(99), MAX_TIMEOUT);
        for _ in 0..100 {
            rtt.measure(10 * MS, Duration::ZERO);
        }
        assert!(rtt.timeout(0) < 37 * MS, "{:?}", rtt.timeout(0));
    }

    #[test]
    fn the_delay_of_the_answer_does_not_count_unless_it_is_a_lie() {
        let mut rtt = Rtt::new();
        rtt.measure(10 * MS, Duration::ZERO);
        let before = rtt.timeout(0);
        rtt.measure(15 * MS, 5 * MS);
        assert!(rtt.timeout(0) < before);
        rtt.measure(10 * MS, 9 * MS);
        assert_eq!(rtt.least, 10 * MS);
        assert!(rtt.smoothed >= 10 * MS);
    }
}
