//! What is measured, each in a process of its own; a scene prints `name<TAB>value` lines.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::candidates::{Key, Op, Outcome, open};
use crate::machine;

const QUEUE_TIME: Duration = Duration::from_millis(1500);
/// Groups between a task's arrival and its result, and between the result and its fetching.
const LAG: u64 = 4;
const MIB: f64 = 1048576.0;

pub fn key(kind: u8, number: u64) -> Key {
    let mut key = [0; 17];
    key[0] = kind;
    key[1..9].copy_from_slice(&0x5eed_u64.to_be_bytes());
    key[9..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Bytes that do not repeat, so that nothing is gained by compressing.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

/// One group of a queue in steady state: tasks come, results replace tasks, results go.
fn round<'a>(number: u64, count: u64, body: &'a [u8]) -> Vec<Op<'a>> {
    let mut group = Vec::new();
    let records = |group: u64| group * count..(group + 1) * count;
    group.extend(records(number).map(|n| Op::Put(key(0, n), body)));
    if let Some(done) = number.checked_sub(LAG) {
        group.extend(records(done).map(|n| Op::Delete(key(0, n))));
        group.extend(records(done).map(|n| Op::Put(key(1, n), &body[..body.len() / 4])));
    }
    if let Some(fetched) = number.checked_sub(2 * LAG) {
        group.extend(records(fetched).map(|n| Op::Delete(key(1, n))));
    }
    group
}

/// A queue in steady state, in groups of `count` bodies of `size` bytes.
pub fn queue(name: &str, folder: &Path, size: usize, count: u64) -> Outcome<()> {
    let (mut store, body) = (open(name, folder)?, noise(size));
    let (start, processor, written) = (Instant::now(), machine::processor(), machine::written());
    let mut times = VecDeque::new();
    while start.elapsed() < QUEUE_TIME {
        let group = round(times.len() as u64, count, &body);
        let begun = Instant::now();
        store.commit(&group)?;
        times.push_back(begun.elapsed());
    }
    let seconds = start.elapsed().as_secs_f64();
    let payload = times.len() as f64 * count as f64 * size as f64;
    let mut sorted = Vec::from(times);
    sorted.sort();
    println!("groups/s\t{:.0}", sorted.len() as f64 / seconds);
    println!("MiB/s of tasks\t{:.1}", payload / MIB / seconds);
    let busy = machine::processor() - processor;
    println!("ms CPU per MiB\t{:.2}", busy * 1e3 / (payload / MIB));
    let all = (machine::written() - written) as f64;
    println!("written / tasks\t{:.1}", all / payload);
    println!(
        "p50 ms\t{:.1}",
        sorted[sorted.len() / 2].as_secs_f64() * 1e3
    );
    println!(
        "worst ms\t{:.1}",
        sorted[sorted.len() - 1].as_secs_f64() * 1e3
    );
    println!("MiB on disk\t{:.1}", machine::taken(folder) as f64 / MIB);
    println!("MiB memory\t{:.1}", machine::peak_memory() as f64 / MIB);
    Ok(())
}

/// A million tasks of 100 bytes, `batch` to a record, in groups of about 1 MiB; leaves without
/// closing the store.
pub fn backlog(name: &str, folder: &Path, batch: u64) -> Outcome<()> {
    let (mut store, body) = (open(name, folder)?, noise(batch as usize * 100));
    let start = Instant::now();
    for group in numbers(batch).chunks(per_group(batch)) {
        let puts: Vec<Op> = group.iter().map(|n| Op::Put(key(0, *n), &body)).collect();
        store.commit(&puts)?;
    }
    println!("fill s\t{:.2}", start.elapsed().as_secs_f64());
    println!(
        "fill MiB on disk\t{:.1}",
        machine::taken(folder) as f64 / MIB
    );
    println!(
        "fill MiB memory\t{:.1}",
        machine::peak_memory() as f64 / MIB
    );
    std::io::stdout().flush()?;
    // Like a kill: nothing is closed or tidied up.
    std::process::exit(0)
}

fn numbers(batch: u64) -> Vec<u64> {
    (0..1_000_000 / batch).collect()
}

fn per_group(batch: u64) -> usize {
    (10_000 / batch).max(1) as usize
}

/// What a restart after a kill costs with that backlog.
pub fn reopen(name: &str, folder: &Path, batch: u64) -> Outcome<()> {
    let start = Instant::now();
    let mut store = open(name, folder)?;
    println!("open s\t{:.2}", start.elapsed().as_secs_f64());
    let (records, _) = store.scan()?;
    assert_eq!(records, 1_000_000 / batch);
    println!("open and scan s\t{:.2}", start.elapsed().as_secs_f64());
    println!(
        "scan MiB memory\t{:.1}",
        machine::peak_memory() as f64 / MIB
    );
    Ok(())
}

/// Works the backlog off.
pub fn drain(name: &str, folder: &Path, batch: u64) -> Outcome<()> {
    let mut store = open(name, folder)?;
    let start = Instant::now();
    for group in numbers(batch).chunks(per_group(batch)) {
        let gone: Vec<Op> = group.iter().map(|n| Op::Delete(key(0, *n))).collect();
        store.commit(&gone)?;
    }
    println!("drain s\t{:.2}", start.elapsed().as_secs_f64());
    println!(
        "drained MiB on disk\t{:.1}",
        machine::taken(folder) as f64 / MIB
    );
    drop(store);
    drop(open(name, folder)?);
    println!(
        "reopened MiB on disk\t{:.1}",
        machine::taken(folder) as f64 / MIB
    );
    Ok(())
}

/// Commits groups of 8 bodies of 8 KiB until it is killed, and says which are safe.
pub fn victim(name: &str, folder: &Path) -> Outcome<()> {
    let (mut store, body) = (open(name, folder)?, noise(8192));
    let first = store.scan()?.0 / 8;
    for number in first.. {
        let puts: Vec<Op> = (0..8)
            .map(|n| Op::Put(key(0, number * 8 + n), &body))
            .collect();
        store.commit(&puts)?;
        println!("{number}");
    }
    Ok(())
}
