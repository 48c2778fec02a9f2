//! What a detector knows of one peer.

use crate::machine::Time;

use super::{Heard, Rules, State, Trust};

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) heard: Heard,
    pub(super) told: State,
    trust: Trust,
    /// When its timer rings; as long as it is not idle.
    pub(super) timer: Time,
    pub(super) is_idle: bool,
}

impl Record {
    pub(super) fn new(rules: &Rules, now: Time) -> Record {
        let heard = Heard::new(now, rules);
        Record {
            timer: heard.suspect_at(rules),
            heard,
            told: State::Alive,
            trust: Trust::new(now),
            is_idle: false,
        }
    }

    /// What is to be thought of it now, whether or not that was told yet. Nothing but a heartbeat makes it better.
    pub(super) fn state(&self, now: Time, rules: &Rules) -> State {
        self.told.max(self.heard.state(now, rules))
    }

    /// When it becomes something worse if it stays silent.
    pub(super) fn due(&self, rules: &Rules) -> Option<Time> {
        match self.told {
            State::Alive => Some(self.heard.suspect_at(rules)),
            State::Suspect => Some(self.heard.dead_at(rules)),
            State::Dead => None,
        }
    }

    /// Takes a heartbeat; what is to be thought of the peer then.
    pub(super) fn heartbeat(&mut self, now: Time, rules: &Rules) -> State {
        if self.told == State::Dead {
            self.trust.lose(now);
            // How long it was away says nothing of its heartbeats.
            self.heard.excuse(now);
        } else {
            let is_late = now >= self.heard.suspect_at(rules);
            self.trust.beat(now, is_late, rules);
        }
        self.heard.beat(now);
        match self.trust.is_full() {
            true => State::Alive,
            false => State::Suspect,
        }
    }

    /// Remembers what was told; what was before.
    pub(super) fn become_state(&mut self, state: State) -> State {
        std::mem::replace(&mut self.told, state)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    /// Lets time pass until the peer is as bad as that; when that is.
    fn sink(detector: &mut Detector<u8>, state: State) -> Time {
        while let Some(due) = detector.deadline() {
            detector.wake(due);
            if detector.state(due, 1) == Some(state) {
                return due;
            }
        }
        panic!("it is never {state:?}")
    }

    fn die(detector: &mut Detector<u8>) -> Time {
        sink(detector, State::Dead)
    }

    #[test]
    fn silence_makes_suspect_then_dead_and_a_heartbeat_takes_it_back() {
        for mut detector in both() {
            let last = beat(&mut detector, 0, 300);
            assert_eq!(changes(&mut detector), []);
            let suspect = sink(&mut detector, State::Suspect);
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
            now = beat(&mut detector, now, 7);
            for second in 1..3 {
                detector.wake(at(now + 1000 * second));
            }
            now = beat(&mut detector, now + 3000, 7);
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

    /// However its sleep lies to the timers.
    #[test]
    fn a_detector_that_stood_still_while_a_peer_was_suspect_buries_nobody() {
        for ms in (4_000..10_000).step_by(50) {
            for mut detector in both() {
                beat(&mut detector, 0, 100);
                let suspect = sink(&mut detector, State::Suspect);
                let woken = suspect + Duration::from_millis(ms);
                detector.wake(woken);
                assert_eq!(changes(&mut detector), [State::Suspect], "after {ms} ms");
                detector.wake(woken + SECOND);
                detector.heartbeat(woken + SECOND, 1).unwrap();
                assert_eq!(changes(&mut detector), [State::Alive], "after {ms} ms");
            }
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
