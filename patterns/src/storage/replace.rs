//! Files that are replaced whole: after a crash there is the old one or the new one.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Register, TextLine};

/// Damaged files that are kept beside the sound one.
const MAX_KEPT: u32 = 1_000;

impl Register {
    /// Writes the register anew, as one must that was [salvaged](Register::salvage). The file that was there is
    /// kept beside it, with `.damaged` behind its name, or `.damaged2` and so on when that is taken.
    ///
    /// # Errors
    ///
    /// The system refuses; the file is the old one or the new one.
    pub fn rewrite(&self, path: &Path) -> io::Result<()> {
        let draft = beside(path, ".new");
        let mut file = BufWriter::new(File::create(&draft)?);
        for line in self.lines() {
            file.write_all(line.to_line().as_bytes())?;
        }
        file.into_inner()?.sync_all()?;
        keep_aside(path)?;
        fs::rename(&draft, path)?;
        sync_folder(path)
    }
}

/// Gives the file a second name.
fn keep_aside(path: &Path) -> io::Result<()> {
    for count in 1..=MAX_KEPT {
        let suffix = match count {
            1 => ".damaged".to_string(),
            count => format!(".damaged{count}"),
        };
        match fs::hard_link(path, beside(path, &suffix)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
    let reason = format!(
        "{} has been damaged too often: move its copies away",
        path.display()
    );
    Err(io::Error::other(reason))
}

/// Another file in the same folder.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A file is safe under its name when its folder is.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.canonicalize()?;
    let folder = folder.parent().map(File::open);
    folder.map_or(Ok(()), |folder| folder?.sync_all())
}

/// Locks a file of its own, as the one that it stands for may be replaced.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = File::create(beside(path, ".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let path = path.display();
            let reason = format!(
                "{path} is in use by another program: give each data node a folder of its own"
            );
            Err(io::Error::new(io::ErrorKind::WouldBlock, reason))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Fact, HeadId, Lines, RegisterLine};
    use super::*;

    #[test]
    fn a_salvaged_register_is_written_anew_and_the_damaged_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registro_server.txt");
        for time in 1..=3 {
            fs::write(&path, format!("damage {time}\n")).unwrap();
            let mut register = Register::default();
            for index in [1, 3, 4] {
                let fact = Fact::Lead { head: HeadId(1) };
                let entry = Entry { epoch: 1, fact };
                register.salvage(RegisterLine::Entry { index, entry });
            }
            register.rewrite(&path).unwrap();
            let mut whole = Register::default();
            for named in Lines::new(&fs::read(&path).unwrap()[..], 1_000) {
                whole.replay(named.unwrap().line.unwrap()).unwrap();
            }
            assert_eq!(whole.entries(), register.entries());
        }
        let read = |suffix| fs::read_to_string(beside(&path, suffix)).unwrap();
        let kept = [read(".damaged"), read(".damaged2"), read(".damaged3")];
        assert_eq!(kept, ["damage 1\n", "damage 2\n", "damage 3\n"]);
        assert!(!beside(&path, ".new").exists());
    }
}
