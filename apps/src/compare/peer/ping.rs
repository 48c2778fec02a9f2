//! Round trips, one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use mutirao::Endpoint;
use mutirao::machine::Time;
use serde::{Deserialize, Serialize};

use super::ask::Asker;
use super::way::Way;
use crate::compare::control::Control;

/// The longest round trip that is told apart, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;

/// How long the first answers are waited for before another question is asked.
const KNOCK: Duration = Duration::from_millis(300);

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::compare) struct Pings {
    /// Size of question and answer.
    pub(in crate::compare) size_bytes: usize,
    /// For how long questions are asked.
    pub(in crate::compare) window_ms: u64,
    /// How long to wait for an answer.
    pub(in crate::compare) patience_ms: u64,
    /// Questions a second, whether the earlier ones are answered or not; one at a time without.
    pub(in crate::compare) pace: Option<f64>,
    pub(in crate::compare) way: Way,
}

/// How long answers took, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::compare) struct Pinged {
    pub(in crate::compare) answered: u64,
    /// Questions without an answer in time.
    pub(in crate::compare) unanswered: u64,
    /// Percentiles; `None` where there were too few answers for one.
    pub(in crate::compare) p50_us: Option<f64>,
    pub(in crate::compare) p90_us: Option<f64>,
    pub(in crate::compare) p99_us: Option<f64>,
    pub(in crate::compare) p999_us: Option<f64>,
    pub(in crate::compare) max_us: Option<f64>,
}

/// Asks for as long as was said.
pub(super) fn ping(at: &Endpoint, pings: &Pings, control: &Control) -> Result<Pinged, String> {
    let mut asker = Asker::open(at, pings.size_bytes, pings.way, control)?;
    let patience = Duration::from_millis(pings.patience_ms);
    asker.knock(patience.min(KNOCK + pings.way.round_trips(1)))?;
    let until = asker.clock.now() + Duration::from_millis(pings.window_ms);
    match pings.pace {
        Some(pace) => at_pace(&mut asker, pace, until, patience),
        None => one_at_a_time(&mut asker, until, patience),
    }
}

fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|error| error.to_string())
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NS));
}

/// Asks, waits for the answer, and asks again.
fn one_at_a_time(asker: &mut Asker<'_>, until: Time, patience: Duration) -> Result<Pinged, String> {
    let (mut histogram, mut unanswered) = (histogram()?, 0);
    while asker.clock.now() < until {
        match round_trip(asker, patience)? {
            Some(time) => record(&mut histogram, time),
            None => unanswered += 1,
        }
    }
    Ok(result(&histogram, unanswered))
}

/// Asks at a steady pace. What counts is the time since a question was due: one that could not be asked in
/// time, because an earlier one was in the way, has waited all the same.
fn at_pace(
    asker: &mut Asker<'_>,
    pace: f64,
    until: Time,
    patience: Duration,
) -> Result<Pinged, String> {
    let (mut histogram, begun) = (histogram()?, asker.clock.now());
    let mut open = BTreeMap::new();
    let mut asked = 0;
    let due = |asked: u64| begun + Duration::from_secs_f64(asked as f64 / pace);
    while due(asked) < until {
        let now = asker.clock.now();
        let mut next = due(asked);
        if next <= now {
            match asker.ask()? {
                Some(number) => {
                    open.insert(number, next);
                    asked += 1;
                    next = due(asked);
                }
                // A stop that lasts ends it as well: these questions are never answered.
                None if now >= until + patience => break,
                None => next = now + Duration::from_millis(1),
            }
        }
        take_answers(asker, &mut open, &mut histogram, next)?;
    }
    let end = asker.clock.now() + patience;
    while !open.is_empty() && asker.clock.now() < end {
        take_answers(asker, &mut open, &mut histogram, end)?;
    }
    Ok(result(&histogram, open.len() as u64))
}

/// Takes answers until then, or until none is missing; those that come twice count once.
fn take_answers(
    asker: &mut Asker<'_>,
    open: &mut BTreeMap<u64, Time>,
    histogram: &mut Histogram<u64>,
    until: Time,
) -> Result<(), String> {
    while let Some(answer) = asker.hear(until)? {
        if let Some(due) = open.remove(&answer.number) {
            record(histogram, since(asker, due));
        }
        if open.is_empty() || asker.clock.now() >= until {
            break;
        }
    }
    Ok(())
}

fn round_trip(asker: &mut Asker<'_>, patience: Duration) -> Result<Option<Duration>, String> {
    let begun = asker.clock.now();
    let until = begun + patience;
    let number = loop {
        match asker.ask()? {
            Some(number) => break number,
            None if asker.clock.now() >= until => return Ok(None),
            None => asker.hear((asker.clock.now() + Duration::from_millis(1)).min(until))?,
        };
    };
    // Late answers to earlier questions are passed over.
    while let Some(answer) = asker.hear(until)? {
        if answer.number == number {
            return Ok(Some(since(asker, begun)));
        }
    }
    Ok(None)
}

fn since(asker: &Asker<'_>, begun: Time) -> Duration {
    asker.clock.now().since(begun)
}

fn result(histogram: &Histogram<u64>, unanswered: u64) -> Pinged {
    let us = |ns: u64| ns as f64 / 1000.0;
    // A percentile of fewer values than lie beyond it would only repeat the maximum.
    let percentile = |quantile: f64, least: u64| {
        (histogram.len() >= least).then(|| us(histogram.value_at_quantile(quantile)))
    };
    Pinged {
        answered: histogram.len(),
        unanswered,
        p50_us: percentile(0.5, 1),
        p90_us: percentile(0.9, 10),
        p99_us: percentile(0.99, 100),
        p999_us: percentile(0.999, 1000),
        max_us: percentile(1.0, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times_us: impl IntoIterator<Item = u64>) -> Pinged {
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).unwrap();
        times_us
            .into_iter()
            .for_each(|us| histogram.record(us * 1000).unwrap());
        result(&histogram, 3)
    }

    #[test]
    fn percentiles_are_those_of_the_times() {
        let pinged = of(1..=1000);
        for (got, expected) in [
            (pinged.p50_us, 500.0),
            (pinged.p90_us, 900.0),
            (pinged.p99_us, 990.0),
            (pinged.p999_us, 999.0),
            (pinged.max_us, 1000.0),
        ] {
            let got = got.unwrap();
            assert!(
                (got / expected - 1.0f64).abs() < 0.002,
                "{got} for {expected}"
            );
        }
        assert_eq!((pinged.answered, pinged.unanswered), (1000, 3));
    }

    #[test]
    fn few_times_have_no_high_percentiles() {
        let pinged = of(1..=99);
        assert!(pinged.p90_us.is_some() && pinged.p99_us.is_none() && pinged.p999_us.is_none());
        assert!(of([]).p50_us.is_none() && of([]).max_us.is_none());
    }
}
