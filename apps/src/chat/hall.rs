//! The hall: rooms, who is in them, and what they have heard. A machine without sockets or clocks.
//!
//! ```text
//!   guest ── knock ──▶ hall            repeated until it is let in or refused
//!   guest ── word 1, 2, … ──▶ hall     repeated until confirmed; the hall obeys each once, in order
//!   hall ── letter 1, 2, … ──▶ guest   the same the other way round, for what concerns one member
//!   hall ── lines 1, 2, … ──▶ room     sent once to all; who misses a number fetches it
//! ```
//!
//! So it does not matter whether what carries the packets loses, repeats or reorders them.

mod knocks;
mod member;
mod room;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mutirao::Pattern;
use mutirao::machine::{Machine, Time};
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::lane::{Incoming, Outgoing};
use super::text::{check_name, check_text, name_key};
use super::wire::{
    self, Down, Event, FILL_BYTES, Knock, Leaving, Letter, Line, MAX_NUMBER, Place, Says, Session,
    Up, Welcome, Word,
};
use knocks::Knocks;
pub(crate) use knocks::Peer;
use member::Member;
pub(crate) use member::{Author, author};
use room::{Part, Room};

/// Authors of whom the hall remembers which words it has obeyed, beyond those who are there.
const MAX_REMEMBERED: usize = 16_384;

/// Letters that may wait for a member when a private message is refused, and when the member is cut
/// off.
const LETTERS_FULL: usize = 96;
const LETTERS_TOO_MANY: usize = 128;

/// How soon after something was heard the room's number is said, for those who missed the last line.
const SOON: Duration = Duration::from_millis(500);

/// How long a room waits, for each member, between what it publishes, and at most. Where a thousand come in
/// at once, one packet for each of them to all of the others would be a million; many lines in one cost
/// little more than one.
const PACE: Duration = Duration::from_micros(50);
const LONGEST_PACE: Duration = Duration::from_millis(100);

/// Characters of a message by which its author knows which one is meant.
const SHOWN_CHARS: usize = 40;

/// How often a member is told that it says too much.
const SCOLD: Duration = Duration::from_secs(1);

/// Bounds and times of a hall.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// A member that is not heard of for so long is gone. Guests beat every second.
    pub(crate) silence: Duration,
    /// How often a room says how much it has heard.
    pub(crate) beat: Duration,
    /// Words that a member may say in a second, on average.
    pub(crate) rate: u32,
    /// Words that a member may say at once.
    pub(crate) burst: u32,
    /// Lines that are kept of a room.
    pub(crate) room_lines: usize,
    /// Bytes of lines that are kept of a room.
    pub(crate) room_bytes: usize,
    /// Rooms; beyond it, the one that has been empty longest is forgotten.
    pub(crate) rooms: usize,
    /// Members; beyond it nobody is let in.
    pub(crate) members: usize,
}

impl Default for Limits {
    /// Gone after 4 seconds; 50 words a second; 64 MiB of lines at the most.
    fn default() -> Limits {
        Limits {
            silence: Duration::from_secs(4),
            beat: Duration::from_secs(1),
            rate: 50,
            burst: 100,
            room_lines: 1_000,
            room_bytes: 256 << 10,
            rooms: 256,
            members: 4_096,
        }
    }
}

/// A line as the history keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) room: String,
    pub(crate) number: u64,
    #[serde(flatten)]
    pub(crate) line: Line,
    /// Who said it and the number of the word, so that it is not said again after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<(Author, u64)>,
}

/// What the hall wants done.
#[derive(Clone, Debug)]
pub(crate) enum HallOutput {
    /// Send a packet to one guest.
    Send(Session, Arc<[u8]>),
    /// Send a packet to all who are in a room.
    Publish(String, Arc<[u8]>),
    /// This guest is no member; nothing more is sent to it for now.
    Forget(Session),
}

