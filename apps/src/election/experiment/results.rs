//! What was tried, what was seen, and the table of it.

use std::time::Duration;

use mutirao::election::Algorithm;
use mutirao::election::experiment::Report;
use serde::Serialize;

use crate::compare::show::{count, microseconds, or_none, per_cent, whole};
use crate::report::table::{Cells, Line, Table};

/// Seeds that are remembered of those that show something.
const SEEDS: usize = 10;

/// One thing that is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) algorithm: Algorithm,
    pub(super) nodes: usize,
    pub(super) partitions: f64,
    pub(super) loss_percent: f64,
}

/// What was seen of it.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) cell: Cell,
    pub(super) report: Report,
    /// Runs in which two led at once.
    pub(super) runs_with_two: u64,
    /// The lowest seeds of those.
    pub(super) seeds_with_two: Vec<u64>,
    /// Seeds whose run did not go on.
    pub(super) livelocks: Vec<u64>,
}

impl Outcome {
    pub(super) fn new(cell: Cell) -> Outcome {
        Outcome {
            cell,
            report: Report::default(),
            runs_with_two: 0,
            seeds_with_two: Vec::new(),
            livelocks: Vec::new(),
        }
    }

    /// Adds a run; `None` for one that did not go on.
    pub(super) fn add(&mut self, seed: u64, report: Option<Report>) {
        let Some(report) = report else {
            self.livelocks.push(seed);
            return;
        };
        if report.double_leaders > 0 {
            self.runs_with_two += 1;
            let at = self.seeds_with_two.partition_point(|known| *known < seed);
            self.seeds_with_two.insert(at, seed);
            self.seeds_with_two.truncate(SEEDS);
        }
        self.report.add(&report);
    }

    pub(super) fn sort(&mut self) {
        self.livelocks.sort_unstable();
        self.report.times_to_elect.sort_unstable();
        self.report.times_to_settle.sort_unstable();
    }

    /// What must never be: with quorum anything but one leader at a time, and with any algorithm no end.
    pub(super) fn defect(&self) -> Option<String> {
        let Report {
            shared_epochs,
            epochs_backwards,
            ..
        } = self.report;
        let algorithm = self.cell.algorithm;
        if let [seed, ..] = self.livelocks[..] {
            return Some(format!(
                "{algorithm} did not go on with seed {seed}: that is a defect, please report it"
            ));
        }
        let broken = self.runs_with_two + shared_epochs + epochs_backwards > 0;
        (algorithm == Algorithm::Quorum && broken).then(|| {
            format!(
                "quorum broke its promise in {} of {} runs (seeds {:?}; {shared_epochs} epochs with two leaders, {epochs_backwards} out of order): that is a defect, please report it",
                self.runs_with_two, self.report.runs, self.seeds_with_two
            )
        })
    }

    /// Per cent of the time in which two or more led.
    pub(super) fn double_percent(&self) -> f64 {
        100.0 * rate(self.report.double_time.as_secs_f64(), self.report.time)
    }

    pub(super) fn messages_per_second(&self) -> f64 {
        rate(self.report.messages as f64, self.report.time)
    }

    /// In microseconds.
    pub(super) fn elect_us(&self, share: f64) -> Option<f64> {
        let time = self.report.time_to_elect(share);
        time.map(|time| time.as_secs_f64() * 1e6)
    }

    /// The numbers in a flat row.
    pub(super) fn row(&self) -> Row {
        let report = &self.report;
        let ms = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        Row {
            algorithm: self.cell.algorithm.to_string(),
            nodes: self.cell.nodes,
            loss_percent: self.cell.loss_percent,
            partitions: self.cell.partitions,
            runs: report.runs,
            virtual_seconds: report.time.as_secs_f64(),
            elections: report.elections,
            elect_p50_ms: ms(report.time_to_elect(0.5)),
            elect_p99_ms: ms(report.time_to_elect(0.99)),
            settle_p50_ms: ms(report.time_to_settle(0.5)),
            settle_p99_ms: ms(report.time_to_settle(0.99)),
            unsettled_runs: report.unsettled,
            messages: report.messages,
            messages_per_second: self.messages_per_second(),
            calm_messages_per_second: report.calm_messages_per_second(),
            two_leaders: report.double_leaders,
            two_leaders_runs: self.runs_with_two,
            two_leaders_seconds: report.double_time.as_secs_f64(),
            two_leaders_percent: self.double_percent(),
            shared_epochs: report.shared_epochs,
            epochs_backwards: report.epochs_backwards,
        }
    }
}

