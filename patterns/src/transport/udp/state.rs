//! What a UDP socket is made of: peers, their timers, and the way that datagrams take to them.

mod hearing;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::complaints::Complaints;
use crate::endpoint::Endpoint;
use crate::machine::{Clock, Time};
use crate::transport::routing::{Exchange, Pipe as _};
use crate::transport::sys::datagrams::{Inbox, MERGED, PIECES};
use crate::transport::{
    BUSY, Counters, Frame, Heartbeat, LinkEvent, Message, Role, SendError, SocketOptions,
    TransportError,
};

use super::caller::Caller;
use super::group::Publishers;
use super::listener::{Known, Listener};
use super::live::Patience;
use super::packet::Mode;
use super::pipe::{PipeLimits, Surroundings, UdpPipe};
use super::tally::Tally;
use super::{place, plain};

/// Batches of datagrams that one look takes at most, so that others have their turn.
const LOOKS: usize = 64;

/// More datagrams than the system keeps for a socket: it counts some dozen bytes for the smallest.
const KEPT: usize = 1 << 18;

/// Messages after which a socket that only sends looks for acknowledgements.
const SENDS: u32 = 64;

/// Messages that are taken before the socket looks around, and how long it does not while it has some: whoever
/// takes long for each has to acknowledge, to repeat and to answer all the same.
const TAKES: u32 = 256;
const LOOK_WITHIN: Duration = Duration::from_millis(50);

/// How soon to try again what the system did not take.
const BLOCKED: Duration = Duration::from_millis(1);

/// Link events that wait to be asked for; older ones go.
const MAX_EVENTS: usize = 1024;

thread_local! {
    /// What is read goes through here, so that many sockets take no memory for it.
    static INBOX: RefCell<Inbox> = RefCell::new(Inbox::new());
}

enum Place {
    /// Not opened yet.
    Nowhere,
    Listener(Listener),
    Caller {
        caller: Caller,
        ours: Option<Known>,
    },
    /// Sends to a group.
    Mouth(Arc<UdpSocket>),
    /// Hears a group.
    Ear {
        socket: Arc<UdpSocket>,
        publishers: Publishers,
        number: u32,
    },
}

pub(super) struct State {
    role: Role,
    mode: Mode,
    endpoint: Endpoint,
    options: SocketOptions,
    around: Surroundings,
    exchange: Exchange<UdpPipe>,
    place: Place,
    /// When to look after each peer.
    timers: BTreeSet<(Time, u32)>,
    /// Peers of which something came in this look.
    touched: Vec<u32>,
    events: VecDeque<LinkEvent>,
    complaints: Complaints,
    refused: Complaints,
    /// Whether the last message was refused for want of room, and nothing happened since.
    full: bool,
    /// Whether something was sent since the last flush.
    gathers: bool,
    /// Messages since the last look, and when that was.
    sends: u32,
    takes: u32,
    looked: Time,
    /// Datagrams that were read since all had been.
    unheard: usize,
}

fn patience(heartbeat: Heartbeat) -> Patience {
    let (Heartbeat::Ping(interval) | Heartbeat::Probe(interval)) = heartbeat;
    let interval = interval.max(Duration::from_millis(1));
    let limit = match heartbeat {
        Heartbeat::Ping(_) => 3 * interval,
        // There is nobody below us who would answer for a program that is busy.
        Heartbeat::Probe(_) => (4 * interval).max(BUSY),
    };
    Patience { interval, limit }
}

