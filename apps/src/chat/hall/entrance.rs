//! Coming in: who knocks is let in or refused, put into a room, and told where it is.

use super::{Bucket, Hall, HallOutput, Incoming, Limits, Member, Outgoing, Peer, Room, author};
use crate::chat::text::{check_name, name_key};
use crate::chat::wire::{
    Down, Event, FILL_BYTES, Knock, Letter, MAX_NUMBER, Place, Session, Welcome,
};

impl Hall {
    pub(super) fn knock(&mut self, peer: Peer, session: Session, knock: Knock) {
        if !self.knocks.take(peer, self.now) {
            self.stats.knocks_refused += 1;
            // It will knock again; until then nobody shall have to know where it is.
            if !self.members.contains_key(&session) {
                self.out.push_back(HallOutput::Forget(session));
            }
            return;
        }
        let attempt = knock.attempt;
        match self.admit(session, knock) {
            Ok(()) => self.welcome(session, attempt),
            Err(reason) => {
                self.send(session, &Down::Refused { attempt, reason });
                self.out.push_back(HallOutput::Forget(session));
            }
        }
    }

    /// Makes the guest a member, if it is none.
    fn admit(&mut self, session: Session, knock: Knock) -> Result<(), String> {
        if self.members.contains_key(&session) {
            self.admit_again(session, &knock);
            return Ok(());
        }
        if knock.pattern != self.pattern.name() {
            let pattern = self.pattern.name();
            return Err(format!(
                "the server speaks {pattern}: start the client with --pattern {pattern}"
            ));
        }
        check_name("member", &knock.name)?;
        check_name("room", &knock.room)?;
        if self.names.contains_key(&name_key(&knock.name)) {
            return Err(format!(
                "the name {} is taken: choose another (should it be yours from a moment ago, it is free in {} seconds)",
                knock.name,
                self.limits.silence.as_secs() + 1
            ));
        }
        if self.members.len() >= self.limits.members {
            return Err(format!(
                "the chat is full: it has {} members",
                self.limits.members
            ));
        }
        self.make_room(&knock.room)?;
        self.add(session, &knock);
        self.enter(session, &knock.room, knock.last, knock.after);
        Ok(())
    }

    /// A member that lost touch, or has not heard that it is one.
    fn admit_again(&mut self, session: Session, knock: &Knock) {
        let Some(member) = self.members.get_mut(&session) else {
            return;
        };
        member.heard = self.now;
        if knock.attempt <= member.attempt {
            return;
        }
        member.attempt = knock.attempt;
        member.letters.again();
        let room = member.room.clone();
        let after = knock.after.filter(|_| knock.room == room);
        self.describe(session, &room, knock.last, after, None);
    }

    fn add(&mut self, session: Session, knock: &Knock) {
        let (now, author) = (self.now, author(session));
        let obeyed = self.obeyed.of(author);
        // Whoever makes up numbers must not make ours overflow.
        let next_word = knock.next_word.clamp(1, MAX_NUMBER).max(obeyed + 1);
        let Limits { rate, burst, .. } = self.limits;
        self.lanes = self.lanes.wrapping_add(1).max(1);
        self.names.insert(name_key(&knock.name), session);
        let member = Member {
            name: knock.name.clone(),
            room: knock.room.clone(),
            attempt: knock.attempt,
            lane: self.lanes,
            author,
            words: Incoming::starting_at(next_word),
            letters: Outgoing::new(),
            heard: now,
            patience: Bucket::new(rate, burst, now),
            fetches: Bucket::new(rate, burst, now),
            refused: 0,
            scold_at: now,
            due: None,
        };
        self.members.insert(session, member);
    }

    fn welcome(&mut self, session: Session, attempt: u32) {
        let Some(member) = self.members.get(&session) else {
            return;
        };
        let welcome = Down::Welcome(Welcome {
            attempt,
            incarnation: self.incarnation,
            lane: member.lane,
            word: member.words.heard(),
            name: member.name.clone(),
            rate: self.limits.rate,
            burst: self.limits.burst,
        });
        self.send(session, &welcome);
        self.addressed.insert(session);
        self.plan(session);
    }

    /// Makes a room, unless it is there.
    pub(super) fn make_room(&mut self, name: &str) -> Result<(), String> {
        if self.rooms.contains_key(name) {
            return Ok(());
        }
        if self.rooms.len() >= self.limits.rooms {
            self.forget_a_room()?;
        }
        let room = Room::new(self.first_number, self.now);
        self.rooms.insert(name.to_string(), room);
        Ok(())
    }

    /// Forgets the room that has been empty longest.
    fn forget_a_room(&mut self) -> Result<(), String> {
        let empty = self
            .rooms
            .iter()
            .filter(|(_, room)| room.members.is_empty());
        let oldest = empty.min_by_key(|(_, room)| room.used);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else {
            return Err(format!(
                "there are {} rooms, which is the most: choose one of them (/rooms)",
                self.limits.rooms
            ));
        };
        if let Some(room) = self.rooms.remove(&name) {
            self.first_number = self.first_number.max(room.latest() + 1);
        }
        Ok(())
    }

    /// Puts a member into a room, which is there, and tells everybody.
    pub(super) fn enter(&mut self, session: Session, name: &str, last: u32, after: Option<Place>) {
        let (Some(member), Some(room)) = (self.members.get_mut(&session), self.rooms.get_mut(name))
        else {
            return;
        };
        member.room = name.to_string();
        room.members.insert(session);
        let joined = Event::Joined {
            who: member.name.clone(),
            back: after.is_some(),
        };
        let before = room.latest();
        self.hear(name, joined, None);
        self.describe(session, name, last, after, Some(before));
    }

    /// Tells a member where it is: where to begin to listen, and who is there. `before` is the number
    /// of the room before the member came.
    fn describe(
        &mut self,
        session: Session,
        name: &str,
        last: u32,
        after: Option<Place>,
        before: Option<u64>,
    ) {
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let (oldest, latest) = (room.oldest(), room.latest());
        let known = after.filter(|place| place.story == self.story && place.number <= latest);
        let first = match known {
            Some(place) => place.number + 1,
            None => room.start_of_last(last, before.unwrap_or(latest)),
        };
        let first = first.max(oldest);
        let names = room.members.iter().filter_map(|id| self.members.get(id));
        let names: Vec<String> = names.map(|member| member.name.clone()).collect();
        let (room, story) = (name.to_string(), self.story);
        self.write(
            session,
            Letter::Entered {
                room,
                story,
                first,
                latest,
                anew: after.is_some() && known.is_none(),
            },
        );
        self.list_members(session, name, latest, names);
    }

    pub(super) fn list_members(
        &mut self,
        session: Session,
        room: &str,
        as_of: u64,
        names: Vec<String>,
    ) {
        let parts = parts(names, |name| name.len() + 5);
        let count = parts.len();
        for (i, names) in parts.into_iter().enumerate() {
            let (room, done) = (room.to_string(), i + 1 == count);
            self.write(
                session,
                Letter::Members {
                    room,
                    as_of,
                    names,
                    done,
                },
            );
        }
    }
}

/// Cuts a list into parts that fit into a packet; an empty one is one empty part.
pub(super) fn parts<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut parts, mut filled) = (vec![Vec::new()], 0);
    for item in items {
        let bytes = bytes(&item);
        if filled > 0 && filled + bytes > FILL_BYTES {
            parts.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}
