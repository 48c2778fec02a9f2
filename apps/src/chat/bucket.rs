//! How much somebody may do in a time: a token bucket.

use std::time::Duration;

use mutirao::machine::Time;

/// Tokens that come back with time; each act takes one.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    /// Tokens that come back in a second.
    rate: f64,
    /// Tokens that it holds at the most.
    burst: f64,
    /// When `tokens` was right.
    at: Time,
}

impl Bucket {
    /// A full bucket; at least one token a second and at once.
    pub(crate) fn new(rate: u32, burst: u32, now: Time) -> Bucket {
        let (rate, burst) = (f64::from(rate.max(1)), f64::from(burst.max(1)));
        Bucket {
            tokens: burst,
            rate,
            burst,
            at: now,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let back = now.since(self.at).as_secs_f64() * self.rate;
        (self.tokens, self.at) = ((self.tokens + back).min(self.burst), now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    /// When there is a token, counted from the last time that one was asked for.
    pub(crate) fn next(&self) -> Time {
        let missing = (1.0 - self.tokens).max(0.0) / self.rate;
        // A little later: rounding must not make anybody come early for ever.
        self.at + Duration::from_secs_f64(missing) + Duration::from_micros(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let mut bucket = Bucket::new(10, 5, Time::START);
        let taken = (0..100).filter(|_| bucket.take(Time::START)).count();
        assert_eq!(taken, 5);
        let mut now = Time::START;
        for _ in 0..20 {
            now = bucket.next().max(now);
            assert!(bucket.take(now) && !bucket.take(now));
        }
        let second = now.since(Time::START).as_secs_f64();
        assert!((1.9..2.2).contains(&second), "{second}");
    }
}
