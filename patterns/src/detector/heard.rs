//! When a peer was heard, and how regularly.

use std::collections::VecDeque;
use std::time::Duration;

use crate::machine::Time;

use super::rules::{Adapts, Rules, Suspicion, times};
use super::{State, phi};

/// When one peer was heard, and how regularly: all that a failure detector has to remember of it.
///
/// For those who have a record of each peer anyhow and put this into it. With a fixed strategy to take
/// a heartbeat is to store a time; with φ accrual, to keep a number in a window of its own, 4 bytes for each gap. Nothing
/// is reckoned before somebody asks. [`Detector`](super::Detector) is a collection of these which keeps the timers as
/// well, tells what changes, and trusts those less who keep dying.
///
/// The same [`Rules`] belong into all calls, but for a peer that is for a time to be judged by others.
///
/// ```
/// use std::time::Duration;
/// use mutirao::detector::{Heard, Rules, State};
/// use mutirao::machine::Time;
///
/// let second = Duration::from_secs(1);
/// let rules = Rules::fixed(2 * second, 7 * second);
/// let mut heard = Heard::new(Time::START, &rules);
/// heard.beat(Time::START + second);
/// assert_eq!(heard.suspect_at(&rules), Time::START + 3 * second);
/// assert_eq!(heard.state(Time::START + 8 * second, &rules), State::Dead);
/// ```
#[derive(Clone, Debug)]
pub struct Heard {
    last: Time,
    /// Where it is of use.
    gaps: Option<Box<Gaps>>,
}

impl Heard {
    /// A peer whose silence is counted from now on.
    pub fn new(now: Time, rules: &Rules) -> Heard {
        let gaps = match rules.suspicion {
            Suspicion::After(_) => None,
            Suspicion::Adapts(adapts) => Some(Box::new(Gaps::expecting(rules.interval, adapts))),
        };
        Heard { last: now, gaps }
    }

    /// It is heard, as it is at every interval.
    pub fn beat(&mut self, now: Time) {
        self.last = now;
        if let Some(gaps) = &mut self.gaps {
            gaps.beat(now);
        }
    }

    /// It is heard out of turn: proof that it is there, which says nothing of its heartbeats.
    pub fn sign(&mut self, now: Time) {
        self.last = now;
    }

    /// Counts its silence from now on, whatever was before: it is not to blame, or has just come back.
    pub fn excuse(&mut self, now: Time) {
        self.last = now;
        if let Some(gaps) = &mut self.gaps {
            gaps.last = None;
        }
    }

    /// When it was heard the last time, or excused.
    pub fn last(&self) -> Time {
        self.last
    }

    /// When it will be suspect, if it stays silent.
    pub fn suspect_at(&self, rules: &Rules) -> Time {
        self.last + self.patience(rules)
    }

    /// When it will be dead, if it stays silent.
    pub fn dead_at(&self, rules: &Rules) -> Time {
        self.suspect_at(rules) + rules.pause
    }

    /// What its silence says.
    pub fn state(&self, now: Time, rules: &Rules) -> State {
        let suspect_at = self.suspect_at(rules);
        match now {
            now if now >= suspect_at + rules.pause => State::Dead,
            now if now >= suspect_at => State::Suspect,
            _ => State::Alive,
        }
    }

    /// How suspicious its silence is: -log10 of the probability that a heartbeat comes even later. With a fixed
    /// strategy, and before the first gaps, it is reckoned from the expected interval.
    pub fn phi(&self, now: Time, rules: &Rules) -> f64 {
        let (mean, deviation) = match rules.suspicion {
            Suspicion::After(_) => EXPECTED,
            Suspicion::Adapts(adapts) => self.mean_and_deviation(adapts),
        };
        let silence = now.since(self.last).as_secs_f64() / rules.interval.as_secs_f64();
        phi((silence - mean) / deviation)
    }

    /// How long a silence is nothing unusual.
    fn patience(&self, rules: &Rules) -> Duration {
        match rules.suspicion {
            Suspicion::After(time) => time,
            Suspicion::Adapts(adapts) => {
                let (mean, deviation) = self.mean_and_deviation(adapts);
                times(rules.interval, mean + adapts.deviations * deviation)
            }
        }
    }

    /// Both in intervals.
    fn mean_and_deviation(&self, adapts: Adapts) -> (f64, f64) {
        let gaps = self.gaps.as_deref();
        let (mean, deviation) = gaps.map_or(EXPECTED, Gaps::mean_and_deviation);
        (mean, deviation.max(adapts.least))
    }
}

/// Mean and deviation of gaps of which nothing is known, in intervals: a quarter of one too early and too late, as in
/// Akka.
const EXPECTED: (f64, f64) = (1.0, 0.25);

/// The part of an interval in which gaps are counted, so that all sums are exact and none overflows.
const PARTS: f64 = 1e6;

/// The last gaps between heartbeats, in millionths of the interval.
#[derive(Clone, Debug)]
struct Gaps {
    interval_s: f64,
    window: usize,
    /// The heartbeat before the next; `None` when what comes before that is no gap.
    last: Option<Time>,
    gaps: VecDeque<u32>,
    sum: u64,
    sum_of_squares: u64,
}