fn rate(amount: f64, time: Duration) -> f64 {
    match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => amount / seconds,
    }
}

/// A line of the report's files.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    algorithm: String,
    nodes: usize,
    loss_percent: f64,
    partitions: f64,
    runs: u64,
    virtual_seconds: f64,
    elections: u64,
    elect_p50_ms: Option<f64>,
    elect_p99_ms: Option<f64>,
    settle_p50_ms: Option<f64>,
    settle_p99_ms: Option<f64>,
    unsettled_runs: u64,
    messages: u64,
    messages_per_second: f64,
    calm_messages_per_second: f64,
    two_leaders: u64,
    two_leaders_runs: u64,
    two_leaders_seconds: f64,
    two_leaders_percent: f64,
    shared_epochs: u64,
    epochs_backwards: u64,
}

/// Something in which cells differ: its name, and a cell's value.
pub(super) type Axis = (&'static str, fn(&Cell) -> String);

/// What stands to the left: what differs from cell to cell.
const NAMES: [Axis; 3] = [
    ("nodes", |cell| cell.nodes.to_string()),
    ("partitions", |cell| cell.partitions.to_string()),
    ("loss", |cell| per_cent(cell.loss_percent)),
];

/// All outcomes.
pub(super) fn table(outcomes: &[Outcome]) -> Table {
    let differs = |name: &fn(&Cell) -> String| {
        let first = outcomes.first().map(|outcome| name(&outcome.cell));
        outcomes
            .iter()
            .any(|outcome| Some(name(&outcome.cell)) != first)
    };
    let names: Vec<_> = NAMES.iter().filter(|(_, name)| differs(name)).collect();
    let heads = names.iter().map(|(head, _)| *head);
    let values = [
        "p50", "p99", "msg/s", "in peace", "two led", "in runs", "of time",
    ];
    Table {
        title: "Elections".into(),
        note: "How long after the start, or after a leader was struck by a fault, another led; messages a second of all members, and in peace; how often two or more believed at once that they lead, in how many runs, and for how much of the time.".into(),
        heads: heads.chain(["algorithm"]).chain(values).collect(),
        names: names.len() + 1,
        lines: outcomes
            .iter()
            .map(|outcome| {
                let names = names.iter().map(|(_, name)| name(&outcome.cell));
                line(outcome, names.collect())
            })
            .collect(),
    }
}

fn line(outcome: &Outcome, mut names: Vec<String>) -> Line {
    names.push(outcome.cell.algorithm.to_string());
    let report = &outcome.report;
    let cells = Cells::Values(vec![
        or_none(outcome.elect_us(0.5), microseconds),
        or_none(outcome.elect_us(0.99), microseconds),
        count(outcome.messages_per_second()),
        count(report.calm_messages_per_second()),
        whole(report.double_leaders),
        format!("{}/{}", outcome.runs_with_two, report.runs),
        per_cent(outcome.double_percent()),
    ]);
    Line { names, cells }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(algorithm: Algorithm) -> Outcome {
        Outcome::new(Cell {
            algorithm,
            nodes: 5,
            partitions: 2.0,
            loss_percent: 1.0,
        })
    }

    fn run(double_leaders: u64) -> Option<Report> {
        let report = Report {
            runs: 1,
            double_leaders,
            ..Report::default()
        };
        Some(report)
    }

    #[test]
    fn the_lowest_seeds_that_show_something_are_kept() {
        let mut bully = outcome(Algorithm::Bully);
        for seed in (1..=30).rev() {
            bully.add(seed, run(seed % 2));
        }
        assert_eq!((bully.runs_with_two, bully.report.runs), (15, 30));
        assert_eq!(bully.seeds_with_two, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    }

    #[test]
    fn two_leaders_are_a_defect_of_quorum_and_no_news_of_bully() {
        for (algorithm, is_defect) in [(Algorithm::Bully, false), (Algorithm::Quorum, true)] {
            let mut outcome = outcome(algorithm);
            outcome.add(1, run(0));
            assert_eq!(outcome.defect(), None);
            outcome.add(7, run(1));
            let defect = outcome.defect().unwrap_or_default();
            assert_eq!(defect.contains("seeds [7]"), is_defect, "{defect}");
            outcome.add(9, None);
            assert!(outcome.defect().unwrap().contains("seed 9"));
        }
    }

    #[test]
    fn only_what_differs_has_a_column() {
        let table = table(&[outcome(Algorithm::Bully), outcome(Algorithm::Quorum)]);
        assert_eq!(table.heads[..2], ["algorithm", "p50"]);
        assert_eq!(table.lines.len(), 2);
    }
}
