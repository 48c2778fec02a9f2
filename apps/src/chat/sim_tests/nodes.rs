//! A hall and guests as nodes of the simulator, and the world that they make up.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use mutirao::Pattern;
use mutirao::machine::{Machine as _, Time};
use mutirao::sim::{Link, Node, NodeId, Rng, Sim};

use crate::chat::guest::{Guest, GuestConfig, GuestInput, GuestOutput, News};
use crate::chat::hall::{Hall, HallOutput, Limits, Peer, Record};
use crate::chat::wire::{
    self, Down, Event, Knock, Letter, Line, Place, Says, Session, Up, Welcome, Word,
};

/// The hall is always the first node.
pub(super) const HALL: NodeId = NodeId(0);

/// The numbers of the story that is on the disk.
const STORY: u64 = 77;

const PATTERN: Pattern = Pattern::PubSub;

type Packet = Vec<u8>;

/// The hall, its disk, and what waits to be sent.
pub(super) struct HallNode {
    pub(super) hall: Hall,
    disk: Vec<Record>,
    disk_is_full: bool,
    limits: Limits,
    out: VecDeque<(NodeId, Packet)>,
    /// Those of whom packets came and whom the hall has not said to forget.
    known: BTreeSet<Session>,
}

impl HallNode {
    /// A start of the hall with what is on the disk.
    pub(super) fn new(limits: Limits, incarnation: u64, disk: Vec<Record>) -> HallNode {
        let mut hall = Hall::new(PATTERN, limits.clone(), incarnation << 32, STORY);
        disk.iter().for_each(|record| hall.remember(record.clone()));
        HallNode {
            hall,
            disk,
            disk_is_full: false,
            limits,
            out: VecDeque::new(),
            known: BTreeSet::new(),
        }
    }

    /// A packet over one of many connections.
    pub(super) fn take(&mut self, now: Time, from: u64, up: Up) {
        self.known.insert(up.session);
        self.hall.handle(now, (Peer(from), up));
        self.drain();
    }

    /// How many guests whoever carries the packets has to know.
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    /// Checks that nothing has grown beyond its bounds.
    pub(super) fn check(&mut self, now: Time) {
        self.hall.wake(now);
        self.drain();
        for (_, packet) in self.out.drain(..) {
            assert!(packet.len() <= wire::MAX_PACKET_BYTES, "{}", packet.len());
            assert!(wire::decode::<Down>(&packet).is_ok());
        }
        self.disk.clear();
        assert!(self.hall.len() <= self.limits.members);
        let deadline = self.hall.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > now));
    }

    /// All that was kept.
    pub(super) fn disk(&self) -> &[Record] {
        &self.disk
    }

    /// What was sent since the last time.
    pub(super) fn sent(&mut self) -> Vec<Down> {
        let out = self.out.drain(..);
        out.map(|(_, packet)| wire::decode(&packet).unwrap())
            .collect()
    }

    fn drain(&mut self) {
        self.keep();
        while let Some(output) = self.hall.poll() {
            match output {
                HallOutput::Send(to, packet) => self.out.push_back((node_of(to), packet.to_vec())),
                HallOutput::Publish(room, packet) => {
                    let members = self.hall.members_of(&room);
                    let sends = members.map(|to| (node_of(to), packet.to_vec()));
                    self.out.extend(sends);
                }
                HallOutput::Forget(guest) => {
                    self.known.remove(&guest);
                }
            }
        }
        self.keep();
    }

    fn keep(&mut self) {
        while let Some(record) = self.hall.poll_keep() {
            match self.disk_is_full {
                true => self.hall.unkept(&record, "the disk is full"),
                false => self.disk.push(record),
            }
        }
    }
}

fn node_of(session: Session) -> NodeId {
    NodeId(session.0 as usize)
}

/// A guest, its person, and what that was told.
pub(super) struct GuestNode {
    guest: Guest,
    words: VecDeque<Word>,
    every: Duration,
    next: Time,
    told: Vec<News>,
}

