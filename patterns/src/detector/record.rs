//! What is known of one peer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::machine::Time;

use super::{CALM_INTERVALS, MAX_PROBATION, Rules, State, phi};

#[derive(Clone, Debug)]
pub(super) struct Record {
    last: Time,
    /// Until when its silence is not its fault.
    excused: Time,
    pub(super) told: State,
    gaps: Gaps,
    /// How often it came back from the dead, as far as that is remembered.
    returns: u32,
    calm_since: Time,
    /// Heartbeats in a row that it still has to send before it is trusted.
    probation: u32,
    /// When its timer rings; as long as it is not idle.
    pub(super) timer: Time,
    pub(super) is_idle: bool,
}

impl Record {
    pub(super) fn new(rules: &Rules, now: Time) -> Record {
        let mut record = Record {
            last: now,
            excused: now,
            told: State::Alive,
            gaps: Gaps::expecting(rules.interval),
            returns: 0,
            calm_since: now,
            probation: 0,
            timer: now,
            is_idle: false,
        };
        record.timer = record.due(rules).unwrap_or(now);
        record
    }

    /// What is to be thought of it now, whether or not that was told yet.
    pub(super) fn state(&self, now: Time, rules: &Rules) -> State {
        let suspect = self.patience(rules);
        let silence = now.since(self.last);
        match self.told {
            told if now < self.excused => told,
            _ if silence >= suspect + rules.pause => State::Dead,
            _ if silence >= suspect || self.probation > 0 => State::Suspect,
            _ => State::Alive,
        }
    }

    /// How long a silence is nothing unusual.
    fn patience(&self, rules: &Rules) -> Duration {
        match rules.suspect {
            Err(fixed) => fixed,
            Ok(deviations) => {
                let (mean, deviation) = self.gaps.mean_and_deviation(rules);
                Duration::from_secs_f64(mean + deviations * deviation)
            }
        }
    }

    /// When it becomes something worse if it stays silent.
    pub(super) fn due(&self, rules: &Rules) -> Option<Time> {
        let suspect = self.patience(rules);
        let due = match self.told {
            State::Alive => self.last + suspect,
            State::Suspect => self.last + suspect + rules.pause,
            State::Dead => return None,
        };
        Some(due.max(self.excused))
    }

    /// Takes a heartbeat; what is to be thought of the peer then.
    pub(super) fn heartbeat(&mut self, now: Time, rules: &Rules) -> State {
        let gap = now.since(self.last);
        let is_late = gap >= self.patience(rules);
        if self.told == State::Dead {
            self.returns = (self.returns + 1).min(MAX_PROBATION.ilog2() + 1);
            self.calm_since = now;
            self.probation = self.needed() - 1;
        } else {
            self.gaps.add(gap, rules);
            self.calm_down(now, rules);
            let left = if is_late && self.probation > 0 {
                self.needed()
            } else {
                self.probation
            };
            self.probation = left.saturating_sub(1);
        }
        self.last = now;
        match self.probation {
            0 => State::Alive,
            _ => State::Suspect,
        }
    }

    /// Heartbeats in a row that a return takes.
    fn needed(&self) -> u32 {
        1 << self.returns.saturating_sub(1)
    }

    fn calm_down(&mut self, now: Time, rules: &Rules) {
        let calm = rules.interval * CALM_INTERVALS;
        if self.returns > 0 && now.since(self.calm_since) >= calm {
            self.returns -= 1;
            self.calm_since = now;
        }
    }

    /// Remembers what was told; what was before.
    pub(super) fn become_state(&mut self, state: State) -> State {
        std::mem::replace(&mut self.told, state)
    }

    pub(super) fn excuse(&mut self, until: Time) {
        self.excused = until;
    }

    pub(super) fn phi(&self, now: Time, rules: &Rules) -> f64 {
        let (mean, deviation) = self.gaps.mean_and_deviation(rules);
        phi((now.since(self.last).as_secs_f64() - mean) / deviation)
    }
}

/// The last gaps between heartbeats, in nanoseconds, with exact sums.
#[derive(Clone, Debug)]
struct Gaps {
    gaps: VecDeque<u64>,
    sum: u128,
    sum_of_squares: u128,
}

impl Gaps {
    /// Before the first heartbeats: a quarter of the expected interval too early and too late, as in Akka.
    fn expecting(interval: Duration) -> Gaps {
        let mut gaps = Gaps {
            gaps: VecDeque::new(),
            sum: 0,
            sum_of_squares: 0,
        };
        gaps.push(interval - interval / 4);
        gaps.push(interval + interval / 4);
        gaps
    }

