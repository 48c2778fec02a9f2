//! The binary on files: many small ones, and a large one that is split and put together again.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::exec::MUTIRAO;
use crate::process::peak_memory_bytes;
use crate::report::{Row, Samples, Target, Unit};
use crate::{Effort, Result};

const SENTENCE: &str = "Um Mutirão É Trabalho De Muitos: neighbours come together, get it done. ";

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let (small, large) = (folder.path().join("small"), folder.path().join("large.txt"));
    let files = effort.pick(1000, 10_000);
    let megabytes = effort.pick(64, 1024);
    write_small(&small, files)?;
    write_large(&large, megabytes << 20)?;
    let mut rows = Vec::new();
    for op in ["lowercase", "wordcount"] {
        let run = run(&small, op)?;
        rows.push(row(
            format!("{files} files of 1 KiB, {op}, files"),
            Unit::PerSecond,
            files as f64 / run.seconds,
        ));
        let run = self::run(&large, op)?;
        let bytes = std::fs::metadata(&large)?.len() as f64;
        rows.push(row(
            format!("a file of {megabytes} MiB, {op}"),
            Unit::MegabytesPerSecond,
            bytes / 1e6 / run.seconds,
        ));
        rows.push(row(
            format!("a file of {megabytes} MiB, {op}, most memory"),
            Unit::Megabytes,
            run.peak_bytes as f64 / 1e6,
        ));
    }
    Ok(rows)
}

fn row(what: String, unit: Unit, value: f64) -> Row {
    let target = match unit {
        // What the command line promises for files of any size.
        Unit::Megabytes => Target::AtMost(200.0),
        _ => Target::None,
    };
    Row {
        what,
        unit,
        reference: None,
        ours: Samples::new(vec![value]),
        target,
    }
}

fn write_small(folder: &Path, files: usize) -> Result<()> {
    std::fs::create_dir(folder)?;
    for file in 0..files {
        let text = SENTENCE.repeat(1024 / SENTENCE.len());
        std::fs::write(folder.join(format!("{file:05}.txt")), text)?;
    }
    Ok(())
}

fn write_large(path: &Path, bytes: usize) -> Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    for line in 0..bytes / (SENTENCE.len() + 8) {
        writeln!(file, "{:06} {SENTENCE}", line % 1_000_000)?;
    }
    Ok(file.flush()?)
}

struct Run {
    seconds: f64,
    peak_bytes: u64,
}

fn run(input: &Path, op: &str) -> Result<Run> {
    let out = tempfile::tempdir()?;
    let begun = Instant::now();
    let mut child = Command::new(MUTIRAO)
        .arg("run")
        .arg(input)
        .args(["--op", op, "--summary", "none", "--out"])
        .arg(out.path().join("results"))
        .stderr(Stdio::null())
        .spawn()?;
    let mut peak_bytes = 0;
    while child.try_wait()?.is_none() {
        peak_bytes = peak_memory_bytes(child.id()).unwrap_or(0).max(peak_bytes);
        std::thread::sleep(Duration::from_millis(5));
    }
    let seconds = begun.elapsed().as_secs_f64();
    if !child.wait()?.success() {
        return Err(format!("{op} did not succeed").into());
    }
    Ok(Run {
        seconds,
        peak_bytes,
    })
}