/// What the hall has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HallStats {
    /// Words refused because somebody said too many.
    pub(crate) refused: u64,
    /// Requests for lines that were not answered because there were too many.
    pub(crate) fetches_refused: u64,
    /// Members cut off because they did not confirm what they were sent.
    pub(crate) cut_off: u64,
    /// Knocks that were not answered because too many came over one connection.
    pub(crate) knocks_refused: u64,
    /// Messages that were not taken because they could not be kept.
    pub(crate) unkept: u64,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Hall {
    /// How its packets travel.
    pattern: Pattern,
    limits: Limits,
    /// Which start of the hall this is.
    incarnation: u64,
    /// What the numbers of the rooms belong to: the history, or this start.
    story: u64,
    /// Milliseconds from 1970 to the clock's start.
    epoch_ms: u64,
    now: Time,
    rooms: BTreeMap<String, Room>,
    members: HashMap<Session, Member>,
    knocks: Knocks,
    /// By what their names come down to.
    names: HashMap<String, Session>,
    /// What has been obeyed of those who are gone.
    obeyed: Remembered,
    /// When to look at which member.
    due: BTreeSet<(Time, Session)>,
    lanes: u64,
    /// Where the numbers of new rooms begin: above those of rooms that were forgotten.
    first_number: u64,
    /// Members to whom a confirmation is owed, and those for whom there are letters.
    unconfirmed: BTreeSet<Session>,
    addressed: BTreeSet<Session>,
    /// Members who want what a room has heard from a number on.
    fetches: BTreeMap<Session, (String, u64)>,
    /// Members who have said goodbye.
    leaving: BTreeSet<Session>,
    /// Rooms with lines that have not been published.
    stirred: BTreeSet<String>,
    /// Lines that are to be written.
    keeps: VecDeque<Record>,
    out: VecDeque<HallOutput>,
    stats: HallStats,
}

impl Hall {
    /// A hall without rooms. `incarnation` tells starts apart, `story` is that of the history, if there
    /// is one.
    pub(crate) fn new(pattern: Pattern, limits: Limits, incarnation: u64, story: u64) -> Hall {
        Hall {
            pattern,
            limits,
            incarnation,
            story,
            epoch_ms: 0,
            now: Time::START,
            rooms: BTreeMap::new(),
            members: HashMap::new(),
            knocks: Knocks::default(),
            names: HashMap::new(),
            obeyed: Remembered::default(),
            due: BTreeSet::new(),
            lanes: incarnation,
            first_number: 1,
            unconfirmed: BTreeSet::new(),
            addressed: BTreeSet::new(),
            fetches: BTreeMap::new(),
            leaving: BTreeSet::new(),
            stirred: BTreeSet::new(),
            keeps: VecDeque::new(),
            out: VecDeque::new(),
            stats: HallStats::default(),
        }
    }

    /// The clock's start in milliseconds since 1970, for the time stamps.
    pub(crate) fn set_epoch(&mut self, epoch_ms: u64) {
        self.epoch_ms = epoch_ms;
    }

    /// What the numbers of the rooms belong to; to be said before anybody comes.
    pub(crate) fn set_story(&mut self, story: u64) {
        self.story = story;
    }

    /// Takes a line of the history; to be called in its order and before anything else.
    pub(crate) fn remember(&mut self, record: Record) {
        if record.number == 0 || record.number > MAX_NUMBER {
            return;
        }
        if let Some((author, word)) = record.by {
            self.obeyed.insert(author, word.min(MAX_NUMBER));
        }
        if check_name("room", &record.room).is_ok() && self.make_room(&record.room).is_ok() {
            let room = self.rooms.get_mut(&record.room);
            room.into_iter().for_each(|room| {
                room.remember(record.number, record.line.clone(), &self.limits);
            });
        }
    }

    /// Who is in a room.
    pub(crate) fn members_of(&self, room: &str) -> impl Iterator<Item = Session> + '_ {
        let room = self.rooms.get(room);
        room.into_iter()
            .flat_map(|room| room.members.iter().copied())
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// What it has seen.
    pub(crate) fn stats(&self) -> HallStats {
        self.stats
    }

    /// The next line to be written before anything is sent that [`poll`](Hall::poll) hands out later;
    /// to be asked before `poll` and behind it.
    pub(crate) fn poll_keep(&mut self) -> Option<Record> {
        self.keeps.pop_front()
    }

