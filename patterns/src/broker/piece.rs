//! Consecutive tasks of a job, as they wait or are leased.

use std::sync::Arc;

use crate::pipeline::{Span, TaskId};
use crate::wire::value_bytes;

/// A part of a frame that many may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    bytes: Arc<[u8]>,
    start: usize,
    end: usize,
}

impl Slice {
    /// What lies from `start` to the end of the frame.
    pub fn from(bytes: Arc<[u8]>, start: usize) -> Slice {
        let end = bytes.len();
        let start = start.min(end);
        Slice { bytes, start, end }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, but not a part of something larger that would be kept with it.
    pub(super) fn alone(&self) -> Slice {
        Slice::from(self.to_arc(), 0)
    }

    /// The bytes in memory of their own.
    pub(super) fn to_arc(&self) -> Arc<[u8]> {
        match self.start == 0 && self.end == self.bytes.len() {
            true => self.bytes.clone(),
            false => self.bytes().into(),
        }
    }

    /// Cuts the first `bytes` off.
    fn take(&mut self, bytes: usize) -> Slice {
        let cut = (self.start + bytes).min(self.end);
        let taken = Slice {
            bytes: self.bytes.clone(),
            start: self.start,
            end: cut,
        };
        self.start = cut;
        taken
    }
}

/// Whether there are exactly `values` MessagePack values.
pub(super) fn holds(bytes: &[u8], values: u64) -> bool {
    let mut rest = bytes;
    for _ in 0..values {
        let Some(len) = value_bytes(rest) else {
            return false;
        };
        rest = &rest[len..];
    }
    rest.is_empty()
}

/// So often tasks may come back by chance, as messages get lost and workers leave; what comes back more often than
/// that makes them leave it.
const CHANCE: u32 = 16;

/// Tasks that travel together and share a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) span: Span,
    pub(super) records: Slice,
    /// Which attempt is the next, counted from 1.
    pub(super) attempt: u32,
    /// Workers that died while they worked on it.
    pub(super) deaths: u32,
    /// How often it came back although nobody asked for it: lost on the way, or left behind.
    pub(super) strays: u32,
    /// One death more would be its end, so it is kept apart from others like it.
    pub(super) suspect: bool,
}

impl Piece {
    /// A piece that nobody has tried yet.
    pub(super) fn new(span: Span, records: Slice) -> Piece {
        Piece {
            span,
            records,
            attempt: 1,
            deaths: 0,
            strays: 0,
            suspect: false,
        }
    }

    /// For how many workers it is taken to be their end.
    pub(super) fn blame(&self) -> u32 {
        self.deaths + self.strays.saturating_sub(CHANCE)
    }

    /// Cuts the first tasks off: at most `tasks`, at most `bytes` together, at least one. Tasks must
    /// be left over; see [`fits`](Piece::fits).
    pub(super) fn take(&mut self, tasks: u32, bytes: usize) -> Piece {
        let all = self.records.bytes();
        let (mut count, mut end) = (0, 0);
        while count < tasks.clamp(1, self.span.count - 1) {
            // Checked when it was taken in.
            let len = value_bytes(&all[end..]).unwrap_or(0);
            if count > 0 && end + len > bytes {
                break;
            }
            (count, end) = (count + 1, end + len);
        }
        let span = Span {
            first: self.span.first,
            count,
        };
        self.span = Span {
            first: span.end(),
            count: self.span.count - count,
        };
        Piece {
            span,
            records: self.records.take(end),
            ..*self
        }
    }

    /// Whether it is within these bounds as it is.
    pub(super) fn fits(&self, tasks: u32, bytes: usize) -> bool {
        self.span.count == 1 || self.span.count <= tasks && self.records.len() <= bytes
    }

    /// Cuts it into pieces of at most so many bytes, but for single tasks that are larger.
    pub(super) fn cut(mut self, bytes: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while !self.fits(u32::MAX, bytes) {
            pieces.push(self.take(u32::MAX, bytes));
        }
        pieces.push(self);
        pieces
    }

    /// Cuts it into at most `parts` pieces of about the same number of tasks.
    pub(super) fn split(mut self, parts: u32) -> Vec<Piece> {
        let each = self.span.count.div_ceil(parts.max(1)).max(1);
        let mut pieces = Vec::new();
        while self.span.count > each {
            pieces.push(self.take(each, usize::MAX));
        }
        pieces.push(self);
        pieces
    }

    /// Cuts out the tasks of `span`, which lies within; what is before and behind it comes as well.
    pub(super) fn cut_out(mut self, span: Span) -> (Option<Piece>, Piece, Option<Piece>) {
        let ahead = (span.first - self.span.first) as u32;
        let before = (ahead > 0).then(|| self.take(ahead, usize::MAX));
        if self.span.count == span.count {
            return (before, self, None);
        }
        let middle = self.take(span.count, usize::MAX);
        (before, middle, Some(self))
    }

    /// Whether it holds all tasks of `span`.
    pub(super) fn contains(&self, span: Span) -> bool {
        self.span.first <= span.first && span.end() <= self.span.end()
    }

    pub(super) fn first(&self) -> TaskId {
        self.span.first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(first: TaskId, tasks: &[Vec<u8>]) -> Piece {
        let mut bytes = vec![1, 2, 3];
        for task in tasks {
            rmp::encode::write_bin(&mut bytes, task).unwrap();
        }
        let span = Span {
            first,
            count: tasks.len() as u32,
        };
        Piece::new(span, Slice::from(bytes.into(), 3))
    }

    proptest! {
        #[test]
        fn pieces_that_are_cut_hold_their_own_tasks(
            tasks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 2..40),
            parts in 1..50_u32, from: prop::sample::Index, to: prop::sample::Index,
        ) {
            let whole = piece(7, &tasks);
            let (from, to) = (from.index(tasks.len()), to.index(tasks.len()));
            let (from, to) = (from.min(to), from.max(to) + 1);
            let span = Span { first: 7 + from as u64, count: (to - from) as u32 };
            let (before, middle, behind) = whole.clone().cut_out(span);
            prop_assert_eq!(middle.span, span);
            let expected = piece(0, &tasks[from..to]);
            prop_assert_eq!(middle.records.bytes(), expected.records.bytes());
            prop_assert_eq!(before.map_or(0, |piece| piece.span.count) as usize, from);
            prop_assert_eq!(behind.map_or(0, |piece| piece.span.count) as usize, tasks.len() - to);

            let pieces = whole.clone().split(parts);
            prop_assert!(pieces.len() <= parts as usize);
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.records.bytes().to_vec()).collect();
            prop_assert_eq!(&bytes, whole.records.bytes());
            for piece in pieces {
                prop_assert!(holds(piece.records.bytes(), u64::from(piece.span.count)));
            }
        }
    }

    #[test]
    fn a_piece_is_cut_at_either_bound_but_never_to_nothing() {
        let tasks = vec![vec![0; 10]; 5];
        let cut = |tasks_most, bytes_most| piece(0, &tasks).take(tasks_most, bytes_most).span.count;
        assert_eq!(cut(3, 1000), 3);
        assert_eq!(cut(3, 25), 2);
        assert_eq!(cut(3, 1), 1);
        assert_eq!(cut(9, 1000), 4, "one is left over");
    }

    #[test]
    fn values_are_counted_to_the_byte() {
        assert!(holds(&[0xc0, 0xa1, b'x'], 2));
        assert!(!holds(&[0xc0, 0xa1, b'x'], 1));
        assert!(!holds(&[0xc0, 0xa1], 2));
        assert!(!holds(&[0xc0], u64::MAX));
    }
}