impl State {
    pub(super) fn new(
        role: Role,
        mode: Mode,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> State {
        let around = Surroundings {
            clock: Clock::start(),
            limits: PipeLimits::new(role, options, patience(options.heartbeat)),
            tally: Arc::new(Tally::default()),
        };
        State {
            role,
            mode,
            endpoint: endpoint.clone(),
            options: options.clone(),
            around,
            exchange: Exchange::stirred(role, options.when_full),
            place: Place::Nowhere,
            timers: BTreeSet::new(),
            touched: Vec::new(),
            events: VecDeque::new(),
            complaints: Complaints::default(),
            refused: Complaints::default(),
            full: false,
            gathers: false,
            sends: 0,
            takes: 0,
            looked: Time::START,
            unheard: 0,
        }
    }

    /// Listens.
    pub(super) fn bind(&mut self) -> Result<(), TransportError> {
        let socket = place::at(&self.endpoint)?;
        let port = socket
            .local_addr()
            .map_err(|error| self.failed(&error))?
            .port();
        self.endpoint = self.endpoint.with_port(port);
        self.fit_window(&socket);
        self.place = Place::Listener(Listener::new(socket, self.role, self.mode));
        Ok(())
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self) -> Result<(), TransportError> {
        let caller = Caller::new(&self.endpoint, self.role, self.mode, &self.options)?;
        self.place = Place::Caller { caller, ours: None };
        Ok(())
    }

    /// Sends to a group or hears it.
    pub(super) fn join(&mut self, group: IpAddr) -> Result<(), TransportError> {
        let address = SocketAddr::new(group, self.endpoint.port().unwrap_or(0));
        let publishes = self.role == Role::Publish;
        let opened = match publishes {
            true => place::to_group(address),
            false => place::in_group(address),
        };
        let socket = Arc::new(opened.map_err(|error| self.unusable(&error))?);
        let session = rand::random();
        let pipe = UdpPipe::group(socket.clone(), address, session, &self.around);
        let number = self.exchange.attach(pipe);
        self.exchange.stir(number);
        self.arm(number);
        self.place = match publishes {
            true => Place::Mouth(socket),
            false => Place::Ear {
                socket,
                publishers: Publishers::new(self.around.limits.patience.limit, self.now()),
                number,
            },
        };
        Ok(())
    }

    fn unusable(&self, error: &io::Error) -> TransportError {
        TransportError::Unusable {
            endpoint: self.endpoint.clone(),
            reason: error.to_string(),
        }
    }

    fn failed(&self, error: &io::Error) -> TransportError {
        TransportError::Failed {
            what: "open a UDP socket",
            reason: error.to_string(),
        }
    }

    /// No more may be under way than the system keeps for us.
    fn fit_window(&mut self, socket: &UdpSocket) {
        let limits = &mut self.around.limits;
        limits.window_bytes = place::room(socket).min(super::pipe::WINDOW_BYTES);
    }

    fn now(&self) -> Time {
        self.around.clock.now()
    }

    fn socket(&self) -> Option<&Arc<UdpSocket>> {
        match &self.place {
            Place::Nowhere => None,
            Place::Listener(listener) => Some(&listener.socket),
            Place::Caller { caller, .. } => caller.socket(),
            Place::Mouth(socket) | Place::Ear { socket, .. } => Some(socket),
        }
    }

    // What the socket does for its user.

    pub(super) fn send(&mut self, message: &[Frame]) -> Result<(), SendError> {
        let mut sent = self.exchange.send(message);
        self.sends += 1;
        if sent.is_err() || self.sends >= SENDS {
            // There may be a peer by now, or room.
            self.look_around();
        }
        if sent.is_err() {
            sent = self.exchange.send(message);
        }
        self.full = matches!(sent, Err(SendError::Full));
        // The first message goes out at once; those that follow closely are gathered.
        if !std::mem::replace(&mut self.gathers, true) {
            self.flush_dirty();
        }
        sent
    }

    pub(super) fn receive(&mut self) -> Option<Message> {
        let message = self.exchange.receive();
        if message.is_some() {
            self.takes += 1;
            self.look_in_time();
            return message;
        }
        self.flush();
        self.look_around();
        let message = self.exchange.receive();
        if message.is_none() {
            // Peers whose last message has been taken may go now.
            self.part();
        }
        message
    }

    pub(super) fn link_event(&mut self) -> Option<LinkEvent> {
        if self.events.is_empty() {
            self.look_around();
        }
        self.events.pop_front()
    }

    pub(super) fn subscribe(&mut self, topic: &[u8]) -> bool {
        let mut told = self.exchange.subscribe(topic);
        if told && !self.can_tell_topics() {
            self.exchange.unsubscribe(topic);
            told = false;
        }
        self.flush();
        told
    }

    /// Whether a plain publisher could be told, whether there is one by now or not.
    fn can_tell_topics(&self) -> bool {
        let (count, bytes) = self.exchange.subscribed();
        let is_told = self.mode == Mode::Plain
            && matches!(self.place, Place::Listener(_) | Place::Caller { .. });
        !is_told || plain::topics_bytes(count, bytes) <= plain::MAX_TOPICS_BYTES
    }

    pub(super) fn unsubscribe(&mut self, topic: &[u8]) -> bool {
        let told = self.exchange.unsubscribe(topic);
        self.flush();
        told
    }

    pub(super) fn flush(&mut self) {
        self.gathers = false;
        self.flush_dirty();
        self.part();
    }

    fn flush_dirty(&mut self) {
        while let Some(number) = self.exchange.pop_dirty() {
            if let Some(pipe) = self.exchange.pipe_mut(number) {
                pipe.flush();
            }
            self.arm(number);
        }
    }

    /// Does what has to be done before a wait.
    pub(super) fn settle(&mut self) {
        self.flush();
        if !self.exchange.has_message() {
            self.look_around();
        }
        self.look_in_time();
    }

    /// Looks around although there are messages, if that was long ago. What would be dropped stays unread.
    fn look_in_time(&mut self) {
        let now = self.now();
        if self.takes < TAKES && now.since(self.looked) < LOOK_WITHIN {
            return;
        }
        let is_crowded = self.mode == Mode::Plain && self.exchange.pipes().any(UdpPipe::is_crowded);
        let heard_all = !is_crowded && self.hear(now);
        self.tend(now, heard_all);
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket().map_or(-1, |socket| socket.as_raw_fd())
    }

    pub(super) fn is_readable(&self) -> bool {
        self.exchange.has_message() || self.watches_links() && self.has_events()
    }

    pub(super) fn is_writable(&self) -> bool {
        !self.full
    }

    pub(super) fn watches_links(&self) -> bool {
        self.options.watch_links
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn counters(&self) -> Counters {
        self.around.tally.counters()
    }

    /// Where the peer is that a router calls by this id.
    pub(super) fn peer_of(&self, id: &[u8]) -> Option<SocketAddr> {
        self.exchange.routed(id)?.peer()
    }

    pub(super) fn linger(&self) -> Duration {
        self.options.linger
    }

    /// Whether all that was sent has arrived, or never will.
    pub(super) fn is_idle(&self) -> bool {
        self.exchange.pipes().all(UdpPipe::is_idle)
    }

    /// Says goodbye to everybody.
    pub(super) fn close(&mut self) {
        self.exchange.pipes_mut().for_each(UdpPipe::close);
    }

    /// How soon something is due.
    pub(super) fn look_after(&self) -> Option<Duration> {
        let now = self.now();
        let timer = self.timers.first().map(|&(due, _)| due);
        let place = match &self.place {
            Place::Caller { caller, .. } => caller.due(now),
            Place::Ear { publishers, .. } => publishers.due(),
            _ => None,
        };
        if self.around.tally.blocked.load(Ordering::Relaxed) {
            // What is due cannot be sent any sooner.
            return Some(BLOCKED);
        }
        let due = timer.into_iter().chain(place).min();
        due.map(|due| due.since(now))
    }

    // What happens around it.

    /// Takes note of what has come, and does what is due.
    pub(super) fn look_around(&mut self) {
        let now = self.now();
        let heard_all = self.hear(now);
        self.tend(now, heard_all);
    }

    /// Takes note of what has come; whether of all that came before some moment not long ago.
    fn hear(&mut self, now: Time) -> bool {
        // When more has been read than the system keeps, all has been that came before that.
        let heard_all = self.read(now) || self.unheard >= KEPT;
        if heard_all {
            self.unheard = 0;
        }
        heard_all
    }

    /// Does what is due.
    fn tend(&mut self, now: Time, heard_all: bool) {
        (self.sends, self.takes, self.looked) = (0, 0, now);
        self.try_blocked();
        self.wake(now, heard_all);
        self.call(now);
        self.part();
    }

    /// Reads what has come, but no more than is taken; whether that was all.
    fn read(&mut self, now: Time) -> bool {
        INBOX.with_borrow_mut(|inbox| {
            for _ in 0..LOOKS {
                let Some(socket) = self.socket().cloned() else {
                    return true;
                };
                let more = match inbox.receive(&socket, self.pieces()) {
                    Ok(more) => more,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        self.note_refused(now);
                        continue;
                    }
                    Err(error) => {
                        log::debug!("{}: {error}", self.endpoint);
                        continue;
                    }
                };
                let unheard = self.unheard;
                for (from, datagram) in inbox.datagrams() {
                    self.handle(now, from, datagram);
                    self.unheard += 1;
                }
                self.full &= self.unheard == unheard;
                self.answer();
                if !more {
                    return true;
                }
                if self.exchange.has_message() {
                    return false;
                }
            }
            false
        })
    }

    /// How much is read at once, so that there is room for it; see [`UdpPipe::is_crowded`].
    fn pieces(&self) -> usize {
        match self.mode {
            Mode::Reliable => PIECES,
            Mode::Plain if self.exchange.has_message() => 1,
            Mode::Plain => self.around.limits.queue_messages / MERGED,
        }
    }

    /// Lets those of whom something came acknowledge it, and send what there is room for now.
    fn answer(&mut self) {
        for number in std::mem::take(&mut self.touched) {
            if let Some(pipe) = self.exchange.pipe_mut(number) {
                pipe.push_on();
                if pipe.is_closed() {
                    self.exchange.suspect();
                }
            }
            self.exchange.stir(number);
            self.arm(number);
        }
    }

    /// Sees to it that a peer is looked after in time.
    fn arm(&mut self, number: u32) {
        let Some(pipe) = self.exchange.pipe_mut(number) else {
            return;
        };
        let (before, due) = pipe.arm();
        if before != due {
            before.map(|before| self.timers.remove(&(before, number)));
            self.timers.extend(due.map(|due| (due, number)));
        }
    }

    fn touch(&mut self, number: u32) {
        if self.touched.last() != Some(&number) {
            self.touched.push(number);
        }
    }

    /// Sends what the system did not take.
    fn try_blocked(&mut self) {
        if self.around.tally.blocked.swap(false, Ordering::Relaxed) {
            self.exchange.pipes_mut().for_each(UdpPipe::push_on);
            self.full = false;
        }
    }

    fn wake(&mut self, now: Time, heard_all: bool) {
        let later = self.timers.split_off(&(now, u32::MAX));
        for (_, number) in std::mem::replace(&mut self.timers, later) {
            let Some(pipe) = self.exchange.pipe_mut(number) else {
                continue;
            };
            pipe.wake(now, heard_all);
            if pipe.is_closed() {
                self.exchange.suspect();
            }
            self.arm(number);
        }
        if let Place::Ear { publishers, .. } = &mut self.place {
            for _ in 0..publishers.forget(now) {
                self.report(LinkEvent::Disconnected);
            }
        }
    }

    fn call(&mut self, now: Time) {
        if let Place::Caller { caller, .. } = &mut self.place {
            caller.go_on(now);
        }
        self.answer();
    }

    /// Lets go of the peers that are gone, and calls again if it was we who called.
    fn part(&mut self) {
        let gone = self.exchange.detach_gone(|_| {});
        if gone == 0 {
            return;
        }
        self.full = false;
        let now = self.now();
        match &mut self.place {
            Place::Listener(listener) => {
                let exchange = &mut self.exchange;
                listener
                    .peers
                    .retain(|_, known| exchange.pipe_mut(known.number).is_some());
            }
            Place::Caller { caller, ours } => {
                *ours = None;
                caller.again(now);
            }
            _ => {}
        }
        for _ in 0..gone {
            self.report(LinkEvent::Disconnected);
        }
    }

    fn refuse(&mut self, reason: String) {
        if !self.options.watch_links {
            let what = format!("a peer is refused: {reason}");
            self.refused.add(&self.endpoint, &what);
        }
        let reason = format!("{}: {reason}", self.endpoint);
        self.report(LinkEvent::Refused { reason });
    }

    fn report(&mut self, event: LinkEvent) {
        if !self.options.watch_links {
            return;
        }
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
