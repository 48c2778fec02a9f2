//! `cargo run --release`: one table of what fjall, redb and SQLite cost as the broker's store.
//!
//! Every cell is measured in a process of its own, on a folder below the first argument or the
//! system's folder for temporary files; that must be a real disk.

mod candidates;
mod faults;
mod machine;
mod scenes;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use candidates::{COLUMNS, NAMES, Outcome};

const QUEUES: [(&str, &str); 8] = [
    ("100", "1"),
    ("100", "100"),
    ("100", "10000"),
    ("4096", "1"),
    ("4096", "256"),
    ("65536", "1"),
    ("65536", "16"),
    ("65536", "64"),
];
const BATCHES: [&str; 2] = ["1", "500"];
const PATIENCE: Duration = Duration::from_secs(60);
const KILLS: u64 = 8;

type Table = Vec<(String, BTreeMap<&'static str, String>)>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "scene") {
        return scene(&args[2], &args[3], Path::new(&args[4]), &args[5..]);
    }
    let base = args.get(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = base.join(format!("stores-{}", std::process::id()));
    let start = Instant::now();
    let mut table = Table::new();
    for (size, count) in QUEUES {
        let title = format!("queue, groups of {count} × {size} B");
        stage(&mut table, &title, "queue", &folder, &[size, count], true)?;
    }
    for batch in BATCHES {
        for (name, last) in [("backlog", false), ("reopen", false), ("drain", true)] {
            let title = format!("1 M tasks, {batch} to a record");
            stage(&mut table, &title, name, &folder, &[batch], last)?;
        }
    }
    for name in NAMES {
        note(
            &mut table,
            "kill -9: lost groups",
            name,
            kills(name, &folder.join(name))?,
        );
    }
    stage(
        &mut table,
        "power loss in a commit",
        "torn",
        &folder,
        &[],
        true,
    )?;
    stage(&mut table, "full disk", "full", &folder, &[], true)?;
    print(&table, start.elapsed());
    Ok(std::fs::remove_dir_all(folder)?)
}

fn scene(scene: &str, name: &str, folder: &Path, args: &[String]) -> Outcome<()> {
    let number = |at: usize| args[at].parse::<u64>();
    match scene {
        "queue" => scenes::queue(name, folder, args[0].parse()?, number(1)?),
        "backlog" => scenes::backlog(name, folder, number(0)?),
        "reopen" => scenes::reopen(name, folder, number(0)?),
        "drain" => scenes::drain(name, folder, number(0)?),
        "torn" => faults::torn(name, folder),
        "full" => faults::full(name, folder),
        _ => scenes::victim(name, folder),
    }
}

fn child(scene: &str, name: &str, folder: &Path, args: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["scene", scene, name]).arg(folder).args(args);
    Ok(command)
}

/// Runs a scene with each candidate.
fn stage(
    table: &mut Table,
    title: &str,
    scene: &str,
    base: &Path,
    args: &[&str],
    last: bool,
) -> Outcome<()> {
    let names = if scene == "queue" {
        &COLUMNS[..]
    } else {
        &NAMES[..]
    };
    for &name in names {
        let folder = base.join(name);
        let output = patiently(child(scene, name, &folder, args)?)?;
        if !output.status.success() {
            note(
                table,
                &format!("{title}: {scene}"),
                name,
                output.status.to_string(),
            );
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            let (what, value) = line.split_once('\t').ok_or("a line without a tab")?;
            note(table, &format!("{title}: {what}"), name, value.into());
        }
        if last {
            // Only the scene with the small disk has mounted it.
            let _ = Command::new("umount")
                .arg(&folder)
                .stderr(Stdio::null())
                .status();
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

/// Waits for a scene, and ends one that hangs.
fn patiently(mut command: Command) -> Outcome<Output> {
    let mut running = command.stdout(Stdio::piped()).spawn()?;
    let start = Instant::now();
    while running.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            running.kill()?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(running.wait_with_output()?)
}

fn note(table: &mut Table, row: &str, name: &'static str, value: String) {
    let at = table
        .iter()
        .position(|(title, _)| title == row)
        .unwrap_or(table.len());
    if at == table.len() {
        table.push((row.into(), BTreeMap::new()));
    }
    table[at].1.insert(name, value);
}

/// Kills the store again and again in the middle of its work, at odd moments.
fn kills(name: &str, folder: &Path) -> Outcome<String> {
    let mut safe = 0;
    for round in 0..KILLS {
        let mut victim = child("victim", name, folder, &[])?
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(victim.stdout.take().ok_or("no output")?);
        let reader = std::thread::spawn(move || lines.lines().map_while(Result::ok).last());
        std::thread::sleep(Duration::from_micros(200_000 + round * 13_337));
        victim.kill()?;
        victim.wait()?;
        if let Some(last) = reader.join().ok().flatten() {
            safe = last.parse::<u64>()? + 1;
        }
        let (records, _) = candidates::open(name, folder)?.scan()?;
        if records % 8 != 0 || records / 8 < safe {
            return Ok(format!("{safe} were safe, {} found", records as f64 / 8.0));
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(format!("0 of {safe}"))
}

fn print(table: &Table, elapsed: Duration) {
    println!("| measurement | {} |", COLUMNS.join(" | "));
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (row, cells) in table {
        let cells = COLUMNS.map(|name| cells.get(name).map_or("", String::as_str));
        println!("| {row} | {} |", cells.join(" | "));
    }
    println!("\nMeasured in {:.0} s.", elapsed.as_secs_f64());
}