    /// Adds a gap. One of about n intervals is n, with heartbeats lost in between; one that is much too short is
    /// none: a repetition, or another sign of life.
    fn add(&mut self, gap: Duration, rules: &Rules) {
        if rules.window == 0 || gap < rules.interval / 2 {
            return;
        }
        let heartbeats = (gap.as_secs_f64() / rules.interval.as_secs_f64()).round();
        self.push(gap.div_f64(heartbeats.max(1.0)));
        while self.gaps.len() > rules.window {
            let oldest = self.gaps.pop_front().map_or(0, u128::from);
            self.sum -= oldest;
            self.sum_of_squares -= oldest * oldest;
        }
    }

    fn push(&mut self, gap: Duration) {
        let gap = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        self.gaps.push_back(gap);
        self.sum += u128::from(gap);
        self.sum_of_squares += u128::from(gap) * u128::from(gap);
    }

    /// Both in seconds.
    fn mean_and_deviation(&self, rules: &Rules) -> (f64, f64) {
        let count = self.gaps.len() as u128;
        let least = match rules.min_deviation {
            // Nothing adapts: a tenth, for those who ask for φ.
            Duration::ZERO => rules.interval / 10,
            least => least,
        };
        let variance = count * self.sum_of_squares - self.sum * self.sum;
        let deviation_ns = (variance as f64).sqrt() / count as f64;
        let mean_ns = self.sum as f64 / count as f64;
        (mean_ns / 1e9, (deviation_ns / 1e9).max(least.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::{Change, Detector, DetectorConfig};
    use crate::machine::Machine;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Time {
        Time::START + Duration::from_millis(ms)
    }

    fn both() -> [Detector<u8>; 2] {
        [
            DetectorConfig::fixed(SECOND),
            DetectorConfig::phi_accrual(SECOND),
        ]
        .map(|config| {
            assert_eq!(config.validate(), Ok(()));
            Detector::new(config)
        })
    }

    fn changes(detector: &mut Detector<u8>) -> Vec<State> {
        std::iter::from_fn(|| detector.poll())
            .map(|change| change.state)
            .collect()
    }

    /// Heartbeats every second from `from`; the moment of the last one.
    fn beat(detector: &mut Detector<u8>, from: u64, times: u64) -> u64 {
        for n in 0..times {
            detector.wake(at(from + 1000 * n));
            detector.heartbeat(at(from + 1000 * n), 1).unwrap();
        }
        from + 1000 * (times - 1)
    }

    /// Lets time pass until the peer is dead; when that is.
    fn die(detector: &mut Detector<u8>) -> Time {
        while let Some(due) = detector.deadline() {
            detector.wake(due);
            if detector.state(due, 1) == Some(State::Dead) {
                return due;
            }
        }
        panic!("it never dies")
    }

    #[test]
    fn silence_makes_suspect_then_dead_and_a_heartbeat_takes_it_back() {
        for mut detector in both() {
            let last = beat(&mut detector, 0, 300);
            assert_eq!(changes(&mut detector), []);
            let due = detector.deadline().unwrap();
            detector.wake(due);
            // The timer may be the one of an earlier heartbeat.
            let suspect = detector.deadline().unwrap();
            detector.wake(suspect);
            assert_eq!(changes(&mut detector), [State::Suspect]);
            let after = suspect.since(at(last));
            assert!(
                after >= SECOND.mul_f64(1.5) && after <= SECOND.mul_f64(1.75),
                "{after:?}"
            );
            let dead = die(&mut detector);
            assert_eq!(changes(&mut detector), [State::Dead]);
            assert!(dead.since(at(last)) <= SECOND * 7);
            assert_eq!(detector.deadline(), None, "nothing is left to be expected");
            detector.heartbeat(dead + SECOND, 1).unwrap();
            assert_eq!(changes(&mut detector), [State::Alive]);
            assert!(detector.deadline().is_some());
        }
    }

    #[test]
    fn whoever_keeps_dying_must_prove_itself_longer_to_a_bound() {
        for mut detector in both() {
            let mut now = 0;
            let mut needed = Vec::new();
            beat(&mut detector, now, 1);
            for _ in 0..7 {
                now = die(&mut detector).since(Time::START).as_millis() as u64;
                changes(&mut detector);
                let mut heartbeats = 0;
                while detector.state(at(now), 1) != Some(State::Alive) {
                    now += 1000;
                    heartbeats += 1;
                    beat(&mut detector, now, 1);
                }
                needed.push(heartbeats);
            }
            assert_eq!(needed, [1, 2, 4, 8, 16, 16, 16]);
            // And is forgiven, one return after the other.
            now = beat(&mut detector, now + 1000, 64 * 6);
            changes(&mut detector);
            die(&mut detector);
            detector.heartbeat(at(now + 60_000), 1).unwrap();
            assert_eq!(changes(&mut detector).last(), Some(&State::Alive));
        }
    }

    #[test]
    fn a_gap_on_probation_starts_it_again() {
        for mut detector in both() {
            beat(&mut detector, 0, 1);
            let mut now = 0;
            for _ in 0..3 {
                now = die(&mut detector).since(Time::START).as_millis() as u64 + 1000;
                beat(&mut detector, now, 4);
                now += 3000;
            }
            assert_eq!(detector.state(at(now), 1), Some(State::Alive));
            now = die(&mut detector).since(Time::START).as_millis() as u64 + 1000;
            now = beat(&mut detector, now, 7) + 3000;
            now = beat(&mut detector, now, 7);
            assert_eq!(detector.state(at(now), 1), Some(State::Suspect));
            now = beat(&mut detector, now + 1000, 1);
            assert_eq!(detector.state(at(now), 1), Some(State::Alive));
        }
    }

    #[test]
    fn a_detector_that_stood_still_blames_nobody() {
        for mut detector in both() {
            let last = beat(&mut detector, 0, 100);
            let woken = at(last + 60_000);
            detector.wake(woken);
            assert_eq!(changes(&mut detector), []);
            assert!(detector.deadline().unwrap() > woken);
            detector.heartbeat(woken + SECOND / 2, 1).unwrap();
            detector.wake(woken + SECOND);
            assert_eq!(changes(&mut detector), []);
            die(&mut detector);
            assert_eq!(changes(&mut detector), [State::Suspect, State::Dead]);
        }
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        let config = DetectorConfig {
            peers: 2,
            ..DetectorConfig::fixed(SECOND)
        };
        let mut detector = Detector::new(config);
        detector.heartbeat(at(0), 1).unwrap();
        detector.watch(at(0), 2).unwrap();
        assert_eq!(detector.heartbeat(at(0), 3).unwrap_err().limit, 2);
        assert_eq!(detector.state(at(0), 3), None);
        detector.forget(1);
        detector.heartbeat(at(0), 3).unwrap();
        while let Some(due) = detector.deadline() {
            detector.wake(due);
        }
        let heard: Vec<Change<i32>> = std::iter::from_fn(|| detector.poll()).collect();
        assert!(heard.iter().all(|change| change.peer != 1));
        assert_eq!(heard.len(), 4);
    }

    #[test]
    fn lost_heartbeats_and_repeated_ones_do_not_change_what_is_usual() {
        let [_, mut detector] = both();
        let mut now = 0;
        for n in 0..1000 {
            now += if n % 10 == 0 { 3000 } else { 1000 };
            detector.wake(at(now));
            for again in 0..3 {
                detector.heartbeat(at(now + again), 1).unwrap();
            }
        }
        let phi = detector.phi(at(now + 2 + 1561), 1).unwrap();
        assert!((7.5..8.5).contains(&phi), "{phi}");
    }

    #[test]
    fn a_network_that_delays_irregularly_is_given_more_time() {
        let [_, mut detector] = both();
        for n in 0..300u64 {
            let late = if n % 2 == 0 { 0 } else { 300 };
            detector.heartbeat(at(1000 * n + late), 1).unwrap();
        }
        // Gaps of 0.7 and 1.3 seconds: a deviation of 0.3.
        let last = 299 * 1000 + 300;
        assert_eq!(detector.state(at(last + 2600), 1), Some(State::Alive));
        assert_eq!(detector.state(at(last + 2800), 1), Some(State::Suspect));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        use crate::detector::Strategy;
        let with = |strategy| DetectorConfig {
            strategy,
            ..DetectorConfig::default()
        };
        let fixed = |suspect, liveness| with(Strategy::Fixed { suspect, liveness }).validate();
        assert!(fixed(1.75, 1).unwrap_err().starts_with("liveness"));
        for suspect in [0.9, 8.0, f64::NAN] {
            assert!(fixed(suspect, 7).unwrap_err().starts_with("suspect"));
        }
        let phi = |threshold, window, min_ms| {
            let min_deviation = Duration::from_millis(min_ms);
            let pause = SECOND;
            let strategy = Strategy::PhiAccrual {
                threshold,
                window,
                min_deviation,
                pause,
            };
            with(strategy).validate().unwrap_err()
        };
        assert!(phi(0.1, 100, 100).starts_with("threshold"));
        assert!(phi(f64::NAN, 100, 100).starts_with("threshold"));
        assert!(phi(8.0, 1001, 100).starts_with("window"));
        assert!(phi(8.0, 100, 0).starts_with("min_deviation"));
        let config = DetectorConfig {
            interval: Duration::ZERO,
            ..DetectorConfig::default()
        };
        assert!(config.validate().unwrap_err().starts_with("interval"));
    }
}
