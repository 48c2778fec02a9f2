//! All runs, on every core, and how far they are.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mutirao::StopHandle;
use mutirao::election::experiment::{Experiment, Report};

use super::args::ExperimentArgs;
use super::results::Outcome;
use crate::exit::Exit;
use crate::terminal;

/// How often a line is written where there is no terminal.
const PAUSE: Duration = Duration::from_secs(15);

/// Runs that wait to be counted.
const WAITING: usize = 64;

/// A run that has ended: its cell, its seed, and what was seen unless it stood still.
type Ended = (usize, u64, Option<Report>);

/// What was seen in each cell, and in how many runs: all of them unless it was stopped.
pub(super) fn run_all(
    args: &ExperimentArgs,
    stop: &StopHandle,
) -> Result<(Vec<Outcome>, u64), Exit> {
    let mut outcomes: Vec<Outcome> = args.cells().into_iter().map(Outcome::new).collect();
    let experiments = outcomes
        .iter()
        .map(|outcome| args.experiment(&outcome.cell));
    let plan = Plan {
        experiments: experiments.collect(),
        seeds: args.seeds,
        first_seed: args.first_seed,
        next: AtomicU64::new(0),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut progress = Progress::start(plan.len());
    let (tell, told) = sync_channel(WAITING);
    thread::scope(|scope| {
        for _ in 0..cores {
            let (plan, tell) = (&plan, tell.clone());
            thread::Builder::new()
                .spawn_scoped(scope, move || plan.work(&tell, stop))
                .map_err(|error| {
                    Exit::Environment(format!("the system refuses a thread: {error}"))
                })?;
        }
        drop(tell);
        for (cell, seed, report) in told {
            outcomes[cell].add(seed, report);
            progress.one_more();
        }
        Ok::<(), Exit>(())
    })?;
    // The seeds of a cell end in any order.
    outcomes.iter_mut().for_each(Outcome::sort);
    Ok((outcomes, progress.done))
}

/// What is to be run, seed after seed, all cells with one before any with the next.
struct Plan {
    experiments: Vec<Experiment>,
    seeds: u64,
    first_seed: u64,
    next: AtomicU64,
}

impl Plan {
    fn len(&self) -> u64 {
        self.experiments.len() as u64 * self.seeds
    }

    /// Runs what nobody has begun, until nothing is left.
    fn work(&self, tell: &SyncSender<Ended>, stop: &StopHandle) {
        while !stop.is_stopped() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.len() {
                return;
            }
            let cells = self.experiments.len() as u64;
            let cell = (number % cells) as usize;
            let seed = self.first_seed.wrapping_add(number / cells);
            let report = self.experiments[cell].run(seed).ok();
            if tell.send((cell, seed, report)).is_err() {
                return;
            }
        }
    }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    done: u64,
    all: u64,
    said: Instant,
}

impl Progress {
    fn start(all: u64) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress {
            bar: terminal.then(|| bar(all)),
            done: 0,
            all,
            said: Instant::now(),
        }
    }

    fn one_more(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if self.said.elapsed() >= PAUSE => {
                self.said = Instant::now();
                let _ = writeln!(std::io::stderr(), "{} of {} runs", self.done, self.all);
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(all: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:16} {pos}/{len} runs, {elapsed}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(all), terminal::target()).with_style(style)
}
