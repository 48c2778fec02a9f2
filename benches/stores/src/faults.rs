//! What a power loss in the middle of a commit, and a full disk, do to a store.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::candidates::{Candidate, Op, Outcome, open};
use crate::scenes::{key, noise};

const BLOCK: usize = 4096;
const GROUP: u64 = 8;
const ROUNDS: u64 = 60;

type Image = BTreeMap<PathBuf, Vec<u8>>;

fn commit(store: &mut dyn Candidate, number: u64, body: &[u8]) -> Outcome<()> {
    let puts: Vec<Op> = (0..GROUP)
        .map(|n| Op::Put(key(0, number * GROUP + n), body))
        .collect();
    store.commit(&puts)
}

/// Commits, and tears the last commit: of the blocks it changed some arrive on disk, others not.
/// That is what may be left of the writes before a sync that did not happen.
pub fn torn(name: &str, folder: &Path) -> Outcome<()> {
    let (live, crashed) = (folder.join("live"), folder.join("crashed"));
    let mut store = open(name, &live)?;
    let body = noise(3000);
    let (mut refused, mut lost) = (0, 0);
    for number in 0..ROUNDS {
        let before = image(&live)?;
        commit(store.as_mut(), number, &body)?;
        restore(&crashed, &torn_image(&before, &image(&live)?, number))?;
        // A store may panic over what it finds.
        let found = std::panic::catch_unwind(|| open(name, &crashed)?.scan());
        match found {
            Ok(Ok((records, _))) => lost += u64::from(!allowed(records, number)),
            _ => refused += 1,
        }
    }
    println!("refused to open\t{refused} of {ROUNDS}");
    println!("wrong after opening\t{lost} of {ROUNDS}");
    Ok(())
}

fn allowed(records: u64, in_flight: u64) -> bool {
    records == in_flight * GROUP || records == (in_flight + 1) * GROUP
}

fn torn_image(before: &Image, after: &Image, seed: u64) -> Image {
    let mut coin = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut torn = after.clone();
    for (path, bytes) in &mut torn {
        let old = before.get(path).map_or(&[][..], Vec::as_slice);
        // A store cuts off a file only when what no longer needs the rest is safe.
        if old.len() > bytes.len() {
            continue;
        }
        for (number, block) in bytes.chunks_mut(BLOCK).enumerate() {
            coin ^= coin << 13;
            coin ^= coin >> 7;
            coin ^= coin << 17;
            let old = old.get(number * BLOCK..).unwrap_or_default();
            if coin & 8 == 0 {
                let known = old.len().min(block.len());
                block[..known].copy_from_slice(&old[..known]);
                block[known..].fill(0);
            }
        }
    }
    torn
}

fn image(folder: &Path) -> Outcome<Image> {
    let mut found = Image::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.into(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

fn restore(folder: &Path, image: &Image) -> Outcome<()> {
    let _ = fs::remove_dir_all(folder);
    for (path, bytes) in image {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// Fills a small disk to the brim, makes room, and goes on.
pub fn full(name: &str, folder: &Path) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=192m", "tmpfs"])
        .arg(folder)
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        println!("says\t(needs root to mount a small disk)");
        return Ok(());
    }
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![0; 64 << 20])?;
    let mut store = open(name, &folder.join("db"))?;
    let body = noise(60_000);
    let mut number = 0;
    let error = loop {
        match commit(store.as_mut(), number, &body) {
            Ok(()) => number += 1,
            Err(error) => break error.to_string(),
        }
    };
    println!("says\t{}", error.replace('|', "/"));
    fs::remove_file(ballast)?;
    let again = commit(store.as_mut(), number, &body).map_err(|error| error.to_string());
    println!(
        "the same group, with room again\t{}",
        again.err().unwrap_or("committed".into())
    );
    drop(store);
    let mut store = open(name, &folder.join("db"))?;
    let (records, _) = store.scan()?;
    let right = if allowed(records, number) {
        "nothing lost"
    } else {
        "WRONG"
    };
    println!("after reopening\t{right}");
    commit(store.as_mut(), number, &body)?;
    Ok(())
}
