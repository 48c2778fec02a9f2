//! A room: who is in it, and the last of what it has heard.

use std::collections::{BTreeSet, VecDeque};

use mutirao::machine::Time;

use super::Limits;
use crate::chat::wire::{FILL_BYTES, Line, Session};

/// A room. Its lines have consecutive numbers; the last ones are kept.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) members: BTreeSet<Session>,
    /// When to say again how much it has heard.
    pub(super) beat_at: Time,
    /// When it publishes again at the earliest.
    pub(super) publish_at: Time,
    /// When somebody was last there or something was heard.
    pub(super) used: Time,
    lines: VecDeque<Line>,
    bytes: usize,
    /// The number of the next line.
    next: u64,
    /// The number of the first line that has not been published.
    unpublished: u64,
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
            next: first,
            unpublished: first,
        }
    }

    /// The number of the oldest line that is kept, or of the next one.
    pub(super) fn oldest(&self) -> u64 {
        self.next - self.lines.len() as u64
    }

    /// The number of the last line, before which there may have been none.
    pub(super) fn latest(&self) -> u64 {
        self.next - 1
    }

    /// The number of the last line that has been published.
    pub(super) fn published(&self) -> u64 {
        self.unpublished - 1
    }

    /// Adds a line, and forgets the oldest ones beyond the limits. Its number.
    pub(super) fn hear(&mut self, line: Line, limits: &Limits) -> u64 {
        self.bytes += line.bytes();
        self.lines.push_back(line);
        self.next += 1;
        while self.lines.len() > limits.room_lines || self.bytes > limits.room_bytes {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
        }
        self.latest()
    }

    /// A line from the history, which everybody knows who was there. What does not follow the line
    /// before makes all before it forgotten.
    pub(super) fn remember(&mut self, number: u64, line: Line, limits: &Limits) {
        if number != self.next {
            self.lines.clear();
            (self.bytes, self.next) = (0, number);
        }
        self.hear(line, limits);
        self.unpublished = self.next;
    }

    /// Lines from `from` on, as many as a packet takes, with the number of the first.
    pub(super) fn lines_from(&self, from: u64) -> (u64, Vec<Line>) {
        let first = from.clamp(self.oldest(), self.next);
        let skip = (first - self.oldest()) as usize;
        let mut room = FILL_BYTES;
        let fits = |line: &&Line| {
            let fits = room > 0;
            room = room.saturating_sub(line.bytes());
            fits
        };
        let lines = self.lines.iter().skip(skip).take_while(fits);
        (first, lines.cloned().collect())
    }

    /// Lines that have not been published, as many as a packet takes.
    pub(super) fn publish(&mut self) -> Option<(u64, Vec<Line>)> {
        let (first, lines) = self.lines_from(self.unpublished);
        self.unpublished = first + lines.len() as u64;
        (!lines.is_empty()).then_some((first, lines))
    }
}
