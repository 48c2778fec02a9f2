//! The register as a log: entries that heads agree on, one after the other.

use serde::{Deserialize, Serialize};

use super::{Checksum, Epoch, HeadId, InstanceId, RecordId, RegisterLine};

/// A place in the register: entries with the same place are the same, and so is all before them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// In whose reign the entry was made; 0 before the first one.
    pub epoch: Epoch,
    /// Its number, from 1.
    pub index: u64,
}

/// Something that the register says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// In whose reign it was made.
    pub epoch: Epoch,
    /// What it says.
    pub fact: Fact,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// This head leads from here on.
    Lead {
        /// Which.
        head: HeadId,
    },
    /// The name belongs to this data node.
    Node {
        /// Which.
        instance: InstanceId,
        /// Its name.
        name: String,
    },
    /// There is such a record.
    Record {
        /// Which.
        id: RecordId,
        /// Of its bytes.
        length: u64,
        /// Of its bytes.
        checksum: Checksum,
        /// Who had it on disk.
        places: Vec<InstanceId>,
    },
    /// The record lies elsewhere now.
    Places {
        /// Which.
        id: RecordId,
        /// Who has it on disk.
        places: Vec<InstanceId>,
    },
}

/// One head's copy of the register, with the promise that goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    entries: Vec<Entry>,
    promised: (Epoch, HeadId),
    /// The numbers that entries have in a file with gaps.
    salvaged: Vec<u64>,
}

/// The line does not follow from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} of the register follows {last}: a line between them is missing or damaged")]
pub struct Gap {
    /// The number of the last entry.
    pub last: u64,
    /// The number of the next one found.
    pub found: u64,
}

impl Register {
    /// Takes note of a line that was read from the file.
    ///
    /// # Errors
    ///
    /// The line leaves a gap: the file is not what this head wrote. Nothing has changed.
    pub fn replay(&mut self, line: RegisterLine) -> Result<(), Gap> {
        match line {
            RegisterLine::Promise { epoch, head } => {
                self.promised = self.promised.max((epoch, head));
            }
            RegisterLine::Cut { index } => self.cut(index),
            RegisterLine::Entry { index, entry } => {
                let (last, found) = (self.last().index, index);
                if found != last + 1 {
                    return Err(Gap { last, found });
                }
                self.entries.push(entry);
            }
        }
        Ok(())
    }

    /// The same where nobody else has a copy: what is missing is passed over, and found again at the
    /// data nodes. Entries have other numbers here than in the file then, so that it must be
    /// [rewritten](Register::rewrite) before anything is appended.
    pub fn salvage(&mut self, line: RegisterLine) {
        match line {
            RegisterLine::Promise { epoch, head } => {
                self.promised = self.promised.max((epoch, head));
            }
            RegisterLine::Cut { index } => self.cut_salvaged(index),
            RegisterLine::Entry { index, entry } => {
                // The line that cut it off is one of those missing.
                self.cut_salvaged(index);
                self.salvaged.push(index);
                self.entries.push(entry);
            }
        }
    }

    fn cut_salvaged(&mut self, index: u64) {
        let keep = self.salvaged.partition_point(|&found| found < index);
        self.salvaged.truncate(keep);
        self.entries.truncate(keep);
    }

    /// Whether entries are missing that the file once had.
    pub fn has_gaps(&self) -> bool {
        let last = self.salvaged.last().copied().unwrap_or_default();
        last > self.salvaged.len() as u64
    }

    /// The lines of a file that says all this and nothing else.
    pub fn lines(&self) -> impl Iterator<Item = RegisterLine> {
        let (epoch, head) = self.promised;
        let promise = RegisterLine::Promise { epoch, head };
        let entries = (1..).zip(self.entries.iter().cloned());
        let entries = entries.map(|(index, entry)| RegisterLine::Entry { index, entry });
        [promise].into_iter().chain(entries)
    }

    /// The reign to which this head has bound itself, and whose it is.
    pub fn promised(&self) -> (Epoch, HeadId) {
        self.promised
    }

