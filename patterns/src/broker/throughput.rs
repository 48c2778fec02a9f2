//! How many tasks are done in a second, on the average of the last few.

use std::time::Duration;

use crate::machine::Time;

/// The time of one count; so many of them are remembered.
const SLICE: Duration = Duration::from_millis(500);
const SLICES: usize = 10;

/// What was done in the first moments tells little about a whole second.
const LEAST: Duration = Duration::from_secs(1);

/// Counts over a window that slides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Throughput {
    counts: [u64; SLICES],
    /// The number of the slice that was counted last; it lies at that number modulo all.
    newest: u64,
    /// When counting began after a time in which nothing was done.
    begun: Time,
}

impl Throughput {
    /// Notes that so many tasks are done.
    pub(super) fn note(&mut self, now: Time, tasks: u64) {
        self.slide(now);
        if self.counts == [0; SLICES] {
            self.begun = now;
        }
        self.counts[self.newest as usize % SLICES] += tasks;
    }

    /// How many were done in a second.
    pub(super) fn per_second(&self, now: Time) -> u64 {
        let mut counts = *self;
        counts.slide(now);
        let whole = SLICE * (SLICES as u32 - 1);
        let begun_slice = now.since(Time::START).as_nanos() % SLICE.as_nanos();
        let window = whole + Duration::from_nanos(begun_slice as u64);
        let time = window.min(now.since(counts.begun)).max(LEAST);
        let tasks: u64 = counts.counts.iter().sum();
        (tasks as f64 / time.as_secs_f64()).round() as u64
    }

    /// Forgets what is too long ago.
    fn slide(&mut self, now: Time) {
        let slice = (now.since(Time::START).as_nanos() / SLICE.as_nanos()) as u64;
        let passed = slice.saturating_sub(self.newest);
        for number in (self.newest + 1..=slice).take(SLICES.min(passed as usize)) {
            self.counts[number as usize % SLICES] = 0;
        }
        self.newest = self.newest.max(slice);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::START + Duration::from_millis(ms)
    }

    #[test]
    fn a_steady_stream_is_told_from_its_first_second_on() {
        let mut throughput = Throughput::default();
        for ms in 7_000..20_000 {
            throughput.note(at(ms), 3);
            if ms > 8_000 {
                let rate = throughput.per_second(at(ms));
                assert!((2_990..=3_010).contains(&rate), "{rate} at {ms} ms");
            }
        }
    }

    #[test]
    fn what_is_over_fades_within_five_seconds() {
        let mut throughput = Throughput::default();
        throughput.note(at(100), 1000);
        assert_eq!(throughput.per_second(at(200)), 1000);
        assert_eq!(throughput.per_second(at(2_100)), 500);
        assert_eq!(throughput.per_second(at(5_100)), 0);
        throughput.note(at(60_000), 10);
        assert_eq!(throughput.per_second(at(60_500)), 10);
    }

    proptest! {
        #[test]
        fn no_more_is_told_than_was_done(notes in proptest::collection::vec((0..9_000u64, 0..99u64), 0..50)) {
            let (mut throughput, mut now, mut done) = (Throughput::default(), 0, 0);
            for (pause, tasks) in notes {
                now += pause;
                done += tasks;
                throughput.note(at(now), tasks);
                prop_assert!(throughput.per_second(at(now)) <= done);
            }
            prop_assert_eq!(throughput.per_second(at(now + 5_000)), 0);
        }
    }
}
