//! How far a batch has been begun, and how far it shall be.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::pipeline::{Span, TaskId};

/// Shared by the thread that runs a batch and the driver, which may take away what is not begun.
#[derive(Debug)]
pub(super) struct Bounds {
    first: TaskId,
    /// Tasks begun in the upper half, tasks to be begun in the lower.
    state: AtomicU64,
}

impl Bounds {
    /// Nothing is begun, and all shall be.
    pub(super) fn new(span: Span) -> Bounds {
        Bounds {
            first: span.first,
            state: AtomicU64::new(u64::from(span.count)),
        }
    }

    /// Begins the next task; `None` when that was all.
    pub(super) fn begin(&self) -> Option<TaskId> {
        let next = |state: u64| (state >> 32 < state & HALF).then_some(state + (1 << 32));
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .ok()?;
        Some(self.first + (before >> 32))
    }

    /// Takes away all that is not begun; the first of these, if there are any.
    pub(super) fn cut(&self) -> Option<TaskId> {
        let cut = |state: u64| (state >> 32 < state & HALF).then_some(state & !HALF | state >> 32);
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, cut)
            .ok()?;
        Some(self.first + (before >> 32))
    }

    /// How many tasks were begun.
    pub(super) fn begun(&self) -> u32 {
        (self.state.load(Ordering::Acquire) >> 32) as u32
    }
}

const HALF: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_begun_can_be_taken_away_once() {
        let bounds = Bounds::new(Span { first: 7, count: 4 });
        assert_eq!((bounds.begin(), bounds.begin()), (Some(7), Some(8)));
        assert_eq!((bounds.cut(), bounds.cut()), (Some(9), None));
        assert_eq!((bounds.begin(), bounds.begun()), (None, 2));
        let all = Bounds::new(Span {
            first: 0,
            count: u32::MAX,
        });
        assert_eq!((all.begin(), all.cut()), (Some(0), Some(1)));
        let none = Bounds::new(Span { first: 3, count: 1 });
        assert_eq!(
            (none.begin(), none.cut(), none.begin()),
            (Some(3), None, None)
        );
    }
}
