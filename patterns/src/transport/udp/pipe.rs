//! One peer, as the exchange sees it.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use crate::machine::{Clock, Time};
use crate::transport::routing::{Offer, Pipe};
use crate::transport::sys::datagrams::MERGED;
use crate::transport::{Frame, Message, Role, SocketOptions, WhenFull};

use super::line::Line;
use super::live::Patience;
use super::packet::{HEADER_BYTES, Header, Kind, Malformed, Mode, bare};
use super::plain::Plain;
use super::reliable::{Limits, OVERHEAD_BYTES, Reliable};
use super::tally::Tally;

/// What may be under way to a peer, or wait to be taken from it, in bytes; less where the system gives a socket
/// less.
pub(super) const WINDOW_BYTES: usize = 4 << 20;

/// Datagrams that every path carries whole: the least that IPv6 demands, without its header and that of UDP.
const PATH_BYTES: usize = 1232;

/// Datagrams between processes of one machine, which nothing cuts.
const LOOPBACK_BYTES: usize = 32 << 10;

/// Bounds and tastes of all pipes of a socket.
#[derive(Clone, Debug)]
pub(super) struct PipeLimits {
    pub(super) role: Role,
    pub(super) queue_messages: usize,
    /// Of what is sent only the newest is kept.
    pub(super) keeps_latest: bool,
    /// Of what is received only the newest is kept.
    pub(super) keeps_latest_in: bool,
    /// What does not fit into a queue is dropped.
    pub(super) drops: bool,
    /// The sender waits until there is room.
    pub(super) refuses: bool,
    /// The longest frame that is received.
    pub(super) frame_bytes: usize,
    pub(super) window_bytes: usize,
    /// The longest datagram that reliable UDP sends; `None` where the peer's address decides.
    pub(super) datagram_bytes: Option<usize>,
    pub(super) patience: Patience,
}

impl PipeLimits {
    pub(super) fn new(role: Role, options: &SocketOptions, patience: Patience) -> PipeLimits {
        let keeps_latest = options.when_full == WhenFull::KeepLatest;
        PipeLimits {
            role,
            queue_messages: usize::try_from(options.queue_messages).unwrap_or(1),
            // Subscriptions are no news that newer ones replace.
            keeps_latest: keeps_latest && role != Role::Subscribe,
            keeps_latest_in: keeps_latest && role != Role::Publish,
            drops: options.when_full == WhenFull::Drop && role == Role::Publish,
            // A router waits for nobody in particular.
            refuses: options.when_full == WhenFull::Refuse && role != Role::Router,
            frame_bytes: match role {
                // Nobody says anything to it.
                Role::Push => 0,
                _ => options.max_message_bytes,
            },
            window_bytes: WINDOW_BYTES,
            datagram_bytes: options.datagram_bytes,
            patience,
        }
    }

    fn reliable(&self, peer: SocketAddr) -> Limits {
        let datagram_bytes = self.datagram_bytes.unwrap_or_else(|| own_choice(peer));
        let segment_bytes = datagram_bytes - HEADER_BYTES - OVERHEAD_BYTES;
        Limits {
            segment_bytes,
            window_bytes: self.window_bytes.max(2 * segment_bytes),
            queue_messages: self.queue_messages,
            // One who waits for room has nothing from more of it; one who drops does.
            queue_bytes: match self.refuses {
                true => self.window_bytes.max(2 * segment_bytes),
                false => usize::MAX,
            },
            keeps_latest_in: self.keeps_latest_in,
            frame_bytes: self.frame_bytes,
            patience: self.patience,
        }
    }
}

/// The longest datagram to that peer, where nobody says how long it may be.
fn own_choice(peer: SocketAddr) -> usize {
    match peer.ip().is_loopback() {
        true => LOOPBACK_BYTES,
        false => PATH_BYTES,
    }
}

#[derive(Debug)]
enum Talk {
    Plain(Plain),
    Reliable(Box<Reliable>),
    /// A group that is sent to.
    Mouth(Plain),
    /// A group that is heard.
    Ear,
}

