//! The parts of a measurement as their starter sees them: processes that answer in time or are ended.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mutirao::StopHandle;

use super::control::Order;
use super::peer::{Part, Said};

/// How soon to look whether all shall stop.
const GLANCE: Duration = Duration::from_millis(20);

/// Why a measurement came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Somebody pressed Ctrl-C.
    Interrupted,
    /// For this reason.
    Failed(String),
}

impl From<String> for Trouble {
    fn from(reason: String) -> Trouble {
        Trouble::Failed(reason)
    }
}

/// A part that runs; it ends with this value.
pub(super) struct Helper {
    name: &'static str,
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The last thing that it said on standard error.
    last_words: Arc<Mutex<String>>,
}

impl Helper {
    /// Starts this program again to do `part`.
    pub(super) fn start(part: &Part) -> Result<Helper, Trouble> {
        let name = name(part);
        let cannot =
            |reason: String| Trouble::Failed(format!("{name} cannot be started: {reason}"));
        let part = serde_json::to_string(part).map_err(|error| cannot(error.to_string()))?;
        let program = std::env::current_exe().map_err(|error| cannot(error.to_string()))?;
        let mut child = Command::new(program)
            .args(["compare-peer", &part])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What it logs would tear the bar that shows the progress.
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for us, who then end the parts.
            .process_group(0)
            .spawn()
            .map_err(|error| cannot(error.to_string()))?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.try_for_each(|line| sender.send(line).ok())
            });
        }
        Ok(Helper {
            name,
            orders: child.stdin.take(),
            lines,
            last_words: child.stderr.take().map(last_words).unwrap_or_default(),
            child,
        })
    }

    /// What it says next, waited for at most so long.
    pub(super) fn hear(&mut self, patience: Duration, stop: &StopHandle) -> Result<Said, Trouble> {
        let by = Instant::now() + patience;
        loop {
            if stop.is_stopped() {
                return Err(Trouble::Interrupted);
            }
            match self.lines.recv_timeout(GLANCE) {
                Ok(line) => return self.read(&line),
                Err(RecvTimeoutError::Timeout) if Instant::now() < by => {}
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = patience.as_secs_f64();
                    return Err(Trouble::Failed(format!(
                        "{} hangs: no word within {seconds:.0} s",
                        self.name
                    )));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    fn read(&self, line: &str) -> Result<Said, Trouble> {
        match serde_json::from_str(line) {
            Ok(Said::Failed(reason)) => Err(Trouble::Failed(reason)),
            Ok(said) => Ok(said),
            Err(_) => Err(Trouble::Failed(format!(
                "{} said something strange",
                self.name
            ))),
        }
    }

    fn ended(&mut self) -> Trouble {
        let status = self.child.wait().ok();
        let how = match status.map(|status| (status.code(), status.signal())) {
            Some((_, Some(signal))) => format!("signal {signal}"),
            Some((Some(code), _)) => format!("exit status {code}"),
            _ => "no status".into(),
        };
        let why = match self.last_words.lock() {
            Ok(words) if !words.is_empty() => format!(": {words}"),
            _ => String::new(),
        };
        Trouble::Failed(format!("{} ended before its time ({how}){why}", self.name))
    }

    /// What it should say now is something else.
    pub(super) fn unexpected(&self) -> Trouble {
        Trouble::Failed(format!("{} said something out of turn", self.name))
    }

    /// Tells it something; one that is gone will be missed when it should answer.
    pub(super) fn tell(&mut self, order: Order) {
        if let (Some(orders), Ok(line)) = (&mut self.orders, serde_json::to_string(&order)) {
            let _ = writeln!(orders, "{line}");
        }
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads it to its end; the last line so far. Of a panic that is what went wrong, not the advice behind it.
fn last_words(stderr: ChildStderr) -> Arc<Mutex<String>> {
    let last = Arc::new(Mutex::new(String::new()));
    let ours = last.clone();
    std::thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let telling = |line: &String| !line.is_empty() && !line.starts_with("note:");
        for line in lines.filter(telling) {
            log::debug!("{line}");
            if let Ok(mut last) = ours.lock() {
                *last = line;
            }
        }
    });
    last
}

fn name(part: &Part) -> &'static str {
    match part {
        Part::Receive { .. } => "the receiver",
        Part::Send { .. } => "the sender",
        Part::Echo { .. } => "the answering peer",
        Part::Ping { .. } | Part::Connect { .. } | Part::Watch { .. } => "the asking peer",
        Part::Proxy { .. } => "the lossy proxy",
    }
}
