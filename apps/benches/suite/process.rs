//! Parts of a measurement that run in a process of their own: this program, started again in a role.

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Result;

/// The first argument of a process that plays a role.
pub(crate) const ROLE: &str = "role";

/// A process that plays a role; it says what it has to say line by line, and ends with its owner.
pub(crate) struct Player {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Player {
    pub(crate) fn start(role: &str, args: &[&dyn Display]) -> Result<Player> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE, role])
            .args(args.iter().map(ToString::to_string))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let says = child.stdout.take().ok_or("no standard output")?;
        let says = BufReader::new(says);
        Ok(Player { child, says })
    }

    /// Waits for the next line, as a `T`.
    pub(crate) fn hear<T: std::str::FromStr>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        let line = line.trim();
        line.parse()
            .map_err(|_| format!("a part of the measurement said {line:?}").into())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a role that says one number and ends.
pub(crate) fn number(role: &str, args: &[&dyn Display]) -> Result<f64> {
    Player::start(role, args)?.hear()
}

/// An argument of a role.
pub(crate) fn arg<T: std::str::FromStr>(args: &[String], index: usize) -> Result<T> {
    let text = args.get(index).ok_or("an argument is missing")?;
    text.parse()
        .map_err(|_| format!("unusable argument {text:?}").into())
}

/// The processor time that a process has used, over all its threads.
pub(crate) fn processor_time(process: u32) -> Result<Duration> {
    let mut used_ns = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let running = times.split_whitespace().next().unwrap_or_default();
        used_ns += running.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(used_ns))
}

/// The most memory that a process has taken up to now, in bytes; `None` when it has ended.
pub(crate) fn peak_memory_bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