#[derive(Debug)]
pub(super) struct UdpPipe {
    line: Line,
    clock: Clock,
    limits: PipeLimits,
    /// Our session.
    session: u64,
    talk: Talk,
    tally: Arc<Tally>,
    /// What has come, where the connection does not keep it itself.
    ready: VecDeque<Message>,
    /// The newest message, where it replaces those before it and the peer is busy.
    latest: Option<Message>,
    /// Why it is over.
    end: Option<String>,
    /// Whether nothing that it has sent is taken any more.
    is_deaf: bool,
    /// For when the socket will look after it.
    armed: Option<Time>,
    /// Questions that have not been answered, as far as can be told from here: more was sent than has come.
    open_questions: u64,
}

/// What a pipe needs of its socket.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) clock: Clock,
    pub(super) limits: PipeLimits,
    pub(super) tally: Arc<Tally>,
}

impl UdpPipe {
    /// A peer at this address; `connected` where the socket has no other.
    pub(super) fn new(
        socket: Arc<UdpSocket>,
        peer: SocketAddr,
        connected: bool,
        session: u64,
        mode: Mode,
        around: &Surroundings,
    ) -> UdpPipe {
        let now = around.clock.now();
        let talk = match mode {
            Mode::Plain => Talk::Plain(Plain::new(
                session,
                around.limits.role,
                around.limits.patience,
                now,
            )),
            Mode::Reliable => {
                let mut machine = Reliable::new(&around.limits.reliable(peer), now);
                machine.begin();
                Talk::Reliable(Box::new(machine))
            }
        };
        let to = (!connected).then_some(peer);
        UdpPipe::with(
            Line::new(socket, to, around.tally.clone()),
            session,
            talk,
            around,
        )
    }

    /// A group: sent to, if we publish, or else heard.
    pub(super) fn group(
        socket: Arc<UdpSocket>,
        group: SocketAddr,
        session: u64,
        around: &Surroundings,
    ) -> UdpPipe {
        let PipeLimits { role, patience, .. } = around.limits;
        let talk = match role {
            Role::Publish => Talk::Mouth(Plain::new(session, role, patience, around.clock.now())),
            _ => Talk::Ear,
        };
        let line = Line::new(socket, Some(group), around.tally.clone());
        let mut pipe = UdpPipe::with(line, session, talk, around);
        if role == Role::Publish {
            // Whoever listens chooses for himself.
            pipe.ready.push_back(vec![Frame::from(&[1][..])]);
        }
        pipe
    }

    fn with(line: Line, session: u64, talk: Talk, around: &Surroundings) -> UdpPipe {
        UdpPipe {
            line,
            clock: around.clock,
            limits: around.limits.clone(),
            session,
            talk,
            tally: around.tally.clone(),
            ready: VecDeque::new(),
            latest: None,
            end: None,
            is_deaf: false,
            armed: None,
            open_questions: 0,
        }
    }

    /// Takes note that a dealer has asked something more, or been answered.
    fn note_questions(&mut self, open: u64) {
        let changed = (self.open_questions > 0) != (open > 0);
        self.open_questions = open;
        if !changed || self.limits.role != Role::Dealer {
            return;
        }
        match &mut self.talk {
            Talk::Plain(plain) => plain.expect(open > 0),
            Talk::Reliable(machine) => machine.expect(open > 0),
            Talk::Mouth(_) | Talk::Ear => {}
        }
    }

    /// A datagram of the peer.
    pub(super) fn handle(&mut self, now: Time, kind: Kind, body: &[u8]) -> Result<(), Malformed> {
        if kind == Kind::Bye {
            self.end
                .get_or_insert_with(|| "the peer said goodbye".into());
            return Ok(());
        }
        let (limits, ready, tally) = (&self.limits, &mut self.ready, &self.tally);
        match &mut self.talk {
            // They come again until note is taken of them, so none of their notices gets lost.
            Talk::Plain(plain) if kind == Kind::Topics && ready.len() >= limits.queue_messages => {
                tally.dropped.add(1);
                plain.hear(now);
                Ok(())
            }
            Talk::Plain(plain) => plain.handle(now, kind, body, tally, |message| match kind {
                Kind::Topics => ready.push_back(message),
                _ => keep(message, limits, ready, tally),
            }),
            Talk::Reliable(machine) if kind == Kind::Data => {
                machine.handle(now, body)?;
                tally.add(machine.take_stats());
                // Nobody would ever take it.
                let speaks = limits.role == Role::Push && machine.has_message();
                self.note_end();
                if speaks {
                    self.give_up("it sent a message to a socket that only sends");
                }
                Ok(())
            }
            _ => Err(Malformed::Senseless),
        }
    }

