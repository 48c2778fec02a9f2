//! The store on a real disk: killed, shared, full, and with a million tasks.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mutirao::broker::store::{DiskStore, Store as _, StoreError, Write};
use mutirao::broker::{
    Broker, BrokerConfig, ClientConfig, Console, FetchEvent, Fetcher, JobSettings, Submitter,
};
use mutirao::pipeline::{JobId, Span};
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Worker};
use serde_bytes::ByteBuf;

use crate::support::{PATIENCE, fresh_endpoint};

const JOB: JobId = JobId(42);
const VICTIM: &str = "MUTIRAO_TEST_STORE_VICTIM";
/// Batches to a group.
const BATCHES: u64 = 4;
/// Groups after which a group's tasks are done.
const LAG: u64 = 5;
const KILLS: u64 = 25;

fn tasks(first: u64, size: usize) -> Write {
    let body: Arc<[u8]> = (0..size).map(|at| (at as u64 ^ first) as u8).collect();
    Write::Tasks {
        job: JOB,
        span: Span { first, count: 1 },
        body,
    }
}

/// What the victim commits as its nth group.
fn group(number: u64) -> Vec<Write> {
    let batches = |number: u64| number * BATCHES..(number + 1) * BATCHES;
    let size = 100 + (number as usize * 7919) % 20_000;
    let mut group: Vec<Write> = batches(number).map(|first| tasks(first, size)).collect();
    if let Some(done) = number.checked_sub(LAG) {
        group.extend(batches(done).map(|first| Write::TasksDone { job: JOB, first }));
    }
    group
}

/// What is there after that many groups.
fn after(groups: u64) -> Vec<Write> {
    let kept = groups.saturating_sub(LAG)..groups;
    let is_put = |write: &Write| matches!(write, Write::Tasks { .. });
    kept.flat_map(group).filter(is_put).collect()
}

fn open(folder: &Path) -> DiskStore {
    DiskStore::open(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn content(store: &mut DiskStore) -> Vec<Write> {
    let mut content = Vec::new();
    store
        .load(&mut |write| content.push(write))
        .unwrap_or_else(|error| panic!("{error}"));
    content
}

/// Not a test: what the process does that is killed.
#[test]
fn victim() {
    let Some(arguments) = std::env::var_os(VICTIM) else {
        return;
    };
    let arguments = arguments.into_string().expect("text");
    let (first, folder) = arguments.split_once(' ').expect("a number and a folder");
    let mut store = open(Path::new(folder));
    for number in first.parse().expect("a number").. {
        store
            .commit(&group(number))
            .unwrap_or_else(|error| panic!("{error}"));
        // Not by println, which the harness would catch.
        writeln!(std::io::stdout(), "safe {number}").expect("somebody listens");
    }
}

fn start_victim(first: u64, folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "store::victim", "--nocapture"]);
    command.env(VICTIM, format!("{first} {}", folder.display()));
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the victim")
}

/// How many groups are safe in the end, given that so many were.
fn run_and_kill(safe: u64, round: u64, folder: &Path) -> u64 {
    let mut victim = start_victim(safe, folder);
    let lines = BufReader::new(victim.stdout.take().expect("its output")).lines();
    let numbers = lines.map_while(Result::ok).filter_map(|line| {
        line.split_once("safe ")
            .and_then(|(_, number)| number.parse::<u64>().ok())
    });
    let (mut last, mut seen) = (None, 0);
    for number in numbers {
        last = Some(number);
        seen += 1;
        if seen == 1 + round % 7 {
            // Somewhere in the commits that follow.
            std::thread::sleep(Duration::from_micros(round * 389 % 9000));
            victim.kill().expect("a kill");
        }
    }
    victim.wait().expect("its end");
    last.map_or(safe, |last| last + 1)
}

