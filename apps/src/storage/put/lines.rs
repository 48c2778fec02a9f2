//! `mutirao storage put --lines`: many records, of which some are on their way at once.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, Read as _};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use mutirao::storage::{AskError, ClientLine, Done, RecordId, Request, StorageClient};

use super::super::ask::ended;
use super::{Source, check_length, print, unreadable};
use crate::exit::Exit;

/// Records that are on their way at once.
const WINDOW_RECORDS: usize = 256;

/// Bytes of them.
const WINDOW_BYTES: usize = 32 << 20;

/// Lines that are handed over together, as far as they have come already.
const BATCH_LINES: usize = 64;

type Batch = Result<Vec<Vec<u8>>, Exit>;

/// Lines that are read, sent and confirmed.
pub(super) struct Lines<'a> {
    client: &'a mut StorageClient,
    source: Receiver<Batch>,
    /// Read, and not yet on their way.
    waiting: std::vec::IntoIter<Vec<u8>>,
    /// Whether there is no more to read, and if so why.
    end: Option<Result<(), Exit>>,
    /// Their numbers and lengths.
    under_way: HashMap<RecordId, (u64, usize)>,
    bytes: usize,
    /// Confirmed ones that wait for those before them.
    confirmed: BTreeMap<u64, RecordId>,
    read: u64,
    printed: u64,
}

impl<'a> Lines<'a> {
    /// Lines of at most `limit` bytes.
    pub(super) fn new(client: &'a mut StorageClient, source: Source, limit: usize) -> Lines<'a> {
        let (tell, batches) = sync_channel(1);
        let waker = client.waker();
        // It may wait for a line for ever, and ends with the program.
        std::thread::spawn(move || {
            read(source, limit, &tell, || waker.wake());
            drop(tell);
            waker.wake();
        });
        Lines {
            client,
            source: batches,
            waiting: Vec::new().into_iter(),
            end: None,
            under_way: HashMap::new(),
            bytes: 0,
            confirmed: BTreeMap::new(),
            read: 0,
            printed: 0,
        }
    }

    /// Returns when all are confirmed.
    pub(super) fn put_all(mut self) -> Result<(), Exit> {
        loop {
            self.start_some();
            if self.under_way.is_empty()
                && let Some(end) = self.end.take()
            {
                return end.map_err(|error| self.told(error));
            }
            match self.client.wait_or_rung() {
                Ok(Some(done)) => self.done(done)?,
                Ok(None) => {}
                Err(error) => return Err(self.told(ended(error))),
            }
        }
    }

    /// Sends what there is, as far as the window reaches.
    fn start_some(&mut self) {
        while self.has_room()
            && let Some(line) = self.next()
        {
            let id = RecordId(rand::random());
            self.read += 1;
            self.bytes += line.len();
            self.under_way.insert(id, (self.read, line.len()));
            self.client.start(Request::Put(id, line.into()));
        }
    }

    fn has_room(&self) -> bool {
        self.under_way.len() + self.confirmed.len() < WINDOW_RECORDS && self.bytes < WINDOW_BYTES
    }

    /// The next line, if one was read.
    fn next(&mut self) -> Option<Vec<u8>> {
        while self.waiting.as_slice().is_empty() && self.end.is_none() {
            match self.source.try_recv() {
                Ok(Ok(lines)) => self.waiting = lines.into_iter(),
                Ok(Err(error)) => self.end = Some(Err(error)),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => self.end = Some(Ok(())),
            }
        }
        self.waiting.next()
    }

    fn done(&mut self, done: Done) -> Result<(), Exit> {
        match done {
            Done::Stored(line, Ok(())) => self.stored(&line),
            Done::Stored(line, Err(reason)) => {
                Err(self.told(ended(AskError::NotNoted(line.id, reason))))
            }
            failed => {
                let error = self.client.failure(failed);
                Err(self.told(ended(error)))
            }
        }
    }

    fn stored(&mut self, line: &ClientLine) -> Result<(), Exit> {
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
    fn told(&self, end: Exit) -> Exit {
        let stored = self.printed + self.confirmed.len() as u64;
        let told = format!(
            "{end}; {stored} of {} lines that were read are stored",
            self.read
        );
        match end {
            Exit::Interrupted(_) => Exit::Interrupted(told),
            Exit::Usage(_) => Exit::Usage(told),
            _ => Exit::Environment(told),
        }
    }
}

/// Hands over lines as they come, up to the end or the first that is none.
fn read(mut source: Source, limit: usize, tell: &SyncSender<Batch>, ring: impl Fn()) {
    let mut goes_on = true;
    while goes_on {
        let mut batch = Vec::new();
        let read = next_batch(&mut source, limit, &mut batch);
        goes_on = matches!(read, Ok(true));
        let failed = read.err().map(Err);
        for told in [Ok(batch)].into_iter().chain(failed) {
            // Nobody listens any more at the end of the program.
            goes_on &= tell.send(told).is_ok();
            ring();
        }
    }
}

/// Waits for a line, and takes those that have come with it; whether there may be more.
fn next_batch(source: &mut Source, limit: usize, batch: &mut Vec<Vec<u8>>) -> Result<bool, Exit> {
    while let Some(line) = next_line(source, limit)? {
        batch.push(line);
        if batch.len() >= BATCH_LINES || !source.buffer().contains(&b'\n') {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The next line, without its end.
fn next_line(source: &mut Source, limit: usize) -> Result<Option<Vec<u8>>, Exit> {
    let mut line = Vec::new();
    let mut limited = source.by_ref().take(limit as u64 + 2);
    let read = limited.read_until(b'\n', &mut line).map_err(unreadable)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    check_length(&line, limit)?;
    Ok((read > 0).then_some(line))
}
