//! The store against its model: reopened, without power, on a full disk, with rot.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::model::{Model, content, groups};
use super::power::{Disk, Trouble};
use super::{FORMAT, VERSION, builder};
use crate::broker::store::{Group, Store as _, StoreError, Write};
use crate::pipeline::JobId;

/// A generator that a seed replays; SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

fn check(
    cases: u32,
    groups: impl Strategy<Value = (Vec<Vec<Write>>, u64)>,
    test: fn(&[Vec<Write>], u64),
) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&groups, |(groups, seed)| {
        test(&groups, seed);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_is_committed_is_there_after_reopening() {
    check(150, (groups(30), any::<u64>()), |groups, seed| {
        let (disk, mut model, mut dice) = (Disk::new(), Model::default(), Dice(seed));
        let mut store = disk.open().expect("the store");
        for group in groups {
            store.commit(group).expect("a commit");
            model.apply(group);
            if dice.roll(4) == 0 {
                drop(store);
                store = disk.open().expect("the store again");
                assert_eq!(content(&mut store), model.writes());
            }
        }
        assert_eq!(content(&mut store), model.writes());
    });
}

/// What is dropped from a group was not needed, and what goes ahead may, whatever was there before.
#[test]
fn a_group_leaves_what_all_of_its_writes_would() {
    check(300, (groups(6), any::<u64>()), |groups, seed| {
        let (before, after) = groups.split_at(Dice(seed).roll(groups.len() as u64 + 1) as usize);
        let mut model = Model::default();
        before.iter().for_each(|writes| model.apply(writes));
        let mut group = Group::default();
        after.iter().for_each(|writes| group.add(writes.clone()));
        let right = model.after(&after.concat());
        assert_eq!(model.after(group.writes()), right);
        let (ahead, rest) = group.split();
        assert_eq!(model.after(ahead.writes()).after(rest.writes()), right);
    });
}

/// The power goes at any change to the disk, again and again; what was not synced arrives in part.
#[test]
fn a_power_loss_loses_nothing_confirmed_and_leaves_no_part_of_a_group() {
    check(200, (groups(12), any::<u64>()), |groups, seed| {
        let (mut disk, mut model, mut dice) = (Disk::new(), Model::default(), Dice(seed));
        for round in 0..4 {
            let allowed = commit_until_dead(&disk, groups, &mut model, dice.roll(60));
            let arrives = [0, 10, 50, 90, 100][dice.roll(5) as usize];
            disk = disk.after_power_loss(|| dice.roll(100) < arrives);
            let mut store = disk.open().expect("what a power loss left");
            let found = content(&mut store);
            let Some(right) = allowed.into_iter().find(|model| model.writes() == found) else {
                panic!("round {round}: part of a group is there, or something confirmed is not");
            };
            model = right;
        }
    });
}

/// Returns what may be there then: all that was confirmed, and the group in flight or not.
fn commit_until_dead(
    disk: &Disk,
    groups: &[Vec<Write>],
    model: &mut Model,
    steps: u64,
) -> [Model; 2] {
    disk.trouble(Trouble::DeadAt(disk.steps() + steps));
    let Ok(mut store) = disk.open() else {
        return [model.clone(), model.clone()];
    };
    for group in groups {
        if store.commit(group).is_err() {
            return [model.clone(), model.after(group)];
        }
        model.apply(group);
    }
    [model.clone(), model.clone()]
}

/// The disk is full from any change on: nothing of the group is there, and it can be tried again.
#[test]
fn a_full_disk_takes_nothing_until_there_is_room() {
    static REFUSED: AtomicU32 = AtomicU32::new(0);
    check(100, (groups(8), any::<u64>()), |groups, seed| {
        let (disk, mut model, mut dice) = (Disk::new(), Model::default(), Dice(seed));
        let mut store = disk.open().expect("the store");
        for group in groups {
            disk.trouble(Trouble::FullAt(disk.steps() + dice.roll(25)));
            for _ in 0..dice.roll(4) {
                match store.commit(group) {
                    Ok(()) => model.apply(group),
                    Err(StoreError::Full { .. }) => {
                        REFUSED.fetch_add(1, Relaxed);
                        is_as_before(&disk, &model);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            disk.trouble(Trouble::None);
            if dice.roll(2) == 0 {
                store.commit(group).expect("with room");
                model.apply(group);
            }
        }
        assert_eq!(content(&mut store), model.writes());
    });
    assert!(REFUSED.load(Relaxed) > 20, "the disk was hardly ever full");
}

/// What an error left is what was there before, whatever of it arrived.
fn is_as_before(disk: &Disk, model: &Model) {
    for arrives in [true, false] {
        let mut store = disk
            .after_power_loss(|| arrives)
            .open()
            .expect("the store elsewhere");
        assert_eq!(content(&mut store), model.writes());
    }
}

#[test]
fn a_sync_that_fails_is_not_taken_for_a_commit() {
    check(100, (groups(8), any::<u64>()), |groups, seed| {
        let (disk, mut model, mut dice) = (Disk::new(), Model::default(), Dice(seed));
        let mut store = disk.open().expect("the store");
        for group in groups {
            disk.trouble(Trouble::SyncFailsAt(disk.steps() + dice.roll(25)));
            let done = store.commit(group);
            disk.trouble(Trouble::None);
            match done {
                Ok(()) => model.apply(group),
                // The header could not be put back for sure: the group may be there, or not.
                Err(StoreError::Failed { .. }) => {
                    let found = content(&mut store);
                    let after = model.after(group);
                    model = if found == after.writes() {
                        after
                    } else {
                        model
                    };
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(content(&mut store), model.writes());
        }
    });
}

fn some_jobs() -> Vec<Write> {
    let job = |job| Write::Job {
        job: JobId(job),
        description: vec![job as u8; 900],
    };
    (0..200).map(job).collect()
}

/// A closed store and its content.
fn closed() -> (Vec<u8>, Vec<Write>) {
    let (disk, jobs) = (Disk::new(), some_jobs());
    let mut store = disk.open().expect("the store");
    for group in jobs.chunks(50) {
        store.commit(group).expect("a commit");
    }
    drop(store);
    (disk.image(), jobs)
}

/// Either all is right, or the store says that it is damaged.
fn is_whole_or_refused(image: Vec<u8>, jobs: &[Write], what: &str) -> bool {
    let mut found = Vec::new();
    let opened = Disk::with(image).open();
    match opened.and_then(|mut store| store.load(&mut |write| found.push(write))) {
        Ok(()) => {
            assert!(
                found == jobs,
                "{what}: {} of {} jobs are there",
                found.len(),
                jobs.len()
            );
            true
        }
        Err(StoreError::Damaged { .. }) => false,
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn a_flipped_bit_is_found() {
    let (image, jobs) = closed();
    let mut dice = Dice(1);
    let anywhere = (0..1500).map(|_| dice.roll(image.len() as u64) as usize);
    let mut refused = 0;
    for at in (0..320).chain(anywhere) {
        let mut image = image.clone();
        image[at] ^= 1 << (at % 8);
        refused += u32::from(!is_whole_or_refused(image, &jobs, &format!("byte {at}")));
    }
    assert!(refused > 100, "only {refused} of the flips were found");
}

#[test]
fn a_file_cut_short_is_found() {
    let (image, jobs) = closed();
    let pages = (0..image.len()).step_by(4096);
    for length in (0..600)
        .step_by(7)
        .chain(pages)
        .filter(|length| *length > 0)
    {
        let whole =
            is_whole_or_refused(image[..length].to_vec(), &jobs, &format!("{length} bytes"));
        assert!(!whole, "{length} of {} bytes are enough", image.len());
    }
}

#[test]
fn a_file_of_another_format_or_program_is_refused() {
    let disk = Disk::with(Vec::new());
    let database = builder()
        .create_with_backend(disk.clone())
        .expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    let mut format = transaction.open_table(FORMAT).expect("a table");
    format.insert("version", VERSION + 1).expect("an entry");
    drop(format);
    transaction.commit().expect("a commit");
    drop(database);
    let error = disk.open().err().expect("an error").to_string();
    assert!(
        error.contains("it has format 3, this version knows 2: start"),
        "{error}"
    );

    let error = Disk::with(b"Dear diary".repeat(1000))
        .open()
        .err()
        .expect("an error");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn after_an_error_of_the_disk_the_store_goes_on() {
    let (disk, jobs) = (Disk::new(), some_jobs());
    let mut store = disk.open().expect("the store");
    store.commit(&jobs[..100]).expect("a commit");
    disk.trouble(Trouble::DeadAt(disk.steps() + 3));
    let error = store.commit(&jobs[100..]).expect_err("an error");
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
    disk.trouble(Trouble::None);
    store.commit(&jobs[100..]).expect("a commit");
    assert_eq!(content(&mut store), jobs);
}
