//! A guest's stay in a room: what it has heard, what it missed, who is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use mutirao::machine::Time;

use super::change;
use crate::chat::wire::{Event, Line, Place};

/// Lines that are held back until those before them have come.
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
    /// What is known of the numbers from `next` on: `None` where somebody came or went, and it is
    /// forgotten.
    early: BTreeMap<u64, Option<Line>>,
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
        let end = numbers.end.min(self.next + MAX_EARLY);
        let known = numbers.start.max(self.next)..end;
        for (number, line) in lines {
            if known.contains(&number) {
                self.early.insert(number, Some(line));
            }
        }
        for number in known {
            self.early.entry(number).or_insert(None);
        }
        let progress = self.early.contains_key(&self.next) || self.next > before;
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
        self.next + self.ready() > self.latest
    }

    /// How many lines can be told.
    fn ready(&self) -> u64 {
        let ready = (self.next..).zip(self.early.keys());
        ready.take_while(|(next, early)| next == *early).count() as u64
    }

    /// What is before `oldest` is not there any more.
    fn skip_to(&mut self, oldest: u64) {
        if self.next < oldest {
            self.lost += oldest - self.next;
            self.next = oldest;
            self.early = self.early.split_off(&oldest);
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
        let mut line = self.early.remove(&self.next)?;
        while line.is_none() {
            self.pass_over();
            line = self.early.remove(&self.next)?;
        }
        let line = line?;
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

    /// The next line is forgotten: somebody came or went.
    fn pass_over(&mut self) {
        self.uncertain |= self.as_of.is_some_and(|as_of| self.next > as_of);
        self.next += 1;
        // A list that is older than this is of no use.
        self.changes_from = self.next;
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
        let useful = self.changes_from <= as_of + 1;
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