    /// A message of a group.
    pub(super) fn hear(&mut self, message: Message) {
        keep(message, &self.limits, &mut self.ready, &self.tally);
    }

    /// Takes note that the connection has ended by itself, and says so.
    fn note_end(&mut self) {
        let end = match &self.talk {
            Talk::Plain(plain) if plain.is_over() => {
                Some("the peer has been silent for too long".to_string())
            }
            Talk::Reliable(machine) => machine.end().map(|end| end.to_string()),
            _ => None,
        };
        if let Some(reason) = end {
            self.give_up(&reason);
        }
    }

    /// Ends the connection for this reason, and tells the peer.
    pub(super) fn give_up(&mut self, reason: &str) {
        if self.end.is_none() {
            log::debug!("a UDP connection ends: {reason}");
            self.end = Some(reason.into());
            self.say_bye();
        }
    }

    fn say_bye(&mut self) {
        self.line.clear();
        self.line.put(&bare(Kind::Bye, self.session));
        self.line.write();
    }

    /// Sends what the connection needs and what may go out.
    pub(super) fn pump(&mut self) {
        if self.end.is_some() {
            return;
        }
        let now = self.clock.now();
        let header = Header::new(Kind::Data, self.session);
        loop {
            let line = &mut self.line;
            let added = match &mut self.talk {
                Talk::Plain(plain) | Talk::Mouth(plain) => match plain.poll(now) {
                    Some(datagram) => {
                        line.put(&datagram);
                        true
                    }
                    None => false,
                },
                Talk::Reliable(machine) if line.waiting() == 0 || !line.is_full() => {
                    line.add(|datagram| {
                        header.write(datagram);
                        machine.poll(now, datagram)
                    })
                }
                // What the system does not take stays where it is.
                Talk::Reliable(_) | Talk::Ear => false,
            };
            if !added {
                break;
            }
            if line.is_full() {
                line.write();
            }
        }
        self.line.write();
        if let Talk::Reliable(machine) = &mut self.talk {
            self.tally.add(machine.take_stats());
        }
        if self.line.is_refused() && !matches!(self.talk, Talk::Mouth(_)) {
            self.give_up("nobody listens there any more");
        }
    }

    /// Sends what waits, and then the message that was kept aside.
    pub(super) fn push_on(&mut self) {
        self.pump();
        if !self.is_sent() {
            return;
        }
        if let Some(latest) = self.latest.take() {
            self.put(&latest);
            self.settle();
        }
    }

    fn settle(&mut self) {
        if let Talk::Reliable(machine) = &mut self.talk {
            machine.flush();
        }
        self.pump();
    }

    /// Where the peer is.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.line.peer()
    }

    /// Whether no more may be read, or what comes would be dropped.
    pub(super) fn is_crowded(&self) -> bool {
        match &self.talk {
            Talk::Plain(_) | Talk::Ear => self.ready.len() + MERGED > self.limits.queue_messages,
            Talk::Mouth(_) | Talk::Reliable(_) => false,
        }
    }

    /// Whether nothing waits to be sent.
    fn is_sent(&self) -> bool {
        self.line.waiting() == 0
            && match &self.talk {
                Talk::Reliable(machine) => machine.is_sent(),
                _ => true,
            }
    }

    /// Whether everything has been sent, and arrived where that can be told.
    pub(super) fn is_idle(&self) -> bool {
        let arrived = match &self.talk {
            Talk::Reliable(machine) => machine.is_idle(),
            _ => true,
        };
        self.end.is_some() || arrived && self.latest.is_none() && self.line.waiting() == 0
    }

    fn put(&mut self, message: &[Frame]) {
        self.note_questions(self.open_questions + 1);
        let full = match &mut self.talk {
            Talk::Plain(plain) | Talk::Mouth(plain) => {
                self.line.add(|datagram| {
                    plain.write(message, datagram);
                    true
                });
                self.line.is_full()
            }
            Talk::Reliable(machine) => machine.push(message),
            Talk::Ear => false,
        };
        if full {
            self.pump();
        }
    }

    /// When the socket would look after it, and when it has to.
    pub(super) fn arm(&mut self) -> (Option<Time>, Option<Time>) {
        let due = match &self.talk {
            _ if self.end.is_some() => None,
            Talk::Plain(plain) | Talk::Mouth(plain) => Some(plain.due()),
            Talk::Reliable(machine) => machine.deadline(),
            Talk::Ear => None,
        };
        let before = self.armed;
        // Looking too early does no harm, and costs less than to change it each time.
        self.armed = before.into_iter().chain(due).min();
        (before, self.armed)
    }

    /// Time has passed; see [`Reliable::wake`].
    pub(super) fn wake(&mut self, now: Time, heard_all: bool) {
        self.armed = None;
        if self.end.is_some() {
            return;
        }
        match &mut self.talk {
            Talk::Plain(plain) => plain.wake(now, heard_all),
            Talk::Mouth(plain) => plain.beat(now),
            Talk::Reliable(machine) => machine.wake(now, heard_all),
            Talk::Ear => {}
        }
        self.note_end();
        self.push_on();
    }

    /// Acknowledges what has come and says goodbye, twice because once may be lost.
    pub(super) fn close(&mut self) {
        if self.end.is_some() || matches!(self.talk, Talk::Ear) {
            return;
        }
        if let Talk::Reliable(machine) = &mut self.talk {
            machine.settle();
        }
        self.pump();
        self.say_bye();
        self.say_bye();
        self.end.get_or_insert_with(|| "we closed".into());
    }
}

