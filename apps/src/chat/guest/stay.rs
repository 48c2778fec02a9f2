//! A guest's stay in a room: what it has heard, what it missed, who is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use mutirao::machine::Time;
use mutirao::pipeline::RangeSet;

use super::change;
use crate::chat::wire::{Event, Line, Place};

/// How far ahead of what was told lines are held back until those before them have come.
const MAX_EARLY: u64 = 1024;

/// Changes of the members that are remembered until the list of members has come.
const MAX_CHANGES: usize = 4096;

/// How long to wait before a gap is fetched: what is missing may only be late.
const LATE: Duration = Duration::from_millis(20);

/// How long to wait for what was fetched; it doubles up to the other.
const FETCH_MIN: Duration = Duration::from_millis(250);
const FETCH_MAX: Duration = Duration::from_secs(1);

/// A stay in a room.
#[derive(Debug)]
pub(super) struct Stay {
    room: String,
    story: u64,
    /// The number of the line that is told next.
    next: u64,
    /// The last number that is known of.
    latest: u64,
    /// Numbers from `next` on of which all is known that there is.
    known: RangeSet,
    /// Their lines. One that is left out is forgotten: somebody came or went.
    early: BTreeMap<u64, Line>,
    /// Lines that were passed over since the last time that this was asked.
    lost: u64,
    /// When to fetch what is missing.
    fetch_at: Option<Time>,
    fetch_pause: Duration,
    /// Whether it has been told that it is behind.
    told_behind: bool,
    /// Who is there since `as_of`; before that there is no list yet.
    members: BTreeSet<String>,
    as_of: Option<u64>,
    /// The list of members that is coming in.
    incoming: BTreeSet<String>,
    /// Changes since the stay began or the list came, with their numbers.
    changes: VecDeque<(u64, Event)>,
    /// The first number of whose changes none are forgotten.
    changes_from: u64,
    /// Whether somebody may have come or gone since the list of members.
    uncertain: bool,
}

impl Stay {
    /// A stay that begins to listen at `first`.
    pub(super) fn new(room: String, story: u64, first: u64, latest: u64, now: Time) -> Stay {
        let mut stay = Stay {
            room,
            story,
            next: first,
            latest: first.saturating_sub(1),
            known: RangeSet::default(),
            early: BTreeMap::new(),
            lost: 0,
            fetch_at: None,
            fetch_pause: FETCH_MIN,
            told_behind: false,
            members: BTreeSet::new(),
            as_of: None,
            incoming: BTreeSet::new(),
            changes: VecDeque::new(),
            changes_from: first,
            uncertain: false,
        };
        stay.fetch_now(now, latest);
        stay
    }

    /// Goes on after an absence.
    pub(super) fn go_on(&mut self, now: Time, latest: u64) {
        self.fetch_now(now, latest);
    }

    fn fetch_now(&mut self, now: Time, latest: u64) {
        self.latest = self.latest.max(latest);
        self.fetch_pause = FETCH_MIN;
        self.fetch_at = (self.next <= self.latest).then_some(now);
    }

    pub(super) fn room(&self) -> &str {
        &self.room
    }

    pub(super) fn is(&self, room: &str, story: u64) -> bool {
        self.room == room && self.story == story
    }

    /// The last line that was told.
    pub(super) fn place(&self) -> Place {
        Place {
            story: self.story,
            number: self.next.saturating_sub(1),
        }
    }

    pub(super) fn members(&self) -> &BTreeSet<String> {
        &self.members
    }

    /// Takes lines that arrived, which are all that is known of those numbers.
    pub(super) fn take(
        &mut self,
        now: Time,
        oldest: u64,
        numbers: Range<u64>,
        lines: Vec<(u64, Line)>,
    ) {
        let before = self.next;
        self.skip_to(oldest);
        self.latest = self.latest.max(numbers.end.saturating_sub(1));
        let end = match numbers.start <= self.next {
            // Very few lines may have very many numbers, where members have come and gone for long.
            true => numbers.end,
            false => numbers.end.min(self.next + MAX_EARLY),
        };
        let known = numbers.start.max(self.next)..end;
        if !known.is_empty() {
            let lines = lines.into_iter();
            self.early
                .extend(lines.filter(|(number, _)| known.contains(number)));
            self.known.insert(known);
        }
        let progress = self.known_to() > self.next || self.next > before;
        if progress && self.fetch_at.is_some() {
            // The answer to what was fetched; the rest, if any, is fetched at once.
            (self.fetch_at, self.fetch_pause) = (None, FETCH_MIN);
            self.fetch_at = (!self.is_complete()).then_some(now);
        }
        self.notice_gap(now);
    }

    /// The hall says how much the room has heard.
    pub(super) fn learn(&mut self, now: Time, latest: u64) {
        self.latest = self.latest.max(latest);
        self.notice_gap(now);
    }

    fn notice_gap(&mut self, now: Time) {
        if self.is_complete() {
            (self.fetch_at, self.told_behind) = (None, false);
        } else if self.fetch_at.is_none() {
            self.fetch_at = Some(now + LATE);
        }
    }

    /// Whether nothing is missing of what is known of.
    pub(super) fn is_complete(&self) -> bool {
        self.known_to() > self.latest
    }

    /// The first number from `next` on of which nothing is known.
    fn known_to(&self) -> u64 {
        let first = self.known.intersection(self.next..u64::MAX).next();
        let follows = first.filter(|known| known.start == self.next);
        follows.map_or(self.next, |known| known.end)
    }

