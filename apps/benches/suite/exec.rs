//! A command per task: `mutirao run - --op exec:true` beside `xargs -P2 -n1 true`.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::{Row, Target, Unit};
use crate::rounds::interleave;
use crate::{Effort, Result};

/// The binary that this suite was built with.
pub(crate) const MUTIRAO: &str = env!("CARGO_BIN_EXE_mutirao");

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let commands: u32 = effort.pick(500, 3000);
    let folder = tempfile::tempdir()?;
    let lines = folder.path().join("lines");
    let text: String = (1..=commands).map(|number| format!("{number}\n")).collect();
    std::fs::write(&lines, text)?;
    let mut xargs = Command::new("xargs");
    xargs.args(["-P2", "-n1", "true"]);
    let mut ours = Command::new(MUTIRAO);
    ours.args(["run", "-", "--op", "exec:true", "--workers", "2"]);
    ours.args(["--out", "-", "--summary", "none"]);
    let [reference, ours] = interleave(
        effort.rounds(),
        [&mut || rate(&mut xargs, &lines, commands), &mut || {
            rate(&mut ours, &lines, commands)
        }],
    )?;
    Ok(vec![Row {
        what: "commands run, exec:true beside xargs -P2 -n1 true".into(),
        unit: Unit::PerSecond,
        reference: Some(reference),
        ours,
        target: Target::RatioAtLeast(0.9),
    }])
}

fn rate(command: &mut Command, lines: &Path, commands: u32) -> Result<f64> {
    let begun = Instant::now();
    let status = command
        .stdin(File::open(lines)?)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(f64::from(commands) / begun.elapsed().as_secs_f64())
}
