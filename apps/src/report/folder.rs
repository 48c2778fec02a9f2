//! The report's folder.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::unwritable;
use crate::exit::Exit;

/// A folder that was seen to be writable.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if it is missing, and tries to write there: before anything is measured.
    pub(crate) fn prepare(path: &Path) -> Result<Folder, Exit> {
        fs::create_dir_all(path).map_err(|error| unwritable(path, &error))?;
        let folder = Folder(path.to_path_buf());
        let trial = folder.temporary("trial");
        let tried = write(&trial, b"").and_then(|()| fs::remove_file(&trial));
        tried.map_err(|error| unwritable(path, &error))?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts files in place of those that are there; `None` removes one. Each is whole at any moment, since it is
    /// written under another name first.
    pub(crate) fn replace(&self, files: &[(&str, Option<Vec<u8>>)]) -> Result<(), Exit> {
        for (name, bytes) in files {
            let Some(bytes) = bytes else { continue };
            let temporary = self.temporary(name);
            write(&temporary, bytes).map_err(|error| {
                let _ = fs::remove_file(&temporary);
                unwritable(&self.0.join(name), &error)
            })?;
        }
        for (name, bytes) in files {
            let path = self.0.join(name);
            let done = match bytes {
                Some(_) => fs::rename(self.temporary(name), &path),
                None => remove(&path),
            };
            done.map_err(|error| unwritable(&path, &error))?;
        }
        Ok(())
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.0.join(format!(".{name}.{}.tmp", std::process::id()))
    }
}

/// Removes a file that there may be.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
