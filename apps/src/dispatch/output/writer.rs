//! Results into a folder.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::assembly::{Arrival, Assembly, Shared, Step};
use super::journal::{JOURNAL_FILE, Journal, Record, Written};
use super::lines::{LineProgress, LineStream, Tally, failure};
use super::ranges::{RangeSet, Runs};
use super::reorder::Held;
use super::results::Results;
use super::store::Store;
use super::{
    Accepted, Committed, Counts, Done, Failure, HELD_LIMIT_BYTES, Outcome, Output, OutputError,
    STDIN_RESULT, disk, name, recovery,
};
use crate::dispatch::task::{Piece, Place};

/// So much of the lines' results is gathered before it is written, if no commit comes first.
const LINE_BUFFER_BYTES: usize = 256 * 1024;

/// Writes one job's results into a folder; see [`Output`] and the module's own words.
///
/// Memory: what waits for its turn, at most 64 MiB, one buffer, and a few hundred bytes for each
/// input that has some but not all of its pieces.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) results: Results,
    pub(super) store: Store,
    pub(super) journal: Journal,
    /// Inputs that have some but not all of their pieces.
    pub(super) inputs: HashMap<u32, Assembly>,
    /// Those of them that moved on since the last commit.
    pub(super) moved: HashSet<u32>,
    /// Inputs that are complete or failed: nothing more is wanted of them.
    pub(super) closed: RangeSet,
    pub(super) lines: Lines,
    pub(super) held: Held,
    /// What the next commit makes durable.
    pub(super) ids: Runs,
    pub(super) failures: Vec<Failure>,
    pub(super) written: Vec<Written>,
    pub(super) counts: Counts,
    pub(super) broken: bool,
}

/// Standard input's part file.
#[derive(Debug, Default)]
pub(super) struct Lines {
    stream: LineStream,
    bytes: u64,
    closed: bool,
}

impl Lines {
    pub(super) fn resume(progress: LineProgress, closed: bool) -> Lines {
        Lines {
            stream: LineStream::resume(progress.next),
            bytes: progress.bytes,
            closed,
        }
    }

    fn progress(&self) -> Option<LineProgress> {
        let next = self.stream.next();
        (next > 0 && !self.closed).then_some(LineProgress {
            next,
            bytes: self.bytes,
        })
    }
}

impl Writer {
    /// Opens the results folder `out` for `job`, creating what is missing, and goes on where a
    /// crash of the same job stopped. `Done` is what need not be sent again.
    pub(crate) fn open(out: &Path, job: u64) -> Result<(Writer, Done), OutputError> {
        recovery::open(out, job)
    }

