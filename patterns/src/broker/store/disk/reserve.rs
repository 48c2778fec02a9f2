//! Space that is set aside, so that on a full disk tasks can still be done and results fetched.
//!
//! Removing a record writes a little before it frees anything. Without a reserve a store that fills
//! its disk could never empty itself.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const FILE: &str = "reserve";
const SIZE: usize = 4 << 20;

/// A file of zeros beside the database.
pub(super) struct Reserve(PathBuf);

impl Reserve {
    pub(super) fn of(folder: &Path) -> Reserve {
        Reserve(folder.join(FILE))
    }

    /// Sets it aside, if that is not done; fails on a full disk.
    pub(super) fn make(&self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let made = File::create(&self.0).and_then(|mut file| file.write_all(&vec![0; SIZE]));
        made.inspect_err(|_| self.remove())
    }

    /// Frees it; false if there is none.
    pub(super) fn give_up(&self) -> bool {
        let was_there = self.is_there();
        self.remove();
        was_there
    }

    fn is_there(&self) -> bool {
        fs::metadata(&self.0).is_ok_and(|file| file.len() == SIZE as u64)
    }

    fn remove(&self) {
        // What cannot be removed is made anew or in the way; either shows itself.
        let _ = fs::remove_file(&self.0);
    }
}
