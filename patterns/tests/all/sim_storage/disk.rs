//! A file of lines on a disk that is slow to sync, may be full, and loses in a crash what was not synced.

use std::collections::VecDeque;
use std::time::Duration;

use mutirao::machine::Time;
use mutirao::sim::Rng;
use mutirao::storage::{LineError, Lines, Named, TextLine};

/// The bytes that survive, and those on their way.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) file: Vec<u8>,
    pending: VecDeque<(Time, u64, Vec<u8>)>,
    pub(super) slowest: Duration,
    last_due: Time,
}

impl Disk {
    pub(super) fn new(file: Vec<u8>) -> Disk {
        Disk {
            file,
            pending: VecDeque::new(),
            slowest: Duration::from_millis(30),
            last_due: Time::START,
        }
    }

    pub(super) fn append(&mut self, now: Time, op: u64, line: &impl TextLine, rng: &mut Rng) {
        let delay = rng.within(&(Duration::from_micros(10)..self.slowest));
        self.last_due = self.last_due.max(now + delay);
        let line = line.to_line().into_bytes();
        self.pending.push_back((self.last_due, op, line));
    }

    /// The next line that is on disk by now: its operation, and where it begins.
    pub(super) fn sync(&mut self, now: Time) -> Option<(u64, usize)> {
        if self.due()? > now {
            return None;
        }
        let (_, op, line) = self.pending.pop_front()?;
        let offset = self.file.len();
        self.file.extend_from_slice(&line);
        Some((op, offset))
    }

    pub(super) fn due(&self) -> Option<Time> {
        self.pending.front().map(|(due, ..)| *due)
    }

    /// Bytes in the file and on their way there.
    pub(super) fn bytes(&self) -> u64 {
        let pending: usize = self.pending.iter().map(|(_, _, line)| line.len()).sum();
        (self.file.len() + pending) as u64
    }

    /// What a crash leaves: what was synced, and any part of the rest from its start.
    pub(super) fn crash(mut self, rng: &mut Rng) -> Vec<u8> {
        let rest: Vec<u8> = self
            .pending
            .into_iter()
            .flat_map(|(_, _, line)| line)
            .collect();
        let kept = rng.below(rest.len() as u64 + 1) as usize;
        self.file.extend_from_slice(&rest[..kept]);
        self.file
    }
}

/// Reads a file as a program does at its start: what is torn is cut off, what is damaged passed over.
pub(super) fn load<T: TextLine>(file: &mut Vec<u8>) -> Vec<Named<T>> {
    let lines = Lines::new(&file[..], 1 << 20);
    let lines: Vec<Named<T>> = lines.map(|line| line.expect("memory")).collect();
    if let Some(torn) = lines
        .iter()
        .find(|line| matches!(line.line, Err(LineError::Torn)))
    {
        let offset = torn.offset as usize;
        file.truncate(offset);
    }
    lines.into_iter().filter(|line| line.line.is_ok()).collect()
}
