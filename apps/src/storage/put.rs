//! `mutirao storage put`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::PathBuf;

use clap::Args;
use mutirao::storage::{AskError, ClientLine, Done, RecordId, Request, StorageClient};

use super::ask::{AskFlags, ended};
use crate::exit::Exit;

/// Records that are on their way at once, with --lines.
const WINDOW_RECORDS: usize = 256;

/// Bytes of them.
const WINDOW_BYTES: usize = 32 << 20;

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
        return Lines::new(&mut client, limit).put_all(source);
    }
    let bytes = read_whole(source, limit)?;
    let line = client.put(bytes).map_err(ended)?;
    print(line.id)?;
    log::info!("record {} is on {}", line.id, line.places.join(", "));
    Ok(())
}

fn source(args: &PutArgs) -> Result<Box<dyn BufRead>, Exit> {
    Ok(match (&args.file, &args.text) {
        (Some(path), _) => {
            let file = File::open(path);
            let file = file.map_err(|error| {
                Exit::Environment(format!("{} cannot be read: {error}", path.display()))
            })?;
            Box::new(BufReader::new(file))
        }
        (None, Some(text)) if text != "-" => Box::new(io::Cursor::new(text.clone().into_bytes())),
        _ => Box::new(io::stdin().lock()),
    })
}

/// All that is there, unless it is too long.
fn read_whole(source: Box<dyn BufRead>, limit: usize) -> Result<Vec<u8>, Exit> {
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

/// Many records, of which some are on their way at once.
struct Lines<'a> {
    client: &'a mut StorageClient,
    limit: usize,
    /// Their numbers and lengths.
    under_way: HashMap<RecordId, (u64, usize)>,
    bytes: usize,
    /// Confirmed ones that wait for those before them.
    confirmed: BTreeMap<u64, RecordId>,
    read: u64,
    printed: u64,
}

impl<'a> Lines<'a> {
    fn new(client: &'a mut StorageClient, limit: usize) -> Lines<'a> {
        Lines {
            client,
            limit,
            under_way: HashMap::new(),
            bytes: 0,
            confirmed: BTreeMap::new(),
            read: 0,
            printed: 0,
        }
    }

    fn put_all(mut self, mut source: Box<dyn BufRead>) -> Result<(), Exit> {
        while let Some(line) = self.line(&mut source)? {
            while self.is_full(line.len()) {
                self.wait()?;
            }
            self.start(line);
        }
        while !self.under_way.is_empty() {
            self.wait()?;
        }
        Ok(())
    }

    /// The next line, without its end.
    fn line(&self, source: &mut Box<dyn BufRead>) -> Result<Option<Vec<u8>>, Exit> {
        let mut line = Vec::new();
        let mut limited = source.by_ref().take(self.limit as u64 + 2);
        let read = limited.read_until(b'\n', &mut line).map_err(unreadable)?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        check_length(&line, self.limit)?;
        Ok((read > 0).then_some(line))
    }

    fn is_full(&self, bytes: usize) -> bool {
        let waiting = self.under_way.len() + self.confirmed.len();
        waiting >= WINDOW_RECORDS || !self.under_way.is_empty() && self.bytes + bytes > WINDOW_BYTES
    }

    fn start(&mut self, line: Vec<u8>) {
        let id = RecordId(rand::random());
        self.read += 1;
        self.bytes += line.len();
        self.under_way.insert(id, (self.read, line.len()));
        self.client.start(Request::Put(id, line.into()));
    }

    fn wait(&mut self) -> Result<(), Exit> {
        match self.client.wait_next().map_err(|error| self.ended(error))? {
            Some(Done::Stored(line, noted)) => self.stored(&line, noted),
            Some(failed) => {
                let error = self.client.failure(failed);
                Err(self.ended(error))
            }
            None => Ok(()),
        }
    }

    fn stored(&mut self, line: &ClientLine, noted: Result<(), String>) -> Result<(), Exit> {
        if let Err(reason) = noted {
            return Err(self.ended(AskError::NotNoted(line.id, reason)));
        }
        let Some((number, bytes)) = self.under_way.remove(&line.id) else {
            return Ok(());
        };
        self.bytes -= bytes;
        self.confirmed.insert(number, line.id);
        while let Some(id) = self.confirmed.remove(&(self.printed + 1)) {
            self.printed += 1;
            print(id)?;
        }
        Ok(())
    }

    /// The end, with how far it has come.
    fn ended(&self, error: AskError) -> Exit {
        let stored = self.printed + self.confirmed.len() as u64;
        let told = format!("{stored} of {} lines that were read are stored", self.read);
        match ended(error) {
            Exit::Interrupted(text) => Exit::Interrupted(format!("{text}; {told}")),
            other => Exit::Environment(format!("{other}; {told}")),
        }
    }
}
