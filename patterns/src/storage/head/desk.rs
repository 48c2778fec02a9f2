//! What a head has at hand in every role: its register, what is on disk of it, what is to be said.

use std::collections::VecDeque;

use super::super::{Entry, Epoch, Fact, HeadSays, Position, Register, RegisterLine};
use super::{HeadConfig, HeadId, HeadOutput};

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) config: HeadConfig,
    pub(super) register: Register,
    outbox: VecDeque<HeadOutput>,
    /// Lines given out to be kept, and how many of them are on disk.
    written: u64,
    kept: u64,
    /// What may be said when so many lines are on disk.
    promises: VecDeque<(u64, HeadOutput)>,
    /// Entries that are on disk when so many lines are.
    marks: VecDeque<(u64, u64)>,
    /// The last entry that is on disk.
    durable: u64,
    /// Whether the disk has no room.
    pub(super) disk_full: bool,
}

impl Desk {
    pub(super) fn new(config: HeadConfig, register: Register) -> Desk {
        Desk {
            config,
            durable: register.last().index,
            register,
            outbox: VecDeque::new(),
            written: 0,
            kept: 0,
            promises: VecDeque::new(),
            marks: VecDeque::new(),
            disk_full: false,
        }
    }

    /// The number of the last entry that is on disk.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether everything that was written is on disk.
    pub(super) fn is_durable(&self) -> bool {
        self.kept == self.written
    }

    pub(super) fn majority(&self) -> usize {
        self.config.peers.len().div_ceil(2) + 1
    }

    pub(super) fn say(&mut self, output: HeadOutput) {
        self.outbox.push_back(output);
    }

    pub(super) fn say_to_head(&mut self, to: HeadId, message: HeadSays) {
        self.say(HeadOutput::ToHead(to, message));
    }

    /// Says it when all that was written so far is on disk.
    pub(super) fn say_when_kept(&mut self, to: HeadId, message: HeadSays) {
        let output = HeadOutput::ToHead(to, message);
        match self.is_durable() {
            true => self.say(output),
            false => self.promises.push_back((self.written, output)),
        }
    }

    pub(super) fn next(&mut self) -> Option<HeadOutput> {
        self.outbox.pop_front()
    }

    pub(super) fn promise(&mut self, epoch: Epoch, head: HeadId) {
        let line = self.register.promise(epoch, head);
        self.keep(line);
    }

    /// Appends an entry; its number.
    pub(super) fn append(&mut self, epoch: Epoch, fact: Fact) -> u64 {
        let line = self.register.push(Entry { epoch, fact });
        self.keep(line);
        self.register.last().index
    }

    /// Takes over entries behind a place that is here.
    pub(super) fn graft(&mut self, after: Position, entries: Vec<Entry>) {
        for line in self.register.graft(after, entries) {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: RegisterLine) {
        self.written += 1;
        match line {
            RegisterLine::Entry { index, .. } => self.marks.push_back((self.written, index)),
            RegisterLine::Cut { index } => {
                self.marks.retain(|&(_, mark)| mark < index);
                self.durable = self.durable.min(index.saturating_sub(1));
            }
            RegisterLine::Promise { .. } => {}
        }
        self.say(HeadOutput::Keep(line));
    }

    /// The first `count` lines are on disk.
    pub(super) fn kept(&mut self, count: u64) {
        self.kept = self.kept.max(count.min(self.written));
        let marks = self.marks.partition_point(|&(line, _)| line <= self.kept);
        if let Some((_, index)) = self.marks.drain(..marks).next_back() {
            self.durable = index;
        }
        let promises = self
            .promises
            .partition_point(|(line, _)| *line <= self.kept);
        let released = self.promises.drain(..promises).map(|(_, output)| output);
        self.outbox.extend(released);
    }
}
