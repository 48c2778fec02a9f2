//! A room: who is in it, and the last of what it has heard.

use std::collections::{BTreeSet, VecDeque};

use mutirao::machine::Time;

use super::Limits;
use crate::chat::wire::{FILL_BYTES, Line, Session};

/// The share of a full room that comings, goings and renamings may take: beyond it the oldest of them is
/// forgotten first, so that they do not wash out what was said.
const NOTICES_SHARE: usize = 4;

/// A room. What it hears is numbered; the last lines are kept.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) members: BTreeSet<Session>,
    /// When to say again how much it has heard.
    pub(super) beat_at: Time,
    /// When it publishes again at the earliest.
    pub(super) publish_at: Time,
    /// When somebody was last there or something was heard.
    pub(super) used: Time,
    /// With their numbers, which grow.
    lines: VecDeque<(u64, Line)>,
    bytes: usize,
    /// The numbers of those lines that are no messages.
    notices: VecDeque<u64>,
    /// The number of the oldest line that has not been forgotten with all before it.
    oldest: u64,
    /// The number of the next line.
    next: u64,
    /// The number of the first line that has not been published.
    unpublished: u64,
}

/// A part of what a room has heard: all that is known of the numbers from `first` to before `next`.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) lines: Vec<(u64, Line)>,
}

impl Room {
    /// An empty room whose first line has the number `first`.
    pub(super) fn new(first: u64, now: Time) -> Room {
        Room {
            members: BTreeSet::new(),
            beat_at: now,
            publish_at: now,
            used: now,
            lines: VecDeque::new(),
            bytes: 0,
            notices: VecDeque::new(),
            oldest: first,
            next: first,
            unpublished: first,
        }
    }

    /// The number of the oldest line that is kept, or of the next one.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The number of the last line, before which there may have been none.
    pub(super) fn latest(&self) -> u64 {
        self.next - 1
    }

    /// The number of the last line that has been published.
    pub(super) fn published(&self) -> u64 {
        self.unpublished - 1
    }

    /// Adds a line, and forgets old ones beyond the limits. Its number.
    pub(super) fn hear(&mut self, line: Line, limits: &Limits) -> u64 {
        self.bytes += line.bytes();
        if !line.event.is_said() {
            self.notices.push_back(self.next);
        }
        self.lines.push_back((self.next, line));
        self.next += 1;
        while self.lines.len() > limits.room_lines || self.bytes > limits.room_bytes {
            match self.notices.front() {
                Some(&notice) if self.notices.len() > limits.room_lines / NOTICES_SHARE => {
                    self.forget(notice);
                }
                _ => self.forget_oldest(),
            }
        }
        self.latest()
    }

