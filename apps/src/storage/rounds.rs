//! `hearbeat_server.txt`: every round of heartbeats, with its time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mutirao::storage::{BeatLine, Checksum, TextLine as _};

/// The file is begun anew beyond this, and the last one is kept beside it.
const MAX_BYTES: u64 = 16 << 20;

/// The log of heartbeats.
#[derive(Debug)]
pub(super) struct RoundLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Whether the last line could not be written, which is said once.
    failed: bool,
}

impl RoundLog {
    pub(super) fn open(path: &Path) -> io::Result<RoundLog> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(RoundLog {
            path: path.to_path_buf(),
            bytes: file.metadata()?.len(),
            file,
            failed: false,
        })
    }

    /// Appends a round. It is for people: when it cannot be written the cluster works on.
    pub(super) fn add(&mut self, round: &BeatLine) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let mut words = format!("{now} ");
        round.write_words(&mut words);
        let line = format!("{words} #{}\n", Checksum::of(words.as_bytes()));
        match self.write(&line) {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    log::error!(
                        "{} cannot be written: {error}; the cluster works on",
                        self.path.display()
                    );
                }
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes + line.len() as u64 > MAX_BYTES {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            match fs::rename(&self.path, old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => *self = RoundLog::open(&self.path)?,
            }
        } else if !self.path.exists() {
            *self = RoundLog::open(&self.path)?;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_begun_anew_and_the_old_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hearbeat_server.txt");
        let mut log = RoundLog::open(&path).unwrap();
        let round = BeatLine {
            round: 7,
            epoch: 3,
            nodes: Vec::new(),
        };
        log.add(&round);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("Z round 7 3 #"), "{text}");
        log.bytes = MAX_BYTES;
        log.add(&round);
        let old = fs::read_to_string(folder.path().join("hearbeat_server.txt.1")).unwrap();
        assert_eq!(old, text);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