impl GuestNode {
    pub(super) fn new(name: &str, patient: bool, now: Time, session: u64) -> GuestNode {
        let config = GuestConfig {
            session: Session(session),
            pattern: PATTERN,
            name: name.into(),
            room: "lobby".into(),
            last: 5,
            patient,
        };
        GuestNode {
            guest: Guest::new(config, now),
            words: VecDeque::new(),
            every: Duration::ZERO,
            next: now,
            told: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, now: Time, packet: Down) {
        self.guest.handle(now, GuestInput::Packet(packet));
        self.guest.wake(now);
        while self.next_packet().is_some() {}
        if !self.guest.is_over() {
            let deadline = self.guest.deadline();
            assert!(deadline.is_some_and(|deadline| deadline > now));
        } else {
            *self = GuestNode {
                told: std::mem::take(&mut self.told),
                ..GuestNode::new("ana", true, now, 1)
            };
        }
    }

    pub(super) fn was_inside(&self) -> bool {
        self.told
            .iter()
            .any(|news| matches!(news, News::Inside { .. }))
    }

    fn next_packet(&mut self) -> Option<(NodeId, Packet)> {
        loop {
            match self.guest.poll()? {
                GuestOutput::Send(up) => return Some((HALL, wire::encode(&up))),
                GuestOutput::Listen(_) | GuestOutput::Reconnect => {}
                GuestOutput::Tell(news) => self.told.push(news),
            }
        }
    }
}

/// Either of them.
pub(super) enum Program {
    Hall(Box<HallNode>),
    Guest(Box<GuestNode>),
}

impl Node for Program {
    type Message = Packet;

    fn handle(&mut self, now: Time, from: NodeId, packet: Packet) {
        match self {
            Program::Hall(node) => node.take(now, from.0 as u64, wire::decode(&packet).unwrap()),
            Program::Guest(node) => {
                let packet = wire::decode(&packet).unwrap();
                node.guest.handle(now, GuestInput::Packet(packet));
            }
        }
    }

    fn wake(&mut self, now: Time) {
        match self {
            Program::Hall(node) => {
                node.hall.wake(now);
                node.drain();
            }
            Program::Guest(node) => {
                node.guest.wake(now);
                while node.next <= now
                    && node.guest.has_room()
                    && let Some(word) = node.words.pop_front()
                {
                    node.guest.handle(now, GuestInput::Word(word));
                    node.next = now + node.every;
                }
            }
        }
    }

    fn poll(&mut self) -> Option<(NodeId, Packet)> {
        match self {
            Program::Hall(node) => node.out.pop_front(),
            Program::Guest(node) => node.next_packet(),
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self {
            Program::Hall(node) => node.hall.deadline(),
            Program::Guest(node) => {
                let speaks = !node.words.is_empty() && node.guest.has_room();
                let next = speaks.then_some(node.next);
                node.guest.deadline().into_iter().chain(next).min()
            }
        }
    }
}

/// The simulation with what a test asks of it.
pub(super) struct World {
    pub(super) sim: Sim<Program>,
    limits: Limits,
    incarnation: u64,
    /// The disk of a hall that was killed.
    disk: Option<Vec<Record>>,
}

impl World {
    pub(super) fn new(seed: u64, limits: Limits) -> World {
        let mut sim = Sim::new(seed, Link::default());
        let hall = HallNode::new(limits.clone(), 1, Vec::new());
        sim.add(Program::Hall(Box::new(hall)));
        World {
            sim,
            limits,
            incarnation: 1,
            disk: None,
        }
    }

    pub(super) fn run_until(&mut self, end: Time) {
        self.sim.run_until(end).unwrap();
    }

    pub(super) fn add_guest(&mut self, name: &str) -> NodeId {
        self.add(name, true)
    }

    pub(super) fn add_impatient_guest(&mut self, name: &str) -> NodeId {
        self.add(name, false)
    }

    fn add(&mut self, name: &str, patient: bool) -> NodeId {
        let session = self.sim.ids().count() as u64;
        let node = GuestNode::new(name, patient, self.sim.now(), session);
        self.sim.add(Program::Guest(Box::new(node)))
    }

    /// Makes a person say something every so often from now on.
    pub(super) fn script(
        &mut self,
        guest: NodeId,
        every: Duration,
        words: impl IntoIterator<Item = Word>,
    ) {
        self.sim.with(guest, |node, now| {
            if let Program::Guest(node) = node {
                (node.every, node.next) = (every, now);
                node.words.extend(words);
            }
        });
    }

    pub(super) fn crash_hall(&mut self) {
        if let Some(Program::Hall(node)) = self.sim.crash(HALL) {
            self.disk = Some(node.disk);
        }
    }

    pub(super) fn restart_hall_if_gone(&mut self) {
        if let Some(disk) = self.disk.take() {
            self.incarnation += 1;
            let hall = HallNode::new(self.limits.clone(), self.incarnation, disk);
            self.sim.restart(HALL, Program::Hall(Box::new(hall)));
        }
    }

    /// Whether nothing more can be kept.
    pub(super) fn fill_disk(&mut self, full: bool) {
        self.sim.with(HALL, |node, _| {
            if let Program::Hall(node) = node {
                node.disk_is_full = full;
            }
        });
    }

    pub(super) fn hall(&self) -> &HallNode {
        match self.sim.node(HALL) {
            Some(Program::Hall(node)) => node,
            _ => panic!("the hall is not there"),
        }
    }

