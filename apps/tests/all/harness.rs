//! Processes with deadlines: started, watched, signalled, and gone when the test is.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing in these tests takes this long on a machine that works.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How often something is looked at that gives no notice.
const GLANCE: Duration = Duration::from_millis(5);

/// A command line of the binary, without the caller's `MUTIRAO_` variables.
pub(crate) struct Launch {
    command: Command,
    name: String,
    stdin: Stdin,
}

enum Stdin {
    Null,
    Bytes(Vec<u8>),
    Open,
}

/// `mutirao` with these arguments.
pub(crate) fn mutirao<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Launch {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mutirao"));
    for (key, _) in std::env::vars_os() {
        let key = key.to_string_lossy().into_owned();
        if key.starts_with("MUTIRAO_") || key == "RUST_LOG" {
            command.env_remove(key);
        }
    }
    let mut name = String::new();
    for arg in args {
        command.arg(&arg);
        if name.is_empty() {
            name = arg.as_ref().to_string_lossy().into_owned();
        }
    }
    Launch {
        command,
        name,
        stdin: Stdin::Null,
    }
}

/// An example in Python, of those that need nothing but Python.
pub(crate) fn python<S: AsRef<OsStr>>(example: &str, args: impl IntoIterator<Item = S>) -> Launch {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python");
    let mut command = Command::new("python3");
    command.arg(format!("{folder}/{example}.py")).args(args);
    Launch {
        command,
        name: example.to_owned(),
        stdin: Stdin::Null,
    }
}

impl Launch {
    /// Called so in messages.
    pub(crate) fn named(mut self, name: &str) -> Launch {
        self.name = name.to_owned();
        self
    }

    /// Its first argument.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// More arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Launch {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Launch {
        self.command.env(key, value);
        self
    }

    /// Started by another program, such as `env`, that becomes it.
    pub(crate) fn through<'a>(mut self, wrapper: impl IntoIterator<Item = &'a str>) -> Launch {
        let mut words = wrapper.into_iter();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        command.arg(self.command.get_program());
        command.args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        self.command = command;
        self
    }

    /// What stands on standard input, and then its end.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Launch {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// Standard input that stays open; see [`Process::write_stdin`].
    pub(crate) fn stdin_open(mut self) -> Launch {
        self.stdin = Stdin::Open;
        self
    }

    /// The command itself, for what this harness does not know.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Starts the process.
    pub(crate) fn start(mut self) -> Process {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.stdin(match self.stdin {
            Stdin::Null => Stdio::null(),
            _ => Stdio::piped(),
        });
        let mut child = self.command.spawn().expect("the binary starts");
        let stdin = child.stdin.take();
        let stdin = match self.stdin {
            Stdin::Bytes(bytes) => {
                let mut stdin = stdin.expect("a pipe");
                // Whoever ends early does not read on.
                std::thread::spawn(move || stdin.write_all(&bytes));
                None
            }
            _ => stdin,
        };
        Process {
            stdout: Capture::start(child.stdout.take().expect("a pipe")),
            stderr: Capture::start(child.stderr.take().expect("a pipe")),
            name: self.name,
            child,
            stdin,
            peak_kib: 0,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }
}

/// A process of ours that runs, or has run.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Capture,
    stderr: Capture,
    peak_kib: u64,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// The most memory it was seen with, in MiB.
    pub(crate) peak_mib: u64,
}

impl Process {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there to be signalled");
    }

    /// `kill -9`; how it had ended, should it have been faster.
    pub(crate) fn kill(mut self) -> ExitStatus {
        self.kill_now()
    }

    /// The same, for one that is replaced afterwards.
    pub(crate) fn kill_now(&mut self) -> ExitStatus {
        // Gone already is as good.
        let _ = self.child.kill();
        self.child.wait().expect("our child")
    }

    /// How it ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.glance();
        self.child.try_wait().expect("our child")
    }

    pub(crate) fn write_stdin(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("started with stdin_open");
        stdin.write_all(bytes).expect("it reads");
        stdin.flush().expect("it reads");
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Ended {
        self.wait_within(DEADLINE)
    }

    pub(crate) fn wait_within(mut self, patience: Duration) -> Ended {
        let name = self.name.clone();
        wait_until(patience, &format!("{name} to end"), || {
            self.try_wait().is_some()
        });
        let status = self.child.wait().expect("our child");
        Ended {
            status,
            stdout: self.stdout.all(),
            stderr: String::from_utf8_lossy(&self.stderr.all()).into_owned(),
            peak_mib: self.peak_kib / 1024,
        }
    }

    /// Waits until it has said `text` on standard error; the line.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.stderr.wait_for(&self.name, text)
    }

    /// Waits until `text` stands on its standard output; the line.
    pub(crate) fn wait_for_output(&self, text: &str) -> String {
        self.stdout.wait_for(&self.name, text)
    }

    /// What it has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        self.stderr.text()
    }

    /// What stands on its standard output so far.
    pub(crate) fn said_on_stdout(&self) -> String {
        self.stdout.text()
    }

    /// The most memory it was seen with, in MiB.
    pub(crate) fn peak_mib(&mut self) -> u64 {
        self.glance();
        self.peak_kib / 1024
    }

    /// Linux keeps the peak until the process ends, so looking now and then misses next to nothing.
    fn glance(&mut self) {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok());
        self.peak_kib = self.peak_kib.max(peak.unwrap_or(0));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.stderr.text());
        }
    }
}

