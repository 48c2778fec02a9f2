//! What the rooms have heard, in a file: one JSON object to a line, and the first one names the story.
//!
//! Lines are appended before anybody sees them, so that a hall that is killed forgets nothing that was
//! shown. The file is synced once a second, by a thread of its own: a machine that loses power may forget
//! the last second. A last line that was not written whole is cut off at the next start. The file only
//! grows; whoever wants a shorter one stops the server and moves it away.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mutirao::complaints::Complaints;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::hall::Record;
use crate::exit::Exit;

/// How often what was written is synced.
const SYNC: Duration = Duration::from_secs(1);

/// The longest line that is read; ours are shorter.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// The first line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Title {
    chat: u32,
    story: u64,
}

/// The version of the file.
const VERSION: u32 = 1;

/// The file, open for what comes.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    file: File,
    /// Whether something was written since the last sync.
    dirty: Arc<AtomicBool>,
    /// What is to be written.
    pending: Vec<Record>,
    trouble: Complaints,
}

/// Lines that could not be written, and why.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    pub(crate) records: Vec<Record>,
    pub(crate) reason: String,
}

impl History {
    /// Opens the file, or makes it, and hands over what is in it. Returns the story as well.
    ///
    /// # Errors
    ///
    /// The file cannot be used, or is none of ours.
    pub(crate) fn open(path: &Path, take: impl FnMut(Record)) -> Result<(History, u64), Exit> {
        let unusable = |error: &dyn std::fmt::Display| {
            Exit::Environment(format!(
                "{} cannot be used for the history ({error}): choose another --history",
                path.display()
            ))
        };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(path).map_err(|error| unusable(&error))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| unusable(&"another server has it"))?;
        let story = load(&mut file, take).map_err(|error| unusable(&error))?;
        let dirty = Arc::new(AtomicBool::new(true));
        let syncing = file.try_clone().map_err(|error| unusable(&error))?;
        keep_synced(syncing, dirty.clone());
        let history = History {
            path: path.to_path_buf(),
            file,
            dirty,
            pending: Vec::new(),
            trouble: Complaints::default(),
        };
        Ok((history, story))
    }

    /// Takes a line; it is in the file after [`write`](History::write).
    pub(crate) fn keep(&mut self, record: Record) {
        self.pending.push(record);
    }

    /// Writes what was taken.
    ///
    /// # Errors
    ///
    /// Some of it is not in the file; the next lines may well find room.
    pub(crate) fn write(&mut self) -> Result<(), Unwritten> {
        let records = std::mem::take(&mut self.pending);
        if records.is_empty() || self.append(&records).is_ok() {
            return Ok(());
        }
        // Not all of them together, but perhaps some.
        let mut unwritten = Unwritten::default();
        for record in records {
            if let Err(error) = self.append(std::slice::from_ref(&record)) {
                unwritten.reason = format!("the server cannot write its history ({error})");
                unwritten.records.push(record);
            }
        }
        if unwritten.records.is_empty() {
            return Ok(());
        }
        let place = self.path.display();
        let told = format_args!("{}; messages are refused until it can", unwritten.reason);
        self.trouble.add(&place, &told);
        Err(unwritten)
    }

    fn append(&mut self, records: &[Record]) -> std::io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(&lines);
        if written.is_err() {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(before);
        }
        self.dirty.store(true, Ordering::Release);
        written
    }
}

impl Drop for History {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.write();
        let _ = self.file.sync_data();
        // The thread that syncs has the file open for a while yet.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn keep_synced(file: File, dirty: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut trouble = Complaints::default();
        // Ours is the last one when the history is closed.
        while Arc::strong_count(&dirty) > 1 {
            if dirty.swap(false, Ordering::AcqRel)
                && let Err(error) = file.sync_data()
            {
                trouble.add(&"the history cannot be synced", &error);
            }
            std::thread::sleep(SYNC);
        }
    });
}

