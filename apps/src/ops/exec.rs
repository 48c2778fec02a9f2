//! `exec`: a command per task, run directly, without a shell.
//!
//! `exec:COMMAND ARGS` feeds the task to the command's standard input; what it prints is the result.
//! Plain `exec` takes the task's text as the command line, with nothing on standard input, the way
//! `xargs` does. An exit status other than 0 is the task's error.
//!
//! One thread serves all three pipes, so that a command which reads and prints much at once can
//! never wait for us while we wait for it, and a command that does little costs little more than
//! its start. Nothing here (working directory, hooks before exec) keeps `std` from `posix_spawn`.

use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;

use super::{
    Declaration, Merge, OpError, Operation, Split, TaskError, bad_argument, printable, text,
};

/// `exec`.
pub(super) static DECLARATION: Declaration = Declaration {
    name: "exec",
    argument: "COMMAND ARGS (what the task says)",
    takes: "its input, or the command",
    gives: "what the command prints",
    split: Split::Whole,
    merge: Merge::Concatenate,
};

/// As much of standard error is kept as its last line may take.
const STDERR_TAIL_BYTES: usize = 4096;

/// How often a command is looked at that has closed its pipes and runs on.
const GLANCE: Duration = Duration::from_millis(5);

/// Why a command gave no result.
#[derive(Debug, Error)]
pub(crate) enum ExecError {
    /// The task has no text, or only blanks.
    #[error("the task is empty; plain `exec` needs a command line in it")]
    NoCommand,
    /// A quote that does not end.
    #[error("“{line}” is no command line; look for a quote without its partner")]
    BadQuotes {
        /// The line, made printable.
        line: String,
    },
    /// No such command, or not allowed.
    #[error("cannot start “{command}”: {source}; it must be installed on every worker")]
    Start {
        /// The command.
        command: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A pipe broke in a way that pipes should not.
    #[error("lost contact with “{command}”: {source}")]
    Pipe {
        /// The command.
        command: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The result would not fit.
    #[error(
        "“{command}” printed more than {limit_bytes} bytes and was killed; make it print less per task"
    )]
    TooMuch {
        /// The command.
        command: String,
        /// The most it may print.
        limit_bytes: usize,
    },
    /// The job's time limit for a task.
    #[error("“{command}” took longer than {} and was killed", super::seconds(.limit))]
    TooLong {
        /// The command.
        command: String,
        /// How long it may take.
        limit: Duration,
    },
    /// It ran and reported failure.
    #[error("“{command}” {ended}{}", complaint(.stderr))]
    Failed {
        /// The command.
        command: String,
        /// How it ended: `exited with status 3`, `was killed by signal 9`.
        ended: String,
        /// The last line on its standard error, made printable; may be empty.
        stderr: String,
    },
}

fn complaint(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(": {stderr}")
    }
}

/// With no command of its own, the task is the command.
struct Exec {
    words: Option<Vec<String>>,
    limit_bytes: usize,
}

pub(super) fn build(
    argument: Option<&str>,
    limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    let help = "a command line with every quote closed";
    let words = argument
        .map(|line| words(line).map_err(|_| bad_argument(&DECLARATION, line, help)))
        .transpose()?;
    Ok(Box::new(Exec { words, limit_bytes }))
}

impl Operation for Exec {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, TaskError> {
        self.apply_within(input, None)
    }

    fn apply_within(&self, input: &[u8], time: Option<Duration>) -> Result<Vec<u8>, TaskError> {
        let bounds = Bounds {
            bytes: self.limit_bytes,
            time: time.and_then(|time| Some((time, Instant::now().checked_add(time)?))),
        };
        let result = match &self.words {
            Some(words) => run(words, input, bounds),
            None => run(&words(text(input)?)?, b"", bounds),
        };
        Ok(result?)
    }
}

/// What a command may print, and how long it may take: the time, and when that is over.
#[derive(Clone, Copy)]
struct Bounds {
    bytes: usize,
    time: Option<(Duration, Instant)>,
}

fn words(line: &str) -> Result<Vec<String>, ExecError> {
    let words = shlex::split(line)
        .filter(|_| !line.contains('\0'))
        .ok_or_else(|| ExecError::BadQuotes {
            line: printable(line, 80),
        })?;
    if words.is_empty() {
        Err(ExecError::NoCommand)
    } else {
        Ok(words)
    }
}

