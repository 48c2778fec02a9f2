//! The command line of `mutirao compare`, and what it becomes before anything is measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::contender::Contender;
use super::peer::LEAST_BYTES;
use super::plan::Wanted;
use super::proxy::Conditions;

/// The largest message: what is queued of it at both ends has to fit into memory.
const MOST_BYTES: usize = 4 << 20;

/// Measure TCP, UDP and ZeroMQ side by side.
///
/// How many messages a second go through, how long a round trip takes, what it costs, what a path that
/// loses, delays and reorders does to it (a proxy of our own in between, no privileges needed), how long it takes
/// to connect, and to recover when the peer was killed. Everything on this machine, in rounds in which the
/// transports take turns. Ctrl-C ends it with what is there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mutirao compare\n  \
    mutirao compare --transports tcp,zmq-tcp --sizes 100,64KiB --loss 0,1 --delay 5 --report report")]
pub(crate) struct CompareArgs {
    /// Which ones take part
    #[arg(
        long,
        env = "MUTIRAO_COMPARE_TRANSPORTS",
        value_name = "LIST",
        value_delimiter = ',',
        hide_possible_values = true,
        default_value = "tcp,udp,udp-reliable,zmq-tcp,zmq-ipc,zmq-inproc"
    )]
    transports: Vec<Contender>,

    /// Sizes of messages in bytes; 16 at the least. Over a bad path it is the one next to 1 KiB
    #[arg(
        long,
        env = "MUTIRAO_COMPARE_SIZES",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "16,100,1024,65536",
        value_parser = size
    )]
    sizes: Vec<usize>,

    /// How much the bad path loses, in per cent
    #[arg(
        long,
        env = "MUTIRAO_COMPARE_LOSS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0,0.1,1,5",
        value_parser = percent
    )]
    loss: Vec<f64>,

    /// How long everything takes on the bad path, each way, in milliseconds; it is measured for 20 round trips there
    /// if that is longer than --seconds
    #[arg(
        long,
        env = "MUTIRAO_COMPARE_DELAY",
        value_name = "MS",
        default_value = "0",
        value_parser = milliseconds
    )]
    delay: f64,

    /// How many datagrams the bad path holds back so that others overtake them, in per cent; by default
    /// as many as it loses
    #[arg(long, env = "MUTIRAO_COMPARE_REORDER", value_name = "PERCENT", value_parser = percent)]
    reorder: Option<f64>,

    /// How many datagrams the bad path doubles, in per cent; by default a tenth of what it loses
    #[arg(long, env = "MUTIRAO_COMPARE_DUPLICATE", value_name = "PERCENT", value_parser = percent)]
    duplicate: Option<f64>,

    /// How long each flow and each series of round trips is measured
    #[arg(
        long,
        env = "MUTIRAO_COMPARE_SECONDS",
        value_name = "S",
        default_value = "0.3",
        value_parser = seconds
    )]
    seconds: f64,

    /// How often everything is measured; the tables show the median and the range
    #[arg(
        long,
        env = "MUTIRAO_COMPARE_ROUNDS",
        value_name = "N",
        default_value = "3",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub(super) rounds: u32,

    /// What the luck of the bad path follows from; by default another one each time
    #[arg(long, env = "MUTIRAO_COMPARE_SEED", value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Write report.html, summary.svg, results.json and results.csv into this folder, in place of those
    /// that are there; one that Ctrl-C ends writes into DIR/partial where a complete report is there
    #[arg(long, env = "MUTIRAO_COMPARE_REPORT", value_name = "DIR")]
    pub(super) report: Option<PathBuf>,
}

impl CompareArgs {
    /// What is to be compared, each thing once.
    pub(super) fn wanted(&self) -> Wanted {
        let path = |&loss_percent: &f64| Conditions {
            loss_percent,
            reorder_percent: self.reorder.unwrap_or(loss_percent),
            duplicate_percent: self.duplicate.unwrap_or(loss_percent / 10.0),
            delay_ms: self.delay,
        };
        Wanted {
            transports: once(&self.transports),
            sizes_bytes: once(&self.sizes),
            paths: once(&self.loss).iter().map(path).collect(),
        }
    }

