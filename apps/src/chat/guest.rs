//! A guest: gets into the hall, and stays in touch with it. A machine without sockets or clocks.
//!
//! It knocks until it is let in, repeats its words until they are confirmed, puts letters and lines in
//! order, fetches the lines that it missed, and knocks again when the hall falls silent.

mod stay;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use mutirao::Pattern;
use mutirao::machine::{Machine, Time};

use super::bucket::Bucket;
use super::lane::{Incoming, Outgoing};
use super::wire::{Down, Event, Knock, Letter, Line, MAX_NUMBER, Says, Session, Up, Welcome, Word};
use stay::Stay;

/// How often it says that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// After so long without a word the hall is knocked at again.
const SILENCE: Duration = Duration::from_secs(4);

/// Pauses between two knocks: the first, and the longest.
const KNOCK_MIN: Duration = Duration::from_millis(250);
const KNOCK_MAX: Duration = Duration::from_secs(1);

/// Knocks without an answer after which it says that nobody is there.
const KNOCKS_IN_VAIN: u32 = 5;

/// Knocks without an answer after which new connections are made, and again after as many more.
const KNOCKS_TO_RECONNECT: u32 = 15;

/// Words that may wait to be said.
pub(crate) const MAX_WORDS: usize = 256;

/// Lines missed beyond which it says that it is catching up.
const WORTH_TELLING: u64 = 50;

/// Settings of a guest.
#[derive(Clone, Debug)]
pub(crate) struct GuestConfig {
    pub(crate) session: Session,
    /// How its packets travel.
    pub(crate) pattern: Pattern,
    pub(crate) name: String,
    pub(crate) room: String,
    /// How many of the last messages it wants to see on entering a room.
    pub(crate) last: u32,
    /// Whether it keeps to the rate that the hall takes; one that does not is refused part of its
    /// words.
    pub(crate) patient: bool,
}

/// What happens to a guest.
#[derive(Clone, Debug)]
pub(crate) enum GuestInput {
    /// A packet arrived.
    Packet(Down),
    /// Its person wants something; to be given only while there is [`room`](Guest::has_room).
    Word(Word),
}

/// What a guest wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuestOutput {
    /// Send this to the hall.
    Send(Up),
    /// Listen to this room and to no other; perhaps said twice.
    Listen(String),
    /// Make new connections: those that there are may be dead without a sign.
    Reconnect,
    /// Tell the person.
    Tell(News),
}

/// What a person is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It is in the hall, for the first time or again.
    Inside {
        /// Its name.
        name: String,
        /// Whether it was inside before.
        again: bool,
    },
    /// Nobody answers at the door; said once per outage.
    Nobody,
    /// The hall has fallen silent; the guest knocks again.
    Lost,
    /// The hall does not let it in; it is over.
    Refused(String),
    /// The hall has taken leave; it is over.
    Left,
    /// It is in a room.
    Entered(String),
    /// The room has heard something. Lines come once and in order.
    Heard(Line),
    /// So many lines are not there any more.
    Missed(u64),
    /// So many lines are being fetched.
    Behind(u64),
    /// The server has started anew and remembers nothing.
    Forgotten,
    /// A letter, apart from those about entering.
    Letter(Letter),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Knocking, for the so-many-th time.
    Outside(u32),
    Inside,
    Over,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Guest {
    config: GuestConfig,
    now: Time,
    state: State,
    /// Number of the stay that it tries to get or has.
    attempt: u32,
    knock_at: Time,
    knock_pause: Duration,
    incarnation: u64,
    lane: u64,
    letters: Incoming<Letter>,
    /// The last letter that it knows to be on its way.
    last_letter: u64,
    /// Whether the hall is to be told which letters have arrived.
    owes: bool,
    /// What is to be said, and what is being said.
    waiting: VecDeque<Word>,
    words: Outgoing<Word>,
    patience: Option<Bucket>,
    leaving: bool,
    /// When something was last heard of the hall, and when to say that we are here.
    heard: Time,
    beat_at: Time,
    stay: Option<Stay>,
    out: VecDeque<GuestOutput>,
}

