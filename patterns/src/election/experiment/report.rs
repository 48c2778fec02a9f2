//! What an experiment has shown.

use std::time::Duration;

/// What was seen in one run or, added up, in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs that went into it.
    pub runs: u64,
    /// Times that two or more members believed at the same moment that they lead.
    pub double_leaders: u64,
    /// How long they did, together.
    pub double_time: Duration,
    /// Epochs in which more than one member has led; not counted for bully, which has no epochs.
    pub shared_epochs: u64,
    /// Leaders whose epoch was not higher than that of every leader before; not counted for bully.
    pub epochs_backwards: u64,
    /// Times that a member began to lead.
    pub elections: u64,
    /// Runs in which the members did not agree on a leader within ten seconds after the last fault, or
    /// changed it without need.
    pub unsettled: u64,
    /// Messages sent.
    pub messages: u64,
    /// Messages sent in the two seconds of peace at the end of each run.
    pub calm_messages: u64,
    /// How long those are, together.
    pub calm_time: Duration,
    /// Virtual time of all runs together.
    pub time: Duration,
    /// How long after the start, or after a leader was struck by a fault, another led. Where a fault came
    /// in between, the time counts from that one.
    pub times_to_elect: Vec<Duration>,
    /// How long after the last fault the members agreed.
    pub times_to_settle: Vec<Duration>,
}

impl Report {
    /// Adds what was seen in another run.
    pub fn add(&mut self, other: &Report) {
        self.runs += other.runs;
        self.double_leaders += other.double_leaders;
        self.double_time += other.double_time;
        self.shared_epochs += other.shared_epochs;
        self.epochs_backwards += other.epochs_backwards;
        self.elections += other.elections;
        self.unsettled += other.unsettled;
        self.messages += other.messages;
        self.calm_messages += other.calm_messages;
        self.calm_time += other.calm_time;
        self.time += other.time;
        self.times_to_elect.extend(&other.times_to_elect);
        self.times_to_settle.extend(&other.times_to_settle);
    }

    /// The time to elect that this share of elections, from 0 to 1, did not exceed.
    pub fn time_to_elect(&self, share: f64) -> Option<Duration> {
        quantile(&self.times_to_elect, share)
    }

    /// The time to settle that this share of runs, from 0 to 1, did not exceed.
    pub fn time_to_settle(&self, share: f64) -> Option<Duration> {
        quantile(&self.times_to_settle, share)
    }

    /// Messages in a second of peace, over all members.
    pub fn calm_messages_per_second(&self) -> f64 {
        self.calm_messages as f64 / self.calm_time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

fn quantile(times: &[Duration], share: f64) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (share * times.len() as f64).ceil() as usize;
    times.get(rank.clamp(1, times.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        for (share, millis) in [
            (0.0, 1),
            (0.01, 1),
            (0.5, 50),
            (0.99, 99),
            (0.991, 100),
            (1.0, 100),
        ] {
            assert_eq!(quantile(&times, share), Some(Duration::from_millis(millis)));
        }
        assert_eq!(quantile(&[], 0.5), None);
    }
}
