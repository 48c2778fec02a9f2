//! Sets of numbers that are mostly runs: ids of tasks, numbers of inputs.

use std::collections::BTreeMap;
use std::ops::Range;

/// Numbers in the order they came; runs cost one entry, whatever their length.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Range<u64>>);

impl Runs {
    pub(super) fn push(&mut self, number: u64) {
        match self.0.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => self.0.push(number..number + 1),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All numbers so far, sorted, neighbours joined; empties the set.
    pub(super) fn take(&mut self) -> Vec<Range<u64>> {
        self.0.sort_unstable_by_key(|run| run.start);
        let mut joined: Vec<Range<u64>> = Vec::with_capacity(self.0.len().min(64));
        for run in self.0.drain(..) {
            match joined.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                _ => joined.push(run),
            }
        }
        joined
    }
}

/// A set that is asked often: runs by their start.
#[derive(Debug, Default)]
pub(super) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    pub(super) fn contains(&self, number: u64) -> bool {
        let run = self.0.range(..=number).next_back();
        run.is_some_and(|(_, &end)| number < end)
    }

    pub(super) fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        while let Some((&other, &other_end)) = self.0.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.0.remove(&other);
            start = start.min(other);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    pub(super) fn into_ranges(self) -> Vec<Range<u64>> {
        self.0.into_iter().map(|(start, end)| start..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_hold_what_was_put_in(numbers in proptest::collection::vec(0..40u64, 0..40)) {
            let (mut runs, mut set) = (Runs::default(), RangeSet::default());
            for &number in &numbers {
                runs.push(number);
                set.insert(number..number + 1);
            }
            for number in 0..41 {
                prop_assert_eq!(set.contains(number), numbers.contains(&number));
            }
            let ranges = set.into_ranges();
            prop_assert_eq!(&runs.take(), &ranges);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            let back: BTreeSet<u64> = ranges.into_iter().flatten().collect();
            prop_assert_eq!(back, numbers.into_iter().collect::<BTreeSet<_>>());
        }
    }
}
