//! Which files were worked on: an append-only list in the results folder.
//!
//! A line is a JSON array of a word, the job and the file's name. `begun` is written before a file
//! is handed in, `done` when its result is in place; what is cut short at the end never counted.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mutirao::pipeline::JobId;
use rustix::fs::{FlockOperation, flock};

use super::super::super::output::JOURNAL_FOLDER;
use crate::exit::Exit;

const LEDGER_FILE: &str = "watch";

/// The list, locked against other processes.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    entries: BTreeMap<JobId, Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    done: bool,
}

impl Ledger {
    /// Opens the list in a results folder, or starts one.
    pub(crate) fn open(out: &Path) -> Result<Ledger, Exit> {
        let folder = out.join(JOURNAL_FOLDER);
        let path = folder.join(LEDGER_FILE);
        let failed = |error| unwritable(&path, &error);
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).read(true).open(&path);
        let file = file.map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Exit::Environment(format!(
                "another `submit --watch` writes to {}: stop it, or choose another --out",
                out.display()
            )));
        }
        let text = fs::read(&path).map_err(failed)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        file.set_len(whole as u64).map_err(failed)?;
        let mut ledger = Ledger {
            path,
            file,
            entries: BTreeMap::new(),
        };
        for line in text[..whole].split(|&byte| byte == b'\n') {
            ledger.replay(line);
        }
        Ok(ledger)
    }

    fn replay(&mut self, line: &[u8]) {
        let Ok((word, job, name)) = serde_json::from_slice::<(String, String, String)>(line) else {
            return;
        };
        if let Ok(job) = u64::from_str_radix(&job, 16) {
            let done = word == "done";
            self.entries.insert(JobId(job), Entry { name, done });
        }
    }

    /// Notes that a file is handed in.
    pub(crate) fn begin(&mut self, job: JobId, name: &str) -> Result<(), Exit> {
        if self.entries.contains_key(&job) {
            return Ok(());
        }
        self.append("begun", job, name, false)
    }

    /// Notes that a file is done, for good and durably.
    pub(crate) fn finish(&mut self, job: JobId, name: &str) -> Result<(), Exit> {
        self.append("done", job, name, true)?;
        self.file
            .sync_data()
            .map_err(|error| unwritable(&self.path, &error))
    }

    fn append(&mut self, word: &str, job: JobId, name: &str, done: bool) -> Result<(), Exit> {
        let mut line = serde_json::json!([word, job.to_string(), name]).to_string();
        line.push('\n');
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|error| unwritable(&self.path, &error))?;
        let name = name.to_owned();
        self.entries.insert(job, Entry { name, done });
        Ok(())
    }

    /// Whether a file is done.
    pub(crate) fn is_done(&self, job: JobId) -> bool {
        self.entries.get(&job).is_some_and(|entry| entry.done)
    }

    /// Jobs that are begun and not done, with their files.
    pub(crate) fn begun(&self) -> Vec<(JobId, String)> {
        let begun = self.entries.iter().filter(|(_, entry)| !entry.done);
        begun
            .map(|(&job, entry)| (job, entry.name.clone()))
            .collect()
    }

    /// Jobs that are done.
    pub(crate) fn done(&self) -> Vec<JobId> {
        let done = self.entries.iter().filter(|(_, entry)| entry.done);
        done.map(|(&job, _)| job).collect()
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Exit {
    Exit::Environment(format!(
        "{} cannot be written ({error}): choose another --out",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_after_a_death_in_the_middle_of_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.begin(JobId(1), "a\n\"b\"").unwrap();
        ledger.begin(JobId(2), "c").unwrap();
        ledger.finish(JobId(2), "c").unwrap();
        assert!(Ledger::open(folder.path()).is_err(), "it is locked");
        ledger.file.write_all(b"[\"done\",\"0000").unwrap();
        drop(ledger);
        let mut ledger = Ledger::open(folder.path()).unwrap();
        assert_eq!(ledger.begun(), [(JobId(1), "a\n\"b\"".to_owned())]);
        assert_eq!(ledger.done(), [JobId(2)]);
        ledger.finish(JobId(1), "a").unwrap();
        drop(ledger);
        assert!(Ledger::open(folder.path()).unwrap().is_done(JobId(1)));
    }
}
