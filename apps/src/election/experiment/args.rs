//! The command line of `mutirao election experiment`, and the cells that it comes to.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mutirao::election::MAX_MEMBERS;
use mutirao::election::experiment::Experiment;

use super::super::AlgorithmName;
use super::results::Cell;
use crate::compare::args::{joined, once, percent, within};
use crate::flags;

/// Try both algorithms in the simulator, under loss, crashes, partitions and pauses.
///
/// Prints how long it takes to elect, how many messages it takes, and how often two believed at once that they lead. Each run
/// has faults for some time, and peace at the end. Everything follows from the seeds, which are printed: the same
/// command finds the same. Ctrl-C ends it with what is there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mutirao election experiment\n  \
    mutirao election experiment --algorithm quorum --nodes 3,5,7 --loss 5 --seeds 1000 --report report")]
pub(crate) struct ExperimentArgs {
    /// Only this algorithm, bully or quorum; by default both
    #[arg(
        long,
        env = "MUTIRAO_ALGORITHM",
        value_name = "ALGORITHM",
        hide_possible_values = true
    )]
    algorithm: Option<AlgorithmName>,

    /// How many members
    #[arg(long, env = "MUTIRAO_EXPERIMENT_NODES", value_name = "LIST", value_delimiter = ',', default_value = "5", value_parser = nodes)]
    nodes: Vec<usize>,

    /// Messages that get lost, in per cent
    #[arg(long, env = "MUTIRAO_EXPERIMENT_LOSS", value_name = "LIST", value_delimiter = ',', default_value = "0,1,5,20", value_parser = percent)]
    loss: Vec<f64>,

    /// How often the members are parted in two sides, on average in a run
    #[arg(long, env = "MUTIRAO_EXPERIMENT_PARTITIONS", value_name = "LIST", value_delimiter = ',', default_value = "2", value_parser = average)]
    partitions: Vec<f64>,

    /// How many members are killed and started again, on average in a run
    #[arg(long, env = "MUTIRAO_EXPERIMENT_CRASHES", value_name = "N", default_value = "2", value_parser = average)]
    crashes: f64,

    /// How often a member stands still for a while, on average in a run
    #[arg(long, env = "MUTIRAO_EXPERIMENT_PAUSES", value_name = "N", default_value = "2", value_parser = average)]
    pauses: f64,

    /// How often a member is heard and hears others no more, or the other way round, on average in a run
    #[arg(long, env = "MUTIRAO_EXPERIMENT_ONE_WAY_CUTS", value_name = "N", default_value = "2", value_parser = average)]
    one_way_cuts: f64,

    /// How long there are faults in each run, in virtual time
    #[arg(long, env = "MUTIRAO_EXPERIMENT_TIME", value_name = "TIME", default_value = "10s", value_parser = virtual_time)]
    time: Duration,

    /// How many runs of each kind
    #[arg(long, env = "MUTIRAO_EXPERIMENT_SEEDS", value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(super) seeds: u64,

    /// The first run's seed; each has the next
    #[arg(
        long,
        env = "MUTIRAO_EXPERIMENT_FIRST_SEED",
        value_name = "N",
        default_value_t = 1
    )]
    pub(super) first_seed: u64,

    /// Write report.html, results.json and results.csv into this folder, in place of those that are there
    #[arg(long, env = "MUTIRAO_EXPERIMENT_REPORT", value_name = "DIR")]
    pub(super) report: Option<PathBuf>,
}

impl ExperimentArgs {
    fn algorithms(&self) -> Vec<AlgorithmName> {
        match self.algorithm {
            Some(one) => vec![one],
            None => vec![AlgorithmName::Bully, AlgorithmName::Quorum],
        }
    }

    /// Everything that is tried, the algorithms beside each other.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &nodes in &once(&self.nodes) {
            for &partitions in &once(&self.partitions) {
                for &loss_percent in &once(&self.loss) {
                    let with = |name: AlgorithmName| Cell {
                        algorithm: name.algorithm(),
                        nodes,
                        partitions,
                        loss_percent,
                    };
                    cells.extend(self.algorithms().into_iter().map(with));
                }
            }
        }
        cells
    }

    /// What a cell lets happen.
    pub(super) fn experiment(&self, cell: &Cell) -> Experiment {
        Experiment {
            algorithm: cell.algorithm,
            nodes: cell.nodes,
            loss: cell.loss_percent / 100.0,
            partitions: cell.partitions,
            crashes: self.crashes,
            pauses: self.pauses,
            one_way_cuts: self.one_way_cuts,
            time: self.time,
            ..Experiment::default()
        }
    }

    /// What happens in each run.
    pub(super) fn in_words(&self) -> String {
        format!(
            "{} s with {} crashes, {} pauses and {} one-way cuts on average beside partitions; delays of 0.1 to 10 ms, disks of up to 20 ms; then peace",
            self.time.as_secs_f64(),
            self.crashes,
            self.pauses,
            self.one_way_cuts
        )
    }

    /// What repeats it, wherever the values came from: flags, the environment, defaults.
    pub(super) fn command(&self) -> String {
        let mut words: Vec<String> = ["mutirao", "election", "experiment"]
            .map(String::from)
            .into();
        let mut flag = |name: &str, value: String| words.extend([name.into(), value]);
        if let Some(one) = self.algorithm {
            flag("--algorithm", one.algorithm().to_string());
        }
        flag("--nodes", joined(&self.nodes));
        flag("--loss", joined(&self.loss));
        flag("--partitions", joined(&self.partitions));
        flag("--crashes", self.crashes.to_string());
        flag("--pauses", self.pauses.to_string());
        flag("--one-way-cuts", self.one_way_cuts.to_string());
        flag("--time", format!("{}ms", self.time.as_millis()));
        flag("--seeds", self.seeds.to_string());
        flag("--first-seed", self.first_seed.to_string());
        words.join(" ")
    }
}

fn nodes(text: &str) -> Result<usize, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (1..=MAX_MEMBERS).contains(number))
        .ok_or_else(|| format!("{text:?} is no number of members: give 1 to {MAX_MEMBERS}"))
}

fn average(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1000.0).ok_or_else(|| {
        format!("{text:?} is no such number: give how often on average, from 0 to 1000")
    })
}

fn virtual_time(text: &str) -> Result<Duration, String> {
    match flags::duration(text)? {
        time if time <= Duration::from_secs(3600) => Ok(time),
        _ => Err(format!("{text:?} is too long a time: give an hour at most")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ExperimentArgs,
    }

    #[test]
    fn the_command_has_every_value_and_repeats_itself() {
        use clap::Parser as _;
        let given = "experiment --nodes 3,5,3 --loss 1,0.5% --partitions 0,4 --time 2s --seeds 9 --first-seed 7";
        let line = Line::parse_from(given.split(' '));
        assert_eq!(line.args.cells().len(), 2 * 2 * 2 * 2);
        let command = line.args.command();
        assert!(
            command.contains("--nodes 3,5 --loss 1,0.5 --partitions 0,4"),
            "{command}"
        );
        let again = Line::parse_from(command.split(' ').skip(2));
        assert_eq!(again.args.command(), command);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for wrong in ["0", "65", "-1", "x", ""] {
            assert!(nodes(wrong).is_err(), "{wrong}");
        }
        for wrong in ["-1", "NaN", "inf", "1001", ""] {
            assert!(average(wrong).is_err(), "{wrong}");
        }
        assert!(virtual_time("2h").is_err());
    }
}