impl Guest {
    /// A guest that is about to knock.
    pub(crate) fn new(config: GuestConfig, now: Time) -> Guest {
        Guest {
            config,
            now,
            state: State::Outside(0),
            attempt: 1,
            knock_at: now,
            knock_pause: KNOCK_MIN,
            incarnation: 0,
            lane: 0,
            letters: Incoming::starting_at(1),
            last_letter: 0,
            owes: false,
            waiting: VecDeque::new(),
            words: Outgoing::new(),
            patience: None,
            leaving: false,
            heard: now,
            beat_at: now,
            stay: None,
            out: VecDeque::new(),
        }
    }

    /// What it is called now.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// The room that it is in, or wants to be in.
    pub(crate) fn room(&self) -> &str {
        match &self.stay {
            Some(stay) => stay.room(),
            None => &self.config.room,
        }
    }

    /// Who is in the room, as far as is known.
    pub(crate) fn members(&self) -> Option<&BTreeSet<String>> {
        self.stay.as_ref().map(Stay::members)
    }

    /// Whether it is in the hall, as far as is known.
    pub(crate) fn is_inside(&self) -> bool {
        self.state == State::Inside
    }

    /// Whether it has left or was refused.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether another word may be given to it.
    pub(crate) fn has_room(&self) -> bool {
        self.unsaid() < MAX_WORDS
    }

    /// Words that are not confirmed.
    pub(crate) fn unsaid(&self) -> usize {
        self.waiting.len() + self.words.len()
    }

    /// Whether all words are confirmed, and all letters and lines told that it knows of.
    pub(crate) fn has_said_and_heard_all(&self) -> bool {
        let stay = self.stay.as_ref();
        let read = self.letters.heard() >= self.last_letter;
        self.is_inside() && self.unsaid() == 0 && read && stay.is_some_and(Stay::is_complete)
    }

    /// How many messages it shows on entering a room.
    pub(crate) fn last(&self) -> u32 {
        self.config.last
    }

    fn tell(&mut self, news: News) {
        self.out.push_back(GuestOutput::Tell(news));
    }

    fn send(&mut self, says: Says) {
        self.owes = false;
        let up = Up {
            session: self.config.session,
            lane: self.lane,
            heard: self.letters.heard(),
            says,
        };
        self.out.push_back(GuestOutput::Send(up));
    }

    fn knock(&mut self) {
        let State::Outside(knocks) = &mut self.state else {
            return;
        };
        *knocks += 1;
        let in_vain = *knocks == KNOCKS_IN_VAIN;
        let reconnect = knocks.is_multiple_of(KNOCKS_TO_RECONNECT);
        self.knock_at = self.now + self.knock_pause;
        self.knock_pause = (self.knock_pause * 2).min(KNOCK_MAX);
        let knock = Knock {
            pattern: self.config.pattern.name().to_string(),
            attempt: self.attempt,
            name: self.config.name.clone(),
            room: self.room().to_string(),
            last: self.config.last,
            after: self.stay.as_ref().map(Stay::place),
            next_word: self.words.first(),
        };
        if reconnect {
            self.out.push_back(GuestOutput::Reconnect);
        }
        self.send(Says::Knock(knock));
        if in_vain {
            self.tell(News::Nobody);
        }
    }

    /// The hall does not know us, or is silent.
    fn knock_anew(&mut self) {
        self.attempt += 1;
        self.state = State::Outside(0);
        self.knock_pause = KNOCK_MIN;
        self.knock_at = self.now;
    }

    fn take(&mut self, packet: Down) {
        match packet {
            Down::Welcome(welcome) => self.come_in(welcome),
            Down::Refused { attempt, reason } if self.is_waiting_for(attempt) => {
                self.state = State::Over;
                self.tell(News::Refused(reason));
            }
            Down::Stranger => self.be_a_stranger(),
            Down::Letter {
                lane,
                number,
                letter,
            } if lane == self.lane && self.lane != 0 => {
                self.letters.take(number, letter);
                self.owes = true;
                while let Some(letter) = self.letters.pop() {
                    self.read(letter);
                }
            }
            Down::Confirmed {
                lane,
                word,
                room,
                latest,
                letter,
            } if lane == self.lane && latest.max(letter) <= MAX_NUMBER => {
                self.last_letter = self.last_letter.max(letter);
                if let Some(stay) = self.stay.as_mut().filter(|stay| stay.room() == room) {
                    stay.learn(self.now, latest);
                }
                self.confirm(word);
            }
            Down::Lines {
                room,
                story,
                oldest,
                first,
                next,
                lines,
            } if first.max(oldest).max(next) <= MAX_NUMBER => {
                if let Some(stay) = self.stay.as_mut().filter(|stay| stay.is(&room, story)) {
                    stay.take(self.now, oldest, first..next, lines);
                    self.listen_on();
                }
            }
            Down::Beat {
                incarnation,
                room,
                story,
                latest,
            } if latest <= MAX_NUMBER => self.follow(incarnation, &room, story, latest),
            // Answers to an earlier stay, and numbers that no room has. Doors are for those who move packets.
            Down::Refused { .. }
            | Down::Letter { .. }
            | Down::Confirmed { .. }
            | Down::Lines { .. }
            | Down::Beat { .. }
            | Down::Door(_) => {}
        }
    }

