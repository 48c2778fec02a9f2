//! The report: a page, and the numbers for programs.

use std::io::Write as _;

use serde::Serialize;

use super::args::ExperimentArgs;
use super::results::{Outcome, Row, table};
use super::{plot, words};
use crate::exit::Exit;
use crate::report::folder::Folder;
use crate::report::page::Page;
use crate::report::unwritten;

/// How it was tried.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Facts {
    pub(super) version: &'static str,
    /// What repeats it.
    pub(super) command: String,
    pub(super) first_seed: u64,
    /// How many seeds for each cell.
    pub(super) seeds: u64,
    /// How many runs there were, and how many were planned.
    pub(super) done: u64,
    pub(super) planned: u64,
}

impl Facts {
    /// Whether it was ended before its time.
    pub(super) fn is_partial(&self) -> bool {
        self.done < self.planned
    }

    fn seeds_in_words(&self) -> String {
        let last = self.first_seed.wrapping_add(self.seeds - 1);
        format!("seeds {} to {last}", self.first_seed)
    }

    /// What the numbers are made of.
    pub(super) fn in_words(&self) -> String {
        let partial = match self.is_partial() {
            true => format!("Partial ({} of {} runs). ", self.done, self.planned),
            false => String::new(),
        };
        let runs = crate::count::counted(self.seeds, "run");
        format!("{partial}{runs} of each kind, {}.", self.seeds_in_words())
    }
}

/// Writes all of it, in place of an earlier one.
pub(super) fn write(
    folder: &Folder,
    outcomes: &[Outcome],
    facts: &Facts,
    args: &ExperimentArgs,
) -> Result<(), Exit> {
    let files = [
        (
            "report.html",
            Some(page(outcomes, facts, args).into_bytes()),
        ),
        ("results.json", Some(json(outcomes, facts)?)),
        ("results.csv", Some(csv(outcomes)?)),
    ];
    folder.replace(&files)?;
    let page = folder.path().join("report.html");
    let _ = writeln!(std::io::stderr(), "The report is in {}.", page.display());
    Ok(())
}

fn page(outcomes: &[Outcome], facts: &Facts, args: &ExperimentArgs) -> String {
    let partial = facts.is_partial().then(|| {
        format!(
            "It was ended after {} of {} runs: what follows is partial.",
            facts.done, facts.planned
        )
    });
    let mut facts_in_words = vec![
        ("command", facts.command.clone()),
        ("seeds", facts.in_words()),
        ("each run", args.in_words()),
        ("mutirao", facts.version.to_string()),
    ];
    facts_in_words.extend(plot::taken(outcomes).map(|taken| ("plots", taken)));
    let page = Page {
        title: "Elections: bully and quorum in the simulator",
        partial,
        sentences: &words::sentences(outcomes),
        plots: &plot::plots(outcomes),
        tables: &[table(outcomes)],
        facts: facts_in_words,
        facts_title: "How it was tried",
    };
    page.html()
}

#[derive(Serialize)]
struct Document<'a> {
    partial: bool,
    #[serde(flatten)]
    facts: &'a Facts,
    summary: Vec<String>,
    outcomes: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    row: Row,
    /// The first seeds with two leaders at once.
    seeds_with_two: &'a [u64],
    seeds_with_livelock: &'a [u64],
}

fn json(outcomes: &[Outcome], facts: &Facts) -> Result<Vec<u8>, Exit> {
    let document = Document {
        partial: facts.is_partial(),
        facts,
        summary: words::sentences(outcomes),
        outcomes: outcomes
            .iter()
            .map(|outcome| Entry {
                row: outcome.row(),
                seeds_with_two: &outcome.seeds_with_two,
                seeds_with_livelock: &outcome.livelocks,
            })
            .collect(),
    };
    serde_json::to_vec_pretty(&document).map_err(|error| unwritten(&error.to_string()))
}

/// One line for each cell, the first names the columns.
fn csv(outcomes: &[Outcome]) -> Result<Vec<u8>, Exit> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for outcome in outcomes {
        writer
            .serialize(outcome.row())
            .map_err(|error| unwritten(&error.to_string()))?;
    }
    writer
        .into_inner()
        .map_err(|error| unwritten(&error.to_string()))
}