fn run(words: &[String], input: &[u8], bounds: Bounds) -> Result<Vec<u8>, ExecError> {
    let limit_bytes = bounds.bytes;
    let deadline = bounds.time.map(|(_, deadline)| deadline);
    let too_long = || ExecError::TooLong {
        command: printable(&words[0], 80),
        limit: bounds.time.map(|(limit, _)| limit).unwrap_or_default(),
    };
    let name = || printable(&words[0], 80);
    let pipe = |source| ExecError::Pipe {
        command: name(),
        source,
    };
    let mut running = Running::start(words, input).map_err(|source| ExecError::Start {
        command: name(),
        source,
    })?;
    let mut talk = running.talk(input, limit_bytes).map_err(pipe)?;
    while !talk.is_over() {
        if !talk.step(deadline).map_err(pipe)? {
            return Err(too_long());
        }
        if talk.printed.len() > limit_bytes {
            return Err(ExecError::TooMuch {
                command: name(),
                limit_bytes,
            });
        }
    }
    let Talk {
        printed, complaint, ..
    } = talk;
    let status = running.wait(deadline).map_err(pipe)?;
    let status = status.ok_or_else(too_long)?;
    if status.success() {
        return Ok(printed);
    }
    Err(ExecError::Failed {
        command: name(),
        ended: ended(status),
        stderr: last_line(&complaint),
    })
}

/// A command that does not outlive its task: dropped early, it is killed and reaped.
struct Running {
    child: Child,
    over: bool,
}

impl Running {
    fn start(words: &[String], input: &[u8]) -> io::Result<Running> {
        let stdin = if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        };
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(stdin)
            .stdout(Stdio::piped())
            // Ctrl-C in the terminal is for us: the command's task is begun and will be finished.
            .process_group(0)
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Running { child, over: false })
    }

    fn talk<'a>(&mut self, input: &'a [u8], limit_bytes: usize) -> io::Result<Talk<'a>> {
        let talk = Talk {
            input,
            stdin: self.child.stdin.take(),
            stdout: self.child.stdout.take(),
            stderr: self.child.stderr.take(),
            printed: Vec::new(),
            complaint: Vec::new(),
            limit_bytes,
        };
        // Only our ends: the command's ends are other open files and keep blocking.
        talk.stdin
            .iter()
            .try_for_each(|pipe| ioctl_fionbio(pipe, true))?;
        talk.stdout
            .iter()
            .try_for_each(|pipe| ioctl_fionbio(pipe, true))?;
        talk.stderr
            .iter()
            .try_for_each(|pipe| ioctl_fionbio(pipe, true))?;
        Ok(talk)
    }

    /// How it ended; `None` when it has not by then, though it closed its pipes.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        let Some(deadline) = deadline else {
            let status = self.child.wait()?;
            self.over = true;
            return Ok(Some(status));
        };
        loop {
            let status = self.child.try_wait()?;
            self.over = status.is_some();
            if self.over || Instant::now() >= deadline {
                return Ok(status);
            }
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            // All that it has started, too. It fails only for what is already gone.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The conversation with a command: each pipe is dropped when its side is done.
struct Talk<'a> {
    input: &'a [u8],
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    printed: Vec<u8>,
    complaint: Vec<u8>,
    limit_bytes: usize,
}

impl Talk<'_> {
    fn is_over(&self) -> bool {
        self.stdin.is_none() && self.stdout.is_none() && self.stderr.is_none()
    }

    /// Waits until at least one pipe can move, and moves all that can; false when time is up.
    fn step(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        let Some([stdin, stdout, stderr]) = self.ready(deadline)? else {
            return Ok(false);
        };
        if stdin {
            self.feed()?;
        }
        // One byte over the limit is enough to know.
        let room = self
            .limit_bytes
            .saturating_add(1)
            .saturating_sub(self.printed.len());
        if stdout && drain(&mut self.stdout, &mut self.printed, room)? {
            self.stdout = None;
        }
        if stderr && drain(&mut self.stderr, &mut self.complaint, usize::MAX)? {
            self.stderr = None;
        }
        let excess = self.complaint.len().saturating_sub(STDERR_TAIL_BYTES);
        self.complaint.drain(..excess);
        Ok(true)
    }

    fn ready(&self, deadline: Option<Instant>) -> io::Result<Option<[bool; 3]>> {
        let pipes: [(Option<BorrowedFd<'_>>, PollFlags); 3] = [
            (self.stdin.as_ref().map(AsFd::as_fd), PollFlags::OUT),
            (self.stdout.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.stderr.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        let mut fds = Vec::with_capacity(3);
        fds.extend(
            pipes
                .into_iter()
                .filter_map(|(fd, wanted)| fd.map(|fd| PollFd::from_borrowed_fd(fd, wanted))),
        );
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // A time that the system cannot count is as good as none.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(Some(pipes.map(|(fd, _)| {
            fd.is_some() && events.next() == Some(true)
        })))
    }

    /// Writes what fits. A command that stops listening is no error: `head -1` does.
    fn feed(&mut self) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Ok(());
        };
        match stdin.write(self.input) {
            Ok(count) => self.input = &self.input[count..],
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.input = &[],
            Err(e) if is_no_news(&e) => {}
            Err(e) => return Err(e),
        }
        if self.input.is_empty() {
            self.stdin = None;
        }
        Ok(())
    }
}

