//! What goes out: lines to rooms as they gather, letters, confirmations and what was fetched to members.

use std::time::Duration;

use super::room::Part;
use super::{Hall, HallOutput, Leaving, Room};
use crate::chat::wire::{self, Down, Session};

/// How soon after something was heard the room's number is said, for those who missed the last line.
const SOON: Duration = Duration::from_millis(500);

/// How long a room waits, for each member, between what it publishes, and at most. Where a thousand come in
/// at once, one packet for each of them to all of the others would be a million; many lines in one cost
/// little more than one.
const PACE: Duration = Duration::from_micros(50);
const LONGEST_PACE: Duration = Duration::from_millis(100);

impl Hall {
    /// It is answered when all that was heard is kept.
    pub(super) fn fetch(&mut self, session: Session, room: String, from: u64) {
        let Some(member) = self.members.get_mut(&session) else {
            return;
        };
        if member.fetches.take(self.now) {
            self.fetches.insert(session, (room, from));
        } else {
            self.stats.fetches_refused += 1;
        }
    }

    fn answer_fetch(&mut self, session: Session, name: &str, from: u64) {
        let member = self.members.get(&session);
        if member.is_none_or(|member| member.room != name) {
            return;
        }
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let lines = lines(name, self.story, room.oldest(), room.lines_from(from));
        self.send(session, &lines);
    }

    fn confirm(&mut self, session: Session) {
        if let Some(member) = self.members.get(&session) {
            let confirmed = Down::Confirmed {
                lane: member.lane,
                word: member.words.heard(),
                room: member.room.clone(),
                latest: self.rooms.get(&member.room).map_or(0, Room::latest),
                letter: member.letters.last(),
            };
            self.send(session, &confirmed);
        }
    }

    /// Rooms say how much they have told: nobody shall fetch what is about to come.
    pub(super) fn beat(&mut self) {
        let now = self.now;
        let mut beats = Vec::new();
        for (name, room) in &mut self.rooms {
            if room.beat_at <= now && !room.members.is_empty() {
                (room.beat_at, room.used) = (now + self.limits.beat, now);
                beats.push((name.clone(), room.published()));
            }
        }
        for (room, latest) in beats {
            let beat = Down::Beat {
                incarnation: self.incarnation,
                room: room.clone(),
                story: self.story,
                latest,
            };
            let packet = wire::encode(&beat).into();
            self.out.push_back(HallOutput::Publish(room, packet));
        }
    }

    /// Sends what has gathered: lines to rooms, confirmations and letters to members.
    pub(super) fn settle(&mut self) {
        for name in std::mem::take(&mut self.stirred) {
            self.publish_if_due(name);
        }
        for (session, (room, from)) in std::mem::take(&mut self.fetches) {
            self.answer_fetch(session, &room, from);
        }
        for session in std::mem::take(&mut self.addressed) {
            self.post(session);
            self.plan(session);
        }
        for session in std::mem::take(&mut self.unconfirmed) {
            self.confirm(session);
            self.plan(session);
        }
        for session in std::mem::take(&mut self.leaving) {
            self.remove(session, Leaving::Quit);
        }
    }

    /// Publishes what a room has heard, now or when it has waited long enough since the last time.
    fn publish_if_due(&mut self, name: String) {
        match self.rooms.get(&name) {
            Some(room) if room.publish_at > self.now => {
                self.stirred.insert(name);
            }
            _ => self.publish(&name),
        }
    }

    fn publish(&mut self, name: &str) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        room.beat_at = room.beat_at.min(self.now + SOON);
        let members = u32::try_from(room.members.len()).unwrap_or(u32::MAX);
        room.publish_at = self.now + PACE.saturating_mul(members).min(LONGEST_PACE);
        while let Some(part) = room.publish() {
            let lines = lines(name, self.story, room.oldest(), part);
            let packet = wire::encode(&lines).into();
            let output = HallOutput::Publish(name.to_string(), packet);
            self.out.push_back(output);
        }
    }

    /// Sends the letters that may be on their way.
    fn post(&mut self, session: Session) {
        let Some(member) = self.members.get_mut(&session) else {
            return;
        };
        let lane = member.lane;
        while let Some((number, letter)) = member.letters.poll(self.now) {
            let packet = wire::encode(&Down::Letter {
                lane,
                number,
                letter: letter.clone(),
            });
            let output = HallOutput::Send(session, packet.into());
            self.out.push_back(output);
        }
    }
}

/// A packet with a part of what a room has heard.
fn lines(room: &str, story: u64, oldest: u64, part: Part) -> Down {
    Down::Lines {
        room: room.to_string(),
        story,
        oldest,
        first: part.first,
        next: part.next,
        lines: part.lines,
    }
}