    fn is_waiting_for(&self, attempt: u32) -> bool {
        matches!(self.state, State::Outside(_)) && attempt == self.attempt
    }

    fn come_in(&mut self, welcome: Welcome) {
        if !self.is_waiting_for(welcome.attempt) {
            return;
        }
        let again = self.incarnation != 0;
        if let Some(stay) = &self.stay {
            let room = stay.room().to_string();
            self.out.push_back(GuestOutput::Listen(room));
        }
        self.state = State::Inside;
        self.incarnation = welcome.incarnation;
        if self.lane != welcome.lane {
            self.lane = welcome.lane;
            (self.letters, self.last_letter) = (Incoming::starting_at(1), 0);
        }
        self.config.name = welcome.name;
        self.beat_at = self.now + BEAT;
        // A little less than what the hall takes: its clock is another.
        let (rate, burst) = (welcome.rate - welcome.rate / 10, welcome.burst / 2);
        let patient = self.config.patient;
        self.patience = patient.then(|| Bucket::new(rate, burst, self.now));
        self.words.again();
        self.confirm(welcome.word);
        let name = self.config.name.clone();
        self.tell(News::Inside { name, again });
    }

    fn be_a_stranger(&mut self) {
        match self.state {
            // The hall had heard our goodbye.
            State::Inside if self.leaving && self.waiting.is_empty() && self.words.len() <= 1 => {
                self.leave();
            }
            State::Inside => self.knock_anew(),
            _ => {}
        }
    }

    fn leave(&mut self) {
        self.state = State::Over;
        self.tell(News::Left);
    }

    fn confirm(&mut self, word: u64) {
        self.words.confirm(word, self.now);
        if self.leaving && self.unsaid() == 0 && self.state == State::Inside {
            self.leave();
        }
    }

    fn read(&mut self, letter: Letter) {
        match letter {
            Letter::Entered {
                room,
                story,
                first,
                latest,
                anew,
            } if first.max(latest) <= MAX_NUMBER => {
                // It may be said twice, of two knocks.
                match self
                    .stay
                    .as_mut()
                    .filter(|stay| !anew && stay.is(&room, story))
                {
                    Some(stay) => stay.go_on(self.now, latest),
                    None => self.begin_stay(Stay::new(room, story, first, latest, self.now)),
                }
                self.listen_on();
            }
            Letter::Members {
                room,
                as_of,
                names,
                done,
            } => {
                let stay = self.stay.as_mut().filter(|stay| stay.room() == room);
                if stay.is_some_and(|stay| !stay.list(as_of, names, done)) {
                    self.ask_who();
                }
            }
            Letter::Renamed(name) => {
                self.config.name.clone_from(&name);
                self.tell(News::Letter(Letter::Renamed(name)));
            }
            // Numbers that no room has.
            Letter::Entered { .. } => {}
            letter => self.tell(News::Letter(letter)),
        }
    }

    fn begin_stay(&mut self, stay: Stay) {
        let room = stay.room().to_string();
        let old = self.stay.replace(stay);
        let same = old.as_ref().is_some_and(|old| old.room() == room);
        if same {
            self.tell(News::Forgotten);
        } else {
            self.out.push_back(GuestOutput::Listen(room.clone()));
            self.tell(News::Entered(room));
        }
    }

