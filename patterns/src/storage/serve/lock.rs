//! One program to a file, and how often it was started.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::replace::beside;
use super::StorageError;

/// The lock of a file that nobody else may write; held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    /// The number of this start: larger than that of all before, whatever the clock says.
    pub(crate) start: u64,
}

impl Lock {
    /// Takes the lock of `path`, which is a file beside it with the number of the last start.
    pub(crate) fn take(path: &Path) -> Result<Lock, StorageError> {
        let name = beside(path, ".starts");
        let failed = StorageError::file(&name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&name).map_err(&failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = path.to_path_buf();
                return Err(StorageError::Busy { path });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let start = count(&mut file).map_err(&failed)?;
        Ok(Lock { _file: file, start })
    }
}

/// Counts one more start, on disk.
fn count(file: &mut File) -> std::io::Result<u64> {
    let mut text = String::new();
    // A number has no more digits; what is no number is begun again, above all that a clock would give.
    file.take(32).read_to_string(&mut text)?;
    let since_1970 = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let start = match text.trim().parse::<u64>() {
        Ok(last) => last.saturating_add(1),
        Err(_) => since_1970.map_or(1, |since| since.as_secs()),
    };
    file.rewind()?;
    file.write_all(format!("{start:<20}\n").as_bytes())?;
    file.sync_all()?;
    Ok(start)
}

/// Locks the file itself as well: the lock beside it may have been removed.
pub(crate) fn take_alone<'a>(file: &'a File, path: &Path) -> Result<&'a File, StorageError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Busy {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(StorageError::file(path)(error)),
    }
}

/// Ends a program whose file was replaced or removed under it: what it writes would be found by nobody.
pub(crate) fn check_in_place(path: &Path, open: &File, bytes: u64) -> std::io::Result<()> {
    let (here, ours) = (std::fs::metadata(path), open.metadata()?);
    let is_ours = |here: &Metadata| {
        (here.dev(), here.ino()) == (ours.dev(), ours.ino()) && here.len() >= bytes
    };
    match here.is_ok_and(|here| is_ours(&here)) {
        true => Ok(()),
        false => Err(changed(path)),
    }
}

fn changed(path: &Path) -> std::io::Error {
    std::io::Error::other(format!(
        "{} was moved, replaced or cut off while it was in use: start this program again",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_owner_and_each_start_a_higher_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let first = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        let start = first.start;
        drop(first);
        assert_eq!(Lock::take(&path).unwrap().start, start + 1);
        std::fs::write(beside(&path, ".starts"), "rubbish").unwrap();
        assert!(Lock::take(&path).unwrap().start > 1_000_000_000);
    }
}
