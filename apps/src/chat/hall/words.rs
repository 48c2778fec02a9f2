//! What members want: each word is obeyed once and in order.

use super::Hall;
use super::entrance::parts;
use crate::chat::text::{check_name, check_text, name_key};
use crate::chat::wire::{Event, Leaving, Letter, Session, Word};

/// Letters that may wait for a member when a private message to it is refused.
const LETTERS_FULL: usize = 96;

impl Hall {
    /// Obeys the words that are there in order.
    pub(super) fn take_word(&mut self, session: Session, number: u64, word: Word) {
        let Some(member) = self.members.get_mut(&session) else {
            return;
        };
        if self.leaving.contains(&session) {
            return;
        }
        member.words.take(number, word);
        self.unconfirmed.insert(session);
        while let Some(member) = self.members.get_mut(&session)
            && let Some(word) = member.words.pop()
        {
            let number = member.words.heard();
            if word == Word::Leave {
                // What was said before has to be kept first. It needs no token: coming took one.
                self.leaving.insert(session);
                return;
            } else if member.patience.take(self.now) {
                self.obey(session, number, word);
            } else {
                member.refused += 1;
                self.stats.refused += 1;
            }
        }
    }

    fn obey(&mut self, session: Session, number: u64, word: Word) {
        let done = match word {
            Word::Say(text) => self.say(session, number, text),
            Word::Tell { to, text } => self.tell(session, &to, text),
            Word::Nick(name) => self.rename(session, name),
            Word::Enter { room, last } => self.go(session, &room, last),
            Word::Rooms => self.list_rooms(session),
            Word::Who => self.who(session),
            // Done by the caller.
            Word::Leave => Ok(()),
        };
        if let Err(sentence) = done {
            self.notice(session, sentence);
        }
    }

    fn say(&mut self, session: Session, number: u64, text: String) -> Result<(), String> {
        check_text(&text)?;
        let Some(member) = self.members.get(&session) else {
            return Ok(());
        };
        let (room, who, author) = (member.room.clone(), member.name.clone(), member.author);
        self.hear(&room, Event::Said { who, text }, Some((author, number)));
        Ok(())
    }

    fn tell(&mut self, session: Session, to: &str, text: String) -> Result<(), String> {
        check_text(&text)?;
        check_name("member", to)?;
        let at = self.wall_ms();
        let other = self.names.get(&name_key(to)).copied();
        let (Some(other), Some(from)) = (other, self.members.get(&session)) else {
            return Err(format!("nobody is called {to}: the message was not sent"));
        };
        let from = from.name.clone();
        let Some(receiver) = self.members.get(&other) else {
            return Ok(());
        };
        let to = receiver.name.clone();
        if receiver.letters.len() >= LETTERS_FULL {
            return Err(format!(
                "{to} does not read at the moment: the message was not sent"
            ));
        }
        let private = text.clone();
        self.write(
            other,
            Letter::Private {
                from,
                at,
                text: private,
            },
        );
        self.write(session, Letter::Told { to, at, text });
        Ok(())
    }

    fn rename(&mut self, session: Session, to: String) -> Result<(), String> {
        check_name("member", &to)?;
        let Some(member) = self.members.get_mut(&session) else {
            return Ok(());
        };
        let key = name_key(&to);
        if self.names.get(&key).is_some_and(|&other| other != session) {
            return Err(format!("the name {to} is taken: choose another"));
        }
        self.names.remove(&name_key(&member.name));
        self.names.insert(key, session);
        let from = std::mem::replace(&mut member.name, to.clone());
        let room = member.room.clone();
        self.write(session, Letter::Renamed(to.clone()));
        self.hear(&room, Event::Renamed { from, to }, None);
        Ok(())
    }

    fn go(&mut self, session: Session, room: &str, last: u32) -> Result<(), String> {
        check_name("room", room)?;
        let old = self.members.get(&session).map(|member| member.room.clone());
        if old.as_deref() == Some(room) {
            return Err(format!("you are in {room} already"));
        }
        self.make_room(room)?;
        self.part(session, Leaving::Moved);
        self.enter(session, room, last, None);
        Ok(())
    }

    fn list_rooms(&mut self, session: Session) -> Result<(), String> {
        let rooms = self.rooms.iter();
        let rooms = rooms.map(|(name, room)| (name.clone(), room.members.len() as u64));
        let parts = parts(rooms.collect(), |(name, _)| name.len() + 15);
        let count = parts.len();
        for (i, rooms) in parts.into_iter().enumerate() {
            let done = i + 1 == count;
            self.write(session, Letter::Rooms { rooms, done });
        }
        Ok(())
    }

    fn who(&mut self, session: Session) -> Result<(), String> {
        let Some(name) = self.members.get(&session).map(|member| member.room.clone()) else {
            return Ok(());
        };
        let Some(room) = self.rooms.get(&name) else {
            return Ok(());
        };
        let names = room.members.iter().filter_map(|id| self.members.get(id));
        let names = names.map(|member| member.name.clone()).collect();
        self.list_members(session, &name, room.latest(), names);
        Ok(())
    }
}
