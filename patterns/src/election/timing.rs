//! The times of an election, and what must hold between them.

use std::time::Duration;

/// Parts per million.
const MILLION: u128 = 1_000_000;

/// The times of an election; the same for all members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Interval of the leader's heartbeats. Several must fit into a lease, so that a lost one does not end it.
    pub beat: Duration,
    /// How long a member that has heard a leader, or given its vote, gives no vote to anybody else; also
    /// the shortest silence after which it looks for a new leader. Longer than the slowest round trip.
    pub timeout_min: Duration,
    /// The longest such silence. In between, higher ids come first; the wider, the fewer collisions.
    pub timeout_max: Duration,
    /// How long a leader leads after it has sent the last heartbeat that a majority has answered. Shorter
    /// than `timeout_min`, by more than clocks drift apart in that time.
    pub lease: Duration,
    /// How much faster or slower than real time a clock may run, in millionths. Clocks that are
    /// disciplined by NTP stay within 500; the default is twenty times that.
    pub drift_ppm: u32,
}

impl Default for Timing {
    /// Timeouts of 150 to 300 ms, as in Raft; five heartbeats to a timeout.
    fn default() -> Timing {
        Timing {
            beat: Duration::from_millis(30),
            timeout_min: Duration::from_millis(150),
            timeout_max: Duration::from_millis(300),
            lease: Duration::from_millis(140),
            drift_ppm: 10_000,
        }
    }
}

impl Timing {
    /// The default with everything so many times longer, for slow or busy networks.
    #[must_use]
    pub fn stretched(factor: u32) -> Timing {
        let Timing {
            beat,
            timeout_min,
            timeout_max,
            lease,
            drift_ppm,
        } = Timing::default();
        Timing {
            beat: beat * factor,
            timeout_min: timeout_min * factor,
            timeout_max: timeout_max * factor,
            lease: lease * factor,
            drift_ppm,
        }
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.beat < Duration::from_millis(1) {
            return Err("beat is shorter than 1 ms: give at least that".into());
        }
        if self.beat.saturating_mul(2) > self.lease {
            return Err(
                "beat is over half of lease: one lost heartbeat would depose a leader".into(),
            );
        }
        if self.timeout_max > Duration::from_secs(3600) {
            return Err("timeout_max is over an hour: give less".into());
        }
        if self.timeout_max < self.timeout_min + self.timeout_min / 10 {
            return Err("timeout_max is not well above timeout_min: members would collide".into());
        }
        if u128::from(self.drift_ppm) >= MILLION {
            return Err("drift_ppm is 1,000,000 or more: no clock is that bad".into());
        }
        if !self.lease_is_safe() {
            return Err(format!(
                "lease is too long for timeout_min: with clocks that drift by {} ppm it must be over before \
                 the shortest timeout of others; shorten lease",
                self.drift_ppm
            ));
        }
        Ok(())
    }

    /// Whether a lease on the slowest clock ends before the shortest timeout on the fastest.
    fn lease_is_safe(&self) -> bool {
        let drift = u128::from(self.drift_ppm);
        self.lease.as_nanos() * (MILLION + drift) < self.timeout_min.as_nanos() * (MILLION - drift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_lease_must_end_before_others_may_be_elected() {
        let with = |lease, drift_ppm| {
            let timing = Timing {
                lease,
                drift_ppm,
                ..Timing::default()
            };
            timing.validate()
        };
        assert_eq!(Timing::default().validate(), Ok(()));
        assert_eq!(Timing::stretched(10).validate(), Ok(()));
        assert!(with(150 * MS, 0).is_err(), "as long as the promise");
        assert!(with(149 * MS, 0).is_ok());
        // 147 ms on a clock that is 1 % slow are 148.48; 150 ms on one that is 1 % fast are 148.51.
        assert!(with(147 * MS, 10_000).is_ok());
        assert!(with(148 * MS, 10_000).is_err());
    }

    #[test]
    fn times_that_do_not_fit_are_refused_by_name() {
        let refusal = |timing: Timing| timing.validate().unwrap_err();
        let timing = Timing::default;
        assert!(
            refusal(Timing {
                beat: MS / 2,
                ..timing()
            })
            .starts_with("beat")
        );
        assert!(
            refusal(Timing {
                beat: 71 * MS,
                ..timing()
            })
            .starts_with("beat")
        );
        assert!(
            refusal(Timing {
                timeout_max: 150 * MS,
                ..timing()
            })
            .starts_with("timeout_max")
        );
        assert!(
            refusal(Timing {
                drift_ppm: 1_000_000,
                ..timing()
            })
            .starts_with("drift_ppm")
        );
    }
}
