//! How much a TCP sender dares to have on its way: the congestion window.

use std::collections::VecDeque;
use std::time::Duration;

use mutirao::machine::Time;

/// Segments that a new connection may have on its way (RFC 6928).
const FIRST: f64 = 10.0;

/// The least that a loss leaves.
const LEAST: f64 = 2.0;

/// Segments beyond which Linux's receive buffer (6 MiB by default) is the limit.
const MOST: f64 = 4096.0;

/// What a loss leaves of the window, as with CUBIC (RFC 9438).
const AFTER_LOSS: f64 = 0.7;

/// Counted in segments. It doubles each round trip until the first loss (slow start), then grows by one each
/// round trip (RFC 5681, which CUBIC follows where round trips are short).
#[derive(Debug)]
pub(super) struct Window {
    round_trip: Duration,
    segments: f64,
    /// Up to here it doubles.
    threshold: f64,
    /// When the segments that are on their way will be acknowledged, and how many each time.
    flying: VecDeque<(Time, u64)>,
    in_flight: u64,
}

impl Window {
    pub(super) fn new(round_trip: Duration) -> Window {
        Window {
            round_trip,
            segments: FIRST,
            threshold: MOST,
            flying: VecDeque::new(),
            in_flight: 0,
        }
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Takes note of what has been acknowledged.
    pub(super) fn advance(&mut self, now: Time) {
        while let Some(&(due, segments)) = self.flying.front()
            && due <= now
        {
            self.flying.pop_front();
            self.in_flight -= segments;
            self.grow(segments as f64);
        }
    }

    fn grow(&mut self, acknowledged: f64) {
        self.segments += match self.segments < self.threshold {
            true => acknowledged,
            false => acknowledged / self.segments,
        };
        self.segments = self.segments.min(MOST);
    }

    /// Whether one more may leave.
    pub(super) fn has_room(&self) -> bool {
        (self.in_flight as f64) < self.segments.floor()
    }

    /// A segment leaves.
    pub(super) fn depart(&mut self, now: Time) {
        let due = now + self.round_trip;
        self.in_flight += 1;
        match self.flying.back_mut() {
            Some((last, segments)) if *last == due => *segments += 1,
            _ => self.flying.push_back((due, 1)),
        }
    }

    /// When something will be acknowledged.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.flying.front().map(|&(due, _)| due)
    }

    /// A loss was noticed by those behind it.
    pub(super) fn shrink(&mut self) {
        self.threshold = (self.segments * AFTER_LOSS).max(LEAST);
        self.segments = self.threshold;
    }

    /// A loss was noticed by the timer only.
    pub(super) fn collapse(&mut self) {
        self.shrink();
        self.segments = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(10);

    /// Sends as much as the window allows for so many round trips; its size after each.
    fn sizes(window: &mut Window, from: u32, round_trips: u32) -> Vec<f64> {
        let one = |trip| {
            let now = Time::START + ROUND_TRIP * (from + trip);
            window.advance(now);
            while window.has_room() {
                window.depart(now);
            }
            window.segments
        };
        (0..round_trips).map(one).collect()
    }

    #[test]
    fn it_doubles_up_to_the_first_loss_and_then_grows_by_one() {
        let mut window = Window::new(ROUND_TRIP);
        assert_eq!(sizes(&mut window, 0, 4), [10.0, 20.0, 40.0, 80.0]);
        window.shrink();
        assert_eq!(window.segments, 56.0);
        let grown = sizes(&mut window, 4, 3);
        assert!(
            grown
                .windows(2)
                .all(|pair| (0.9..1.6).contains(&(pair[1] - pair[0]))),
            "{grown:?}"
        );
    }

    #[test]
    fn after_a_timeout_it_begins_anew_and_never_ends_up_with_nothing() {
        let mut window = Window::new(ROUND_TRIP);
        (0..20).for_each(|_| window.collapse());
        assert_eq!((window.segments, window.threshold), (1.0, LEAST));
        assert!(window.has_room());
    }

    #[test]
    fn it_is_bounded() {
        let mut window = Window::new(ROUND_TRIP);
        let last = sizes(&mut window, 0, 20).pop();
        assert_eq!(last, Some(MOST));
    }
}
