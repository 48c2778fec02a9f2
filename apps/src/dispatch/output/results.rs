//! The results folder itself: where a finished part becomes a result.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::{OutputError, disk, name};

/// The folder that the user named.
#[derive(Debug)]
pub(super) struct Results {
    out: PathBuf,
    /// Results claimed and not there yet.
    claimed: HashSet<String>,
    /// Folders with new entries, which the next sync makes durable. It may wait that long: until
    /// the next record, a restart does every rename of the last one again.
    pub(super) unsynced: HashSet<PathBuf>,
}

impl Results {
    pub(super) fn new(out: PathBuf) -> Results {
        Results {
            out,
            claimed: HashSet::new(),
            unsynced: HashSet::new(),
        }
    }

    /// Makes sure that a rename to `result` will work, or says why it cannot.
    pub(super) fn claim(&mut self, result: &str) -> Result<Result<(), String>, OutputError> {
        if let Err(why) = name::check_way(&self.out, result) {
            return Ok(Err(why));
        }
        if let Some(file) = ancestors(result).find(|folder| self.claimed.contains(*folder)) {
            return Ok(Err(format!("{file} is a result and cannot be a folder")));
        }
        self.make_folders(result)?;
        self.claimed.insert(result.to_owned());
        Ok(Ok(()))
    }

    /// Turns a part into a result that was claimed.
    pub(super) fn publish(&mut self, part: &Path, result: &str) -> Result<(), OutputError> {
        let path = self.out.join(result);
        disk::rename(part, &path).map_err(OutputError::at(&path))?;
        self.unsynced.insert(parent(&path));
        self.claimed.remove(result);
        Ok(())
    }

    pub(super) fn make_folders(&mut self, result: &str) -> Result<(), OutputError> {
        for folder in ancestors(result) {
            let path = self.out.join(folder);
            match disk::create_folder(&path) {
                Ok(()) => _ = self.unsynced.insert(parent(&path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(OutputError::at(&path)(e)),
            }
        }
        Ok(())
    }
}

/// The folders of a relative path, outermost first.
fn ancestors(result: &str) -> impl Iterator<Item = &str> {
    result.match_indices('/').map(|(at, _)| &result[..at])
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}
