//! What a silence means.

use std::time::Duration;

use super::phi::deviations;
use super::{MAX_WINDOW, Strategy};

/// What a silence means: a [`Strategy`] whose numbers are worked out, once for all peers that beat alike.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub(super) interval: Duration,
    pub(super) suspicion: Suspicion,
    /// Dead so much later than suspect.
    pub(super) pause: Duration,
}

/// When a silence becomes suspicious.
#[derive(Clone, Copy, Debug)]
pub(super) enum Suspicion {
    /// After this time.
    After(Duration),
    /// When it is longer than gaps usually are.
    Adapts(Adapts),
}

/// How far from the mean is unusual.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adapts {
    /// In standard deviations.
    pub(super) deviations: f64,
    /// The least deviation that is believed, in intervals.
    pub(super) least: f64,
    /// Gaps that are remembered.
    pub(super) window: usize,
}

impl Rules {
    /// Rules for peers that beat every `interval`.
    pub fn new(interval: Duration, strategy: Strategy) -> Rules {
        // Whatever it is divided by it is not nothing.
        let interval = interval.max(Duration::from_nanos(1));
        match strategy {
            Strategy::Fixed { suspect, liveness } => {
                let (suspect, dead) = (times(interval, suspect), interval.saturating_mul(liveness));
                Rules {
                    interval,
                    ..Rules::fixed(suspect, dead)
                }
            }
            Strategy::PhiAccrual {
                threshold,
                window,
                min_deviation,
                pause,
            } => Rules {
                interval,
                suspicion: Suspicion::Adapts(Adapts {
                    deviations: deviations(threshold),
                    least: min_deviation.as_secs_f64() / interval.as_secs_f64(),
                    window: window.clamp(2, MAX_WINDOW),
                }),
                pause,
            },
        }
    }

    /// Rules for peers of which no interval is known, in times; a peer is suspect at the latest when it is dead.
    pub fn fixed(suspect: Duration, dead: Duration) -> Rules {
        let suspect = suspect.min(dead);
        Rules {
            interval: suspect,
            suspicion: Suspicion::After(suspect),
            pause: dead - suspect,
        }
    }
}

/// So many intervals; the longest time there is, where that is more.
pub(super) fn times(interval: Duration, count: f64) -> Duration {
    Duration::try_from_secs_f64(interval.as_secs_f64() * count).unwrap_or(Duration::MAX)
}