/// Keeps a message until it is taken, or drops it if there are too many.
fn keep(message: Message, limits: &PipeLimits, ready: &mut VecDeque<Message>, tally: &Tally) {
    if limits.keeps_latest_in {
        ready.clear();
    }
    if ready.len() >= limits.queue_messages {
        tally.dropped.add(1);
        return;
    }
    ready.push_back(message);
}

impl Pipe for UdpPipe {
    fn has_room(&mut self) -> bool {
        self.end.is_some()
            || self.limits.keeps_latest
            || match &self.talk {
                Talk::Reliable(machine) => machine.has_room(),
                _ => self.line.waiting() < self.limits.queue_messages,
            }
    }

    fn offer(&mut self, message: &[Frame]) -> Offer {
        if self.end.is_some() {
            return Offer::Gone;
        }
        if !self.has_room() {
            self.settle();
        }
        if !self.has_room() {
            self.tally.dropped.add(u64::from(self.limits.drops));
            return Offer::Full;
        }
        if let Talk::Plain(plain) = &mut self.talk
            && self.limits.role == Role::Subscribe
        {
            let notice = message.first().map_or(&[][..], |frame| frame);
            return match plain.want(notice, self.clock.now()) {
                true => Offer::Taken,
                false => Offer::Full,
            };
        }
        if self.limits.keeps_latest && !self.is_sent() {
            self.latest = Some(message.to_vec());
            return Offer::Taken;
        }
        self.put(message);
        Offer::Taken
    }

    /// What we want of a publisher goes into the stream whatever waits there. A plain connection keeps it, and says
    /// it until note is taken of it.
    fn tell(&mut self, message: &[Frame]) -> Offer {
        match &mut self.talk {
            _ if self.end.is_some() => Offer::Gone,
            Talk::Reliable(machine) => {
                machine.push(message);
                Offer::Taken
            }
            _ => self.offer(message),
        }
    }

    fn has_message(&self) -> bool {
        !self.ready.is_empty()
            || match &self.talk {
                _ if self.is_deaf => false,
                Talk::Reliable(machine) => self.limits.role != Role::Push && machine.has_message(),
                _ => false,
            }
    }

    fn take(&mut self) -> Option<Message> {
        let message = match &mut self.talk {
            _ if self.is_deaf => None,
            Talk::Reliable(machine) => {
                let message = machine.take();
                if machine.is_urgent() {
                    self.pump();
                }
                self.note_end();
                message
            }
            _ => self.ready.pop_front(),
        };
        if message.is_some() {
            self.note_questions(self.open_questions.saturating_sub(1));
        }
        message
    }

    fn cut_off(&mut self, reason: &'static str) {
        log::debug!("a UDP peer is cut off: {reason}");
        self.give_up(reason);
        self.ready.clear();
        self.is_deaf = true;
    }

    fn is_closed(&self) -> bool {
        self.end.is_some() && !self.has_message()
    }

    /// Sends what was gathered.
    fn flush(&mut self) {
        self.settle();
        if self.latest.is_some() {
            self.push_on();
        }
    }
}
