//! `mutirao compare`: TCP, UDP and ZeroMQ side by side, through the library's own contract.
//!
//! ```text
//! args ─▶ plan (cells, in turns) ─▶ measure (one cell) ─▶ results ─▶ tables · words · plot ─▶ report
//!                                     │ starts
//!                                     ├─ peer: receiver, sender, asking and answering peer
//!                                     └─ peer: the lossy proxy in between
//! ```
//!
//! Every part of a measurement is a process of its own ([`peer`]), so that it can be killed, that what it uses can be
//! told apart, and that one that hangs costs no more than its measurement.

pub(crate) mod args;
mod arrivals;
mod contender;
mod control;
mod hangup;
mod helper;
mod machine;
mod measure;
pub(crate) mod peer;
mod plan;
mod plot;
mod progress;
mod proxy;
mod report;
mod results;
pub(crate) mod show;
mod statistics;
mod tables;
mod usage;
mod words;

use std::io::{self, Write as _};
use std::path::PathBuf;

use mutirao::StopHandle;
use mutirao::sim::Rng;

use self::helper::Trouble;
use self::machine::Machine;
use self::measure::Bench;
use self::plan::Cell;
use self::progress::Progress;
use self::report::{Facts, Report};
use self::results::{Results, Row};
use crate::count::counted;
use crate::exit::Exit;
use crate::report::folder::Folder;
use crate::report::table::{Table, wrap};
use crate::signals::Caught;

pub(crate) use self::args::CompareArgs;

/// Texts are wrapped at so many columns, which any terminal has.
const COLUMNS: usize = 80;

pub(crate) fn run(args: CompareArgs) -> Result<(), Exit> {
    let report = args.report.as_deref().map(Folder::prepare).transpose()?;
    let stop = StopHandle::default();
    let stopper = stop.clone();
    Caught::begin()?.then(move |_| stopper.stop());
    hangup::stop_at_hangup(stop.clone())?;
    let cells = plan::cells(&args.wanted());
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let (results, done) = measure_all(&args, &cells, seed, &stop)?;
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        command: args.command(seed),
        seed,
        rounds: args.rounds,
        seconds: args.window().as_secs_f64(),
        path_seconds: plan::longer(&cells, args.window()).map(|window| window.as_secs_f64()),
        done,
        planned: cells.len() as u64 * u64::from(args.rounds),
        machine: Machine::this(),
    };
    tell(&results, &facts, report.as_ref())?;
    end(&results, &facts)
}

/// Measures all cells in turn, round after round; how many measurements were made.
fn measure_all(
    args: &CompareArgs,
    cells: &[Cell],
    seed: u64,
    stop: &StopHandle,
) -> Result<(Results, u64), Exit> {
    let rounds = args.rounds as usize;
    let sockets = Sockets::make()?;
    let mut bench = Bench {
        window: args.window(),
        folder: &sockets.0,
        stop,
        serial: 0,
    };
    let mut results = Results::new(cells);
    let mut seeds = Rng::new(seed);
    let estimate = plan::estimate(cells, args.window(), rounds);
    let mut progress = Progress::start(cells.len() * rounds, estimate);
    for round in 1..=rounds {
        for outcome in &mut results.outcomes {
            progress.begin(round, &outcome.cell);
            let seed = seeds.bits();
            let Some(row) = measure_one(&mut bench, round, &outcome.cell, seed) else {
                return Ok((results, progress.done()));
            };
            outcome.rows.push(row);
            progress.end();
        }
    }
    Ok((results, progress.done()))
}

/// `None` when it was interrupted.
fn measure_one(bench: &mut Bench<'_>, round: usize, cell: &Cell, seed: u64) -> Option<Row> {
    if let Some(passed) = cell.passed() {
        return (!bench.stop.is_stopped()).then(|| Row::passed(round, cell, passed));
    }
    match bench.measure(cell, seed) {
        Ok(values) => Some(Row::measured(round, cell, values)),
        Err(Trouble::Failed(reason)) => Some(Row::failed(round, cell, reason)),
        Err(Trouble::Interrupted) => None,
    }
}

/// Writes the report where one is wanted, and prints what was found: one although the other fails.
fn tell(results: &Results, facts: &Facts, folder: Option<&Folder>) -> Result<(), Exit> {
    let tables = tables::tables(results);
    let sentences = words::sentences(results);
    let written = folder.map_or(Ok(()), |folder| {
        let plots = plot::plots(results);
        let summary = plot::summary(results);
        write(
            folder,
            &Report {
                facts,
                sentences: &sentences,
                tables: &tables,
                plots: &plots,
                summary: summary.as_ref(),
                results,
            },
        )
    });
    let printed = print(&text(&tables, &sentences, facts));
    written.and(printed)
}

fn write(folder: &Folder, report: &Report<'_>) -> Result<(), Exit> {
    let folder = report.write(folder)?;
    let page = folder.path().join("report.html");
    let _ = writeln!(io::stderr(), "The report is in {}.", page.display());
    Ok(())
}

fn print(text: &str) -> Result<(), Exit> {
    let mut stdout = io::stdout();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    printed.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::ReaderGone,
        _ => Exit::Environment(format!("standard output cannot be written: {error}")),
    })
}

fn text(tables: &[Table], sentences: &[String], facts: &Facts) -> String {
    let mut text = String::new();
    for table in tables {
        text.push_str(&table.text(COLUMNS));
        text.push('\n');
    }
    for sentence in sentences {
        text.push_str(&wrap(sentence, COLUMNS));
        text.push('\n');
    }
    text + "\n" + &wrap(&how(facts), COLUMNS) + "\n"
}

/// What the numbers are made of.
fn how(facts: &Facts) -> String {
    let Facts {
        rounds,
        seconds,
        seed,
        ..
    } = facts;
    let (medians, range) = match rounds {
        1 => ("One round".to_string(), ""),
        _ if facts.is_partial() => (
            format!("Medians of up to {rounds} rounds"),
            ", min–max behind them",
        ),
        _ => (
            format!("Medians of {rounds} rounds"),
            ", min–max behind them",
        ),
    };
    let partial = match facts.is_partial() {
        true => format!(
            "Partial ({} of {} measurements). ",
            facts.done, facts.planned
        ),
        false => String::new(),
    };
    let longer = facts.over_path();
    format!("{partial}{medians} of {seconds} s each{longer}{range}; seed {seed}.")
}

/// How it ended, beyond the tables.
fn end(results: &Results, facts: &Facts) -> Result<(), Exit> {
    if facts.is_partial() {
        return Err(Exit::Interrupted(format!(
            "interrupted after {} of {} measurements: the results are partial",
            facts.done, facts.planned
        )));
    }
    match results.failed() as u64 {
        0 => Ok(()),
        failed => Err(Exit::SomeFailed(format!(
            "{} of {} failed, as the tables say; the others stand",
            counted(failed, "measurement"),
            facts.planned
        ))),
    }
}

/// A folder for sockets of the file system, gone with this value.
struct Sockets(PathBuf);

impl Sockets {
    fn make() -> Result<Sockets, Exit> {
        use std::os::unix::fs::DirBuilderExt as _;
        // Not after the process, whose number comes again: that of a container each time.
        let name = format!("mutirao-compare-{:08x}", rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            Exit::Environment(format!(
                "{} cannot be made ({error}): set TMPDIR to a folder that can be written",
                path.display()
            ))
        })?;
        Ok(Sockets(path))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
