//! A set of task numbers that stays small because they arrive almost in order.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of numbers kept as disjoint ranges; size follows the gaps, not the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start → end, disjoint and not adjacent.
    ranges: BTreeMap<u64, u64>,
    len: u64,
}

impl RangeSet {
    /// Adds a range and returns how many of its numbers are new.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let before = self.len;
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&low, &high)) = self.ranges.range(..=end).next_back() {
            if high < start {
                break;
            }
            self.ranges.remove(&low);
            self.len -= high - low;
            start = start.min(low);
            end = end.max(high);
        }
        self.ranges.insert(start, end);
        self.len += end - start;
        self.len - before
    }

    /// Removes a range.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&low, &high)) = self.ranges.range(..range.end).next_back() {
            if high <= range.start {
                break;
            }
            self.ranges.remove(&low);
            self.len -= high - low;
            for part in [low..range.start.max(low), range.end.min(high)..high] {
                if !part.is_empty() {
                    self.ranges.insert(part.start, part.end);
                    self.len += part.end - part.start;
                }
            }
            if low <= range.start {
                break;
            }
        }
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.contains_all(number..number.saturating_add(1))
    }

    /// Whether every number of the range is in the set.
    pub fn contains_all(&self, range: Range<u64>) -> bool {
        let below = self.ranges.range(..=range.start).next_back();
        range.is_empty() || below.is_some_and(|(_, &high)| high >= range.end)
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        if range.is_empty() {
            return gaps;
        }
        let mut next = range.start;
        if let Some((_, &high)) = self.ranges.range(..=range.start).next_back() {
            next = next.max(high);
        }
        for (&low, &high) in self.ranges.range(range.start..range.end) {
            if next < low {
                gaps.push(next..low);
            }
            next = next.max(high);
        }
        if next < range.end {
            gaps.push(next..range.end);
        }
        gaps
    }

    /// The parts of `range` that are in the set, in order.
    pub fn intersection(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let before = self.ranges.range(..range.start).next_back();
        let within = self.ranges.range(range.start..range.end.max(range.start));
        let all = before.into_iter().chain(within);
        all.map(move |(&low, &high)| low.max(range.start)..high.min(range.end))
            .filter(|part| !part.is_empty())
    }

    /// How many ranges there are: what the set costs in memory.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// The first number that is not in the set.
    pub fn prefix(&self) -> u64 {
        self.ranges.get(&0).copied().unwrap_or(0)
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&low, &high)| low..high)
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> RangeSet {
        let mut set = RangeSet::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_behaves_like_a_plain_set(steps in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 0..60)) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (add, start, length) in steps {
                let range = start..start + length;
                if add {
                    let fresh = range.clone().filter(|&n| model.insert(n)).count() as u64;
                    prop_assert_eq!(set.insert(range.clone()), fresh);
                } else {
                    model.retain(|n| !range.contains(n));
                    set.remove(range.clone());
                }
                prop_assert_eq!(set.iter().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.len(), model.len() as u64);
                prop_assert_eq!(set.prefix(), (0..).find(|n| !model.contains(n)).unwrap());
                let probe = start..start + length;
                prop_assert_eq!(set.contains_all(probe.clone()), probe.clone().all(|n| model.contains(&n)));
                let missing: Vec<u64> = set.missing(probe.clone()).into_iter().flatten().collect();
                prop_assert_eq!(missing, probe.clone().filter(|n| !model.contains(n)).collect::<Vec<_>>());
                let common: Vec<u64> = set.intersection(probe.clone()).flatten().collect();
                prop_assert_eq!(common, probe.filter(|n| model.contains(n)).collect::<Vec<_>>());
            }
        }
    }
}
