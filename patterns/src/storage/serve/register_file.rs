//! `registro_server.txt` on a real disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::super::{LineError, Named, Register, RegisterLine, TextLine};
use super::StorageError;
use super::append::AppendFile;
use super::disk::Disk;

/// No line is longer: a record has its places, and they are few.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// What has become of the lines that were to be kept.
#[derive(Debug)]
pub(crate) enum RegisterReport {
    /// So many, counted from the start of the program, are on disk.
    Kept(u64),
    /// The disk has no room, or has again.
    Full(Option<String>),
}

/// The register's file; the lines that the disk did not take wait here.
#[derive(Debug)]
pub(crate) struct RegisterFile {
    file: AppendFile,
    waiting: VecDeque<RegisterLine>,
    kept: u64,
    full: bool,
}

impl RegisterFile {
    /// Opens the file or makes it. Where nobody else has a copy, damaged lines are passed over.
    pub(crate) fn open(
        path: &Path,
        is_alone: bool,
    ) -> Result<(RegisterFile, Register), StorageError> {
        let (file, register) = match read(path, Register::replay)? {
            (file, register, None) => (file, register),
            (_, _, Some(damage)) if !is_alone => {
                let reason = format!(
                    "{damage}: put the same file of another head in its place, or move it away if that head is to begin anew"
                );
                let path = path.to_path_buf();
                return Err(StorageError::File { path, reason });
            }
            (_, _, Some(damage)) => {
                log::warn!(
                    "{}: {damage}; it is kept beside as .damaged, and what is missing is asked of the data nodes",
                    path.display()
                );
                let salvage = |register: &mut Register, line| {
                    register.salvage(line);
                    Ok(())
                };
                let (_, register, _) = read(path, salvage)?;
                register.rewrite(path).map_err(StorageError::file(path))?;
                let (file, register, _) = read(path, Register::replay)?;
                (file, register)
            }
        };
        let opened = RegisterFile {
            file,
            waiting: VecDeque::new(),
            kept: 0,
            full: false,
        };
        Ok((opened, register))
    }
}

type Replay = fn(&mut Register, RegisterLine) -> Result<(), super::super::register::Gap>;

/// Reads the register, and says what is wrong with it.
fn read(
    path: &Path,
    replay: Replay,
) -> Result<(AppendFile, Register, Option<String>), StorageError> {
    let mut register = Register::default();
    let (mut damage, mut sound) = (None, false);
    let take = |named: Named<RegisterLine>| {
        let number = named.number;
        sound |= named.line.is_ok();
        let wrong = match named.line {
            Ok(line) => replay(&mut register, line).err().map(|gap| gap.to_string()),
            Err(LineError::Torn) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(wrong) = wrong {
            damage.get_or_insert(format!("line {number}: {wrong}"));
        }
    };
    let failed = StorageError::file(path);
    let file = AppendFile::open(path, MAX_LINE_BYTES, take).map_err(&failed)?;
    if !sound && !begins_as_ours(path).map_err(&failed)? {
        return Err(StorageError::File {
            path: path.to_path_buf(),
            reason: "no line of it is one of a register: move it away".into(),
        });
    }
    Ok((file, register, damage))
}

/// Whether the file is empty, or its first line was being written when the program died.
fn begins_as_ours(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(8).read_to_end(&mut start)?;
    Ok(b"promise ".starts_with(&start[..]))
}

impl Disk for RegisterFile {
    type Job = RegisterLine;
    type Report = RegisterReport;

    fn work(&mut self, line: RegisterLine, _: &mut Vec<RegisterReport>) {
        self.waiting.push_back(line);
    }

    fn sync(&mut self, reports: &mut Vec<RegisterReport>) -> io::Result<()> {
        let mut trouble = None;
        while let Some(line) = self.waiting.front() {
            if let Err(error) = self.file.append(&line.to_line()) {
                trouble = Some(error.to_string());
                break;
            }
            self.waiting.pop_front();
            self.kept += 1;
        }
        self.file.sync()?;
        reports.push(RegisterReport::Kept(self.kept));
        if self.full != trouble.is_some() {
            self.full = trouble.is_some();
            reports.push(RegisterReport::Full(trouble));
        }
        Ok(())
    }

    fn is_stuck(&self) -> bool {
        !self.waiting.is_empty()
    }
}