    fn guest(&self, id: NodeId) -> &GuestNode {
        match self.sim.node(id) {
            Some(Program::Guest(node)) => node,
            _ => panic!("the guest is not there"),
        }
    }

    /// All that a room has heard.
    pub(super) fn log(&self, room: &str) -> Vec<Line> {
        let records = self.hall().disk.iter().filter(|record| record.room == room);
        records.map(|record| record.line.clone()).collect()
    }

    pub(super) fn news<T>(&self, guest: NodeId, pick: impl Fn(&News) -> Option<T>) -> Vec<T> {
        self.guest(guest).told.iter().filter_map(pick).collect()
    }

    pub(super) fn letters<T>(&self, guest: NodeId, pick: impl Fn(&Letter) -> Option<T>) -> Vec<T> {
        self.news(guest, |news| match news {
            News::Letter(letter) => pick(letter),
            _ => None,
        })
    }

    /// Whether a guest has nothing left to say or to hear.
    pub(super) fn is_at_rest(&self, guest: NodeId) -> bool {
        self.guest(guest).guest.has_said_and_heard_all()
    }

    /// The lines that a guest was told.
    pub(super) fn heard(&self, guest: NodeId) -> Vec<Line> {
        self.news(guest, |news| match news {
            News::Heard(line) => Some(line.clone()),
            _ => None,
        })
    }

    /// Lines that were there before the guest was, and more than it asked for.
    pub(super) fn skipped(&self, guest: NodeId) -> usize {
        let (log, heard) = (self.log("lobby"), self.heard(guest));
        log.iter().position(|line| *line == heard[0]).unwrap()
    }

    pub(super) fn name(&self, guest: NodeId) -> String {
        self.guest(guest).guest.name().to_string()
    }

    pub(super) fn room(&self, guest: NodeId) -> String {
        self.guest(guest).guest.room().to_string()
    }

    /// Who is in its room, as a guest sees it.
    pub(super) fn members(&self, guest: NodeId) -> Vec<String> {
        let members = self.guest(guest).guest.members();
        members.into_iter().flatten().cloned().collect()
    }

    pub(super) fn members_in_hall(&self, room: &str) -> Vec<String> {
        let members = self.hall().hall.members_of(room);
        let mut names: Vec<String> = members.map(|id| self.name(node_of(id))).collect();
        names.sort();
        names
    }
}

fn some_text(rng: &mut Rng) -> String {
    let texts = ["", "a", "b", "c", "\u{1b}[2J", "a b", "/x", "中文"];
    match rng.below(12) {
        0 => "x".repeat(rng.below(10_000) as usize),
        _ => rng.pick(&texts).unwrap().to_string(),
    }
}

fn some_number(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => u64::MAX - rng.below(3),
        1 => rng.below(1 << 40),
        _ => rng.below(40),
    }
}

fn some_place(rng: &mut Rng) -> Place {
    Place {
        story: if rng.chance(0.7) { STORY } else { 1 },
        number: some_number(rng),
    }
}

/// A hall and many guests, whose packets all arrive at once every so often: the simulator would look
/// through all of them for each packet.
pub(super) struct Crowd {
    hall: HallNode,
    guests: Vec<GuestNode>,
    now: Time,
}

/// How often packets arrive.
const ROUND: Duration = Duration::from_millis(50);

impl Crowd {
    pub(super) fn new() -> Crowd {
        Crowd {
            hall: HallNode::new(Limits::default(), 1, Vec::new()),
            guests: Vec::new(),
            now: Time::START,
        }
    }

    pub(super) fn add_guest(&mut self) {
        let session = self.guests.len() as u64;
        let node = GuestNode::new(&format!("g{session}"), true, self.now, session);
        self.guests.push(node);
    }

    pub(super) fn say(&mut self, guest: usize, text: String) {
        let word = GuestInput::Word(Word::Say(text));
        self.guests[guest].guest.handle(self.now, word);
    }

    /// Lets packets arrive so many times.
    pub(super) fn rounds(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.now = self.now + ROUND;
            for (session, node) in self.guests.iter_mut().enumerate() {
                node.guest.wake(self.now);
                while let Some((_, packet)) = node.next_packet() {
                    let up = wire::decode(&packet).unwrap();
                    self.hall.take(self.now, session as u64, up);
                }
            }
            self.hall.hall.wake(self.now);
            self.hall.drain();
            for (to, packet) in self.hall.out.drain(..) {
                let packet = GuestInput::Packet(wire::decode(&packet).unwrap());
                self.guests[to.0].guest.handle(self.now, packet);
            }
        }
    }

