//! `mutirao storage put`.

mod lines;

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::PathBuf;

use clap::Args;
use mutirao::storage::RecordId;

use super::ask::{AskFlags, ended};
use crate::exit::Exit;
use lines::Lines;

/// Where records are read.
type Source = BufReader<Box<dyn Read + Send>>;

/// Store a record; prints its id when it is safe.
///
/// What is confirmed is noted in registro_cliente.txt as well, with the data nodes that have it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mutirao storage put 'hola'\n  mutirao storage put --file photo.jpg\n  seq 1000 | mutirao storage put - --lines"
)]
pub(crate) struct PutArgs {
    /// The record, or `-` for standard input
    #[arg(
        value_name = "TEXT",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    text: Option<String>,

    /// Store the bytes of this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Every line is a record of its own; an id is printed for each, in their order
    #[arg(long)]
    lines: bool,

    /// The file in which confirmed records are noted
    #[arg(
        long,
        env = "MUTIRAO_REGISTER",
        default_value = "registro_cliente.txt",
        value_name = "FILE"
    )]
    register: PathBuf,

    #[command(flatten)]
    ask: AskFlags,
}

pub(crate) fn run(args: PutArgs) -> Result<(), Exit> {
    let limit = args.ask.record.max_record_bytes;
    let source = source(&args)?;
    let mut client = args.ask.client(Some(args.register.clone()))?;
    if args.lines {
        return Lines::new(&mut client, source, limit).put_all();
    }
    let bytes = read_whole(source, limit)?;
    let line = client.put(bytes).map_err(ended)?;
    print(line.id)?;
    log::info!("record {} is on {}", line.id, line.places.join(", "));
    Ok(())
}

fn source(args: &PutArgs) -> Result<Source, Exit> {
    let source: Box<dyn Read + Send> = match (&args.file, &args.text) {
        (Some(path), _) => {
            let file = File::open(path);
            Box::new(file.map_err(|error| {
                Exit::Environment(format!("{} cannot be read: {error}", path.display()))
            })?)
        }
        (None, Some(text)) if text != "-" => Box::new(io::Cursor::new(text.clone().into_bytes())),
        _ => Box::new(io::stdin()),
    };
    Ok(BufReader::new(source))
}

/// All that is there, unless it is too long.
fn read_whole(source: Source, limit: usize) -> Result<Vec<u8>, Exit> {
    let mut bytes = Vec::new();
    let mut limited = source.take(limit as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(unreadable)?;
    check_length(&bytes, limit)?;
    Ok(bytes)
}

fn check_length(bytes: &[u8], limit: usize) -> Result<(), Exit> {
    match bytes.len() > limit {
        true => Err(Exit::Usage(format!(
            "the record has more than {limit} bytes: split it, or give all programs of the cluster a higher --max-record-bytes"
        ))),
        false => Ok(()),
    }
}

fn unreadable(error: io::Error) -> Exit {
    Exit::Environment(format!("the record cannot be read: {error}"))
}

fn print(id: RecordId) -> Result<(), Exit> {
    let out = &mut io::stdout().lock();
    let printed = writeln!(out, "{id}").and_then(|()| out.flush());
    printed.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::ReaderGone,
        _ => Exit::Environment(format!("standard output cannot be written: {error}")),
    })
}
