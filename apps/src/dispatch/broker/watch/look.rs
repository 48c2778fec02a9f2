//! Which files are in the folder, and which of them have stopped changing.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use walkdir::{DirEntry, WalkDir};

use super::super::super::input::InputFile;

/// A file counts as written when it has not changed for so long.
const STILL: Duration = Duration::from_secs(1);

/// Endings of files that somebody is still writing.
const UNFINISHED: [&str; 3] = [".part", ".tmp", "~"];

/// What was seen of files at earlier looks.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    files: HashMap<String, Sighting>,
    /// Names that no result can be named after, of which was told.
    unnamable: HashSet<PathBuf>,
}

#[derive(Debug)]
struct Sighting {
    bytes: u64,
    modified: SystemTime,
    since: Instant,
}

impl Sightings {
    /// The files that have stopped changing, by name.
    pub(crate) fn look(&mut self, folder: &Path) -> Vec<InputFile> {
        let (files, unnamable) = list(folder);
        for path in unnamable {
            if self.unnamable.insert(path.clone()) {
                log::warn!(
                    "{} is left alone: its name is not UTF-8; rename it",
                    path.display()
                );
            }
        }
        self.note(files, Instant::now())
    }

    fn note(&mut self, files: Vec<InputFile>, now: Instant) -> Vec<InputFile> {
        let mut before = std::mem::take(&mut self.files);
        let mut still = Vec::new();
        for file in files {
            let known = before.remove(&file.name);
            let same =
                known.filter(|known| known.bytes == file.bytes && known.modified == file.modified);
            let since = same.map_or(now, |known| known.since);
            self.files.insert(
                file.name.clone(),
                Sighting {
                    bytes: file.bytes,
                    modified: file.modified,
                    since,
                },
            );
            if now.duration_since(since) >= STILL {
                still.push(file);
            }
        }
        still
    }
}

/// All files that are meant to be worked on, by name, and those whose names are not UTF-8. What cannot
/// be looked at now may be later.
fn list(folder: &Path) -> (Vec<InputFile>, Vec<PathBuf>) {
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    let entries = entries.into_iter().filter_entry(is_meant);
    let (mut files, mut unnamable) = (Vec::new(), Vec::new());
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        match path.strip_prefix(folder).ok().and_then(Path::to_str) {
            Some(name) => files.extend(file(path, name)),
            None => unnamable.push(path.to_owned()),
        }
    }
    (files, unnamable)
}

/// A regular file as it is now.
pub(crate) fn file(path: &Path, name: &str) -> Option<InputFile> {
    let metadata = path.metadata().ok().filter(|found| found.is_file())?;
    Some(InputFile {
        path: path.to_owned(),
        name: name.to_owned(),
        bytes: metadata.len(),
        modified: metadata.modified().ok()?,
    })
}

/// Hidden files, and those whose names say that they are not finished, are nobody's business yet.
fn is_meant(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let unfinished = UNFINISHED.iter().any(|ending| name.ends_with(ending));
    entry.depth() == 0 || !name.starts_with('.') && !unfinished
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_when_it_has_stopped_changing() {
        let begun = Instant::now();
        let file = |bytes| InputFile {
            path: "a".into(),
            name: "a".into(),
            bytes,
            modified: SystemTime::UNIX_EPOCH,
        };
        let mut sightings = Sightings::default();
        let mut look = |bytes, ms| {
            let at = begun + Duration::from_millis(ms);
            sightings.note(vec![file(bytes)], at).len()
        };
        assert_eq!(look(1, 0), 0);
        assert_eq!(look(2, 900), 0, "it grew");
        assert_eq!(look(2, 1800), 0, "not for long");
        assert_eq!(look(2, 1900), 1);
        assert_eq!(look(2, 2000), 1);
        assert_eq!(look(3, 2500), 0, "it changed again");
    }

    #[test]
    fn what_is_hidden_or_unfinished_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("sub/.git")).unwrap();
        for name in ["b", "sub/a", ".x", "c.part", "d.tmp", "e~", "sub/.git/f"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let (files, unnamable) = list(folder.path());
        assert_eq!(unnamable.len(), 0);
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["b", "sub/a"]);
    }
}
