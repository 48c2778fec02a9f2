//! A disk in memory that loses power, fills up and rots, for the tests.

use std::collections::BTreeSet;
use std::io::{self, Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use tempfile::TempDir;

use super::medium::Medium;
use super::{DiskStore, initialise};
use crate::broker::store::StoreError;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// What a file system hands out.
const BLOCK: u64 = 4096;

/// A disk; clones are the same disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
    /// Where the store looks whether there is room; there is.
    folder: Arc<TempDir>,
}

#[derive(Debug, Default)]
struct State {
    /// What a power loss leaves for sure.
    safe: Vec<u8>,
    /// What the running system reads.
    now: Vec<u8>,
    unsynced: Vec<Step>,
    /// Blocks that were written once: writing them again takes no room.
    taken: BTreeSet<u64>,
    trouble: Trouble,
    /// Changes so far, syncs included.
    steps: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// What goes wrong, from which change on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Trouble {
    #[default]
    None,
    /// The power is gone.
    DeadAt(u64),
    /// No space is left: what was never written before cannot be written.
    FullAt(u64),
    /// Syncs fail.
    SyncFailsAt(u64),
}

impl Disk {
    /// A disk with a new store on it.
    pub(super) fn new() -> Disk {
        let disk = Disk::with(Vec::new());
        initialise(disk.clone()).expect("a new database");
        disk
    }

    /// The store on this disk, as it is found after a start.
    pub(super) fn open(&self) -> Result<DiskStore, StoreError> {
        let disk = self.clone();
        let opening = move || Medium::new(Arc::new(disk.clone()));
        DiskStore::with(self.folder.path(), Box::new(opening))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        self.state().trouble = trouble;
    }

    pub(super) fn steps(&self) -> u64 {
        self.state().steps
    }

    /// The disk after a power loss: of what was not synced, each sector that the coin wants.
    pub(super) fn after_power_loss(&self, mut coin: impl FnMut() -> bool) -> Disk {
        let state = self.state();
        let mut left = state.safe.clone();
        for step in &state.unsynced {
            match step {
                Step::Write(at, bytes) => {
                    let mut at = *at;
                    for sector in bytes.chunks(SECTOR) {
                        if coin() {
                            write(&mut left, at, sector);
                        }
                        at += sector.len() as u64;
                    }
                }
                Step::Length(length) if coin() => left.resize(*length as usize, 0),
                Step::Length(_) => {}
            }
        }
        Disk::with(left)
    }

    /// A disk with this on it.
    pub(super) fn with(image: Vec<u8>) -> Disk {
        let taken = (0..image.len() as u64 / BLOCK).collect();
        let state = State {
            safe: image.clone(),
            now: image,
            taken,
            ..State::default()
        };
        let folder = tempfile::tempdir().expect("a folder");
        Disk {
            state: Arc::new(Mutex::new(state)),
            folder: Arc::new(folder),
        }
    }

    /// What is on it, as the running system sees it.
    pub(super) fn image(&self) -> Vec<u8> {
        self.state().now.clone()
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match self.trouble {
            Trouble::DeadAt(step) if self.steps > step => Err(Error::other("the power is gone")),
            _ => Ok(()),
        }
    }

    fn take_room(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let full = matches!(self.trouble, Trouble::FullAt(step) if self.steps > step);
        for block in offset / BLOCK..(offset + length).div_ceil(BLOCK) {
            if full && !self.taken.contains(&block) {
                return Err(ErrorKind::StorageFull.into());
            }
            self.taken.insert(block);
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let from = state
            .now
            .get(offset as usize..)
            .and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.taken.retain(|block| block * BLOCK < length);
        state.now.resize(length as usize, 0);
        state.unsynced.push(Step::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if matches!(state.trouble, Trouble::SyncFailsAt(step) if state.steps > step) {
            return Err(Error::other("the disk does not answer"));
        }
        for step in std::mem::take(&mut state.unsynced) {
            match step {
                Step::Write(at, bytes) => write(&mut state.safe, at, &bytes),
                Step::Length(length) => state.safe.resize(length as usize, 0),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.take_room(offset, data.len() as u64)?;
        write(&mut state.now, offset, data);
        state.unsynced.push(Step::Write(offset, data.to_vec()));
        Ok(())
    }
}

fn write(image: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = at as usize;
    let end = at + data.len();
    image.resize(image.len().max(end), 0);
    image[at..end].copy_from_slice(data);
}
