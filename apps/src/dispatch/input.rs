//! What comes in: files and folders become a plan, a file becomes pieces, standard input lines.

mod lines;
mod pieces;
mod plan;

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use thiserror::Error;

use super::task::Place;

pub(crate) use lines::Lines;
pub(crate) use pieces::Pieces;
pub(crate) use plan::{job_id, plan};

/// A file to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The relative path that its result keeps.
    pub(crate) name: String,
    /// Its size when the job was planned.
    pub(crate) bytes: u64,
    /// When it was last written, before the job was planned.
    pub(crate) modified: SystemTime,
}

/// Why an input cannot be worked on.
#[derive(Debug, Error)]
pub(crate) enum InputError {
    /// Nothing is there.
    #[error("{}: no such file or folder; check the path", .path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("{}: cannot be read ({source}); check its permissions", .path.display())]
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A folder with nothing to do.
    #[error("{}: the folder holds no file; name one that does", .path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A pipe, a socket, a device.
    #[error(
        "{}: not a regular file; to read a pipe or device, feed it to standard input and name `-`",
        .path.display()
    )]
    NotRegular {
        /// What it is called.
        path: PathBuf,
    },
    /// Results keep the input's name, and names travel as text.
    #[error("{}: the name is not UTF-8; rename it", .path.display())]
    NameNotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// Two results would be one file.
    #[error(
        "{} and {} would both become {name}.out; rename one or run them apart",
        .first.display(),
        .second.display()
    )]
    SameName {
        /// The name they share.
        name: String,
        /// The one named first.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The result would mix two versions.
    #[error("{}: changed while it was read; run the job again when nobody writes to it", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// An operation that needs the whole file, and a file over the limit.
    #[error(
        "{}: {bytes} bytes are over the limit of {limit_bytes} for an operation that needs the whole file; raise the payload limit",
        .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest payload.
        limit_bytes: usize,
    },
    /// No line end where a cut is needed.
    #[error(
        "{source_name}: the line that starts at {at} is over the limit of {limit_bytes} bytes; split it or raise the payload limit"
    )]
    LineTooLong {
        /// The file, or standard input.
        source_name: String,
        /// `byte 17` of a file, `line 3` of standard input.
        at: String,
        /// The largest payload.
        limit_bytes: usize,
    },
    /// Standard input broke.
    #[error("standard input broke at line {line}: {source}; nothing after it was read")]
    Stdin {
        /// The line that was being read, counted from 1.
        line: u64,
        /// Why it failed.
        source: io::Error,
    },
}

/// A piece that could not be read, and where its result would have gone: send this on as the
/// piece's failure, so that the sink drops what it has of the input.
#[derive(Debug, Error)]
#[error("{reason}")]
pub(crate) struct PieceError {
    /// The place of the piece.
    pub(crate) place: Place,
    /// Why there is no piece.
    pub(crate) reason: InputError,
}
