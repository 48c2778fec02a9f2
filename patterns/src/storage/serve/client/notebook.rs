//! `registro_cliente.txt`: what was confirmed to the clients that share the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::StorageError;

#[derive(Debug)]
pub(super) struct Notebook {
    path: PathBuf,
    file: File,
}

impl Notebook {
    /// Opens the file or makes it; several clients may.
    pub(super) fn open(path: &Path) -> Result<Notebook, StorageError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path);
        let file = file.map_err(StorageError::file(path))?;
        let path = path.to_path_buf();
        Ok(Notebook { path, file })
    }

    /// Appends whole lines and syncs them, undisturbed by others.
    pub(super) fn append(&mut self, lines: &str) -> Result<(), String> {
        let written = self.file.lock().and_then(|()| self.write(lines));
        let unlocked = self.file.unlock();
        written
            .and(unlocked)
            .map_err(|error| format!("{} could not be written ({error})", self.path.display()))
    }

    fn write(&mut self, lines: &str) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(at) = end.checked_sub(1) {
            self.file.read_exact_at(&mut last, at)?;
        }
        // Whoever wrote last has died over it; the line is damaged and stays alone.
        let repaired = match last {
            [b'\n'] => lines.to_string(),
            _ => format!("\n{lines}"),
        };
        self.file.write_all(repaired.as_bytes())?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_does_not_spoil_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registro_cliente.txt");
        std::fs::write(&path, "stored 00").unwrap();
        let mut first = Notebook::open(&path).unwrap();
        let mut second = Notebook::open(&path).unwrap();
        first.append("a\n").unwrap();
        second.append("b\nc\n").unwrap();
        first.append("d\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "stored 00\na\nb\nc\nd\n");
    }
}