#[test]
fn a_killed_process_loses_nothing_confirmed_and_leaves_no_part_of_a_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut safe = 0;
    for round in 0..KILLS {
        let confirmed = run_and_kill(safe, round, folder.path());
        assert!(
            confirmed > safe,
            "round {round}: the victim got nothing done"
        );
        let found = content(&mut open(folder.path()));
        let right = (confirmed..=confirmed + 1).find(|groups| found == after(*groups));
        safe = right.unwrap_or_else(|| panic!("round {round}: not what {confirmed} groups leave"));
    }
}

/// The moments in which a store is made are the only ones in which it could be there in part.
#[test]
fn a_store_that_was_not_made_to_the_end_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("store.new"), b"the beginning of").expect("a file");
    let mut store = open(folder.path());
    store.commit(&group(0)).expect("a commit");
    drop(store);
    assert_eq!(content(&mut open(folder.path())), after(1));
}

#[test]
fn a_second_broker_is_told_that_the_folder_is_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path());
    let error = DiskStore::open(folder.path()).err().expect("an error");
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    drop(first);
    open(folder.path());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = DiskStore::open(&file.path().join("below"))
        .err()
        .expect("an error");
    assert!(
        error.to_string().contains("below cannot be written: "),
        "{error}"
    );
}

/// A disk of 24 MiB, if this process may make one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Option<SmallDisk> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=24m", "mutirao-test"])
            .arg(folder);
        let done = mount
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        done.then(|| SmallDisk(folder.into()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        let why = "only root may mount a small disk; the simulated one is tested elsewhere";
        writeln!(std::io::stdout(), "full disk, the real one: skipped, {why}").expect("stdout");
        return;
    };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0; 8 << 20]).expect("room");
    let mut store = open(&disk.0.join("store"));
    let (mut kept, mut number) = (Vec::new(), 0);
    let (next, error) = loop {
        let next = [tasks(number, 60_000), tasks(number + 1, 9_000)];
        number += 2;
        match store.commit(&next) {
            Ok(()) => kept.extend(next),
            Err(error) => break (next, error),
        }
    };
    let text = error.to_string();
    assert!(text.contains("has no space left: free some"), "{text}");
    assert!(matches!(store.commit(&next), Err(StoreError::Full { .. })));
    // What is done makes room, on a full disk too.
    let done: Vec<Write> = (0..20)
        .map(|first| Write::TasksDone { job: JOB, first })
        .collect();
    store.commit(&done).expect("room within the file");
    kept.drain(..20);
    assert_eq!(content(&mut store), kept);
    std::fs::remove_file(ballast).expect("the ballast");
    store.commit(&next).expect("room again");
    kept.extend(next);
    drop(store);
    assert_eq!(content(&mut open(&disk.0.join("store"))), kept);
}

