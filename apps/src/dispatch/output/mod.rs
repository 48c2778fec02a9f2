//! What comes out: every result is written once, whole, and survives any crash.
//!
//! ```text
//!  accept ──► pieces of an input, in order ──► OUT/.mutirao/<job>/<input>.part
//!  commit ──► 1 sync the parts   2 journal what is done, sync it   3 rename to OUT/<name>.out
//! ```
//!
//! The journal record is the moment of truth: a task is done when a synced record says so. What a
//! crash leaves beyond the last record is cut off or removed; a rename that the last record
//! promises is made good. So the process may die between any two instructions.

mod assembly;
mod counts;
mod disk;
mod journal;
mod lines;
mod name;
mod ranges;
mod recovery;
mod reorder;
mod results;
mod stdout;
mod store;
mod tables;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod speed_tests;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::task::{Piece, Place};
use crate::count::counted;

pub(crate) use stdout::StdoutWriter;
pub(crate) use writer::Writer;

/// The folder in every results folder that holds the journals. Removed with the last one.
pub(crate) const JOURNAL_FOLDER: &str = ".mutirao";

/// The name of the results of standard input, under `--out`.
pub(crate) const STDIN_RESULT: &str = "stdin.out";

/// How many bytes of results may wait for the ones before them, in all inputs together.
const HELD_LIMIT_BYTES: usize = 64 << 20;

/// A longer reason is cut: reasons are for people, and come from the network.
const REASON_CHARS: usize = 1000;

/// What a task came to: a piece of a result, or where it would have gone and why there is none.
pub(crate) type Outcome = Result<Piece, (Place, String)>;

/// Where results go: a folder ([`Writer`]) or standard output ([`StdoutWriter`]).
///
/// After an error nothing more is accepted; what was committed stands.
pub(crate) trait Output: Send {
    /// Takes the outcome of task `id`, in any order, each id at most once (again after
    /// [`Accepted::Deferred`]). It is not done before a [`commit`](Output::commit) says so.
    fn accept(&mut self, id: u64, outcome: Outcome) -> Result<Accepted, OutputError>;

    /// Makes durable what can be, and says what that is. What waits for its turn is not in it.
    /// Costs two or three disk syncs when there is something to say, nothing otherwise; one commit
    /// for many tasks is the way to be fast.
    fn commit(&mut self) -> Result<Committed, OutputError>;

    /// Ends a job that has every outcome; commit first and confirm what it says.
    fn finish(self: Box<Self>) -> Result<Counts, OutputError>;
}

/// What [`Output::accept`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// The outcome is here; some commit will name its id.
    Taken,
    /// Too much waits for its turn already: the outcome was dropped and has to come again.
    Deferred,
}

/// What a commit made durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Tasks that need not be sent again: sorted, neighbours joined.
    pub(crate) ids: Vec<Range<u64>>,
    /// Those among them that ended a result for good.
    pub(crate) failures: Vec<Failure>,
}

/// What was durable before the process started.
pub(crate) type Done = Committed;

/// An input (or a line of standard input) that has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The task that decided it.
    pub(crate) id: u64,
    /// Its place.
    pub(crate) place: Place,
    /// Why, for a person.
    pub(crate) reason: String,
}

/// What became of a job.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Results written: files, or lines.
    pub(crate) written: u64,
    /// Files or lines without a result.
    pub(crate) failed: u64,
    /// The bytes of the results written.
    pub(crate) bytes_out: u64,
}

/// Why results cannot be written. All but [`Unfinished`](OutputError::Unfinished) end the writer;
/// what was committed stands, and opening it again goes on from there.
#[derive(Debug, Error)]
pub(crate) enum OutputError {
    /// The place for results does not take any.
    #[error("cannot write results to {}: {source}; make it writable or choose another --out", .path.display())]
    NotWritable {
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The disk is full, or the user's share of it.
    #[error(
        "no space left to write {}; free some and start again: what is confirmed is safe",
        .path.display()
    )]
    Full {
        /// The file that did not fit.
        path: PathBuf,
    },
    /// Somebody else is at it.
    #[error("another sink is writing this job to {}; stop it or choose another --out", .path.display())]
    Busy {
        /// The results folder.
        path: PathBuf,
    },
    /// The journal and what is on the disk contradict each other.
    #[error("the journal cannot be continued: {why}; remove {} to start the job anew", .folder.display())]
    Damaged {
        /// The job's folder.
        folder: PathBuf,
        /// The contradiction.
        why: String,
    },
    /// Where the lines' results should go is something else.
    #[error("cannot write results: {why}; move it or choose another --out")]
    InTheWay {
        /// What is in the way.
        why: String,
    },
    /// The reader of standard output is gone, or its disk is full.
    #[error(
        "cannot write to standard output: {source}; what was not written stays where it came from, if that is a ventilator or a broker"
    )]
    Stdout {
        /// Why it failed.
        source: io::Error,
    },
    /// Results of files were to go to standard output.
    #[error("results of files cannot go to standard output: give --out a folder")]
    FilesToStdout,
    /// There was an error before.
    #[error("results cannot be written since an earlier error; open the results folder again")]
    Broken,
    /// `finish` came too early; commit and accept what is missing, and open it again.
    #[error("the job is not complete: {} without a result", counted(*inputs as u64, "input"))]
    Unfinished {
        /// Inputs with some results but not all.
        inputs: usize,
    },
}

impl OutputError {
    /// Says which file an error is about.
    fn at(path: &Path) -> impl FnOnce(io::Error) -> OutputError {
        let path = path.to_owned();
        |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OutputError::Full { path },
            _ => OutputError::NotWritable { path, source },
        }
    }
}