    /// What has become of the job up to now.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn new(results: Results, store: Store, journal: Journal) -> Writer {
        Writer {
            results,
            store,
            journal,
            inputs: HashMap::new(),
            moved: HashSet::new(),
            closed: RangeSet::default(),
            lines: Lines::default(),
            held: Held {
                bytes: 0,
                limit_bytes: HELD_LIMIT_BYTES,
            },
            ids: Runs::default(),
            failures: Vec::new(),
            written: Vec::new(),
            counts: Counts::default(),
            broken: false,
        }
    }

    fn take(&mut self, id: u64, outcome: Outcome) -> Result<Accepted, OutputError> {
        let place = match &outcome {
            Ok(piece) => &piece.place,
            Err((place, _)) => place,
        };
        if place.name.is_empty() {
            return self.take_line(id, outcome);
        }
        if self.closed.contains(place.input.into()) {
            self.ids.push(id);
            return Ok(Accepted::Taken);
        }
        match outcome {
            Ok(piece) => self.take_piece(id, piece),
            Err((place, reason)) => self.fail(id, place, &reason),
        }
    }

    fn take_line(&mut self, id: u64, outcome: Outcome) -> Result<Accepted, OutputError> {
        if self.lines.closed {
            self.ids.push(id);
            return Ok(Accepted::Taken);
        }
        let tally = Tally {
            held: &mut self.held,
            ids: &mut self.ids,
            failures: &mut self.failures,
            counts: &mut self.counts,
        };
        let accepted = self.lines.stream.accept(id, outcome, tally);
        if self.lines.stream.text.len() >= LINE_BUFFER_BYTES {
            self.write_lines()?;
        }
        Ok(accepted)
    }

    fn write_lines(&mut self) -> Result<(), OutputError> {
        let text = &mut self.lines.stream.text;
        if text.is_empty() {
            return Ok(());
        }
        if self.lines.bytes == 0 {
            self.store.create_part(None)?;
        }
        self.store.append(None, text)?;
        self.lines.bytes += text.len() as u64;
        text.clear();
        Ok(())
    }

    fn take_piece(&mut self, id: u64, piece: Piece) -> Result<Accepted, OutputError> {
        let Piece { place, merge, data } = piece;
        let assembly = match self.inputs.get_mut(&place.input) {
            Some(known) if known.progress.name == place.name && known.progress.merge == merge => {
                known
            }
            Some(_) => return self.fail(id, place, "its pieces disagree about its name or merge"),
            None => match name::result_name(&place.name) {
                Ok(result) => {
                    let new = Assembly::new(place.input, place.name.clone(), result, merge);
                    self.inputs.entry(place.input).or_insert(new)
                }
                Err(why) => return self.fail(id, place, &why),
            },
        };
        let shared = Shared {
            store: &mut self.store,
            held: &mut self.held,
            ids: &mut self.ids,
        };
        let arrival = Arrival {
            id,
            piece: place.piece,
            last: place.last,
            data,
        };
        match assembly.accept(arrival, shared)? {
            Step::Deferred => return Ok(Accepted::Deferred),
            Step::Taken => _ = self.moved.insert(place.input),
            Step::Complete(bytes) => self.complete(id, place, bytes)?,
            Step::Bad(why) => return self.fail(id, place, &why),
        }
        Ok(Accepted::Taken)
    }

    fn complete(&mut self, id: u64, place: Place, bytes: u64) -> Result<(), OutputError> {
        let Some(assembly) = self.close(place.input) else {
            return Ok(());
        };
        let result = assembly.progress.result;
        if let Err(why) = self.results.claim(&result)? {
            self.store.discard(self.store.part(Some(place.input)));
            self.note_failure(id, place, &why);
            return Ok(());
        }
        self.written.push(Written {
            source: Some(place.input),
            result,
        });
        self.counts.written += 1;
        self.counts.bytes_out += bytes;
        Ok(())
    }

    /// An input that lacks one piece for good has no result. What is here of it is done as well.
    fn fail(&mut self, id: u64, place: Place, reason: &str) -> Result<Accepted, OutputError> {
        if let Some(assembly) = self.close(place.input) {
            for (path, _) in assembly.progress.files(&self.store) {
                self.store.discard(path);
            }
        }
        self.note_failure(id, place, reason);
        Ok(Accepted::Taken)
    }

    fn note_failure(&mut self, id: u64, place: Place, reason: &str) {
        self.ids.push(id);
        self.failures.push(failure(id, place, reason));
        self.counts.failed += 1;
    }

    /// Nothing more is wanted of an input.
    fn close(&mut self, input: u32) -> Option<Assembly> {
        self.closed.insert(input.into()..u64::from(input) + 1);
        self.moved.remove(&input);
        self.store.close(Some(input));
        let mut assembly = self.inputs.remove(&input)?;
        for id in assembly.stop_waiting(&mut self.held) {
            self.ids.push(id);
        }
        Some(assembly)
    }

    fn write_all(&mut self) -> Result<Committed, OutputError> {
        self.write_lines()?;
        if self.ids.is_empty() && self.written.is_empty() {
            return Ok(Committed::default());
        }
        self.store.sync(&mut self.results.unsynced)?;
        let record = self.record();
        self.journal.append(&record)?;
        for Written { source, result } in &record.written {
            self.results.publish(&self.store.part(*source), result)?;
        }
        self.store.tidy()?;
        Ok(Committed {
            ids: record.ids,
            failures: record.failures,
        })
    }

    fn record(&mut self) -> Record {
        let inputs = &self.inputs;
        let progress = self.moved.drain().filter_map(|input| inputs.get(&input));
        Record {
            progress: progress.map(|assembly| assembly.progress.clone()).collect(),
            ids: self.ids.take(),
            failures: std::mem::take(&mut self.failures),
            written: std::mem::take(&mut self.written),
            lines: self.lines.progress(),
            counts: self.counts,
        }
    }

    /// Standard input has no last line that says so: the end of the job ends it.
    fn complete_lines(&mut self) -> Result<(), OutputError> {
        if self.lines.progress().is_none() {
            return Ok(());
        }
        if let Err(why) = self.results.claim(STDIN_RESULT)? {
            return Err(OutputError::InTheWay { why });
        }
        if self.lines.bytes == 0 {
            self.store.create_part(None)?;
        }
        self.written.push(Written {
            source: None,
            result: STDIN_RESULT.to_owned(),
        });
        self.lines.closed = true;
        Ok(())
    }

    fn end(&mut self) -> Result<(), OutputError> {
        self.write_lines()?;
        self.complete_lines()?;
        self.write_all()?;
        self.store.sync(&mut self.results.unsynced)?;
        // The journal goes first: without it, what else is in the folder means nothing.
        let folder = self.store.folder();
        let gone = disk::remove_file(&folder.join(JOURNAL_FILE));
        gone.map_err(OutputError::at(folder))?;
        self.store.keep_only(&HashSet::new())?;
        disk::remove_folder(folder).map_err(OutputError::at(folder))?;
        // Another job may have its journal there.
        let _ = folder.parent().map(disk::remove_folder);
        Ok(())
    }

    /// Runs `action` unless an earlier one failed: after an error, memory and disk may differ.
    fn guarded<T>(
        &mut self,
        action: impl FnOnce(&mut Self) -> Result<T, OutputError>,
    ) -> Result<T, OutputError> {
        if self.broken {
            return Err(OutputError::Broken);
        }
        let result = action(self);
        self.broken = result.is_err();
        result
    }
}

impl Output for Writer {
    fn accept(&mut self, id: u64, outcome: Outcome) -> Result<Accepted, OutputError> {
        self.guarded(|writer| writer.take(id, outcome))
    }

    fn commit(&mut self) -> Result<Committed, OutputError> {
        self.guarded(Writer::write_all)
    }

    fn finish(mut self: Box<Self>) -> Result<Counts, OutputError> {
        let inputs = self.inputs.len() + usize::from(self.lines.stream.is_waiting());
        if inputs > 0 {
            return Err(OutputError::Unfinished { inputs });
        }
        self.guarded(Writer::end)?;
        Ok(self.counts)
    }
}