impl Ended {
    /// Checks the exit code, and shows what was said when it is another.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Ended {
        let got = self.status.code();
        assert_eq!(
            got,
            Some(code),
            "signal {:?}; it said:\n{}",
            self.status.signal(),
            self.stderr
        );
        self
    }

    /// Checks that standard error is one sentence that holds each of `parts`.
    #[track_caller]
    pub(crate) fn expect_sentence(self, parts: &[&str]) -> Ended {
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "not one sentence:\n{}", self.stderr);
        assert!(lines[0].starts_with("mutirao: "), "{}", lines[0]);
        self.expect_said(parts)
    }

    /// Checks that standard error holds each of `parts`, and no debug dump.
    #[track_caller]
    pub(crate) fn expect_said(self, parts: &[&str]) -> Ended {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in:\n{}",
                self.stderr
            );
        }
        for dump in ["Some(", "Os {", "panicked", "Error {"] {
            assert!(!self.stderr.contains(dump), "a dump:\n{}", self.stderr);
        }
        self
    }

    pub(crate) fn stdout_text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on standard output")
    }

    /// The summary of `--summary json`.
    #[track_caller]
    pub(crate) fn summary(&self) -> serde_json::Value {
        let text = self.stdout_text();
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }
}

/// A pipe that somebody always reads, so that nobody ever waits for us.
struct Capture {
    shared: Arc<(Mutex<Captured>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    fn start(mut pipe: impl Read + Send + 'static) -> Capture {
        let shared = Arc::new((Mutex::new(Captured::default()), Condvar::new()));
        let ours = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut chunk = vec![0; 64 << 10];
            loop {
                let count = pipe.read(&mut chunk).unwrap_or(0);
                // Whoever waits for a line in vain panics with the lock.
                let captured = ours.0.lock();
                let mut captured = captured.unwrap_or_else(PoisonError::into_inner);
                captured.bytes.extend_from_slice(&chunk[..count]);
                captured.ended = count == 0;
                ours.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Capture {
            shared,
            thread: Some(thread),
        }
    }

    /// All of it; the writer has ended.
    fn all(&mut self) -> Vec<u8> {
        // A child of the process may hold the pipe a little longer.
        let (captured, changed) = &*self.shared;
        let captured = captured.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = changed.wait_timeout_while(captured, DEADLINE, |captured| !captured.ended);
        let bytes = wait.unwrap().0.bytes.clone();
        let _ = self.thread.take().map(JoinHandle::join);
        bytes
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(
            &self
                .shared
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .bytes,
        )
        .into_owned()
    }

    fn wait_for(&self, name: &str, text: &str) -> String {
        let (captured, changed) = &*self.shared;
        let mut captured = captured.lock().unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let said = String::from_utf8_lossy(&captured.bytes);
            // A line that is still being written may lack what the caller wants to read in it.
            let whole = &said[..said.rfind('\n').map_or(0, |at| at + 1)];
            if let Some(line) = whole.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !captured.ended && !left.is_zero(),
                "{name} did not say {text:?} but:\n{said}"
            );
            captured = changed.wait_timeout(captured, left).unwrap().0;
        }
    }
}

/// Looks again and again until `done`.
#[track_caller]
pub(crate) fn wait_until(patience: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !done() {
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain for {what}"
        );
        std::thread::sleep(GLANCE);
    }
}

/// A folder of a test's own, gone with it.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("mutirao-").tempdir();
        Place {
            folder: folder.expect("a folder for temporary files"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        let path = self.path(name);
        path.to_str().expect("a plain path").to_owned()
    }

    /// Writes a file, with the folders that it needs.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in our folder")).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// An endpoint in the folder.
    pub(crate) fn ipc(&self, name: &str) -> String {
        format!("ipc://{}", self.arg(name))
    }

    /// Every file below `name`, hidden ones too, by relative path.
    pub(crate) fn files(&self, name: &str) -> Vec<String> {
        let mut files = Vec::new();
        list(&self.path(name), "", &mut files);
        files.sort();
        files
    }

    /// Empty folders below `name` included, for a message.
    pub(crate) fn tree(&self, name: &str) -> String {
        let mut text = String::new();
        for file in self.files(name) {
            let _ = writeln!(text, "{file}");
        }
        text
    }
}

fn list(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{name}/"), files);
        } else {
            files.push(name);
        }
    }
}
