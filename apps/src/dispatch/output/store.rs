//! The job's folder: part files and tables on their way to become results.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{OutputError, disk};

/// Which input of the job; `None` is standard input.
pub(super) type Source = Option<u32>;

/// Files kept open; reaching it closes them all, which costs one opening each.
const OPEN_FILES: usize = 64;

/// Files of one job, and which of them a commit has to sync or may remove.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    open: HashMap<Source, File>,
    unsynced: HashSet<PathBuf>,
    garbage: Vec<PathBuf>,
}

impl Store {
    pub(super) fn new(folder: PathBuf) -> Store {
        Store {
            folder,
            open: HashMap::new(),
            unsynced: HashSet::new(),
            garbage: Vec::new(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the pieces of an input are put together.
    pub(super) fn part(&self, source: Source) -> PathBuf {
        self.folder.join(match source {
            Some(input) => format!("{input}.part"),
            None => "stdin.part".to_owned(),
        })
    }

    /// Where a table of an input waits to be merged.
    pub(super) fn table(&self, input: u32, number: u32) -> PathBuf {
        self.folder.join(format!("{input}-{number}.table"))
    }

    /// Starts an input's part file.
    pub(super) fn create_part(&mut self, source: Source) -> Result<(), OutputError> {
        let path = self.part(source);
        let file = self.create(path)?;
        self.keep_open(source, file);
        Ok(())
    }

    /// Adds to an input's part file.
    pub(super) fn append(&mut self, source: Source, bytes: &[u8]) -> Result<(), OutputError> {
        let path = self.part(source);
        if !self.open.contains_key(&source) {
            let file = disk::append_to(&path).map_err(OutputError::at(&path))?;
            self.keep_open(source, file);
        }
        disk::write_all(&self.open[&source], bytes).map_err(OutputError::at(&path))?;
        self.unsynced.insert(path);
        Ok(())
    }

    /// Creates a file of any kind, empty, to be synced by the next commit.
    pub(super) fn create(&mut self, path: PathBuf) -> Result<File, OutputError> {
        let file = disk::create(&path).map_err(OutputError::at(&path))?;
        self.unsynced.insert(path);
        self.unsynced.insert(self.folder.clone());
        Ok(file)
    }

    /// The input needs its part file no more often.
    pub(super) fn close(&mut self, source: Source) {
        self.open.remove(&source);
    }

    /// A file to remove when the next record is durable: until then, the last one needs it.
    pub(super) fn discard(&mut self, path: PathBuf) {
        self.garbage.push(path);
    }

    /// Makes all that was written durable, together with `folders`.
    pub(super) fn sync(&mut self, folders: &mut HashSet<PathBuf>) -> Result<(), OutputError> {
        let paths: Vec<PathBuf> = self.unsynced.drain().chain(folders.drain()).collect();
        disk::sync(&paths, &self.folder).map_err(OutputError::at(&self.folder))
    }

    /// Removes what the last record no longer needs.
    pub(super) fn tidy(&mut self) -> Result<(), OutputError> {
        for path in self.garbage.drain(..) {
            match disk::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(OutputError::at(&path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes every file but `needed`.
    pub(super) fn keep_only(&self, needed: &HashSet<PathBuf>) -> Result<(), OutputError> {
        let failed = || OutputError::at(&self.folder);
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if !needed.contains(&path) {
                disk::remove_file(&path).map_err(OutputError::at(&path))?;
            }
        }
        Ok(())
    }

    fn keep_open(&mut self, source: Source, file: File) {
        if self.open.len() >= OPEN_FILES {
            self.open.clear();
        }
        self.open.insert(source, file);
    }
}
