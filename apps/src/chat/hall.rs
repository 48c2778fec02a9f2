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

mod entrance;
mod knocks;
mod member;
mod outlet;
mod remembered;
mod room;
mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mutirao::Pattern;
use mutirao::machine::{Machine, Time};
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::lane::{Incoming, Outgoing};
use super::text::{check_name, name_key};
use super::wire::{self, Down, Event, Leaving, Letter, Line, MAX_NUMBER, Says, Session, Up};
use knocks::Knocks;
pub(crate) use knocks::Peer;
use member::Member;
pub(crate) use member::{Author, author};
use remembered::Remembered;
use room::Room;

/// Letters that may wait for a member; beyond it, the member is cut off.
const LETTERS_TOO_MANY: usize = 128;

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
        self.report_unread(&member);
        self.out.push_back(HallOutput::Forget(session));
    }

    /// Tells those who wrote to somebody who is gone, once each: many notices at once would cut them off as well.
    fn report_unread(&mut self, gone: &Member) {
        let mut unread: BTreeMap<Session, u64> = BTreeMap::new();
        for letter in gone.letters.iter() {
            if let Letter::Private { from, .. } = letter
                && let Some(&sender) = self.names.get(&name_key(from))
            {
                *unread.entry(sender).or_default() += 1;
            }
        }
        for (sender, count) in unread {
            let what = match count {
                1 => "message".to_string(),
                _ => format!("{count} messages"),
            };
            let who = &gone.name;
            self.notice(
                sender,
                format!("{who} has left and may not have read your last {what}"),
            );
        }
    }

    fn send(&mut self, session: Session, packet: &Down) {
        let packet = wire::encode(packet).into();
        self.out.push_back(HallOutput::Send(session, packet));
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

/// Removes a member's entry from the list of those who are looked at.
fn cross_out(list: &mut BTreeSet<(Time, Session)>, due: Option<Time>, session: Session) {
    if let Some(due) = due {
        list.remove(&(due, session));
    }
}
