//! Which sequence numbers of a peer have arrived, to tell what was lost, duplicated and reordered.

/// Numbers that are remembered, the newest ones; a multiple of 64.
const REMEMBERED: u64 = 4096;

/// A gap beyond this is no loss but nonsense.
const MAX_GAP: u64 = 1 << 32;

/// What the arrival of a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the newest; so many before it have not arrived.
    Newest { missing: u64 },
    /// It was missing until now.
    Late,
    /// It has arrived before, or is so old that this cannot be told.
    Again,
    /// No peer that counts would send it.
    Senseless,
}

/// The numbers of one peer.
#[derive(Debug)]
pub(super) struct Seen {
    /// The one after the newest.
    next: u64,
    /// Those below `next`, one bit each.
    bits: Box<[u64; (REMEMBERED / 64) as usize]>,
}

impl Seen {
    /// Nothing has arrived; numbers begin with `next`.
    pub(super) fn new(next: u64) -> Seen {
        Seen {
            next,
            bits: Box::new([0; (REMEMBERED / 64) as usize]),
        }
    }

    /// A number has arrived.
    pub(super) fn note(&mut self, number: u64) -> Arrival {
        if number < self.next {
            return self.note_old(number);
        }
        let after = number.checked_add(1);
        match after.and_then(|after| self.pass(after)) {
            None => Arrival::Senseless,
            Some(passed) => {
                *self.word(number) |= mask(number);
                Arrival::Newest {
                    missing: passed - 1,
                }
            }
        }
    }

    /// The peer says that it has used all numbers below `next`; how many of them are missing that were not known
    /// to be.
    pub(super) fn note_next(&mut self, next: u64) -> u64 {
        if next <= self.next {
            return 0;
        }
        self.pass(next).unwrap_or(0)
    }

    fn note_old(&mut self, number: u64) -> Arrival {
        if self.next - number > REMEMBERED {
            return Arrival::Again;
        }
        let word = self.word(number);
        let known = *word & mask(number) != 0;
        *word |= mask(number);
        if known { Arrival::Again } else { Arrival::Late }
    }

    /// Moves on to `next`, with nothing in between; by how many.
    fn pass(&mut self, next: u64) -> Option<u64> {
        let passed = next - self.next;
        if passed > MAX_GAP {
            return None;
        }
        if passed >= REMEMBERED {
            self.bits.fill(0);
        } else {
            for number in self.next..next {
                *self.word(number) &= !mask(number);
            }
        }
        self.next = next;
        Some(passed)
    }

    fn word(&mut self, number: u64) -> &mut u64 {
        &mut self.bits[(number % REMEMBERED / 64) as usize]
    }
}

fn mask(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_late_ones_and_repetitions_are_told_apart() {
        let mut seen = Seen::new(0);
        assert_eq!(seen.note(0), Arrival::Newest { missing: 0 });
        assert_eq!(seen.note(3), Arrival::Newest { missing: 2 });
        assert_eq!(seen.note(1), Arrival::Late);
        assert_eq!(seen.note(1), Arrival::Again);
        assert_eq!(seen.note_next(6), 2);
        assert_eq!(seen.note_next(5), 0);
        assert_eq!(seen.note(4), Arrival::Late);
        assert_eq!(seen.note(u64::MAX), Arrival::Senseless);
        assert_eq!(seen.note(u64::MAX - 1), Arrival::Senseless);
        assert_eq!(seen.note_next(u64::MAX), 0);
        assert_eq!(seen.note(6), Arrival::Newest { missing: 0 });
        assert_eq!(
            seen.note(REMEMBERED + 6),
            Arrival::Newest {
                missing: REMEMBERED - 1
            }
        );
        assert_eq!(seen.note(6), Arrival::Again);
    }

    proptest! {
        #[test]
        fn what_is_missing_in_the_end_is_what_never_came(numbers in prop::collection::vec(0..3000_u64, 1..200)) {
            let (mut seen, mut missing, mut again) = (Seen::new(0), 0, 0);
            for &number in &numbers {
                match seen.note(number) {
                    Arrival::Newest { missing: more } => missing += more,
                    Arrival::Late => missing -= 1,
                    Arrival::Again => again += 1,
                    Arrival::Senseless => panic!("{number}"),
                }
            }
            let unique: BTreeSet<u64> = numbers.iter().copied().collect();
            let all = unique.last().unwrap() + 1;
            prop_assert_eq!(missing, all - unique.len() as u64);
            prop_assert_eq!(again, numbers.len() - unique.len());
        }
    }
}
