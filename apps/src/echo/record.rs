//! A text file to which whole lines are appended, by several processes at once if need be.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::shown::shown;

/// A file of lines, each of which was written at once.
pub(crate) struct Record {
    file: File,
    path: PathBuf,
    line: Vec<u8>,
}

impl Record {
    /// Opens the file, or makes it; what it ends with is ended as a line.
    pub(crate) fn open(path: &Path) -> Result<Record, Exit> {
        let opened = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path);
        let ended = opened.and_then(|mut file| end_last_line(&mut file).map(|()| file));
        let file = ended.map_err(|error| cannot(path, &error))?;
        Ok(Record {
            file,
            path: path.to_path_buf(),
            line: Vec::new(),
        })
    }

    /// Appends a line of the time, who it is about, and a text, in which control characters are shown.
    ///
    /// # Errors
    ///
    /// The disk is full or fails; part of the line may be there then.
    pub(crate) fn add(&mut self, whom: &str, text: &str) -> Result<(), Exit> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        self.line.clear();
        // What stands for something else is told from what is meant as it stands.
        let text = text.replace('\\', r"\\").replace('\t', r"\t");
        let _ = writeln!(self.line, "{now} {whom} {}", shown(&text));
        // One call, at the end of the file wherever that is: no other writer comes between.
        loop {
            match self.file.write(&self.line) {
                Ok(written) if written == self.line.len() => return Ok(()),
                Ok(_) => return Err(cannot(&self.path, &"the disk is full")),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(cannot(&self.path, &error)),
            }
        }
    }
}

/// A disk that was full may have left part of a line.
fn end_last_line(file: &mut File) -> std::io::Result<()> {
    let mut last = [b'\n'];
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    match last {
        [b'\n'] => Ok(()),
        _ => file.write_all(b"\n"),
    }
}

fn cannot(path: &Path, reason: &dyn std::fmt::Display) -> Exit {
    Exit::Environment(format!(
        "{} cannot be written: {reason}; make room there or choose another file with --log",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_control_characters_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        let mut record = Record::open(&path).unwrap();
        record.add("10.0.0.1", "one\ntwo\x1b[2J").unwrap();
        record.add("10.0.0.1", "one\\ntwo\t").unwrap();
        drop(record);
        // As a full disk leaves it.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"2026 half a li").unwrap();
        Record::open(&path).unwrap().add("::1", "ñandú").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[0].ends_with("Z 10.0.0.1 one\\ntwo\\u{1b}[2J"),
            "{text}"
        );
        assert!(lines[1].ends_with(r"Z 10.0.0.1 one\\ntwo\t"), "{text}");
        assert!(lines[3].ends_with("Z ::1 ñandú"), "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let exit = Record::open(Path::new("/nowhere/log.txt")).err().unwrap();
        assert!(exit.to_string().contains("/nowhere/log.txt"), "{exit}");
    }
}
