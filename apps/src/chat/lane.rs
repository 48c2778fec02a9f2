//! A numbered stream from one to the other that arrives once and in order, whatever carries it.
//!
//! The sender keeps each item until it is confirmed, and sends again what is overdue; the receiver drops
//! what it has had and holds back what is early. Guests number what they say, the hall what it says
//! to one member.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mutirao::machine::Time;

/// Items that may be on their way at once.
const WINDOW: usize = 32;

/// How long to wait for a confirmation at first; it doubles up to the other.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The sending end.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    items: VecDeque<T>,
    /// The number of the first item.
    first: u64,
    /// How many of the items have been sent since the last time that all were overdue.
    sent: usize,
    /// When what is on its way counts as lost.
    overdue: Option<Time>,
    pause: Duration,
}

impl<T> Outgoing<T> {
    pub(crate) fn new() -> Outgoing<T> {
        Outgoing {
            items: VecDeque::new(),
            first: 1,
            sent: 0,
            overdue: None,
            pause: PAUSE_MIN,
        }
    }

    /// Adds an item; the caller bounds their number.
    pub(crate) fn push(&mut self, item: T) {
        self.items.push_back(item);
    }

    /// How many items are not confirmed.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The number of the first item that is not confirmed.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the last item, or of the one before the first.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.items.len() as u64 - 1
    }

    /// The items that are not confirmed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// The items up to `number` have arrived.
    pub(crate) fn confirm(&mut self, number: u64, now: Time) {
        let mut progress = false;
        while self.first <= number && !self.items.is_empty() {
            self.items.pop_front();
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
            progress = true;
        }
        if progress {
            self.pause = PAUSE_MIN;
            self.overdue = (self.sent > 0).then(|| now + self.pause);
        }
    }

    /// Sends again what is on its way, as after a new connection.
    pub(crate) fn again(&mut self) {
        (self.sent, self.overdue, self.pause) = (0, None, PAUSE_MIN);
    }

    /// Takes note that time has passed.
    pub(crate) fn wake(&mut self, now: Time) {
        if self.overdue.is_some_and(|due| due <= now) {
            (self.sent, self.overdue) = (0, None);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }

    /// The next item to send, with its number.
    pub(crate) fn poll(&mut self, now: Time) -> Option<(u64, &T)> {
        let item = self.items.get(self.sent).filter(|_| self.sent < WINDOW)?;
        let number = self.first + self.sent as u64;
        self.sent += 1;
        self.overdue.get_or_insert(now + self.pause);
        Some((number, item))
    }

    /// When to [`wake`](Outgoing::wake) it.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.overdue
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Incoming<T> {
    /// The number that comes next.
    next: u64,
    early: BTreeMap<u64, T>,
}

impl<T> Incoming<T> {
    /// An end at which everything before `next` has arrived.
    pub(crate) fn starting_at(next: u64) -> Incoming<T> {
        Incoming {
            next,
            early: BTreeMap::new(),
        }
    }

    /// Takes an item in whatever order; repetitions, and what no sender can have sent yet, are
    /// dropped.
    pub(crate) fn take(&mut self, number: u64, item: T) {
        let ahead = number.checked_sub(self.next);
        if ahead.is_some_and(|ahead| ahead < WINDOW as u64) {
            self.early.entry(number).or_insert(item);
        }
    }

    /// The next item in order.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.early.remove(&self.next)?;
        self.next += 1;
        Some(item)
    }

    /// The number up to which everything has been popped.
    pub(crate) fn heard(&self) -> u64 {
        self.next - 1
    }
}

#[cfg(test)]
mod tests {
    use mutirao::sim::{Rng, run_seeds};

    use super::*;

    #[test]
    fn everything_arrives_once_and_in_order_over_a_lossy_link() {
        run_seeds(0..200, |seed| {
            let mut rng = Rng::new(seed);
            let (mut out, mut into) = (Outgoing::new(), Incoming::starting_at(1));
            (0..100).for_each(|item| out.push(item));
            let (mut now, mut on_the_way, mut got) = (Time::START, Vec::new(), Vec::new());
            for _ in 0..100_000 {
                while let Some((number, &item)) = out.poll(now) {
                    on_the_way.push((number, item));
                }
                if !on_the_way.is_empty() {
                    let some = rng.below(on_the_way.len() as u64) as usize;
                    let (number, item) = on_the_way.swap_remove(some);
                    if rng.chance(0.1) {
                        on_the_way.push((number, item));
                    }
                    if !rng.chance(0.3) {
                        into.take(number, item);
                    }
                    got.extend(std::iter::from_fn(|| into.pop()));
                    if !rng.chance(0.3) {
                        out.confirm(into.heard(), now);
                    }
                } else if let Some(due) = out.deadline() {
                    now = due;
                    out.wake(now);
                } else {
                    break;
                }
            }
            assert_eq!(got, (0..100).collect::<Vec<_>>());
            assert_eq!(out.len(), 0);
        });
    }

    #[test]
    fn what_is_far_ahead_takes_no_memory() {
        let mut into = Incoming::starting_at(1);
        (1_000..100_000).for_each(|number| into.take(number, ()));
        assert!(into.early.is_empty());
        into.take(u64::MAX, ());
        into.take(0, ());
        assert_eq!(into.pop(), None);
    }
}
