//! What can be done to a task: one file per operation, one table that lists them.
//!
//! A specification is `NAME` or `NAME:ARGUMENT`. An operation is a pure function from the task's
//! bytes to the result's bytes, so a task may be run again, on another worker, at any time. (`exec`
//! is as pure as the command it runs.)

mod exec;
mod gzip;
mod letters;
mod linecount;
mod noop;
mod sha256;
mod sleep;
mod wordcount;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use exec::ExecError;

/// The most bytes an operation may give back, unless the caller says otherwise: 32 MiB.
pub(crate) const DEFAULT_LIMIT_BYTES: usize = 32 << 20;

/// May a file be cut at line ends and its pieces worked on apart?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// Yes: the pieces' results make the file's result, in the way that [`Merge`] says.
    AtLineEnds,
    /// No: the operation needs all of the file at once.
    Whole,
}

/// How the results of a file's pieces become the file's result. Travels with every result (as one
/// byte), so that the sink needs to know no operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub(crate) enum Merge {
    /// One after the other, in the order of the pieces. The results are text.
    Concatenate,
    /// The same, but the results are not text: nobody may add a newline between them.
    ConcatenateBytes,
    /// Lines of `word\tcount`, sorted by word: equal words add up.
    SumCounts,
    /// One line with one number: the numbers add up.
    SumLines,
}

impl From<Merge> for u8 {
    fn from(merge: Merge) -> u8 {
        match merge {
            Merge::Concatenate => 0,
            Merge::ConcatenateBytes => 1,
            Merge::SumCounts => 2,
            Merge::SumLines => 3,
        }
    }
}

impl TryFrom<u8> for Merge {
    type Error = String;

    fn try_from(byte: u8) -> Result<Self, String> {
        Ok(match byte {
            0 => Merge::Concatenate,
            1 => Merge::ConcatenateBytes,
            2 => Merge::SumCounts,
            3 => Merge::SumLines,
            other => return Err(format!("{other} is no way to merge results")),
        })
    }
}

/// What an operation says about itself; a row of `mutirao ops`.
#[derive(Debug)]
pub(crate) struct Declaration {
    /// The name it is called by.
    pub(crate) name: &'static str,
    /// What may follow the name and a colon; empty if nothing may.
    pub(crate) argument: &'static str,
    /// What a task must hold.
    pub(crate) takes: &'static str,
    /// What the result holds.
    pub(crate) gives: &'static str,
    /// May a file be cut at line ends?
    pub(crate) split: Split,
    /// How the pieces' results become one.
    pub(crate) merge: Merge,
}

/// Something that can be done to a task.
pub(crate) trait Operation: Send + Sync {
    /// What the operation says about itself.
    fn declaration(&self) -> &'static Declaration;

    /// The result for one task. An error belongs to the task, never to the worker.
    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, TaskError>;

    /// The same with a time that it may take; only what can take long looks at it.
    fn apply_within(&self, input: &[u8], limit: Option<Duration>) -> Result<Vec<u8>, TaskError> {
        let _ = limit;
        self.apply(input)
    }

    /// May a file be cut at line ends?
    fn split(&self) -> Split {
        self.declaration().split
    }

    /// How the pieces' results become one.
    fn merge(&self) -> Merge {
        self.declaration().merge
    }
}

/// Why one task has no result.
#[derive(Debug, Error)]
pub(crate) enum TaskError {
    /// The operation works on text and this is none.
    #[error(
        "the text is not UTF-8: the byte at offset {offset} starts no valid character; convert it to UTF-8 first"
    )]
    NotUtf8 {
        /// Where the first invalid byte is, counted from the start of the task.
        offset: usize,
    },
    /// `sleep` without an argument reads the time from the task.
    #[error(
        "“{text}” is no time to sleep; give milliseconds as a whole number from 0 to {most_ms} (one hour)",
        most_ms = sleep::MOST_MS
    )]
    NotATime {
        /// What the task said instead.
        text: String,
    },
    /// The job's time limit for a task.
    #[error("it took longer than {}", seconds(.limit))]
    TooLong {
        /// How long it may take.
        limit: Duration,
    },
    /// A library refused.
    #[error("{what} failed: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The command of an `exec`.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// Why a specification names no operation.
#[derive(Debug, Error)]
pub(crate) enum OpError {
    /// No operation has that name.
    #[error("unknown operation “{name}”; `mutirao ops` lists the ones there are")]
    Unknown {
        /// The name, made printable.
        name: String,
    },
    /// The operation exists and its argument makes no sense.
    #[error("operation “{name}” cannot take “{argument}”; it takes {help}")]
    Argument {
        /// The operation.
        name: &'static str,
        /// The argument, made printable.
        argument: String,
        /// What it may be.
        help: &'static str,
    },
}

/// Makes an operation from its argument and the most bytes it may give back.
type Build = fn(Option<&str>, usize) -> Result<Box<dyn Operation>, OpError>;