    /// What each guest has heard others say, and how many it sees.
    pub(super) fn heard(&self) -> impl Iterator<Item = (Vec<&str>, usize)> {
        self.guests.iter().map(|node| {
            let said = node.told.iter().filter_map(|news| match news {
                News::Heard(line) => match &line.event {
                    Event::Said { text, .. } => Some(&**text),
                    _ => None,
                },
                _ => None,
            });
            let members = node.guest.members().map_or(0, BTreeSet::len);
            (said.collect(), members)
        })
    }
}

/// A knock of a new guest.
pub(super) fn knock(session: u64, attempt: u32, name: &str) -> Up {
    let knock = Knock {
        pattern: PATTERN.name().into(),
        attempt,
        name: name.into(),
        room: "lobby".into(),
        last: 5,
        after: None,
        next_word: 1,
    };
    up(session, Says::Knock(knock))
}

/// What a member says first, and all that follows.
pub(super) fn word(session: u64, number: u64, word: Word) -> Up {
    up(session, Says::Word { number, word })
}

fn up(session: u64, says: Says) -> Up {
    Up {
        session: Session(session),
        lane: 0,
        heard: 0,
        says,
    }
}

/// What a guest might send that means no good.
pub(super) fn some_packet(rng: &mut Rng) -> Up {
    let word = match rng.below(8) {
        0 => Word::Tell {
            to: some_text(rng),
            text: some_text(rng),
        },
        1 => Word::Nick(some_text(rng)),
        2 => Word::Enter {
            room: some_text(rng),
            last: some_number(rng) as u32,
        },
        3 => Word::Rooms,
        4 => Word::Who,
        5 if rng.chance(0.2) => Word::Leave,
        _ => Word::Say(some_text(rng)),
    };
    let says = match rng.below(5) {
        0 => Says::Knock(Knock {
            pattern: rng
                .pick(&["pub-sub", "pub-sub", "pub-sub", "x"])
                .unwrap()
                .to_string(),
            attempt: some_number(rng) as u32,
            name: some_text(rng),
            room: some_text(rng),
            last: some_number(rng) as u32,
            after: rng.chance(0.5).then(|| some_place(rng)),
            next_word: some_number(rng),
        }),
        1 => Says::Fetch {
            room: some_text(rng),
            from: some_number(rng),
        },
        2 => Says::Beat,
        _ => Says::Word {
            number: some_number(rng),
            word,
        },
    };
    Up {
        session: Session(rng.below(20)),
        lane: (1 << 32) + rng.below(10),
        heard: some_number(rng),
        says,
    }
}

/// What a hall might send that means no good.
pub(super) fn some_answer(rng: &mut Rng) -> Down {
    let text = some_text(rng);
    match rng.below(8) {
        0 => Down::Welcome(Welcome {
            attempt: rng.below(20) as u32,
            incarnation: rng.below(3),
            lane: rng.below(3),
            word: some_number(rng),
            name: text,
            rate: some_number(rng) as u32,
            burst: some_number(rng) as u32,
        }),
        1 if rng.chance(0.1) => Down::Refused {
            attempt: rng.below(20) as u32,
            reason: text,
        },
        2 if rng.chance(0.1) => Down::Stranger,
        3 => Down::Letter {
            lane: rng.below(3),
            number: rng.below(40),
            letter: some_letter(rng),
        },
        4 => Down::Confirmed {
            lane: rng.below(3),
            word: some_number(rng),
            room: text,
            latest: some_number(rng),
            letter: some_number(rng),
        },
        5 => Down::Beat {
            incarnation: rng.below(3),
            room: text,
            story: STORY,
            latest: some_number(rng),
        },
        _ => Down::Lines {
            room: text,
            story: STORY,
            oldest: some_number(rng),
            first: some_number(rng),
            next: some_number(rng),
            lines: vec![
                (some_number(rng), some_line(rng)),
                (some_number(rng), some_line(rng)),
            ],
        },
    }
}

fn some_line(rng: &mut Rng) -> Line {
    let event = match rng.chance(0.5) {
        true => Event::Joined {
            who: some_text(rng),
            back: false,
        },
        false => Event::Said {
            who: some_text(rng),
            text: some_text(rng),
        },
    };
    let at = some_number(rng);
    Line { at, event }
}

fn some_letter(rng: &mut Rng) -> Letter {
    match rng.below(3) {
        0 => Letter::Entered {
            room: some_text(rng),
            story: STORY,
            first: some_number(rng),
            latest: some_number(rng),
            anew: rng.chance(0.5),
        },
        1 => Letter::Members {
            room: some_text(rng),
            as_of: some_number(rng),
            names: vec![some_text(rng)],
            done: rng.chance(0.5),
        },
        _ => Letter::Notice(some_text(rng)),
    }
}
