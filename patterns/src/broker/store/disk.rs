//! The store on disk: one redb database in a folder of its own. Why redb: docs/store.md.
//!
//! A commit writes to free pages of the file, then the page that says which pages count, and syncs
//! once. After a crash the checksums of the pages tell whether the last commit is whole; if it is
//! not, the one before it counts.

mod medium;
mod record;
mod reserve;

#[cfg(test)]
mod model;
#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _};
use redb::{StorageBackend, TableDefinition, TableError};

use self::medium::Medium;
use self::record::{Change, Key};
use self::reserve::Reserve;
use super::{Store, StoreError, Write};

/// Changes with the meaning of what is stored.
const VERSION: u32 = 2;
const FORMAT: TableDefinition<&str, u32> = TableDefinition::new("format");
const RECORDS: TableDefinition<&Key, &[u8]> = TableDefinition::new("records");

const FILE: &str = "store.redb";
/// A database that is being made; one found at a start was left by a crash.
const NEW_FILE: &str = "store.new";
const LOCK: &str = "lock";

/// Memory for pages of the file, read and not yet written.
const CACHE: usize = 32 << 20;

/// What stays free within the file while nothing is set aside beside it.
const SLACK: u64 = 2 << 20;

/// How to get at the file; tests put a disk of their own in its place.
type Opening = Box<dyn Fn() -> io::Result<Medium> + Send>;

/// Keeps the broker's state in a folder, safe from crashes of the process and of the machine.
///
/// The file grows with what is kept, and reuses its space rather than giving it back.
///
/// ```
/// use mutirao::broker::store::{DiskStore, Store, Write};
/// use mutirao::pipeline::JobId;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let job = Write::Job { job: JobId(7), description: b"wordcount".to_vec() };
/// let mut store = DiskStore::open(folder.path())?;
/// store.commit(std::slice::from_ref(&job))?;
/// drop(store);
///
/// let mut kept = Vec::new();
/// DiskStore::open(folder.path())?.load(&mut |write| kept.push(write))?;
/// assert_eq!(kept, [job]);
/// # Ok(()) }
/// ```
pub struct DiskStore {
    folder: PathBuf,
    opening: Opening,
    reserve: Reserve,
    /// None after an error, when what is in memory may not be what is on disk.
    open: Option<Open>,
    /// Held as long as the store lives, also while the database is closed after an error.
    _lock: Option<File>,
}

struct Open {
    database: Database,
    medium: Medium,
}

impl DiskStore {
    /// Opens the store in a folder, which is created if it is not there, and checks all of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if another broker has it open; [`StoreError::Damaged`] if what is there
    /// is not what this version has written; the others as they come.
    pub fn open(folder: &Path) -> Result<DiskStore, StoreError> {
        let failed = |error: io::Error| refusal(folder, error.into());
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = lock(folder)?;
        let file = folder.join(FILE);
        if !file.try_exists().map_err(failed)? {
            make(folder).map_err(|error| refusal(folder, error))?;
        }
        let opening = Box::new(move || Medium::new(Arc::new(backend(&file)?)));
        let mut store = DiskStore::with(folder, opening)?;
        store._lock = Some(lock);
        Ok(store)
    }

    fn with(folder: &Path, opening: Opening) -> Result<DiskStore, StoreError> {
        let mut store = DiskStore {
            folder: folder.into(),
            opening,
            reserve: Reserve::of(folder),
            open: None,
            _lock: None,
        };
        let found = store.database().and_then(|open| format(&open.database));
        let found = found.map_err(|error| refusal(folder, error))?;
        if found == Some(VERSION) {
            return Ok(store);
        }
        let found = found.map_or("no format".into(), |found| format!("format {found}"));
        let reason = format!(
            "it has {found}, this version knows {VERSION}: start the version that wrote it or \
             choose another folder"
        );
        Err(StoreError::Damaged {
            path: folder.display().to_string(),
            reason,
        })
    }

    fn database(&mut self) -> Result<&Open, redb::Error> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let medium = (self.opening)()?;
                let database = builder().create_with_backend(medium.clone())?;
                Open { database, medium }
            }
        };
        Ok(self.open.insert(open))
    }

    fn try_commit(&mut self, group: &[Write]) -> Result<(), StoreError> {
        if !makes_room(group)
            && let Err(error) = self.reserve.make()
            && !self.has_room_within(group)
        {
            return Err(refusal(&self.folder, error.into()));
        }
        let opened = self
            .database()
            .map(|open| (open.medium.slot(), apply(&open.database, group)));
        match opened {
            Ok((_, Ok(()))) => Ok(()),
            Ok((slot, Err(error))) => self.settle(slot, error),
            Err(error) => Err(refusal(&self.folder, error)),
        }
    }

    /// Whether a group fits into what is free within the file, and leaves enough of it that other
    /// records can still be removed.
    ///
    /// After an error the database is opened anew, and that reads all of it: on a disk that is still
    /// full only for what makes room.
    fn has_room_within(&self, group: &[Write]) -> bool {
        let Some(Open { database, .. }) = &self.open else {
            return false;
        };
        let stats = database
            .begin_write()
            .map(|transaction| transaction.stats());
        let Ok(Ok(stats)) = stats else {
            return false;
        };
        let used = stats.allocated_pages() * stats.page_size() as u64;
        // A record takes pages by powers of two, and a little more for finding it.
        let needed = |write: &Write| 2 * write.bytes() as u64 + 8192;
        let needed: u64 = group.iter().map(needed).sum();
        self.bytes() >= used + needed + SLACK
    }

    /// After an error in a commit: it counts all the same if it is safe; if not, nothing of it does.
    fn settle(&mut self, slot_before: bool, error: redb::Error) -> Result<(), StoreError> {
        let Some(Open { database, medium }) = self.open.take() else {
            return Err(refusal(&self.folder, error));
        };
        drop(database);
        if medium.slot() != slot_before {
            return Ok(());
        }
        match medium.take_back() {
            Ok(()) => Err(refusal(&self.folder, error)),
            Err(worse) => {
                let path = self.folder.display().to_string();
                let reason = format!("{worse}, after {error}: repair the disk, then start again");
                Err(StoreError::Failed { path, reason })
            }
        }
    }
}