/// Reads the file, cuts off a torn last line, and leaves the file at its end. Returns the story, which
/// is made up for a new file.
fn load(file: &mut File, mut take: impl FnMut(Record)) -> Result<u64, Box<dyn std::error::Error>> {
    let mut reader = BufReader::new(&*file);
    let (mut line, mut whole, mut story, mut strange) = (Vec::new(), 0, None, 0_u64);
    loop {
        line.clear();
        let read = (&mut reader)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            if read as u64 == MAX_LINE_BYTES {
                return Err("a line is longer than any of ours".into());
            }
            break;
        }
        whole += read as u64;
        if story.is_none() {
            let title: Title = serde_json::from_slice(&line).map_err(|_| "it is no history")?;
            if title.chat != VERSION {
                return Err("it is of another version".into());
            }
            story = Some(title.story);
        } else if let Ok(record) = serde_json::from_slice(&line) {
            take(record);
        } else {
            strange += 1;
        }
    }
    drop(reader);
    if strange > 0 {
        log::warn!("{strange} lines of the history cannot be read and are passed over");
    }
    if file.metadata()?.len() > whole {
        if story.is_none() && whole == 0 && !line.starts_with(b"{\"chat\"") && !line.is_empty() {
            return Err("it is no history".into());
        }
        log::warn!("the last line of the history was not written whole and is cut off");
        file.set_len(whole)?;
    }
    file.seek(SeekFrom::End(0))?;
    match story {
        Some(story) => Ok(story),
        None => begin(file),
    }
}

fn begin(file: &mut File) -> Result<u64, Box<dyn std::error::Error>> {
    let story = rand::random();
    let title = Title {
        chat: VERSION,
        story,
    };
    let mut line = serde_json::to_vec(&title)?;
    line.push(b'\n');
    file.write_all(&line)?;
    Ok(story)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::wire::{Event, Line};

    fn record(number: u64) -> Record {
        Record {
            room: "sala".into(),
            number,
            line: Line {
                at: 1_000 + number,
                event: Event::Said {
                    who: "ana".into(),
                    text: "olá\n\u{1b}".into(),
                },
            },
            by: Some((u64::MAX, number)),
        }
    }

    fn read(path: &Path) -> (Vec<Record>, u64) {
        let mut records = Vec::new();
        let (_, story) = History::open(path, |record| records.push(record)).unwrap();
        (records, story)
    }

    #[test]
    fn what_was_written_is_there_again_and_a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let (mut history, story) = History::open(&path, |_| panic!("it is new")).unwrap();
        (1..=3).for_each(|number| history.keep(record(number)));
        drop(history);
        let expected: Vec<_> = (1..=3).map(record).collect();
        assert_eq!(read(&path), (expected.clone(), story));

        let whole = std::fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n');
        for cut in last.unwrap() + 2..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(&path), (expected[..2].to_vec(), story), "{cut}");
            assert_eq!(std::fs::read(&path).unwrap(), whole[..last.unwrap() + 1]);
        }
    }

    #[test]
    fn what_finds_no_room_is_handed_back_and_what_comes_later_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let (mut history, story) = History::open(&path, |_| ()).unwrap();
        let mut options = OpenOptions::new();
        let full = options.write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut history.file, full);
        (1..=2).for_each(|number| history.keep(record(number)));
        let unwritten = history.write().unwrap_err();
        assert_eq!(unwritten.records, [record(1), record(2)]);
        assert!(unwritten.reason.contains("No space left"), "{unwritten:?}");
        history.file = file;
        history.keep(record(3));
        assert!(history.write().is_ok());
        drop(history);
        assert_eq!(read(&path), (vec![record(3)], story));
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letter");
        for text in ["Dear Ana,\n", "Dear Ana", "{\"chat\":9,\"story\":1}\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(History::open(&path, |_| ()).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn two_servers_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let first = History::open(&path, |_| ()).unwrap();
        assert!(History::open(&path, |_| ()).is_err());
        drop(first);
    }
}