/// Reads at most `room` bytes of what is there; true at the end of the pipe.
fn drain(pipe: &mut Option<impl Read>, into: &mut Vec<u8>, room: usize) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut chunk = [0; 16 * 1024];
    let chunk = &mut chunk[..room.min(16 * 1024)];
    match pipe.read(chunk) {
        Ok(0) => Ok(true),
        Ok(count) => {
            into.extend_from_slice(&chunk[..count]);
            Ok(false)
        }
        Err(e) if is_no_news(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

fn is_no_news(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    printable(line.unwrap_or_default().trim(), 200)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::{find, find_with_limit};

    fn exec(spec: &str, input: &[u8]) -> Result<String, String> {
        let result = find(spec).map_err(|e| e.to_string())?.apply(input);
        result
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_task_is_the_input_or_the_command() {
        assert_eq!(exec("exec:tr a-z A-Z", b"abc").unwrap(), "ABC");
        assert_eq!(exec("exec", b"echo 'a  b' \"c\"\n").unwrap(), "a  b c\n");
        assert_eq!(exec("exec", b"cat").unwrap(), "");
    }

    #[test]
    fn much_in_and_much_out_at_once_does_not_deadlock() {
        let input = vec![b'x'; 8 << 20];
        let result = find("exec:cat").unwrap().apply(&input).unwrap();
        assert!(result == input);
        let script = "exec:sh -c 'tee /dev/stderr'";
        assert!(find(script).unwrap().apply(&input).unwrap() == input);
    }

    #[test]
    fn a_command_that_does_not_listen_is_no_error() {
        assert_eq!(exec("exec:true", &vec![b'x'; 1 << 20]).unwrap(), "");
        assert_eq!(exec("exec:head -c 3", &vec![b'x'; 1 << 20]).unwrap(), "xxx");
    }

    #[test]
    fn a_failure_tells_the_status_and_the_last_words() {
        let script = "exec:sh -c 'echo first >&2; printf \"last \\033[1m\\n\\n\" >&2; exit 3'";
        let error = exec(script, b"").unwrap_err();
        assert_eq!(error, "“sh” exited with status 3: last \\u{1b}[1m");
        let error = exec("exec:sh -c 'kill -9 $$'", b"").unwrap_err();
        assert_eq!(error, "“sh” was killed by signal 9");
    }

    #[test]
    fn endless_output_is_cut_off() {
        let error = find_with_limit("exec:yes", 100_000)
            .unwrap()
            .apply(b"")
            .unwrap_err();
        assert!(
            error.to_string().contains("more than 100000 bytes"),
            "{error}"
        );
        let exact = find_with_limit("exec:printf 12345", 5)
            .unwrap()
            .apply(b"")
            .unwrap();
        assert_eq!(exact, b"12345");
    }

    #[test]
    fn a_command_and_all_that_it_started_end_with_the_time_limit() {
        let limit = Some(Duration::from_millis(200));
        let begun = Instant::now();
        for script in ["sleep 60", "sleep 60 >&- 2>&-", "sleep 60 & wait"] {
            let op = find(&format!("exec:sh -c '{script}'")).unwrap();
            let error = op.apply_within(b"", limit).unwrap_err().to_string();
            assert_eq!(error, "“sh” took longer than 200 ms and was killed");
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        let quick = find("exec:echo a").unwrap();
        let minute = Some(Duration::from_secs(60));
        assert_eq!(quick.apply_within(b"", minute).unwrap(), b"a\n");
    }

    #[test]
    fn a_command_line_that_is_none_is_refused() {
        assert!(exec("exec", b"echo 'a").unwrap_err().contains("quote"));
        assert!(exec("exec", b" \n").unwrap_err().contains("empty"));
        assert!(exec("exec", b"a\xff").unwrap_err().contains("UTF-8"));
        assert!(
            exec("exec", b"a\0b")
                .unwrap_err()
                .contains("no command line")
        );
        assert!(
            exec("exec:echo 'a", b"")
                .unwrap_err()
                .contains("every quote closed")
        );
        assert!(
            exec("exec:no-such-command-here", b"")
                .unwrap_err()
                .contains("cannot start")
        );
    }

    /// `cargo test --release -p mutirao-apps speed_of_exec -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn speed_of_exec_against_xargs() {
        const COUNT: usize = 4000;
        for round in 0..3 {
            let start = std::time::Instant::now();
            let xargs = format!("seq {COUNT} | xargs -P2 -n1 true");
            assert!(
                std::process::Command::new("sh")
                    .args(["-c", &xargs])
                    .status()
                    .unwrap()
                    .success()
            );
            let xargs = start.elapsed();
            for (op, input) in [
                ("exec:true", &b""[..]),
                ("exec:true", b"1\n"),
                ("exec", b"true 1"),
            ] {
                let start = std::time::Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        let op = find(op).unwrap();
                        scope.spawn(move || {
                            (0..COUNT / 2).for_each(|_| _ = op.apply(input).unwrap())
                        });
                    }
                });
                let ratio = xargs.as_secs_f64() / start.elapsed().as_secs_f64();
                eprintln!(
                    "round {round}, {op}, {} bytes: {ratio:.2} of xargs",
                    input.len()
                );
            }
        }
    }
}
