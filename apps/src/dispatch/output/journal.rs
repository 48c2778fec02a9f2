//! The journal: what is done, one record per commit, appended and synced.
//!
//! The file starts with `mutirao`, a version byte and the job's id; a record is its length, its
//! CRC-32 (both little-endian, four bytes) and MessagePack. Records count up to the first that is
//! cut short or damaged: that one was never confirmed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::assembly::Progress;
use super::lines::LineProgress;
use super::store::Source;
use super::{Counts, Failure, OutputError, disk};

/// The file's name in the job's folder.
pub(super) const JOURNAL_FILE: &str = "journal";

const MAGIC: &[u8; 8] = b"mutirao\x01";
const HEADER_BYTES: u64 = 16;
const FRAME_BYTES: u64 = 8;

/// What one commit made durable.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// Tasks done.
    pub(super) ids: Vec<Range<u64>>,
    /// Results that there will not be.
    pub(super) failures: Vec<Failure>,
    /// Results complete; each is renamed after the record is durable.
    pub(super) written: Vec<Written>,
    /// Inputs that moved on and are not complete.
    pub(super) progress: Vec<Progress>,
    /// Standard input, if it moved on.
    pub(super) lines: Option<LineProgress>,
    /// The totals from now on.
    pub(super) counts: Counts,
}

/// A complete result.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Written {
    /// Whose part file it is.
    pub(super) source: Source,
    /// The path under `--out` that it gets.
    pub(super) result: String,
}

/// An open journal, locked against other processes for as long as it lives.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    frame: Vec<u8>,
}

impl Journal {
    /// Opens the journal in `folder`, or starts one, and hands every record to `replay`.
    pub(super) fn open(
        folder: &Path,
        job: u64,
        replay: &mut impl FnMut(Record),
    ) -> Result<Journal, OutputError> {
        let path = folder.join(JOURNAL_FILE);
        let mut journal = Journal {
            file: lock(folder, &path)?,
            path,
            frame: Vec::new(),
        };
        let length = journal.file.metadata().map_err(journal.failed())?.len();
        let mut reader = BufReader::new(&journal.file);
        let end = match read_header(&mut reader, length).map_err(journal.failed())? {
            Header::Missing => 0,
            Header::Job(found) if found == job => read_records(&mut reader, length, replay),
            _ => return Err(damaged(folder, "it belongs to another job or version")),
        };
        drop(reader);
        // Synced in any case: the last process may have died between writing and syncing, and what
        // was read here counts as durable from now on.
        journal.truncate(end).map_err(journal.failed())?;
        journal
            .file
            .seek(SeekFrom::Start(end))
            .map_err(journal.failed())?;
        if end == 0 {
            journal.start(job).map_err(journal.failed())?;
        }
        Ok(journal)
    }

    /// Appends a record; when this returns, it is durable.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), OutputError> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(FRAME_BYTES as usize, 0);
        // Writing to memory cannot fail, and every type in a record can be written.
        rmp_serde::encode::write(&mut frame, record)
            .map_err(|e| self.failed()(io::Error::other(e)))?;
        let (head, payload) = frame.split_at_mut(FRAME_BYTES as usize);
        head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        let written = disk::write_all(&self.file, &frame);
        written
            .and_then(|()| disk::sync_data(&self.file))
            .map_err(self.failed())?;
        self.frame = frame;
        Ok(())
    }

    fn truncate(&self, end: u64) -> io::Result<()> {
        disk::set_length(&self.file, end)?;
        disk::sync_data(&self.file)
    }

    fn start(&self, job: u64) -> io::Result<()> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&job.to_le_bytes());
        disk::write_all(&self.file, &header)?;
        disk::sync_data(&self.file)
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> OutputError {
        OutputError::at(&self.path)
    }
}

impl Drop for Journal {
    /// Closing would unlock as well, but not while a child that was just forked, and has not yet
    /// become another program, holds a copy of the descriptor.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn damaged(folder: &Path, why: &str) -> OutputError {
    OutputError::Damaged {
        folder: folder.to_owned(),
        why: why.to_owned(),
    }
}

/// The file, ours alone. The lock goes with the process, however it ends.
fn lock(folder: &Path, path: &Path) -> Result<File, OutputError> {
    loop {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = opened.map_err(OutputError::at(path))?;
        // Any other error is a file system without locks, which is no reason to refuse it.
        if let Err(Errno::WOULDBLOCK) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            return Err(OutputError::Busy {
                path: folder.to_owned(),
            });
        }
        // A process that finished its job meanwhile has taken the file away, and our lock with it.
        let inode = file.metadata().map_err(OutputError::at(path))?.ino();
        if fs::metadata(path).is_ok_and(|there| there.ino() == inode) {
            return Ok(file);
        }
    }
}