/// Every operation, in the order in which `mutirao ops` lists them.
static TABLE: [(&Declaration, Build); 9] = [
    (&letters::LOWERCASE, letters::lowercase),
    (&letters::UPPERCASE, letters::uppercase),
    (&wordcount::DECLARATION, wordcount::build),
    (&linecount::DECLARATION, linecount::build),
    (&sha256::DECLARATION, sha256::build),
    (&gzip::DECLARATION, gzip::build),
    (&exec::DECLARATION, exec::build),
    (&sleep::DECLARATION, sleep::build),
    (&noop::DECLARATION, noop::build),
];

/// The operation that `spec` (`NAME` or `NAME:ARGUMENT`) names, giving back at most
/// [`DEFAULT_LIMIT_BYTES`] per task.
///
/// This may parse and allocate: a worker keeps what it found instead of asking for every task.
pub(crate) fn find(spec: &str) -> Result<Box<dyn Operation>, OpError> {
    find_with_limit(spec, DEFAULT_LIMIT_BYTES)
}

/// As [`find`], with the most bytes that a command (`exec`) may print per task.
pub(crate) fn find_with_limit(
    spec: &str,
    limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    let (name, argument) = parts(spec);
    match TABLE
        .iter()
        .find(|(declaration, _)| declaration.name == name)
    {
        Some((_, build)) => build(argument, limit_bytes),
        None => Err(OpError::Unknown {
            name: printable(name, 60),
        }),
    }
}

/// What every operation says about itself, in the order to print them.
pub(crate) fn catalogue() -> impl Iterator<Item = &'static Declaration> {
    TABLE.iter().map(|(declaration, _)| *declaration)
}

/// Does the operation run whatever its task says, so that a worker must have been told to allow it?
pub(crate) fn needs_permission(spec: &str) -> bool {
    name(spec) == exec::DECLARATION.name
}

/// The name that a specification begins with.
pub(crate) fn name(spec: &str) -> &str {
    parts(spec).0
}

fn parts(spec: &str) -> (&str, Option<&str>) {
    match spec.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (spec, None),
    }
}

/// Refuses an argument where there is nothing to say.
fn no_argument(declaration: &'static Declaration, argument: Option<&str>) -> Result<(), OpError> {
    match argument {
        None => Ok(()),
        Some(argument) => Err(bad_argument(declaration, argument, "no argument")),
    }
}

fn bad_argument(declaration: &'static Declaration, argument: &str, help: &'static str) -> OpError {
    OpError::Argument {
        name: declaration.name,
        argument: printable(argument, 60),
        help,
    }
}

/// A time for a person; a limit comes as what is left of it, so it is rounded.
pub(crate) fn seconds(time: &Duration) -> String {
    let ms = (time.as_secs_f64() * 1000.0).round();
    match ms < 1000.0 {
        true => format!("{ms} ms"),
        false => format!("{} s", ms / 1000.0),
    }
}

/// The task's bytes as text.
fn text(input: &[u8]) -> Result<&str, TaskError> {
    std::str::from_utf8(input).map_err(|e| TaskError::NotUtf8 {
        offset: e.valid_up_to(),
    })
}

/// `text` for a terminal or a log: at most `most_chars`, control characters escaped.
pub(crate) fn printable(text: &str, most_chars: usize) -> String {
    let mut clean = String::new();
    for c in text.chars().take(most_chars) {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    if text.chars().nth(most_chars).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_own_name() {
        for declaration in catalogue() {
            let op = find(declaration.name).unwrap();
            assert_eq!(op.declaration().name, declaration.name);
            assert_eq!(op.split(), declaration.split);
            assert_eq!(op.merge(), declaration.merge);
        }
    }

    #[test]
    fn an_unknown_operation_is_named_and_the_list_pointed_at() {
        let error = find("lowrcase:\n").err().unwrap().to_string();
        assert_eq!(
            error,
            "unknown operation “lowrcase”; `mutirao ops` lists the ones there are"
        );
        let error = find("a\u{1b}[31m").err().unwrap().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn an_argument_that_nobody_reads_is_refused() {
        let error = find("noop:3").err().unwrap().to_string();
        assert_eq!(
            error,
            "operation “noop” cannot take “3”; it takes no argument"
        );
    }

    #[test]
    fn only_exec_needs_permission() {
        assert!(needs_permission("exec") && needs_permission("exec:true"));
        assert!(!needs_permission("noop") && !needs_permission("executor"));
    }

    #[test]
    fn a_merge_is_one_byte_on_the_wire() {
        for byte in 0..4 {
            let merge = Merge::try_from(byte).unwrap();
            assert_eq!(rmp_serde::to_vec(&merge).unwrap(), [byte]);
        }
        assert!(rmp_serde::from_slice::<Merge>(&[4]).is_err());
    }
}
