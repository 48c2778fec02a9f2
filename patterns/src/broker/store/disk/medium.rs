//! The file under the database, with the means to take back a commit that failed half way.
//!
//! The database begins with a header that names the current state, of two slots the one that a bit
//! points to. A commit writes a new state beside the old one, then the header, then syncs. If any
//! of that fails the database cannot tell which state counts. This can: the new one if the header
//! that points to it was synced; else the old one, whose header is then put back.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const HEADER: usize = 320;
/// Where the bit is that every commit turns over.
const SLOT: (usize, u8) = (9, 1);

/// A file, or what stands for one; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    file: Arc<dyn StorageBackend>,
    header: Arc<Mutex<Header>>,
}

#[derive(Debug)]
struct Header {
    /// As it is on disk for sure.
    safe: [u8; HEADER],
    /// Something else was written since.
    touched: bool,
}

impl Medium {
    /// A medium that holds a database.
    pub(super) fn new(file: Arc<dyn StorageBackend>) -> io::Result<Medium> {
        let mut safe = [0; HEADER];
        file.read(0, &mut safe)?;
        let header = Header {
            safe,
            touched: false,
        };
        Ok(Medium {
            file,
            header: Arc::new(Mutex::new(header)),
        })
    }

    /// Changes with every commit that is safe.
    pub(super) fn slot(&self) -> bool {
        self.header().safe[SLOT.0] & SLOT.1 != 0
    }

    /// Makes the last safe commit count again. The database must be closed.
    pub(super) fn take_back(&self) -> io::Result<()> {
        let mut header = self.header();
        if header.touched {
            self.file.write(0, &header.safe)?;
            self.file.sync_data()?;
            header.touched = false;
        }
        Ok(())
    }

    fn header(&self) -> MutexGuard<'_, Header> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut header = self.header();
        self.file.sync_data()?;
        if header.touched {
            self.file.read(0, &mut header.safe)?;
            header.touched = false;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset < HEADER as u64 {
            self.header().touched = true;
        }
        self.file.write(offset, data)
    }
}
