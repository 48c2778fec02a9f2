//! Going on where a process stopped: the journal says what is true, the disk is made to agree.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::assembly::{Assembly, Progress};
use super::journal::{JOURNAL_FILE, Journal, Record, Written};
use super::lines::LineProgress;
use super::ranges::RangeSet;
use super::results::Results;
use super::store::Store;
use super::writer::{Lines, Writer};
use super::{Counts, Done, Failure, JOURNAL_FOLDER, OutputError, disk};

/// Opens a job's folder under `out` and brings it to where its last record says it is.
pub(super) fn open(out: &Path, job: u64) -> Result<(Writer, Done), OutputError> {
    let folder = out.join(JOURNAL_FOLDER).join(format!("{job:016x}"));
    fs::create_dir_all(&folder).map_err(OutputError::at(out))?;
    let mut past = Past::default();
    let journal = Journal::open(&folder, job, &mut |record| past.replay(record))?;

    let mut results = Results::new(out.to_owned());
    let store = Store::new(folder);
    past.redo_renames(&mut results, &store)?;
    store.keep_only(&past.cut_files(&store)?)?;
    sync_folders(out, &mut results);

    let mut writer = Writer::new(results, store, journal);
    writer.inputs = past
        .inputs
        .into_values()
        .map(|p| (p.input, Assembly::resume(p)))
        .collect();
    writer.closed = past.closed;
    writer.lines = Lines::resume(past.lines, past.lines_closed);
    writer.counts = past.counts;
    Ok((
        writer,
        Done {
            ids: past.done.into_ranges(),
            failures: past.failures,
        },
    ))
}

/// The journal's own folders are new entries, too.
fn sync_folders(out: &Path, results: &mut Results) {
    results.unsynced.insert(out.to_owned());
    results.unsynced.insert(out.join(JOURNAL_FOLDER));
}

/// All records, added up.
#[derive(Default)]
struct Past {
    done: RangeSet,
    failures: Vec<Failure>,
    inputs: BTreeMap<u32, Progress>,
    closed: RangeSet,
    lines: LineProgress,
    lines_closed: bool,
    counts: Counts,
    /// Of the last record only: the renames of earlier ones were done before it was written.
    written: Vec<Written>,
}

impl Past {
    fn replay(&mut self, record: Record) {
        record.ids.into_iter().for_each(|ids| self.done.insert(ids));
        for progress in record.progress {
            self.inputs.insert(progress.input, progress);
        }
        for failure in record.failures {
            if !failure.place.name.is_empty() {
                self.close(failure.place.input);
            }
            self.failures.push(failure);
        }
        for written in &record.written {
            match written.source {
                Some(input) => self.close(input),
                None => self.lines_closed = true,
            }
        }
        self.lines = record.lines.unwrap_or(self.lines);
        self.counts = record.counts;
        self.written = record.written;
    }

    fn close(&mut self, input: u32) {
        self.inputs.remove(&input);
        self.closed.insert(input.into()..u64::from(input) + 1);
    }

    /// Does what the last record promised and the process may not have lived to do.
    fn redo_renames(&self, results: &mut Results, store: &Store) -> Result<(), OutputError> {
        for Written { source, result } in &self.written {
            let part = store.part(*source);
            // No part: the rename was done, and its result may be in use or moved away since.
            if part.exists() {
                results.make_folders(result)?;
                results.publish(&part, result)?;
            }
        }
        Ok(())
    }

    /// Cuts files to what the journal knows of; the files that are needed.
    fn cut_files(&self, store: &Store) -> Result<HashSet<PathBuf>, OutputError> {
        let mut files: Vec<_> = self.inputs.values().flat_map(|p| p.files(store)).collect();
        if self.lines.bytes > 0 && !self.lines_closed {
            files.push((store.part(None), self.lines.bytes));
        }
        let mut needed = HashSet::from([store.folder().join(JOURNAL_FILE)]);
        for (path, bytes) in files {
            cut(&path, bytes, store.folder())?;
            needed.insert(path);
        }
        Ok(needed)
    }
}

fn cut(path: &Path, bytes: u64, folder: &Path) -> Result<(), OutputError> {
    let damaged = |why: &str| OutputError::Damaged {
        folder: folder.to_owned(),
        why: format!("{} {why}", path.display()),
    };
    let file = match OpenOptions::new().write(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(damaged("is missing")),
        opened => opened.map_err(OutputError::at(path))?,
    };
    let length = file.metadata().map_err(OutputError::at(path))?.len();
    if length < bytes {
        return Err(damaged("is shorter than it was"));
    }
    if length > bytes {
        disk::set_length(&file, bytes).map_err(OutputError::at(path))?;
    }
    Ok(())
}
