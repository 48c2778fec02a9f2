//! A process that dies anywhere, a disk that fills up anywhere: the results are right all the same.
//!
//! Invariants: what a commit confirmed is never asked for again; when the job is done, every result
//! is there exactly as it should be, nothing else is, and the journal is gone.

#![allow(clippy::single_range_in_vec_init)] // A range of ids is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::disk::fault;
use super::*;
use crate::ops::Merge;

const JOB: u64 = 0xab;

/// A job and what has to come of it.
struct Job {
    /// By id.
    outcomes: Vec<Outcome>,
    /// Text by path under the results folder.
    expected: BTreeMap<String, String>,
    failures: BTreeSet<String>,
}

impl Job {
    fn random(rng: &mut StdRng) -> Job {
        let mut job = Job {
            outcomes: Vec::new(),
            expected: BTreeMap::new(),
            failures: BTreeSet::new(),
        };
        for input in 0..rng.random_range(1..6) {
            let folder = ["", "a/", "a/b/", "../"][rng.random_range(0..4)];
            job.add_input(format!("{folder}{input}"), input, rng);
        }
        if rng.random_bool(0.5) {
            job.add_lines(rng.random_range(1..30), rng);
        }
        job
    }

    fn add_input(&mut self, name: String, input: u32, rng: &mut StdRng) {
        let merge = [Merge::Concatenate, Merge::SumLines, Merge::SumCounts][rng.random_range(0..3)];
        let pieces = [1, 2, rng.random_range(3..80)][rng.random_range(0..3)];
        let failing = rng.random_bool(0.2).then(|| rng.random_range(0..pieces));
        let mut text = String::new();
        for piece in 0..pieces {
            let place = Place {
                name: name.clone(),
                input,
                piece,
                last: piece + 1 == pieces,
            };
            let data = match merge {
                Merge::SumLines => format!("{piece}\n"),
                Merge::SumCounts => format!("all\t1\nword{}\t1\n", piece % 3),
                _ => format!("{name} {piece}\n"),
            };
            text += &data;
            self.outcomes.push(if failing == Some(piece) {
                Err((place, "no".to_owned()))
            } else {
                Ok(Piece {
                    place,
                    merge,
                    data: data.into_bytes(),
                })
            });
        }
        if failing.is_some() || name.starts_with("..") {
            self.failures.insert(name);
        } else {
            self.expected
                .insert(format!("{name}.out"), merged(merge, &text));
        }
    }

    fn add_lines(&mut self, lines: u64, rng: &mut StdRng) {
        let mut text = String::new();
        for piece in 0..lines {
            let place = Place {
                name: String::new(),
                input: 0,
                piece,
                last: false,
            };
            if rng.random_bool(0.1) {
                self.failures.insert(String::new());
                self.outcomes.push(Err((place, "no".to_owned())));
            } else {
                let data = format!("line {piece}");
                text += &data;
                text += "\n";
                let data = data.into_bytes();
                self.outcomes.push(Ok(Piece {
                    place,
                    merge: Merge::Concatenate,
                    data,
                }));
            }
        }
        self.expected.insert("stdin.out".to_owned(), text);
    }
}

/// The pieces' results as one, the obvious way.
fn merged(merge: Merge, text: &str) -> String {
    match merge {
        Merge::SumLines => {
            format!(
                "{}\n",
                text.lines()
                    .map(|line| line.parse::<u64>().unwrap())
                    .sum::<u64>()
            )
        }
        Merge::SumCounts => {
            let mut counts = BTreeMap::new();
            for word in text.lines().map(|line| line.split('\t').next().unwrap()) {
                *counts.entry(word).or_insert(0) += 1;
            }
            counts
                .iter()
                .map(|(word, count)| format!("{word}\t{count}\n"))
                .collect()
        }
        _ => text.to_owned(),
    }
}

/// What whoever sends the tasks knows, over all lives of the writer.
#[derive(Default)]
struct Sender {
    confirmed: BTreeSet<u64>,
    failed: BTreeSet<String>,
    finishing: bool,
    finished: bool,
}

impl Sender {
    fn note(&mut self, committed: &Committed) {
        self.confirmed
            .extend(committed.ids.iter().cloned().flatten());
        self.failed
            .extend(committed.failures.iter().map(|f| f.place.name.clone()));
    }

