//! `mutirao election experiment`: both algorithms in the simulator, by the thousand.
//!
//! ```text
//! args ─▶ cells ─▶ runs (cell × seed, on every core) ─▶ results ─▶ table · words · plot ─▶ report
//! ```

mod args;
mod plot;
mod report;
mod results;
mod runs;
mod words;

use std::io::{self, Write as _};

use mutirao::StopHandle;

use self::report::{Facts, write};
use self::results::Outcome;
use crate::count::counted;
use crate::exit::Exit;
use crate::report::folder::Folder;
use crate::report::table::wrap;
use crate::signals::Caught;

pub(crate) use self::args::ExperimentArgs;

/// Texts are wrapped at so many columns, which any terminal has.
const COLUMNS: usize = 80;

pub(crate) fn run(args: &ExperimentArgs) -> Result<(), Exit> {
    let caught = Caught::begin()?;
    let report = args.report.as_deref().map(Folder::prepare).transpose()?;
    let stop = StopHandle::default();
    let stopper = stop.clone();
    caught.then(move |_| stopper.stop());
    let (outcomes, done) = runs::run_all(args, &stop)?;
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        command: args.command(),
        first_seed: args.first_seed,
        seeds: args.seeds,
        done,
        planned: args.cells().len() as u64 * args.seeds,
    };
    let written = report.map_or(Ok(()), |folder| write(&folder, &outcomes, &facts, args));
    let printed = print(&text(&outcomes, &facts));
    written.and(printed).and_then(|()| end(&outcomes, &facts))
}

fn text(outcomes: &[Outcome], facts: &Facts) -> String {
    let table = results::table(outcomes);
    let mut text = table.text(COLUMNS) + "\n";
    for sentence in words::sentences(outcomes) {
        text += &(wrap(&sentence, COLUMNS) + "\n");
    }
    text + "\n" + &wrap(&facts.in_words(), COLUMNS) + "\n"
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

/// How it ended, beyond the table: a promise that was broken is a failure.
fn end(outcomes: &[Outcome], facts: &Facts) -> Result<(), Exit> {
    if facts.is_partial() {
        return Err(Exit::Interrupted(format!(
            "interrupted after {} of {} runs: the results are partial",
            facts.done, facts.planned
        )));
    }
    let broken: Vec<String> = outcomes.iter().filter_map(Outcome::defect).collect();
    match &broken[..] {
        [] => Ok(()),
        [first, rest @ ..] => Err(Exit::SomeFailed(match rest.len() as u64 {
            0 => first.clone(),
            more => format!("{first}; and {}", counted(more, "more defect")),
        })),
    }
}