    pub(super) fn promise(&mut self, epoch: Epoch, head: HeadId) -> RegisterLine {
        self.promised = (epoch, head);
        RegisterLine::Promise { epoch, head }
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The last place.
    pub fn last(&self) -> Position {
        self.position(self.entries.len() as u64).unwrap_or_default()
    }

    /// The place with this number; `None` when there is none.
    pub fn position(&self, index: u64) -> Option<Position> {
        let at = usize::try_from(index).ok()?;
        let epoch = match at.checked_sub(1) {
            None => 0,
            Some(at) => self.entries.get(at)?.epoch,
        };
        Some(Position { epoch, index })
    }

    /// Whether this place is in the register, and so all before it.
    pub fn has(&self, at: Position) -> bool {
        self.position(at.index) == Some(at)
    }

    /// The last place here that may also be in another register that has `at`: no entry behind it can
    /// be before `at` there. Asking each other so in turn, two registers find where they part.
    pub fn common(&self, at: Position) -> Position {
        let below = (at.index as usize).min(self.entries.len());
        // Epochs never fall.
        let count = self.entries[..below].partition_point(|entry| entry.epoch <= at.epoch);
        self.position(count as u64).unwrap_or_default()
    }

    /// Up to `count` entries behind this number.
    pub fn behind(&self, index: u64, count: usize) -> &[Entry] {
        let start = (index as usize).min(self.entries.len());
        let end = start.saturating_add(count).min(self.entries.len());
        &self.entries[start..end]
    }

    pub(super) fn push(&mut self, entry: Entry) -> RegisterLine {
        self.entries.push(entry.clone());
        let index = self.entries.len() as u64;
        RegisterLine::Entry { index, entry }
    }

    /// Takes over entries that follow `after`, which is here; returns what to write. Entries of ours
    /// that differ were never confirmed, and go.
    pub(super) fn graft(&mut self, after: Position, entries: Vec<Entry>) -> Vec<RegisterLine> {
        let mut lines = Vec::new();
        for (index, entry) in (after.index + 1..).zip(entries) {
            match self.position(index) {
                Some(here) if here.epoch == entry.epoch => continue,
                Some(_) => {
                    self.cut(index);
                    lines.push(RegisterLine::Cut { index });
                }
                None => {}
            }
            lines.push(self.push(entry));
        }
        lines
    }

    fn cut(&mut self, index: u64) {
        let keep = index.saturating_sub(1);
        self.entries
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(epochs: &[Epoch]) -> Register {
        let mut register = Register::default();
        for &epoch in epochs {
            register.push(entry(epoch));
        }
        register
    }

    fn entry(epoch: Epoch) -> Entry {
        let head = HeadId(epoch as u32);
        Entry {
            epoch,
            fact: Fact::Lead { head },
        }
    }

    /// The two examples of the Raft paper's figure 7 that differ most from the leader.
    #[test]
    fn two_registers_find_where_they_part() {
        let leader = register(&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
        for (other, parts_at) in [
            (register(&[1, 1, 1, 4, 4, 4, 4]), 5),
            (register(&[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]), 3),
            (register(&[]), 0),
            (register(&[1, 1, 1, 4, 4, 5, 5, 6, 6]), 9),
        ] {
            let mut at = leader.last();
            let mut rounds = 0;
            while !other.has(at) {
                at = leader.common(other.common(at));
                rounds += 1;
            }
            assert_eq!((at.index, rounds <= 3), (parts_at, true));
        }
    }

    #[test]
    fn what_differs_is_replaced_and_the_file_says_the_same() {
        let mut here = register(&[1, 1, 2, 2]);
        let mut file = register(&[1, 1, 2, 2]);
        let after = Position { epoch: 1, index: 1 };
        let lines = here.graft(after, vec![entry(1), entry(3)]);
        assert_eq!(here, register(&[1, 1, 3]));
        for line in lines {
            file.replay(line).unwrap();
        }
        assert_eq!(file, here);
        // The same again changes nothing, nor does a shorter message that comes late.
        assert_eq!(here.graft(after, vec![entry(1)]), []);
        assert_eq!(here, file);
    }

    #[test]
    fn what_is_salvaged_is_whole_again() {
        let line = |index, epoch| RegisterLine::Entry {
            index,
            entry: entry(epoch),
        };
        let mut salvaged = Register::default();
        let promise = RegisterLine::Promise {
            epoch: 3,
            head: HeadId(1),
        };
        for line in [promise, line(1, 1), line(2, 1), line(4, 1), line(5, 2)] {
            salvaged.salvage(line);
        }
        assert!(salvaged.has_gaps());
        // Cut off by a line, and by one that is missing.
        salvaged.salvage(RegisterLine::Cut { index: 5 });
        salvaged.salvage(line(4, 3));
        assert_eq!(salvaged.entries(), register(&[1, 1, 3]).entries());
        let mut whole = Register::default();
        for line in salvaged.lines() {
            whole.replay(line).unwrap();
        }
        assert_eq!(whole.entries(), salvaged.entries());
        assert_eq!(whole.promised(), (3, HeadId(1)));
        assert!(!whole.has_gaps());
    }

    #[test]
    fn a_missing_line_is_noticed() {
        let mut register = register(&[1, 1]);
        let line = RegisterLine::Entry {
            index: 4,
            entry: entry(1),
        };
        assert_eq!(register.replay(line), Err(Gap { last: 2, found: 4 }));
    }
}