impl Store for DiskStore {
    fn load(&mut self, keep: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
        let loaded = self
            .database()
            .and_then(|open| read_all(&open.database, keep));
        loaded.map_err(|error| refusal(&self.folder, error))
    }

    fn commit(&mut self, group: &[Write]) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        match self.try_commit(group) {
            Err(StoreError::Full { .. }) if makes_room(group) && self.reserve.give_up() => {
                self.try_commit(group)
            }
            done => done,
        }
    }

    fn bytes(&self) -> u64 {
        // The file may have holes; blocks are what it really takes.
        fs::metadata(self.folder.join(FILE)).map_or(0, |file| file.blocks() * 512)
    }
}

/// Makes the database in a new folder: it is there with all it needs, or not at all.
fn make(folder: &Path) -> Result<(), redb::Error> {
    let new = folder.join(NEW_FILE);
    File::create(&new)?;
    initialise(backend(&new)?)?;
    fs::rename(new, folder.join(FILE))?;
    sync_folder(folder)?;
    Ok(())
}

fn backend(path: &Path) -> Result<FileBackend, io::Error> {
    let file = File::options().read(true).write(true).open(path)?;
    FileBackend::new(file).map_err(io::Error::other)
}

fn initialise(empty: impl StorageBackend) -> Result<(), redb::Error> {
    let database = builder().create_with_backend(empty)?;
    let transaction = database.begin_write()?;
    transaction.open_table(FORMAT)?.insert("version", VERSION)?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok(database.close()?)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true);
    builder
}

fn format(database: &Database) -> Result<Option<u32>, redb::Error> {
    let table = match database.begin_read()?.open_table(FORMAT) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get("version")?.map(|version| version.value()))
}

fn apply(database: &Database, group: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut records = transaction.open_table(RECORDS)?;
        for write in group {
            match record::change(write) {
                Change::Put(key, head, body) => {
                    let mut value = records.insert_reserve(&key, head.len() + body.len())?;
                    let (front, back) = value.as_mut().split_at_mut(head.len());
                    front.copy_from_slice(&head);
                    back.copy_from_slice(body);
                }
                Change::Remove(key) => drop(records.remove(&key)?),
                Change::RemoveAll(keys) => {
                    records.retain_in::<&Key, _>(keys.start()..=keys.end(), |_, _| false)?;
                }
            }
        }
    }
    Ok(transaction.commit()?)
}

fn read_all(database: &Database, keep: &mut dyn FnMut(Write)) -> Result<(), redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    for entry in records.iter()? {
        let (key, value) = entry?;
        let damaged = || redb::Error::Corrupted("a record makes no sense".into());
        keep(record::read(key.value(), value.value()).ok_or_else(damaged)?);
    }
    Ok(())
}

/// Whether a group takes more away than it adds: what is known of a job is small.
fn makes_room(group: &[Write]) -> bool {
    let adds = |write: &Write| matches!(write, Write::Tasks { .. } | Write::Results { .. });
    let removes = |write: &Write| !matches!(record::change(write), Change::Put(..));
    !group.iter().any(adds) && group.iter().any(removes)
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let failed = |error: io::Error| refusal(folder, error.into());
    let file = File::create(folder.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(refusal(folder, redb::Error::DatabaseAlreadyOpen)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    let folder = folder.canonicalize()?;
    folder
        .parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn refusal(folder: &Path, error: redb::Error) -> StoreError {
    use redb::Error::{DatabaseAlreadyOpen, DatabaseClosed, Io, LockPoisoned, PreviousIo};
    use std::io::ErrorKind::{InvalidData, QuotaExceeded, StorageFull, UnexpectedEof};
    let path = folder.display().to_string();
    let reason = error.to_string();
    match error {
        DatabaseAlreadyOpen => StoreError::Busy { path },
        Io(error) => match error.kind() {
            StorageFull | QuotaExceeded => StoreError::Full { path },
            InvalidData | UnexpectedEof => damaged(path, &reason),
            _ => StoreError::Failed {
                path,
                reason: error.to_string(),
            },
        },
        PreviousIo | LockPoisoned(_) | DatabaseClosed => StoreError::Failed { path, reason },
        _ => damaged(path, &reason),
    }
}

fn damaged(path: String, what: &str) -> StoreError {
    let advice = "bring back a copy, or move the folder away and submit the tasks again";
    StoreError::Damaged {
        path,
        reason: format!("{what}: {advice}"),
    }
}