    /// A line is as good as never heard, except for its number.
    pub(super) fn forget(&mut self, number: u64) {
        let at = self.lines.partition_point(|&(other, _)| other < number);
        if self
            .lines
            .get(at)
            .is_some_and(|&(other, _)| other == number)
            && let Some((_, line)) = self.lines.remove(at)
        {
            self.bytes -= line.bytes();
        }
        if let Ok(at) = self.notices.binary_search(&number) {
            self.notices.remove(at);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(&(number, _)) = self.lines.front() {
            self.forget(number);
            self.oldest = number + 1;
        }
    }

    /// A line from the history, which everybody knows who was there. Numbers that are left out are those
    /// of notices that found no room on the disk; what goes backwards makes all before it forgotten.
    pub(super) fn remember(&mut self, number: u64, line: Line, limits: &Limits) {
        if number < self.next || self.lines.is_empty() {
            self.lines.clear();
            self.notices.clear();
            (self.bytes, self.oldest) = (0, number);
        }
        self.next = number;
        self.hear(line, limits);
        self.unpublished = self.next;
    }

    /// The number from which on there are `last` messages up to `latest`, or as many as are kept; behind
    /// `latest` if there are none.
    pub(super) fn start_of_last(&self, last: u32, latest: u64) -> u64 {
        let lines = self.lines.iter().rev();
        let said = lines.filter(|(number, line)| *number <= latest && line.event.is_said());
        let last = said.take(last as usize).last();
        last.map_or(latest + 1, |&(number, _)| number)
    }

    /// Lines from `from` on, as many as a packet takes.
    pub(super) fn lines_from(&self, from: u64) -> Part {
        let first = from.clamp(self.oldest, self.next);
        let skip = self.lines.partition_point(|&(number, _)| number < first);
        let mut room = FILL_BYTES;
        let fits = |line: &&(u64, Line)| {
            let fits = room > 0;
            room = room.saturating_sub(line.1.bytes());
            fits
        };
        let lines = self.lines.iter().skip(skip).take_while(fits);
        let lines: Vec<_> = lines.cloned().collect();
        let rest = self.lines.get(skip + lines.len());
        Part {
            first,
            next: rest.map_or(self.next, |&(number, _)| number),
            lines,
        }
    }

    /// What has not been published, as much as a packet takes.
    pub(super) fn publish(&mut self) -> Option<Part> {
        if self.unpublished == self.next {
            return None;
        }
        let part = self.lines_from(self.unpublished);
        self.unpublished = part.next;
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::wire::{Event, Leaving};

    fn said() -> Line {
        let (who, text) = ("ana".into(), "olá".into());
        let event = Event::Said { who, text };
        Line { at: 0, event }
    }

    fn left() -> Line {
        let (who, how) = ("eva".into(), Leaving::Quit);
        let event = Event::Left { who, how };
        Line { at: 0, event }
    }

    fn room(lines: impl IntoIterator<Item = Line>) -> Room {
        let limits = Limits {
            room_lines: 40,
            ..Limits::default()
        };
        let mut room = Room::new(1, Time::START);
        for line in lines {
            room.hear(line, &limits);
        }
        room
    }

    fn messages(room: &Room) -> usize {
        let lines = room.lines.iter();
        lines.filter(|(_, line)| line.event.is_said()).count()
    }

    #[test]
    fn comings_and_goings_do_not_wash_out_what_was_said() {
        let before = std::iter::repeat_with(said).take(30);
        let room = room(before.chain(std::iter::repeat_with(left).take(10_000)));
        assert_eq!((messages(&room), room.lines.len()), (30, 40));
        assert_eq!((room.oldest(), room.latest()), (1, 10_030));
        // They are told with the numbers between them left out.
        let part = room.lines_from(1);
        assert_eq!((part.first, part.next, part.lines.len()), (1, 10_031, 40));
        assert_eq!(part.lines[29].0, 30);
        assert_eq!(part.lines[30].0, 10_021);
    }

    #[test]
    fn what_is_said_makes_room_for_what_is_said_later() {
        let before = std::iter::repeat_with(left).take(10);
        let room = room(before.chain(std::iter::repeat_with(said).take(100)));
        assert_eq!((messages(&room), room.oldest()), (40, 71));
    }

    #[test]
    fn the_last_messages_are_counted_without_comings_and_goings() {
        let lines = (0..20).map(|n| if n % 2 == 0 { said() } else { left() });
        let room = room(lines);
        // The last message has the number 19.
        assert_eq!(room.start_of_last(1, 20), 19);
        assert_eq!(room.start_of_last(3, 20), 15);
        assert_eq!(room.start_of_last(3, 14), 9);
        assert_eq!(room.start_of_last(500, 20), 1);
        assert_eq!(room.start_of_last(0, 20), 21);
    }

    #[test]
    fn a_history_with_gaps_is_remembered_and_one_that_goes_backwards_is_not() {
        let mut room = Room::new(1, Time::START);
        let limits = Limits::default();
        for number in [5, 6, 9] {
            room.remember(number, said(), &limits);
        }
        assert_eq!((room.oldest(), room.latest(), messages(&room)), (5, 9, 3));
        assert!(room.publish().is_none());
        room.remember(2, said(), &limits);
        assert_eq!((room.oldest(), room.latest(), messages(&room)), (2, 2, 1));
    }
}
