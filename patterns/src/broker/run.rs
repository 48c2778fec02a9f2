//! Consecutive tasks that came in small messages, in one piece of memory.

use crate::pipeline::{Span, TaskId};

use super::piece::Slice;

/// Bytes of tasks that lie together in memory, and in one record of the store: a little less than
/// the 64 KiB that such a record then takes there.
pub(super) const RUN_BYTES: usize = 60 << 10;

/// Tasks that follow one another.
#[derive(Debug, Default)]
pub(super) struct Run {
    first: TaskId,
    count: u32,
    records: Vec<u8>,
}

impl Run {
    /// Adds tasks behind those that are there; `false`, and nothing added, if they do not follow or
    /// there is no room.
    pub(super) fn add(&mut self, span: Span, records: &[u8]) -> bool {
        if self.is_empty() {
            self.first = span.first;
        } else if span.first != self.end() || self.records.len() + records.len() > RUN_BYTES {
            return false;
        }
        self.count += span.count;
        self.records.extend_from_slice(records);
        true
    }

    pub(super) fn bytes(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn first(&self) -> Option<TaskId> {
        (!self.is_empty()).then_some(self.first)
    }

    /// The first task behind them.
    pub(super) fn end(&self) -> TaskId {
        self.first + u64::from(self.count)
    }

    /// Takes them out, in memory that is just large enough.
    pub(super) fn take(&mut self) -> Option<(Span, Slice)> {
        let run = std::mem::take(self);
        let (first, count) = (run.first, run.count);
        (count > 0).then(|| (Span { first, count }, Slice::from(run.records.into(), 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: TaskId, count: u32) -> Span {
        Span { first, count }
    }

    #[test]
    fn only_what_follows_and_fits_is_added() {
        let mut run = Run::default();
        assert_eq!(run.take(), None);
        assert!(run.add(span(5, 2), &[1, 2]));
        assert!(run.add(span(7, 1), &[3]));
        for apart in [span(7, 1), span(9, 1), span(4, 1)] {
            assert!(!run.add(apart, &[9]));
        }
        assert!(!run.add(span(8, 1), &[0; RUN_BYTES]));
        let taken = Slice::from([1, 2, 3][..].into(), 0);
        assert_eq!(run.take(), Some((span(5, 3), taken)));
        assert!(
            run.add(span(0, 1), &[0; 2 * RUN_BYTES]),
            "alone it is as large as it is"
        );
    }
}