    /// What is before `oldest` is not there any more.
    fn skip_to(&mut self, oldest: u64) {
        if self.next < oldest {
            self.lost += oldest - self.next;
            self.next = oldest;
            self.early = self.early.split_off(&oldest);
            self.known.remove(0..oldest);
            self.latest = self.latest.max(oldest - 1);
            // Changes may be among what is lost: the list is asked for anew.
            self.changes_from = oldest;
            self.changes.clear();
        }
    }

    /// How many lines were lost since the last time.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// How many lines are missing, if it is more than `many` and news.
    pub(super) fn is_behind(&mut self, many: u64) -> Option<u64> {
        let missing = (self.latest + 1).saturating_sub(self.next);
        let news = missing > many && !self.early.is_empty() && !self.told_behind;
        self.told_behind |= news;
        news.then_some(missing)
    }

    /// The next line in order.
    pub(super) fn next(&mut self) -> Option<Line> {
        let known_to = self.known_to();
        let number = self
            .early
            .keys()
            .next()
            .map_or(known_to, |&first| first.min(known_to));
        if number > self.next {
            self.pass_over_to(number);
        }
        let line = self.early.remove(&number)?;
        if !matches!(line.event, Event::Said { .. }) {
            // What was before the list says nothing about now: members may have vanished with a restart.
            if self.as_of.is_some_and(|as_of| self.next > as_of) {
                change(&mut self.members, &line.event);
            }
            self.changes.push_back((self.next, line.event.clone()));
            if self.changes.len() > MAX_CHANGES {
                self.changes.pop_front();
                self.changes_from = self.changes.front().map_or(self.next, |&(first, _)| first);
            }
        }
        self.next += 1;
        Some(line)
    }

    /// The lines before `number` are forgotten: somebody came or went.
    fn pass_over_to(&mut self, number: u64) {
        self.uncertain |= self.as_of.is_some_and(|as_of| number - 1 > as_of);
        self.next = number;
        // A list that is older than this is of no use.
        self.changes_from = number;
        self.changes.clear();
    }

    /// Whether the list of members has become uncertain since the last time.
    pub(super) fn take_uncertain(&mut self) -> bool {
        std::mem::take(&mut self.uncertain)
    }

    /// Takes a part of the list of members; `false` when it came too late to be of use.
    pub(super) fn list(&mut self, as_of: u64, names: Vec<String>, done: bool) -> bool {
        self.incoming.extend(names);
        if !done {
            return true;
        }
        self.members = std::mem::take(&mut self.incoming);
        self.as_of = Some(as_of);
        let useful = self.changes_from <= as_of.saturating_add(1);
        let later = self.changes.iter().filter(|&&(number, _)| number > as_of);
        for (_, event) in later {
            change(&mut self.members, event);
        }
        useful
    }

    /// From which number on to fetch, when it is time.
    pub(super) fn fetch(&mut self, now: Time) -> Option<u64> {
        self.fetch_at.filter(|&due| due <= now)?;
        self.fetch_at = Some(now + self.fetch_pause);
        self.fetch_pause = (self.fetch_pause * 2).min(FETCH_MAX);
        Some(self.next)
    }

    /// When to [`fetch`](Stay::fetch).
    pub(super) fn deadline(&self) -> Option<Time> {
        self.fetch_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::wire::Leaving;

    fn stay(first: u64, latest: u64) -> Stay {
        Stay::new("sala".into(), 1, first, latest, Time::START)
    }

    fn left() -> Line {
        let (who, how) = ("eva".into(), Leaving::Quit);
        let event = Event::Left { who, how };
        Line { at: 0, event }
    }

    fn told(stay: &mut Stay) -> usize {
        std::iter::from_fn(|| stay.next()).count()
    }

    #[test]
    fn many_comings_and_goings_that_are_forgotten_are_passed_over_at_once() {
        let many = 50_000_000;
        let mut stay = stay(1, many);
        stay.take(
            Time::START,
            1,
            1..many + 1,
            vec![(1, left()), (many - 1, left())],
        );
        assert!(stay.is_complete());
        assert_eq!(told(&mut stay), 2);
        assert_eq!((stay.place().number, stay.fetch_at), (many, None));
    }

    #[test]
    fn what_is_behind_a_gap_is_told_when_that_is_filled() {
        let mut stay = stay(1, 0);
        stay.take(Time::START, 1, 5..9, vec![(6, left())]);
        assert_eq!((told(&mut stay), stay.is_complete()), (0, false));
        stay.take(Time::START, 1, 1..4, vec![(3, left())]);
        assert_eq!((told(&mut stay), stay.place().number), (1, 3));
        stay.take(Time::START, 1, 4..5, Vec::new());
        assert_eq!((told(&mut stay), stay.place().number), (1, 8));
        assert!(stay.is_complete());
        // Of what is far ahead only so much is held back.
        stay.take(Time::START, 1, 10..1_000_000, vec![(999_999, left())]);
        assert!(stay.early.is_empty() && !stay.is_complete());
    }

    #[test]
    fn numbers_without_sense_are_no_trouble() {
        let mut stay = stay(5, 4);
        let backwards = Range { start: 9, end: 2 };
        stay.take(
            Time::START,
            0,
            backwards,
            vec![(u64::MAX, left()), (3, left())],
        );
        assert!(!stay.list(3, Vec::new(), true));
        assert!(stay.list(u64::MAX, Vec::new(), true));
        assert_eq!((told(&mut stay), stay.place().number), (0, 4));
    }
}
