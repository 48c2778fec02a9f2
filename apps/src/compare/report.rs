//! The report: files in a folder, each of them whole or not there.

mod html;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::results::{Results, Row, Status, Values};
use super::statistics::Spread;
use crate::exit::Exit;
use crate::report::chart::{Plot, alone};
use crate::report::folder::Folder;
use crate::report::table::Table;
use crate::report::unwritten;

/// The file that says all.
const RESULTS: &str = "results.json";

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Facts {
    pub(super) version: &'static str,
    /// What repeats it.
    pub(super) command: String,
    pub(super) seed: u64,
    pub(super) rounds: u32,
    pub(super) seconds: f64,
    /// How long each measurement took over the bad path, where that was longer.
    pub(super) path_seconds: Option<f64>,
    /// How many measurements were made, and how many were planned.
    pub(super) done: u64,
    pub(super) planned: u64,
    pub(super) machine: Machine,
}

impl Facts {
    /// Whether it was ended before its time.
    pub(super) fn is_partial(&self) -> bool {
        self.done < self.planned
    }

    /// How long it was measured over the bad path, in words, where that was longer.
    pub(super) fn over_path(&self) -> String {
        self.path_seconds.map_or_else(String::new, |seconds| {
            format!(" ({seconds} s over the bad path)")
        })
    }
}

/// All that a report says.
pub(super) struct Report<'a> {
    pub(super) facts: &'a Facts,
    pub(super) sentences: &'a [String],
    pub(super) tables: &'a [Table],
    pub(super) plots: &'a [Plot],
    pub(super) summary: Option<&'a Plot>,
    pub(super) results: &'a Results,
}

impl Report<'_> {
    /// Writes all of it, in place of an earlier one; where it is then. One that was ended before its time does not
    /// take the place of a complete one.
    pub(super) fn write(&self, folder: &Folder) -> Result<Folder, Exit> {
        let summary = self.summary.map(|plot| alone(plot).into_bytes());
        let files = [
            ("report.html", Some(html::page(self).into_bytes())),
            (RESULTS, Some(self.json()?)),
            ("results.csv", Some(csv(&self.results.rows())?)),
            ("summary.svg", summary),
        ];
        let folder = match self.facts.is_partial() && is_complete(folder) {
            true => Folder::prepare(&folder.path().join("partial"))?,
            false => folder.clone(),
        };
        folder.replace(&files)?;
        Ok(folder)
    }

    fn json(&self) -> Result<Vec<u8>, Exit> {
        let document = Document {
            partial: self.facts.is_partial(),
            facts: self.facts,
            summary: self.sentences,
            medians: self.results.outcomes.iter().filter_map(median).collect(),
            measurements: self.results.rows().into_iter().map(Entry::of).collect(),
        };
        serde_json::to_vec_pretty(&document).map_err(|error| unwritten(&error.to_string()))
    }
}

/// Whether the report that is there is a complete one.
fn is_complete(folder: &Folder) -> bool {
    #[derive(Deserialize)]
    struct Header {
        partial: bool,
    }
    let found = std::fs::read(folder.path().join(RESULTS)).ok();
    let header = found.and_then(|bytes| serde_json::from_slice::<Header>(&bytes).ok());
    header.is_some_and(|header| !header.partial)
}

#[derive(Serialize)]
struct Document<'a> {
    partial: bool,
    #[serde(flatten)]
    facts: &'a Facts,
    summary: &'a [String],
    medians: Vec<Median<'a>>,
    measurements: Vec<Entry<'a>>,
}

/// A measurement with its values, as one flat object.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    row: &'a Row,
    #[serde(flatten)]
    values: &'a Values,
}

impl Entry<'_> {
    fn of(row: &Row) -> Entry<'_> {
        let values = &row.values;
        Entry { row, values }
    }
}

/// The values that are compared most, over all rounds.
#[derive(Serialize)]
struct Median<'a> {
    #[serde(flatten)]
    cell: &'a super::plan::Cell,
    status: Status,
    delivered_per_second: Option<Spread>,
    cpu_seconds_per_million: Option<Spread>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    connect_ms: Option<Spread>,
    recover_ms: Option<Spread>,
    lost_percent: Option<f64>,
}

fn median(outcome: &super::results::Outcome) -> Option<Median<'_>> {
    (!outcome.rows.is_empty()).then(|| Median {
        cell: &outcome.cell,
        status: outcome
            .excuse()
            .map_or(Status::Measured, |(status, _)| status),
        delivered_per_second: outcome.spread(|v| v.delivered_per_second),
        cpu_seconds_per_million: outcome.spread(|v| v.cpu_seconds_per_million),
        p50_us: outcome.spread(|v| v.p50_us),
        p99_us: outcome.spread(|v| v.p99_us),
        connect_ms: outcome.spread(|v| v.connect_ms),
        recover_ms: outcome.spread(|v| v.recover_ms),
        lost_percent: outcome.percent(|v| v.lost, |v| v.sent),
    })
}

/// One line for each measurement, the first names the columns.
fn csv(rows: &[&Row]) -> Result<Vec<u8>, Exit> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer
            .serialize((row, &row.values))
            .map_err(|error| unwritten(&error.to_string()))?;
    }
    writer
        .into_inner()
        .map_err(|error| unwritten(&error.to_string()))
}