impl Gaps {
    fn expecting(interval: Duration, adapts: Adapts) -> Gaps {
        let mut gaps = Gaps {
            interval_s: interval.as_secs_f64(),
            window: adapts.window,
            last: None,
            gaps: VecDeque::new(),
            sum: 0,
            sum_of_squares: 0,
        };
        let (mean, deviation) = EXPECTED;
        gaps.push(mean - deviation);
        gaps.push(mean + deviation);
        gaps
    }

    /// One of about n intervals is n, with heartbeats lost in between; one that is much too short is
    /// none: a repetition.
    fn beat(&mut self, now: Time) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let gap = now.since(last).as_secs_f64() / self.interval_s;
        if gap < 0.5 {
            return;
        }
        self.push(gap / gap.round());
        if self.gaps.len() > self.window {
            let oldest = u64::from(self.gaps.pop_front().unwrap_or(0));
            self.sum -= oldest;
            self.sum_of_squares -= oldest * oldest;
        }
    }

    /// `gap` is between a half and one and a half, so that a thousand squares of it are no large number.
    fn push(&mut self, gap: f64) {
        let gap = (gap * PARTS).round() as u32;
        self.gaps.push_back(gap);
        self.sum += u64::from(gap);
        self.sum_of_squares += u64::from(gap) * u64::from(gap);
    }

    /// Both in intervals.
    fn mean_and_deviation(&self) -> (f64, f64) {
        let count = self.gaps.len() as u64;
        let variance = count * self.sum_of_squares - self.sum * self.sum;
        let deviation = (variance as f64).sqrt() / count as f64;
        (self.sum as f64 / count as f64 / PARTS, deviation / PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::Strategy;

    const SECOND: Duration = Duration::from_secs(1);

    fn adaptive() -> Rules {
        Rules::new(SECOND, Strategy::phi_accrual(SECOND, SECOND * 5))
    }

    /// How long a peer is alive after these gaps, repeated.
    fn patience_after(gaps_ms: &[u64]) -> Duration {
        let rules = adaptive();
        let mut heard = Heard::new(Time::START, &rules);
        for &ms in gaps_ms.iter().cycle().take(1000) {
            heard.beat(heard.last() + Duration::from_millis(ms));
        }
        heard.suspect_at(&rules).since(heard.last())
    }

    #[test]
    fn signs_of_life_count_as_life_and_not_as_heartbeats() {
        let rules = adaptive();
        let mut heard = Heard::new(Time::START, &rules);
        for beat in 1..300 {
            heard.beat(Time::START + SECOND * beat);
            heard.sign(Time::START + SECOND * beat + Duration::from_millis(u64::from(beat) * 3));
        }
        assert_eq!(heard.last(), Time::START + Duration::from_millis(299_897));
        let patience = heard.suspect_at(&rules).since(heard.last());
        assert!(patience.abs_diff(Duration::from_millis(1_561)) < Duration::from_millis(1));
    }

    /// Whatever a peer does, it does not put off its death for longer than that: gaps count from a half to one
    /// and a half, so that their deviation is a half at most.
    #[test]
    fn nobody_is_believed_for_ever() {
        let most = SECOND.mul_f64(1.0 + 5.613 / 2.0);
        for gaps in [
            &[500, 1_499][..],
            &[500, 500, 1_499],
            &[1, 2, 1_499, 20_000_000],
            &[0, 1_499, u64::MAX / 2000],
        ] {
            let patience = patience_after(gaps);
            assert!(
                patience > SECOND && patience <= most,
                "{gaps:?}: {patience:?}"
            );
        }
    }

    #[test]
    fn numbers_without_sense_do_no_harm() {
        for interval in [Duration::ZERO, Duration::MAX] {
            for strategy in [
                Strategy::fixed(0),
                Strategy::fixed(u32::MAX),
                Strategy::phi_accrual(interval, Duration::MAX),
            ] {
                let rules = Rules::new(interval, strategy);
                let mut heard = Heard::new(Time::START, &rules);
                for at in [Duration::ZERO, SECOND, Duration::MAX] {
                    heard.beat(Time::START + at);
                    assert!(heard.suspect_at(&rules) <= heard.dead_at(&rules));
                    heard.phi(Time::START + at, &rules);
                }
            }
        }
    }

    #[test]
    fn after_an_excuse_silence_counts_anew_and_the_pause_is_no_gap() {
        let rules = adaptive();
        let mut heard = Heard::new(Time::START, &rules);
        for beat in 1..300 {
            heard.beat(Time::START + SECOND * beat);
        }
        let before = heard.suspect_at(&rules).since(heard.last());
        let woken = Time::START + SECOND * 1000;
        heard.excuse(woken);
        assert_eq!(heard.state(woken, &rules), State::Alive);
        heard.beat(woken + SECOND * 7 / 5);
        assert_eq!(heard.suspect_at(&rules).since(heard.last()), before);
    }
}
