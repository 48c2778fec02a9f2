//! A file of lines that only grows.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::replace::sync_folder;
use super::super::{LineError, Lines, Named, TextLine};
use super::lock::check_in_place;

/// A file to whose end lines are appended.
#[derive(Debug)]
pub(crate) struct AppendFile {
    path: PathBuf,
    file: File,
    end: u64,
    /// Whether something behind the end is to be cut off first.
    dirty: bool,
}

impl AppendFile {
    /// Opens the file or makes it, and hands over its lines. A torn last line is not among them, and goes
    /// when something is appended.
    pub(crate) fn open<T: TextLine>(
        path: &Path,
        max_line_bytes: u64,
        mut take: impl FnMut(Named<T>),
    ) -> io::Result<AppendFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path)?;
        let (mut end, mut dirty) = (0, false);
        for named in Lines::<_, T>::new(BufReader::new(file.try_clone()?), max_line_bytes) {
            let named = named?;
            match named.line {
                Err(LineError::Torn) => dirty = true,
                _ => {
                    end = named.offset + named.length;
                    take(named);
                }
            }
        }
        file.sync_all()?;
        sync_folder(path)?;
        let path = path.to_path_buf();
        Ok(AppendFile {
            path,
            file,
            end,
            dirty,
        })
    }

    /// Appends a line, its end included. It is not safe before [`sync`](AppendFile::sync).
    ///
    /// An error means that nothing of it counts; it can be tried again.
    pub(crate) fn append(&mut self, line: &str) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.end)?;
        }
        self.dirty = true;
        self.file.write_all_at(line.as_bytes(), self.end)?;
        self.dirty = false;
        self.end += line.len() as u64;
        Ok(())
    }

    /// Waits until all lines are on disk. After an error nobody knows which are: the program must end and
    /// open the file again.
    pub(crate) fn sync(&self) -> io::Result<()> {
        check_in_place(&self.path, &self.file, self.end)?;
        self.file.sync_data()
    }
}
