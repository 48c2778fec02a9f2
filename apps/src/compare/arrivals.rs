//! What became of numbered messages, as their receiver sees it.

use std::collections::BTreeMap;

/// Gaps that are remembered; beyond, the oldest counts as lost for good.
const MAX_GAPS: usize = 1 << 16;

/// Counts messages that carry the numbers 0, 1, 2 …; memory follows the gaps, not the messages.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// The number that is expected next: one more than the highest so far.
    next: u64,
    /// Numbers below `next` that have not come: from → to, exclusive.
    gaps: BTreeMap<u64, u64>,
    distinct: u64,
    duplicated: u64,
    reordered: u64,
}

impl Arrivals {
    /// Notes that a message has come.
    pub(crate) fn note(&mut self, number: u64) {
        if number == self.next {
            self.next += 1;
            self.distinct += 1;
            return;
        }
        match number > self.next {
            true => self.skip_to(number),
            false => self.fill(number),
        }
    }

    fn skip_to(&mut self, number: u64) {
        self.gaps.insert(self.next, number);
        if self.gaps.len() > MAX_GAPS {
            self.gaps.pop_first();
        }
        self.next = number.saturating_add(1);
        self.distinct += 1;
    }

    /// A message that others have overtaken, or one that has come before.
    fn fill(&mut self, number: u64) {
        let gap = self.gaps.range(..=number).next_back();
        let Some((from, to)) = gap
            .map(|(&from, &to)| (from, to))
            .filter(|gap| number < gap.1)
        else {
            self.duplicated += 1;
            return;
        };
        self.gaps.remove(&from);
        if from < number {
            self.gaps.insert(from, number);
        }
        if number + 1 < to {
            self.gaps.insert(number + 1, to);
        }
        self.distinct += 1;
        self.reordered += 1;
    }

    /// Messages that came, each counted once.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }

    /// Arrivals of messages that had come before.
    pub(crate) fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Messages that came after one with a higher number (RFC 4737's reordering).
    pub(crate) fn reordered(&self) -> u64 {
        self.reordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let mut arrivals = Arrivals::default();
        numbers.into_iter().for_each(|number| arrivals.note(number));
        (
            arrivals.distinct(),
            arrivals.duplicated(),
            arrivals.reordered(),
        )
    }

    #[test]
    fn in_order_nothing_is_remarkable() {
        assert_eq!(after(0..1000), (1000, 0, 0));
        assert_eq!(after([]), (0, 0, 0));
    }

    #[test]
    fn what_is_missing_is_neither_counted_nor_reordered() {
        assert_eq!(after([0, 1, 3, 4, 9]), (5, 0, 0));
        assert_eq!(after([5]), (1, 0, 0));
    }

    #[test]
    fn what_comes_late_is_reordered_once_and_then_a_duplicate() {
        assert_eq!(after([0, 2, 1]), (3, 0, 1));
        assert_eq!(after([0, 2, 1, 1, 2, 0]), (3, 3, 1));
        assert_eq!(after([9, 5, 4, 6, 5, 0, 8]), (6, 1, 5));
    }

    #[test]
    fn backwards_every_message_but_the_first_is_late() {
        assert_eq!(after((0..100).rev()), (100, 0, 99));
    }

    #[test]
    fn gaps_are_bounded_and_the_oldest_is_given_up() {
        let odd = (0..=MAX_GAPS as u64).map(|i| 2 * i + 1);
        let late = [0, 2];
        let (distinct, duplicated, reordered) = after(odd.chain(late));
        // The gap at 0 is forgotten, so 0 looks like something that came before; 2 is still missed.
        assert_eq!((duplicated, reordered), (1, 1));
        assert_eq!(distinct, MAX_GAPS as u64 + 2);
    }
}