    /// One life of the writer: until the job is done or an error ends it.
    fn live(&mut self, job: &Job, out: &Path, rng: &mut StdRng) -> Result<(), OutputError> {
        let (mut writer, done) = Writer::open(out, JOB)?;
        writer.held.limit_bytes = 2000;
        self.check_done(&done, job, out);
        let done: BTreeSet<u64> = done.ids.into_iter().flatten().collect();
        let mut todo: Vec<u64> = (0..job.outcomes.len() as u64)
            .filter(|id| !done.contains(id))
            .collect();
        let window = rng.random_range(1..todo.len().max(1) + 1);
        todo.chunks_mut(window).for_each(|chunk| chunk.shuffle(rng));
        self.send(todo, &mut writer, job, rng)?;
        self.finishing = true;
        let counts = Box::new(writer).finish()?;
        self.finished = true;
        let bytes: usize = job.expected.values().map(String::len).sum();
        assert_eq!(counts.bytes_out, bytes as u64);
        Ok(())
    }

    fn send(
        &mut self,
        mut todo: Vec<u64>,
        writer: &mut Writer,
        job: &Job,
        rng: &mut StdRng,
    ) -> Result<(), OutputError> {
        while !todo.is_empty() {
            let mut deferred = Vec::new();
            for id in todo {
                match writer.accept(id, job.outcomes[id as usize].clone())? {
                    Accepted::Taken => {}
                    Accepted::Deferred => deferred.push(id),
                }
                if rng.random_bool(0.1) {
                    self.note(&writer.commit()?);
                }
            }
            self.note(&writer.commit()?);
            todo = deferred;
        }
        assert_eq!(
            self.confirmed.len(),
            job.outcomes.len(),
            "every task is confirmed"
        );
        assert_eq!(writer.held.bytes, 0);
        Ok(())
    }

    /// Confirmed is for ever, unless the job is over and its journal gone.
    fn check_done(&mut self, done: &Done, job: &Job, out: &Path) {
        let ids: BTreeSet<u64> = done.ids.iter().cloned().flatten().collect();
        if self.finishing && ids.is_empty() {
            check_results(job, out);
            *self = Sender::default();
        }
        assert!(
            self.confirmed.is_subset(&ids),
            "confirmed tasks are asked for again"
        );
        self.note(done);
    }
}

