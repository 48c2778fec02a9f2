//! `mutirao storage get`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use mutirao::storage::RecordId;

use super::ask::{AskFlags, ended, record_id};
use crate::exit::Exit;

/// Print a record, byte for byte.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao storage get 0123456789abcdef > photo.jpg")]
pub(crate) struct GetArgs {
    /// The record's id, as `mutirao storage put` prints it
    #[arg(value_name = "ID", value_parser = record_id)]
    id: RecordId,

    /// Write it into this file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    ask: AskFlags,
}

pub(crate) fn run(args: &GetArgs) -> Result<(), Exit> {
    let found = args.ask.client(None)?.get(args.id).map_err(ended)?;
    let Some(bytes) = found else {
        return Err(Exit::SomeFailed(format!(
            "there is no record {}: `mutirao storage list` shows those that there are",
            args.id
        )));
    };
    match &args.out {
        Some(path) => std::fs::write(path, &bytes[..]).map_err(|error| cannot(path, &error)),
        None => print(&bytes),
    }
}

fn cannot(path: &Path, error: &io::Error) -> Exit {
    Exit::Environment(format!("{} cannot be written: {error}", path.display()))
}

fn print(bytes: &[u8]) -> Result<(), Exit> {
    let out = &mut io::stdout().lock();
    let printed = out.write_all(bytes).and_then(|()| out.flush());
    printed.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::ReaderGone,
        _ => Exit::Environment(format!("standard output cannot be written: {error}")),
    })
}