    pub(super) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// What repeats it with this seed, wherever the values came from: flags, the environment, defaults.
    pub(super) fn command(&self, seed: u64) -> String {
        let names = once(&self.transports);
        let names: Vec<&str> = names.iter().map(|contender| contender.name()).collect();
        let mut words = vec!["mutirao".into(), "compare".into()];
        let mut flag = |name: &str, value: String| words.extend([name.into(), value]);
        flag("--transports", names.join(","));
        flag("--sizes", joined(&self.sizes));
        flag("--loss", joined(&self.loss));
        flag("--delay", self.delay.to_string());
        for (name, percent) in [("--reorder", self.reorder), ("--duplicate", self.duplicate)] {
            if let Some(percent) = percent {
                flag(name, percent.to_string());
            }
        }
        flag("--seconds", self.seconds.to_string());
        flag("--rounds", self.rounds.to_string());
        flag("--seed", seed.to_string());
        if let Some(folder) = &self.report {
            let folder = folder.display().to_string();
            // The only word that a shell could take apart.
            let quoted = shlex::try_quote(&folder).map(|word| word.into_owned());
            flag("--report", quoted.unwrap_or_else(|_| folder.clone()));
        }
        words.join(" ")
    }
}

pub(crate) fn joined<T: Copy + PartialEq + ToString>(list: &[T]) -> String {
    let words: Vec<String> = once(list).iter().map(T::to_string).collect();
    words.join(",")
}

pub(crate) fn once<T: Copy + PartialEq>(list: &[T]) -> Vec<T> {
    let mut seen = Vec::new();
    for item in list {
        if !seen.contains(item) {
            seen.push(*item);
        }
    }
    seen
}

fn size(text: &str) -> Result<usize, String> {
    match crate::flags::any_bytes(text)? {
        Some(bytes @ LEAST_BYTES..=MOST_BYTES) => Ok(bytes),
        _ => Err(format!(
            "{text:?} is out of range: give 16 bytes to 4MiB (a message carries a number and a mark)"
        )),
    }
}

pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    within(number, 0.0..=50.0).ok_or(format!(
        "{text:?} is no such part: give per cent, from 0 to 50"
    ))
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("ms").unwrap_or(text);
    within(number, 0.0..=500.0).ok_or(format!(
        "{text:?} is no delay: give milliseconds, from 0 to 500"
    ))
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    within(number, 0.05..=600.0).ok_or(format!(
        "{text:?} is no time: give seconds, from 0.05 to 600"
    ))
}

pub(crate) fn within(text: &str, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
    text.parse().ok().filter(|number| range.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_and_without_their_units_and_only_sensible_ones() {
        assert_eq!(percent("0.1"), Ok(0.1));
        assert_eq!(percent("5%"), Ok(5.0));
        assert_eq!(milliseconds("5ms"), Ok(5.0));
        assert_eq!(seconds("2s"), Ok(2.0));
        assert_eq!(size("64KiB"), Ok(65_536));
        for wrong in ["", "-1", "NaN", "inf", "51", "x"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "15", "5MiB", "2GiB", "99999999999GiB"] {
            let error = size(wrong).unwrap_err();
            assert!(error.contains("give 16 bytes to 4MiB"), "{error}");
        }
        for wrong in ["-16", "big", "16x"] {
            let error = size(wrong).unwrap_err();
            assert!(error.contains("is not a size"), "{error}");
        }
        for wrong in ["0", "-1", "NaN", "601"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: CompareArgs,
    }

    #[test]
    fn the_command_has_every_value_and_repeats_itself() {
        use clap::Parser as _;
        let given = "compare --transports tcp,udp,tcp --sizes 1KiB,16 --loss 0.1,5% --delay 2.5ms --reorder 3 \
                     --seconds 1s --rounds 2 --report";
        let line = Line::parse_from(given.split_whitespace().chain(["a folder"]));
        let command = line.args.command(7);
        let expected = "mutirao compare --transports tcp,udp --sizes 1024,16 --loss 0.1,5 --delay 2.5 --reorder 3 \
                        --seconds 1 --rounds 2 --seed 7 --report 'a folder'";
        assert_eq!(command, expected);
        let again = Line::parse_from(shlex::split(&command).unwrap().split_off(1));
        assert_eq!(again.args.command(7), command);
    }

    #[test]
    fn nothing_is_measured_twice_in_a_round() {
        assert_eq!(once(&[3, 1, 3, 2, 1]), [3, 1, 2]);
    }
}