fn check_results(job: &Job, out: &Path) {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(out) {
        let entry = entry.unwrap();
        let name = entry
            .path()
            .strip_prefix(out)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if entry.file_type().is_file() && !name.starts_with(JOURNAL_FOLDER) {
            found.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
    assert_eq!(found, job.expected);
}

/// Lives until the job is done; `fault` says what happens in each life.
fn survive(job: &Job, rng: &mut StdRng, mut fault: impl FnMut(u32, &mut StdRng)) -> u32 {
    fault::without_syncs();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut sender = Sender::default();
    let mut lives = 0;
    while !sender.finished {
        fault(lives, rng);
        let result = sender.live(job, &out, rng);
        fault::none();
        lives += 1;
        assert!(
            result.is_ok() == sender.finished && lives < 1000,
            "{result:?}"
        );
        if let Err(error) = result {
            let kind = matches!(
                error,
                OutputError::NotWritable { .. } | OutputError::Full { .. }
            );
            assert!(kind, "{error}");
        }
    }
    check_results(job, &out);
    // Whoever dies right before the very last step leaves an empty folder.
    assert!(fs::read_dir(out.join(JOURNAL_FOLDER)).map_or(true, |mut left| left.next().is_none()));
    assert_eq!(sender.failed, job.failures);
    lives
}

/// Prints the seed of a scenario that fails.
fn seeds(count: u64, scenario: impl Fn(&mut StdRng)) {
    for seed in 0..count {
        let run = std::panic::AssertUnwindSafe(|| scenario(&mut StdRng::seed_from_u64(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn any_order_gives_the_same_results() {
    seeds(200, |rng| {
        let job = Job::random(rng);
        assert_eq!(survive(&job, rng, |_, _| {}), 1);
    });
}

#[test]
fn a_process_that_dies_again_and_again_gets_there() {
    seeds(300, |rng| {
        let job = Job::random(rng);
        survive(&job, rng, |life, rng| {
            // Ever longer lives, or nothing could ever be finished.
            let steps = rng.random_range(0..20 + 10 * u64::from(life));
            fault::die_after(steps, rng.random_range(0..=100));
        });
    });
}

#[test]
fn a_process_may_die_at_every_single_step() {
    for seed in 0..4 {
        let job = Job::random(&mut StdRng::seed_from_u64(seed));
        let order = || StdRng::seed_from_u64(1000 + seed);
        fault::steps();
        survive(&job, &mut order(), |_, _| {});
        let steps = fault::steps();
        for step in 0..steps {
            for torn_percent in [0, 60, 100] {
                let lives = survive(&job, &mut order(), |life, _| {
                    if life == 0 {
                        fault::die_after(step, torn_percent);
                    }
                });
                assert!(lives <= 2, "seed {seed}, step {step}");
            }
        }
    }
}

#[test]
fn a_disk_may_be_full_at_every_single_step() {
    for seed in 0..4 {
        let job = Job::random(&mut StdRng::seed_from_u64(seed));
        let order = || StdRng::seed_from_u64(1000 + seed);
        fault::steps();
        survive(&job, &mut order(), |_, _| {});
        for step in 0..fault::steps() {
            survive(&job, &mut order(), |life, _| {
                if life == 0 {
                    fault::full_after(step);
                }
            });
        }
    }
}

/// A small file system of its own; gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn piece(piece: u64, last: bool, data: &[u8]) -> Outcome {
    let place = Place {
        name: "big".to_owned(),
        input: 0,
        piece,
        last,
    };
    Ok(Piece {
        place,
        merge: Merge::Concatenate,
        data: data.to_vec(),
    })
}

#[test]
fn a_disk_that_is_really_full_says_so_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: this user may not mount a small file system");
        return;
    };
    let out = disk.0.path();
    let ballast = out.join("ballast");
    fs::write(&ballast, vec![0; 100 << 10]).unwrap();
    let (mut writer, _) = Writer::open(out, JOB).unwrap();
    let chunk = vec![b'x'; 40 << 10];
    for id in 0..2 {
        writer.accept(id, piece(id, false, &chunk)).unwrap();
        assert_eq!(writer.commit().unwrap().ids, [id..id + 1]);
    }
    let error = writer
        .accept(2, piece(2, false, &[0; 100 << 10]))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("no space left to write"), "{error}");
    assert!(matches!(
        writer.accept(3, piece(3, true, b"")),
        Err(OutputError::Broken)
    ));
    drop(writer);

    fs::remove_file(ballast).unwrap();
    let (mut writer, done) = Writer::open(out, JOB).unwrap();
    assert_eq!(done.ids, [0..2]);
    writer.accept(2, piece(2, true, &chunk)).unwrap();
    writer.commit().unwrap();
    Box::new(writer).finish().unwrap();
    assert_eq!(fs::read(out.join("big.out")).unwrap(), chunk.repeat(3));
}

#[test]
fn names_from_the_wire_write_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (mut writer, _) = Writer::open(&out, JOB).unwrap();
    let names = [
        "../x",
        "/tmp/x",
        ".mutirao/x",
        "a\0b",
        "a//b",
        "fine",
        "fine.out/x",
    ];
    for (id, name) in names.iter().enumerate() {
        let place = Place {
            name: name.to_string(),
            input: id as u32,
            piece: 0,
            last: true,
        };
        let outcome = Ok(Piece {
            place,
            merge: Merge::Concatenate,
            data: b"x".to_vec(),
        });
        writer.accept(id as u64, outcome).unwrap();
    }
    let committed = writer.commit().unwrap();
    assert_eq!(committed.ids, [0..7]);
    let failed: Vec<_> = committed
        .failures
        .iter()
        .map(|f| f.place.name.as_str())
        .collect();
    assert_eq!(
        failed,
        ["../x", "/tmp/x", ".mutirao/x", "a\0b", "a//b", "fine.out/x"]
    );
    Box::new(writer).finish().unwrap();
    let files: Vec<_> = walkdir::WalkDir::new(folder.path())
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| entry.path().to_owned())
        .collect();
    assert_eq!(files, [out.join("fine.out")]);
}

#[test]
fn results_of_a_worker_that_makes_no_sense_fail_their_input_only() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(folder.path(), JOB).unwrap();
    for (input, merge) in [
        (0, Merge::SumLines),
        (1, Merge::SumCounts),
        (2, Merge::Concatenate),
    ] {
        let place = Place {
            name: format!("{input}"),
            input,
            piece: 0,
            last: true,
        };
        let data = b"no such thing".to_vec();
        writer
            .accept(input.into(), Ok(Piece { place, merge, data }))
            .unwrap();
    }
    let committed = writer.commit().unwrap();
    assert_eq!(committed.failures.len(), 2);
    assert_eq!(
        Box::new(writer).finish().unwrap(),
        Counts {
            written: 1,
            failed: 2,
            bytes_out: 13
        }
    );
}

#[test]
fn a_results_folder_that_cannot_be_is_named() {
    let error = Writer::open(Path::new("/dev/null/x"), JOB)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/dev/null/x") && error.contains("choose another --out"),
        "{error}"
    );
}

#[test]
fn finishing_too_early_is_refused_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(folder.path(), JOB).unwrap();
    writer.accept(0, piece(0, false, b"a")).unwrap();
    writer.commit().unwrap();
    let error = Box::new(writer).finish().unwrap_err();
    assert!(matches!(error, OutputError::Unfinished { inputs: 1 }));
    assert_eq!(Writer::open(folder.path(), JOB).unwrap().1.ids, [0..1]);
}