enum Header {
    /// The file is new, or its very first write did not get through.
    Missing,
    Job(u64),
    Foreign,
}

fn read_header(reader: &mut impl Read, length: u64) -> io::Result<Header> {
    if length < HEADER_BYTES {
        return Ok(Header::Missing);
    }
    let (mut magic, mut job) = ([0; 8], [0; 8]);
    reader.read_exact(&mut magic)?;
    reader.read_exact(&mut job)?;
    Ok(match &magic {
        MAGIC => Header::Job(u64::from_le_bytes(job)),
        // Without power, a file may grow before its bytes arrive.
        [0, ..] if length == HEADER_BYTES => Header::Missing,
        _ => Header::Foreign,
    })
}

/// Reads up to the first record that is not whole; where that would start.
fn read_records(reader: &mut impl Read, length: u64, replay: &mut impl FnMut(Record)) -> u64 {
    let mut end = HEADER_BYTES;
    while let Some((record, bytes)) = read_record(reader, length - end) {
        replay(record);
        end += bytes;
    }
    end
}

fn read_record(reader: &mut impl Read, left: u64) -> Option<(Record, u64)> {
    let mut head = [0; FRAME_BYTES as usize];
    reader.read_exact(&mut head).ok()?;
    let [length, crc] = [0, 4].map(|at| u32::from_le_bytes(std::array::from_fn(|i| head[at + i])));
    // A run of zeros would be an empty record with the right checksum: no record is empty.
    if length == 0 || u64::from(length) + FRAME_BYTES > left {
        return None;
    }
    let mut payload = vec![0; length as usize];
    reader.read_exact(&mut payload).ok()?;
    if crc32fast::hash(&payload) != crc {
        return None;
    }
    Some((
        rmp_serde::from_slice(&payload).ok()?,
        FRAME_BYTES + u64::from(length),
    ))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // A range of ids is meant.
mod tests {
    use super::*;

    fn record(id: u64) -> Record {
        Record {
            ids: vec![id..id + 1],
            ..Record::default()
        }
    }

    fn open(folder: &Path, job: u64) -> Result<(Journal, Vec<u64>), OutputError> {
        let mut ids = Vec::new();
        let journal = Journal::open(folder, job, &mut |record| {
            ids.extend(record.ids.into_iter().flatten());
        })?;
        Ok((journal, ids))
    }

    #[test]
    fn what_is_cut_short_anywhere_was_never_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL_FILE);
        let (mut journal, _) = open(folder.path(), 7).unwrap();
        let mut ends = vec![journal.file.metadata().unwrap().len()];
        for id in 0..3 {
            journal.append(&record(id)).unwrap();
            ends.push(journal.file.metadata().unwrap().len());
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for (cut, garbage) in (16..=whole.len()).flat_map(|c| [(c, 0), (c, 0xff)]) {
            let bytes = [&whole[..cut], &[garbage; 40]].concat();
            fs::write(&path, &bytes).unwrap();
            // Garbage may happen to be what was cut off.
            let same = bytes.iter().zip(&whole).take_while(|(a, b)| a == b).count() as u64;
            let expected = ends[1..].iter().filter(|&&end| end <= same).count() as u64;
            let (mut journal, ids) = open(folder.path(), 7).unwrap();
            assert_eq!(ids, (0..expected).collect::<Vec<_>>(), "cut at {cut}");
            journal.append(&record(9)).unwrap();
            drop(journal);
            assert_eq!(open(folder.path(), 7).unwrap().1.last(), Some(&9));
        }
    }

    #[test]
    fn a_first_write_that_was_cut_short_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL_FILE);
        for start in [&b""[..], b"muti", &MAGIC[..], &[0; 16]] {
            fs::write(&path, start).unwrap();
            let (mut journal, ids) = open(folder.path(), 7).unwrap();
            assert!(ids.is_empty());
            journal.append(&record(1)).unwrap();
            drop(journal);
            assert_eq!(open(folder.path(), 7).unwrap().1, [1]);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL_FILE);
        let (mut journal, _) = open(folder.path(), 7).unwrap();
        journal.append(&record(0)).unwrap();
        let end = journal.file.metadata().unwrap().len() as usize;
        journal.append(&record(1)).unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for bit in end * 8..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bytes).unwrap();
            assert_eq!(open(folder.path(), 7).unwrap().1, [0]);
        }
    }

    #[test]
    fn two_processes_cannot_share_it_and_two_jobs_neither() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7).unwrap();
        assert!(matches!(
            open(folder.path(), 7),
            Err(OutputError::Busy { .. })
        ));
        drop(first);
        assert!(matches!(
            open(folder.path(), 8),
            Err(OutputError::Damaged { .. })
        ));
    }
}