    /// A line cannot be written. To be said before anything else is polled: nobody has heard of it yet. A
    /// message is as good as never said, and whoever said it is told the reason; that somebody came or went
    /// stays true.
    pub(crate) fn unkept(&mut self, record: &Record, reason: &str) {
        let (Some((author, _)), Event::Said { text, .. }) = (record.by, &record.line.event) else {
            return;
        };
        self.stats.unkept += 1;
        if let Some(room) = self.rooms.get_mut(&record.room) {
            room.forget(record.number);
        }
        let mut members = self.members.iter();
        let sender = members.find_map(|(&id, member)| (member.author == author).then_some(id));
        if let Some(sender) = sender {
            let start: String = text.chars().take(SHOWN_CHARS).collect();
            let sentence = format!("{start:?} was not taken: {reason}");
            self.write(sender, Letter::NotTaken(sentence));
        }
    }

    fn knock(&mut self, peer: Peer, session: Session, knock: Knock) {
        if !self.knocks.take(peer, self.now) {
            // It will knock again.
            self.stats.knocks_refused += 1;
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
    fn make_room(&mut self, name: &str) -> Result<(), String> {
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
    fn enter(&mut self, session: Session, name: &str, last: u32, after: Option<Place>) {
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

    fn list_members(&mut self, session: Session, room: &str, as_of: u64, names: Vec<String>) {
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

    /// The room hears something.
    fn hear(&mut self, name: &str, event: Event, by: Option<(Author, u64)>) {
        let at = self.wall_ms();
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let line = Line { at, event };
        let number = room.hear(line.clone(), &self.limits);
        room.used = self.now;
        self.stirred.insert(name.to_string());
        self.keeps.push_back(Record {
            room: name.to_string(),
            number,
            line,
            by,
        });
    }

    fn wall_ms(&self) -> u64 {
        let passed = self.now.since(Time::START).as_millis();
        self.epoch_ms
            .saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Puts a letter into a member's queue.
    fn write(&mut self, session: Session, letter: Letter) {
        if let Some(member) = self.members.get_mut(&session) {
            member.letters.push(letter);
            self.addressed.insert(session);
        }
    }

    fn notice(&mut self, session: Session, sentence: impl Into<String>) {
        self.write(session, Letter::Notice(sentence.into()));
    }

    /// Obeys the words that are there in order.
    fn take_word(&mut self, session: Session, number: u64, word: Word) {
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

    /// Takes a member out of its room.
    fn part(&mut self, session: Session, how: Leaving) {
        let Some(member) = self.members.get(&session) else {
            return;
        };
        let (name, who) = (member.room.clone(), member.name.clone());
        if let Some(room) = self.rooms.get_mut(&name) {
            room.members.remove(&session);
        }
        self.hear(&name, Event::Left { who, how }, None);
    }

    /// Somebody is no member any more.
    fn remove(&mut self, session: Session, how: Leaving) {
        self.part(session, how);
        let Some(member) = self.members.remove(&session) else {
            return;
        };
        self.leaving.remove(&session);
        self.names.remove(&name_key(&member.name));
        cross_out(&mut self.due, member.due, session);
        self.obeyed.insert(member.author, member.words.heard());
        for letter in member.letters.iter() {
            if let Letter::Private { from, .. } = letter
                && let Some(&sender) = self.names.get(&name_key(from))
            {
                let who = &member.name;
                self.notice(
                    sender,
                    format!("{who} has left and may not have read your last message"),
                );
            }
        }
        self.out.push_back(HallOutput::Forget(session));
    }

    /// It is answered when all that was heard is kept.
    fn fetch(&mut self, session: Session, room: String, from: u64) {
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

    fn send(&mut self, session: Session, packet: &Down) {
        let packet = wire::encode(packet).into();
        self.out.push_back(HallOutput::Send(session, packet));
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

    /// Makes sure that the member is looked at in time.
    fn plan(&mut self, session: Session) {
        if let Some(member) = self.members.get_mut(&session) {
            let deadline = member.deadline(&self.limits);
            if member.due.is_none_or(|due| deadline < due) {
                cross_out(&mut self.due, member.due, session);
                self.due.insert((deadline, session));
                member.due = Some(deadline);
            }
        }
    }

    /// Looks at the members for which it is time.
    fn look(&mut self) {
        while let Some(&(due, session)) = self.due.first()
            && due <= self.now
        {
            self.due.pop_first();
            let Some(member) = self.members.get_mut(&session) else {
                continue;
            };
            member.due = None;
            if member.heard + self.limits.silence <= self.now {
                self.remove(session, Leaving::Vanished);
                continue;
            }
            if member.letters.len() > LETTERS_TOO_MANY {
                self.stats.cut_off += 1;
                self.remove(session, Leaving::Vanished);
                continue;
            }
            member.letters.wake(self.now);
            if member.refused > 0 && member.scold_at <= self.now {
                self.scold(session);
            }
            self.addressed.insert(session);
            self.plan(session);
        }
    }

    fn scold(&mut self, session: Session) {
        if let Some(member) = self.members.get_mut(&session) {
            let refused = std::mem::take(&mut member.refused);
            member.scold_at = self.now + SCOLD;
            self.notice(
                session,
                format!(
                    "too much at once: {refused} of your messages were not taken; {} a second are",
                    self.limits.rate
                ),
            );
        }
    }

    /// Rooms say how much they have told: nobody shall fetch what is about to come.
    fn beat(&mut self) {
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
    fn settle(&mut self) {
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

impl Machine for Hall {
    /// A packet, and over which connection it came.
    type Input = (Peer, Up);
    type Output = HallOutput;

    fn handle(&mut self, now: Time, (peer, up): (Peer, Up)) {
        self.now = now;
        let session = up.session;
        if let Says::Knock(knock) = up.says {
            return self.knock(peer, session, knock);
        }
        let Some(member) = self.members.get_mut(&session) else {
            self.send(session, &Down::Stranger);
            self.out.push_back(HallOutput::Forget(session));
            return;
        };
        member.heard = now;
        if up.lane == member.lane {
            member.letters.confirm(up.heard, now);
            self.addressed.insert(session);
        }
        match up.says {
            Says::Word { number, word } => self.take_word(session, number, word),
            Says::Fetch { room, from } => self.fetch(session, room, from),
            Says::Beat | Says::Knock(_) => {}
        }
    }

    fn wake(&mut self, now: Time) {
        self.now = now;
        self.look();
        self.beat();
    }

    fn poll(&mut self) -> Option<HallOutput> {
        if self.out.is_empty() {
            self.settle();
        }
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let rooms = self.rooms.values();
        let inhabited = rooms.filter(|room| !room.members.is_empty());
        let beat = inhabited.map(|room| room.beat_at).min();
        let due = self.due.first().map(|&(due, _)| due);
        let stirred = self.stirred.iter().filter_map(|name| self.rooms.get(name));
        let publish = stirred.map(|room| room.publish_at).min();
        beat.into_iter().chain(due).chain(publish).min()
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

/// Cuts a list into parts that fit into a packet; an empty one is one empty part.
fn parts<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
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

/// Removes a member's entry from the list of those who are looked at.
fn cross_out(list: &mut BTreeSet<(Time, Session)>, due: Option<Time>, session: Session) {
    if let Some(due) = due {
        list.remove(&(due, session));
    }
}

/// Which words of which authors have been obeyed; the oldest are forgotten.
#[derive(Debug, Default)]
struct Remembered {
    words: HashMap<Author, u64>,
    order: VecDeque<Author>,
}

impl Remembered {
    fn insert(&mut self, author: Author, word: u64) {
        match self.words.get_mut(&author) {
            Some(known) => *known = (*known).max(word),
            None => {
                self.words.insert(author, word);
                self.order.push_back(author);
            }
        }
        while self.order.len() > MAX_REMEMBERED {
            let oldest = self.order.pop_front();
            oldest.map(|author| self.words.remove(&author));
        }
    }

    fn of(&self, author: Author) -> u64 {
        self.words.get(&author).copied().unwrap_or(0)
    }
}