    /// Tells what the room has heard as far as it is complete.
    fn listen_on(&mut self) {
        let Some(stay) = &mut self.stay else { return };
        let lost = stay.take_lost();
        let mut heard = Vec::new();
        while let Some(line) = stay.next() {
            heard.push(line);
        }
        let behind = stay.is_behind(WORTH_TELLING);
        // Comings and goings may be among what is lost.
        let uncertain = stay.take_uncertain();
        if lost > 0 {
            self.tell(News::Missed(lost));
        }
        if lost > 0 || uncertain {
            self.ask_who();
        }
        for line in heard {
            self.tell(News::Heard(line));
        }
        if let Some(behind) = behind {
            self.tell(News::Behind(behind));
        }
    }

    /// Asks for the list of members, unless that is about to be done.
    fn ask_who(&mut self) {
        if self.waiting.back() != Some(&Word::Who) {
            self.waiting.push_back(Word::Who);
        }
    }

    fn follow(&mut self, incarnation: u64, room: &str, story: u64, latest: u64) {
        if self.state != State::Inside {
            return;
        }
        if incarnation != self.incarnation {
            return self.knock_anew();
        }
        if let Some(stay) = self.stay.as_mut().filter(|stay| stay.is(room, story)) {
            stay.learn(self.now, latest);
        }
    }

    /// Hands words to the lane as fast as the hall takes them.
    fn say(&mut self) {
        while !self.waiting.is_empty() {
            let now = self.now;
            if self.patience.as_mut().is_some_and(|it| !it.take(now)) {
                break;
            }
            self.waiting
                .pop_front()
                .into_iter()
                .for_each(|word| self.words.push(word));
        }
    }

    /// Does what is due while it is inside.
    fn keep_in_touch(&mut self) {
        self.say();
        self.words.wake(self.now);
        let mut says = Vec::new();
        while let Some((number, word)) = self.words.poll(self.now) {
            let word = word.clone();
            says.push(Says::Word { number, word });
        }
        if let Some(stay) = &mut self.stay
            && let Some(from) = stay.fetch(self.now)
        {
            let room = stay.room().to_string();
            says.push(Says::Fetch { room, from });
        }
        if self.beat_at <= self.now {
            self.beat_at = self.now + BEAT;
            says.push(Says::Beat);
        }
        if says.is_empty() && self.owes {
            says.push(Says::Beat);
        }
        for says in says {
            self.send(says);
        }
    }

    /// Notices that the hall is silent.
    fn listen_for_the_hall(&mut self) {
        if self.state == State::Inside && self.heard + SILENCE <= self.now {
            self.tell(News::Lost);
            self.knock_anew();
        }
    }
}

impl Machine for Guest {
    type Input = GuestInput;
    type Output = GuestOutput;

    fn handle(&mut self, now: Time, input: GuestInput) {
        self.now = now;
        match input {
            // What is said after the goodbye is for others.
            GuestInput::Packet(_) if self.state == State::Over => {}
            GuestInput::Packet(packet) => {
                self.heard = now;
                self.take(packet);
            }
            GuestInput::Word(word) => {
                self.leaving |= word == Word::Leave;
                self.waiting.push_back(word);
            }
        }
    }

    fn wake(&mut self, now: Time) {
        self.now = now;
        self.listen_for_the_hall();
        if matches!(self.state, State::Outside(_)) && self.knock_at <= now {
            self.knock();
        }
    }

    fn poll(&mut self) -> Option<GuestOutput> {
        if self.out.is_empty() && self.state == State::Inside {
            self.keep_in_touch();
        }
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Over => None,
            State::Outside(_) => Some(self.knock_at),
            State::Inside => {
                let patience = self.patience.as_ref().map(Bucket::next);
                let patience = patience.filter(|_| !self.waiting.is_empty());
                let fetch = self.stay.as_ref().and_then(Stay::deadline);
                let due = [patience, self.words.deadline(), fetch];
                let due = due.into_iter().flatten();
                Some(due.fold(self.beat_at.min(self.heard + SILENCE), Time::min))
            }
        }
    }
}

/// What a change of the room does to the list of its members.
fn change(members: &mut BTreeSet<String>, event: &Event) {
    match event {
        Event::Said { .. } => {}
        Event::Joined { who, .. } => {
            members.insert(who.clone());
        }
        Event::Left { who, .. } => {
            members.remove(who);
        }
        Event::Renamed { from, to } => {
            members.remove(from);
            members.insert(to.clone());
        }
    }
}