/// Filled to the brim again and again, it never comes to where it cannot be emptied.
#[test]
fn a_full_disk_can_always_be_emptied() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        let why = "only root may mount a small disk";
        writeln!(std::io::stdout(), "emptying a full disk: skipped, {why}").expect("stdout");
        return;
    };
    let mut store = open(&disk.0.join("store"));
    let (mut kept, mut refused) = (VecDeque::new(), 0);
    for number in 0..2_000 {
        let size = [300, 61_000, 4_000, 20_000][number as usize % 4];
        match store.commit(&[tasks(number, size)]) {
            Ok(()) => kept.push_back(number),
            Err(StoreError::Full { .. }) => {
                refused += 1;
                let first = kept.pop_front().expect("something fits");
                let done = store.commit(&[Write::TasksDone { job: JOB, first }]);
                done.unwrap_or_else(|error| panic!("after {number}: {error}"));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 20, "refused {refused} times");
    let forget = Write::Forget { job: JOB };
    store.commit(&[forget]).expect("room for less");
    assert!(content(&mut store).is_empty());
    store.commit(&[tasks(0, 60_000)]).expect("room again");
}

/// Hands in so many tasks of 50 KB, each beginning with its number.
fn submit_large(at: &Endpoint, tasks: u64) -> std::thread::JoinHandle<u64> {
    let config = ClientConfig::new(at.clone());
    let mut submitter = Submitter::open(config, JOB, JobSettings::new("number")).expect("a client");
    submitter.opened(Some(PATIENCE)).expect("an open job");
    std::thread::spawn(move || {
        let mut task = ByteBuf::from(vec![0; 50_000]);
        for number in 0..tasks {
            task[..8].copy_from_slice(&number.to_be_bytes());
            submitter.submit(&task).expect("submitted");
        }
        submitter.finish(Some(20 * PATIENCE)).expect("all of it")
    })
}

fn wait_for_trouble(at: &Endpoint) -> String {
    let deadline = Instant::now() + 3 * PATIENCE;
    let mut console = Console::connect(&ClientConfig::new(at.clone()), PATIENCE).expect("a client");
    loop {
        if let Some(trouble) = console.status().expect("an answer").trouble {
            return trouble;
        }
        assert!(Instant::now() < deadline, "the disk did not fill up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every result once, each the number in its task.
fn fetch_numbers(at: &Endpoint, tasks: u64) {
    let mut fetcher = Fetcher::<u64>::connect(ClientConfig::new(at.clone())).expect("a client");
    fetcher.fetch(JOB, Vec::new());
    let mut received = 0;
    loop {
        match fetcher.recv_within(6 * PATIENCE).expect("an answer") {
            Some(FetchEvent::Result { task, outcome, .. }) => {
                assert_eq!(outcome.expect("no failure"), task);
                received += 1;
                fetcher.confirm(JOB, task..task + 1);
            }
            Some(FetchEvent::Complete { .. }) => return assert_eq!(received, tasks),
            other => panic!("after {received} results: {other:?}"),
        }
    }
}

/// More tasks than the disk has room for, of which nobody frees any but the broker.
#[test]
fn a_broker_on_a_full_disk_works_itself_free() {
    const TASKS: u64 = 1_500;
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        let why = "only root may mount a small disk; the simulated one is tested elsewhere";
        writeln!(std::io::stdout(), "a broker on a full disk: skipped, {why}").expect("stdout");
        return;
    };
    let store = Box::new(open(&disk.0.join("store")));
    let broker = Broker::start(BrokerConfig::new(fresh_endpoint("tcp")), Some(store));
    let broker = broker.expect("a broker");
    let at = broker.endpoint();
    let submitting = submit_large(at, TASKS);
    let trouble = wait_for_trouble(at);
    assert!(
        trouble.contains("has no space left: free some"),
        "{trouble}"
    );
    let config = BrokerWorkerConfig::new(at.clone(), vec!["number".into()]);
    let _worker = Worker::start_at_broker(config, |task: ByteBuf, _| {
        let number = task[..8].try_into().expect("eight bytes");
        Ok(u64::from_be_bytes(number))
    });
    fetch_numbers(at, TASKS);
    assert_eq!(submitting.join().expect("no panic"), TASKS);
    drop(broker);
    assert!(content(&mut open(&disk.0.join("store"))).is_empty());
}

/// A million tasks one by one, the worst case; then they are worked off.
#[test]
fn a_million_tasks_are_back_within_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let numbers: Vec<u64> = (0..1_000_000).collect();
    for group in numbers.chunks(20_000) {
        let group: Vec<Write> = group.iter().map(|first| tasks(*first, 100)).collect();
        store.commit(&group).expect("a commit");
    }
    // Like a kill: a store that is not closed is checked when it is opened.
    let copy = tempfile::tempdir().expect("a folder");
    std::fs::copy(
        folder.path().join("store.redb"),
        copy.path().join("store.redb"),
    )
    .expect("a copy");
    let (start, mut found) = (Instant::now(), 0);
    let mut store = open(copy.path());
    store.load(&mut |_| found += 1).expect("all of it");
    assert_eq!(found, 1_000_000);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(
        store.bytes() > 100_000_000 && store.bytes() < 250_000_000,
        "{}",
        store.bytes()
    );
    store
        .commit(&[Write::Forget { job: JOB }])
        .expect("forgotten");
    assert!(content(&mut store).is_empty());
}
