//! The records' file in its own thread.

use std::io;
use std::path::{Path, PathBuf};

use super::super::super::{DataLine, Payload, ReadFailure, RecordFile, RecordId};
use super::super::disk::Disk;
use super::super::lock::check_in_place;

/// What is asked of the disk.
#[derive(Debug)]
pub(crate) enum Job {
    /// Append the line of this number.
    Keep(u64, DataLine),
    /// Read the record for this number.
    Read(u64, RecordId),
    /// See how much room there is.
    Look,
}

/// What has come of it.
#[derive(Debug)]
pub(crate) enum Report {
    /// The line of this number is on disk.
    Kept(u64),
    /// It is not, for this reason.
    NotKept(u64, String),
    /// What was read for this number.
    Read(u64, Result<Payload, ReadFailure>),
    /// There is room for so many bytes.
    Free(u64),
}

#[derive(Debug)]
pub(crate) struct Keeper {
    file: RecordFile,
    path: PathBuf,
    capacity_bytes: Option<u64>,
    /// Lines that are in the file and perhaps not on disk.
    written: Vec<u64>,
    /// Bytes that were read and not yet handed over.
    read_bytes: usize,
}

/// Bytes of records that are handed over together.
const READ_BYTES: usize = 32 << 20;

impl Keeper {
    pub(crate) fn new(file: RecordFile, path: &Path, capacity_bytes: Option<u64>) -> Keeper {
        Keeper {
            file,
            path: path.to_path_buf(),
            capacity_bytes,
            written: Vec::new(),
            read_bytes: 0,
        }
    }

    /// Room on the disk, or in what the file may have.
    fn free(&self) -> io::Result<u64> {
        let room = rustix::fs::statvfs(&self.path)?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        let left = self
            .capacity_bytes
            .map(|capacity| capacity.saturating_sub(self.file.bytes()));
        Ok(left.map_or(free, |left| left.min(free)))
    }
}

impl Disk for Keeper {
    type Job = Job;
    type Report = Report;

    fn work(&mut self, job: Job, reports: &mut Vec<Report>) {
        match job {
            Job::Keep(number, line) => match self.file.append(&line) {
                Ok(()) => self.written.push(number),
                Err(error) => reports.push(Report::NotKept(number, error.to_string())),
            },
            Job::Read(number, id) => {
                let read = self.file.read(id);
                self.read_bytes += read.as_ref().map_or(0, |bytes| bytes.len());
                reports.push(Report::Read(number, read));
            }
            Job::Look => {}
        }
    }

    fn is_full(&self) -> bool {
        self.read_bytes >= READ_BYTES
    }

    fn sync(&mut self, reports: &mut Vec<Report>) -> io::Result<()> {
        self.read_bytes = 0;
        check_in_place(&self.path, self.file.file(), self.file.bytes())?;
        if !self.written.is_empty() {
            self.file.sync()?;
        }
        // First, so that what the answers say of room is true.
        reports.push(Report::Free(self.free()?));
        reports.extend(self.written.drain(..).map(Report::Kept));
        Ok(())
    }
}
