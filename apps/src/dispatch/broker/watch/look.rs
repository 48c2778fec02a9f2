//! Which files are in the folder, and which of them have stopped changing.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutirao::pipeline::JobId;
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
    /// Those that have stopped changing and that something is to be done about, in the order of names.
    open: Vec<String>,
    looked: Option<Instant>,
    /// Names that no result can be named after, of which was told.
    unnamable: HashSet<PathBuf>,
}

/// A file in the state in which it was seen.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub(crate) file: InputFile,
    since: Instant,
    /// What is made of this state, once somebody has asked: it takes a while to tell.
    pub(crate) job: Option<JobId>,
    /// There is nothing more to do about this state.
    settled: bool,
}

/// What follows for a file that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing more is to be done about it as it is.
    Settled,
    /// It is shown again after the next look into the folder.
    NextLook,
    /// It is shown again.
    Again,
    /// The same, and no others are shown now.
    Stop,
}

impl Sightings {
    /// Looks into the folder, unless that was done less than `interval` ago.
    pub(crate) fn look(&mut self, folder: &Path, interval: Duration) {
        let now = Instant::now();
        if self
            .looked
            .is_some_and(|looked| now.duration_since(looked) < interval)
        {
            return;
        }
        let (files, unnamable) = list(folder);
        for path in unnamable {
            if self.unnamable.insert(path.clone()) {
                log::warn!(
                    "{} is left alone: its name is not UTF-8; rename it",
                    path.display()
                );
            }
        }
        self.note(files, now);
        self.looked = Some(Instant::now());
    }

    fn note(&mut self, files: Vec<InputFile>, now: Instant) {
        let mut before = std::mem::take(&mut self.files);
        self.open.clear();
        for file in files {
            let known = before.remove(&file.name);
            let known = known.filter(|known| known.is_still(&file));
            let sighting = known.unwrap_or(Sighting {
                file,
                since: now,
                job: None,
                settled: false,
            });
            let name = sighting.file.name.clone();
            if !sighting.settled && now.duration_since(sighting.since) >= STILL {
                self.open.push(name.clone());
            }
            self.files.insert(name, sighting);
        }
    }

    /// Shows the files that something is to be done about, one after the other.
    pub(crate) fn show(&mut self, mut look: impl FnMut(&mut Sighting) -> Then) {
        let Sightings { files, open, .. } = self;
        let mut stopped = false;
        open.retain(|name| {
            let Some(sighting) = files.get_mut(name).filter(|_| !stopped) else {
                return true;
            };
            let then = look(sighting);
            sighting.settled = then == Then::Settled;
            stopped = then == Then::Stop;
            matches!(then, Then::Again | Then::Stop)
        });
    }
}

impl Sighting {
    /// Whether it is in this state.
    pub(crate) fn is_still(&self, now: &InputFile) -> bool {
        (self.file.bytes, self.file.modified) == (now.bytes, now.modified)
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
    use std::time::SystemTime;

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
            sightings.note(vec![file(bytes)], at);
            sightings.open.len()
        };
        assert_eq!(look(1, 0), 0);
        assert_eq!(look(2, 900), 0, "it grew");
        assert_eq!(look(2, 1800), 0, "not for long");
        assert_eq!(look(2, 1900), 1);
        assert_eq!(look(2, 2000), 1);
        assert_eq!(look(3, 2500), 0, "it changed again");
    }

    #[test]
    fn what_is_settled_is_shown_again_only_when_it_changes() {
        let begun = Instant::now();
        let file = |name: &str, bytes| InputFile {
            path: name.into(),
            name: name.into(),
            bytes,
            modified: SystemTime::UNIX_EPOCH,
        };
        let mut sightings = Sightings::default();
        let note = |sightings: &mut Sightings, bytes, s| {
            let files = vec![file("a", bytes), file("b", 1), file("c", 1), file("d", 1)];
            sightings.note(files, begun + Duration::from_secs(s));
        };
        let shown = |sightings: &mut Sightings, then: fn(&str) -> Then| {
            let mut names = String::new();
            sightings.show(|sighting| {
                sighting.job.get_or_insert(JobId(7));
                names.push_str(&sighting.file.name);
                then(&sighting.file.name)
            });
            names
        };
        note(&mut sightings, 1, 0);
        note(&mut sightings, 1, 1);
        let then = |name: &str| match name {
            "a" => Then::Settled,
            "b" => Then::NextLook,
            "c" => Then::Again,
            _ => Then::Stop,
        };
        assert_eq!(shown(&mut sightings, then), "abcd");
        assert_eq!(
            shown(&mut sightings, |_| Then::Stop),
            "c",
            "d follows later"
        );
        assert_eq!(shown(&mut sightings, |_| Then::Again), "cd");
        note(&mut sightings, 1, 2);
        assert_eq!(shown(&mut sightings, |_| Then::Again), "bcd");
        note(&mut sightings, 2, 3);
        assert_eq!(sightings.files["a"].job, None, "another state, another job");
        note(&mut sightings, 2, 4);
        assert_eq!(shown(&mut sightings, |_| Then::Again), "abcd");
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
