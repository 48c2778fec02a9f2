//! `raw+tcp://host:port`: the roles on bare TCP, without ZeroMQ.
//!
//! Everything is done in the thread that uses the socket: there is no other that a message would have
//! to pass through. So heartbeats are answered, and lost connections made again, when the socket is used or
//! waited on. What is sent is gathered and written when enough has come together, when the socket is
//! waited on, or by [`flush`](super::Socket::flush). A peer that does not get to use its socket looks dead; see
//! [`Heartbeat::Ping`] for how long that may take.
//!
//! A socket without a peer refuses messages ([`SendError::Full`]); a peer that does not read has a bounded queue,
//! and then the outcome that [`WhenFull`] states.

mod dial;
mod greeting;
mod incoming;
mod outgoing;
mod pipe;
mod poll;
mod rooms;
mod wire;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::routing::{Exchange, Pipe as _};
use super::{
    Frame, Heartbeat, Limits, LinkEvent, Message, Role, SendError, Side, Socket, SocketOptions,
    Source, TransportError, WhenFull, check_exposure, check_plain, sys,
};
use crate::complaints::Complaints;
use crate::endpoint::Endpoint;
use dial::{Dial, Dialed};
use greeting::{Greeted, Greeting};
use pipe::{Allowance, Parting, PipeLimits, TcpPipe};
use poll::{News, Poll};

const LISTENER: u64 = u64::MAX;
const DIAL: u64 = u64::MAX - 1;
/// Keys from here on are connections that have not said what they are; smaller ones are peers.
const GREETINGS: u64 = 1 << 32;

/// Connections that may be about to say what they are; beyond it the oldest is cut off.
const MAX_GREETINGS: usize = 1024;
/// Connections taken in one look.
const ACCEPTED: usize = 64;
/// Pause before connections are taken again when the process is out of descriptors.
const OUT_OF_FILES: Duration = Duration::from_millis(100);
/// Bytes that wait for a peer beyond what the system holds, where those who send wait for room.
const QUEUE_BYTES: usize = 128 << 10;
/// Connections that the system holds until they are taken; beyond it others try again in a second.
const BACKLOG: i32 = 4096;
/// How long connections and heartbeats may wait while there is something to send or to take, in ms.
const LOOK_AFTER_MS: u64 = 10;
/// Messages sent before that time is looked at.
const SENDS: u32 = 64;
/// Messages received before that time is looked at, where they follow closely: no more, as whoever takes a second
/// over each would seem dead.
const TAKES: u32 = 8;
/// Times that the system is asked for news in one look.
const NEWS: usize = 16;
/// Link events that wait to be asked for; older ones go.
const MAX_EVENTS: usize = 1024;

/// Opens a raw TCP socket; see [`transport::open`](super::open).
///
/// # Errors
///
/// See [`transport::open`](super::open); also when encryption is asked for, which raw TCP has not.
pub fn open(
    role: Role,
    side: Side,
    endpoint: &Endpoint,
    options: &SocketOptions,
) -> Result<Box<dyn Socket>, TransportError> {
    let limits = Limits::new(role, options)?;
    check_plain(endpoint, &options.security)?;
    check_exposure(side, endpoint, &options.security)?;
    let poll = Poll::new().map_err(|error| failed("open a socket", &error))?;
    let mut state = State {
        role,
        endpoint: endpoint.clone(),
        pipe_limits: pipe_limits(role, options),
        options: options.clone(),
        exchange: Exchange::stirred(role, options.when_full),
        poll,
        listener: None,
        dial: None,
        ours: None,
        last_end: None,
        greetings: BTreeMap::new(),
        next_greeting: GREETINGS,
        beats: BTreeSet::new(),
        accept_again: None,
        events: VecDeque::new(),
        full: false,
        gathers: false,
        waits_for_sole: false,
        has_looked: false,
        allowance: Allowance::default(),
        takes: 0,
        pace: 0,
        taken_ms: 0,
        looked_ms: 0,
        refused: Complaints::default(),
        cut_off: Complaints::default(),
        crowded_out: Complaints::default(),
        exhausted: Complaints::default(),
    };
    match side {
        Side::Bind => state.bind()?,
        Side::Connect => state.dial = Some(Dial::new(endpoint, options)?),
    }
    state.look_around();
    // On one machine the connection stands by now.
    state.look_around();
    Ok(Box::new(TcpSocket {
        endpoint: state.endpoint.clone(),
        limits,
        state: RefCell::new(state),
    }))
}

/// Feeds a stream to the decoder in pieces, the first byte of each of which says how long it is.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(mut bytes: &[u8]) {
    use incoming::Incoming;
    let mut incoming = Incoming::new(1 << 20);
    let mut message = Message::new();
    while let Some((&len, rest)) = bytes.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(len)));
        bytes = rest;
        incoming.feed(piece);
        loop {
            if incoming.take_whole(&mut message) {
                continue;
            }
            match incoming.next_into(&mut message) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        incoming.settle();
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn pipe_limits(role: Role, options: &SocketOptions) -> PipeLimits {
    let keeps_latest = options.when_full == WhenFull::KeepLatest;
    PipeLimits {
        queue_messages: usize::try_from(options.queue_messages).unwrap_or(1),
        // One who waits for room has nothing from more of it. One who drops does, and a router, which waits for
        // nobody in particular.
        queue_bytes: match options.when_full {
            WhenFull::Refuse if role != Role::Router => QUEUE_BYTES,
            _ => usize::MAX,
        },
        // Subscriptions are no news that newer ones replace.
        keeps_latest: keeps_latest && role != Role::Subscribe,
        keeps_latest_in: keeps_latest && role != Role::Publish,
        asks: role == Role::Dealer,
        frame_bytes: options.max_message_bytes,
        ping: match options.heartbeat {
            Heartbeat::Ping(interval) => Some(interval.max(Duration::from_millis(1))),
            Heartbeat::Probe(_) => None,
        },
    }
}

fn failed(what: &'static str, error: &io::Error) -> TransportError {
    TransportError::Failed {
        what,
        reason: error.to_string(),
    }
}

struct TcpSocket {
    endpoint: Endpoint,
    limits: Limits,
    /// In a cell, so that a look before a wait can write what was gathered.
    state: RefCell<State>,
}

/// The connection of a socket that connects.
struct Ours {
    id: u32,
    greeted: bool,
    /// When it has to be.
    by: Instant,
}

struct State {
    role: Role,
    endpoint: Endpoint,
    options: SocketOptions,
    pipe_limits: PipeLimits,
    exchange: Exchange<TcpPipe>,
    poll: Poll,
    listener: Option<TcpListener>,
    dial: Option<Dial>,
    /// What our own dialing led to.
    ours: Option<Ours>,
    /// Why it was refused, if it was.
    last_end: Option<String>,
    greetings: BTreeMap<u64, Greeting>,
    next_greeting: u64,
    /// When to look after each peer.
    beats: BTreeSet<(Instant, u32)>,
    /// When to take connections again, after it was impossible or enough.
    accept_again: Option<Instant>,
    events: VecDeque<LinkEvent>,
    /// Whether the last message was refused for want of room.
    full: bool,
    /// Whether something was sent since the last look or flush.
    gathers: bool,
    /// Whether the last wait was for the only peer.
    waits_for_sole: bool,
    /// Whether all that came was taken since the last wait, so that another look would be in vain.
    has_looked: bool,
    /// What may be sent without ado; nothing after anything else was done.
    allowance: Allowance,
    /// Messages that may be taken without ado.
    takes: u32,
    /// The last number of those, which grows while no time passes.
    pace: u32,
    /// When it was the highest, by the coarse clock.
    taken_ms: u64,
    /// When everything was last looked at, by the coarse clock.
    looked_ms: u64,
    refused: Complaints,
    cut_off: Complaints,
    crowded_out: Complaints,
    exhausted: Complaints,
}

/// A clock that costs next to nothing, and is some milliseconds late.
#[inline]
fn coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

impl State {
    fn bind(&mut self) -> Result<(), TransportError> {
        let unusable = |reason: String| TransportError::Unusable {
            endpoint: self.endpoint.clone(),
            reason,
        };
        let host = match self.endpoint.host() {
            Some("*") | None => "0.0.0.0",
            Some(host) => host,
        };
        let port = self.endpoint.port().unwrap_or(0);
        let mut addresses = (host, port)
            .to_socket_addrs()
            .map_err(|_| unusable("the host does not resolve".into()))?;
        let address = addresses.next();
        let address = address.ok_or_else(|| unusable("the host has no address".into()))?;
        let listener = listen_at(address).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => TransportError::InUse {
                endpoint: self.endpoint.clone(),
            },
            ErrorKind::AddrNotAvailable => {
                unusable("the host is no address of this machine".into())
            }
            ErrorKind::PermissionDenied => unusable("ports below 1024 need more rights".into()),
            _ => unusable(error.to_string()),
        })?;
        let listen = || -> io::Result<u16> {
            self.poll.add(&listener, LISTENER)?;
            Ok(listener.local_addr()?.port())
        };
        let port = listen().map_err(|error| failed("listen", &error))?;
        self.endpoint = self.endpoint.with_port(port);
        self.listener = Some(listener);
        Ok(())
    }

    /// Takes note of what happened, writes what waits, and does what is due.
    fn look_around(&mut self) {
        self.looked_ms = coarse_ms();
        self.allowance = Allowance::default();
        (self.takes, self.pace) = (0, 0);
        self.hear_news();
        let now = Instant::now();
        if self.accept_again.is_some_and(|due| due <= now) {
            self.accept();
        }
        self.hear_out();
        self.beat(now);
        self.greet_in_time(now);
        self.go_on_dialing(now);
        self.watch_ours(now);
        self.part();
    }

    fn hear_news(&mut self) {
        let mut news = Vec::new();
        for _ in 0..NEWS {
            news.clear();
            let more = self.poll.news(&mut news).unwrap_or(false);
            for news in &news {
                self.note(*news);
            }
            if !more {
                return;
            }
        }
    }

    /// Looks around if that has not been done for a while.
    #[inline]
    fn tend(&mut self) {
        if self.is_due() {
            self.look_around();
        }
    }

    #[inline]
    fn is_due(&self) -> bool {
        coarse_ms() - self.looked_ms >= LOOK_AFTER_MS
    }

    fn note(&mut self, news: News) {
        match news.key {
            LISTENER => self.accept(),
            DIAL => {
                if let Some(dial) = &mut self.dial {
                    dial.note(news.writable);
                }
            }
            key if key >= GREETINGS => self.greet(key),
            key => {
                let id = key as u32;
                if let Some(pipe) = self.exchange.pipe_mut(id) {
                    pipe.note(news);
                    self.exchange.stir(id);
                }
            }
        }
    }

    /// A socket that only sends learns in no other way that its peer asks whether it lives, or is gone.
    fn hear_out(&mut self) {
        if self.role == Role::Push {
            self.exchange.receive();
        }
    }

    fn accept(&mut self) {
        self.accept_again = None;
        for _ in 0..ACCEPTED {
            let Some(listener) = &self.listener else {
                return;
            };
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // A connection that ended before it was taken.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let what = format!("no connections are taken for now: {error}");
                    self.exhausted.add(&self.endpoint, &what);
                    self.accept_again = Some(Instant::now() + OUT_OF_FILES);
                    return;
                }
            }
        }
        self.accept_again = Some(Instant::now());
    }

    fn keepalive(&self) -> Duration {
        let (Heartbeat::Probe(interval) | Heartbeat::Ping(interval)) = self.options.heartbeat;
        interval
    }

    /// Says what we are, and waits for the other to do the same.
    fn welcome(&mut self, stream: TcpStream) {
        if self.greetings.len() >= MAX_GREETINGS {
            self.greetings.pop_first();
            let what = "too many connections say nothing: the oldest is cut off";
            self.crowded_out.add(&self.endpoint, &what);
        }
        let key = self.next_greeting;
        // Wraps after four billion connections, long before the keys of listener and dial.
        self.next_greeting = GREETINGS + (key + 1 - GREETINGS) % GREETINGS;
        let by = Instant::now() + self.options.handshake;
        let begun = Greeting::begin(stream, self.role, by, self.keepalive())
            .and_then(|greeting| self.poll.add(greeting.stream(), key).map(|()| greeting));
        match begun {
            Ok(greeting) => {
                self.greetings.insert(key, greeting);
                self.greet(key);
            }
            Err(error) => log::debug!("{}: a connection failed at once: {error}", self.endpoint),
        }
    }

    fn greet(&mut self, key: u64) {
        let Some(greeting) = self.greetings.get_mut(&key) else {
            return;
        };
        match greeting.go_on(self.role) {
            Greeted::NotYet => {}
            Greeted::Done => {
                if let Some(greeting) = self.greetings.remove(&key) {
                    let limits = self.pipe_limits.clone();
                    self.attach(TcpPipe::new(greeting.into_stream(), limits));
                    self.report(LinkEvent::Connected);
                }
            }
            Greeted::Refused(reason) => {
                self.greetings.remove(&key);
                self.refuse(reason);
            }
            Greeted::Gone => {
                self.greetings.remove(&key);
            }
        }
    }

    fn refuse(&mut self, reason: String) {
        if !self.options.watch_links {
            self.refused
                .add(&self.endpoint, &format!("a peer is refused: {reason}"));
        }
        let reason = format!("{}: {reason}", self.endpoint);
        self.report(LinkEvent::Refused { reason });
    }

    fn greet_in_time(&mut self, now: Instant) {
        // The oldest is the first that is late.
        while let Some(greeting) = self.greetings.first_entry()
            && greeting.get().by() <= now
        {
            greeting.remove();
            self.refuse("it has not said in time what it is".into());
        }
    }

    fn attach(&mut self, pipe: TcpPipe) -> u32 {
        let id = self.exchange.attach(pipe);
        let Some(pipe) = self.exchange.pipe_mut(id) else {
            return id;
        };
        if let Err(error) = self.poll.rename(pipe.stream(), u64::from(id)) {
            log::warn!("{}: a connection cannot be watched: {error}", self.endpoint);
        }
        self.exchange.stir(id);
        self.beats.insert((Instant::now(), id));
        id
    }

    /// Asks silent peers whether they live.
    fn beat(&mut self, now: Instant) {
        while let Some(&(due, id)) = self.beats.first()
            && due <= now
        {
            self.beats.pop_first();
            let Some(pipe) = self.exchange.pipe_mut(id) else {
                continue;
            };
            let next = pipe.beat(now);
            if pipe.is_closed() {
                self.exchange.suspect();
            }
            if let Some(next) = next {
                self.beats.insert((next, id));
            }
            self.exchange.stir(id);
        }
    }

    fn go_on_dialing(&mut self, now: Instant) {
        let Some(dial) = &mut self.dial else { return };
        match dial.go_on(now, &self.poll, DIAL) {
            Dialed::NotYet => {}
            Dialed::Connected(stream) => self.take_up(stream),
            Dialed::Failed(reason) => log::debug!("{}: {reason}", self.endpoint),
        }
    }

    /// Our own connection stands.
    fn take_up(&mut self, mut stream: TcpStream) {
        match greeting::prepare(&mut stream, self.role, self.keepalive()) {
            Ok(()) => {
                let limits = self.pipe_limits.clone();
                let id = self.attach(TcpPipe::fresh(stream, limits, self.role));
                self.ours = Some(Ours {
                    id,
                    greeted: false,
                    by: Instant::now() + self.options.handshake,
                });
            }
            Err(error) => {
                log::debug!("{}: the connection failed at once: {error}", self.endpoint);
                self.dial_again();
            }
        }
    }

    /// Looks whether the other end of our own connection has said what it is, and whether it is gone.
    fn watch_ours(&mut self, now: Instant) {
        let Some(ours) = &mut self.ours else { return };
        let Some(pipe) = self.exchange.pipe_mut(ours.id) else {
            return;
        };
        if !ours.greeted && pipe.is_greeted() {
            ours.greeted = true;
            if let Some(dial) = &mut self.dial {
                dial.succeed();
            }
            return self.report(LinkEvent::Connected);
        }
        if !ours.greeted && now >= ours.by {
            pipe.give_up("it has not said in time what it is");
        }
        if pipe.is_closed() {
            self.exchange.suspect();
        }
    }

    fn dial_again(&mut self) {
        if let Some(dial) = &mut self.dial {
            dial.again(Instant::now());
        }
    }

    /// Our own connection is gone: a refusal if the other end never was what it should be.
    fn lose_ours(&mut self) {
        let Some(ours) = self.ours.take() else { return };
        match (ours.greeted, self.last_end.take()) {
            (true, _) => self.report(LinkEvent::Disconnected),
            (false, Some(reason)) => self.refuse(reason),
            (false, None) => {}
        }
        self.dial_again();
    }

    /// Lets go of the peers that are gone.
    fn part(&mut self) {
        if let Some(ours) = &self.ours {
            let pipe = self.exchange.pipe_mut(ours.id);
            self.last_end = pipe.and_then(|pipe| pipe.refusal().map(str::to_string));
        }
        let gone = self.let_go();
        if self.dial.is_some() {
            if gone > 0 {
                self.lose_ours();
            }
            return;
        }
        for _ in 0..gone {
            self.report(LinkEvent::Disconnected);
        }
    }

    /// Forgets the peers that are gone, and says why where it was their own doing; how many there were.
    fn let_go(&mut self) -> usize {
        let State {
            exchange,
            endpoint,
            cut_off,
            ..
        } = self;
        exchange.detach_gone(|pipe| match pipe.parting() {
            Parting::CutOff(reason) => {
                cut_off.add(endpoint, &format!("a peer is cut off: {reason}"));
            }
            Parting::Over(reason) => log::debug!("{endpoint}: a connection is over: {reason}"),
            Parting::Refused => {}
        })
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

    /// Sends a short message where there is no choice and nothing to decide.
    #[inline(always)]
    fn append(&mut self, frame: &[u8]) -> bool {
        self.allowance.spend(frame.len())
            && self
                .exchange
                .sole_mut()
                .is_some_and(|pipe| pipe.append(frame))
    }

    /// Finds out what may be sent without ado from here on.
    fn allow_sends(&mut self) {
        let has_no_choice = self.gathers && matches!(self.role, Role::Push | Role::Dealer);
        let sole = self.exchange.sole_dirty().filter(|_| has_no_choice);
        self.allowance = sole.map(TcpPipe::allowance).unwrap_or_default();
        self.allowance.messages = self.allowance.messages.min(SENDS);
    }

    /// Takes a message where there is no choice and nothing to decide.
    #[inline(always)]
    fn take_whole(&mut self, message: &mut Message) -> bool {
        let taken = self.takes > 0
            && self
                .exchange
                .sole_mut()
                .is_some_and(|pipe| pipe.take_whole(message));
        self.takes -= u32::from(taken);
        taken
    }

    /// Allows as many takes again if no time has passed since the last ones were allowed.
    fn is_same_tick(&mut self) -> bool {
        if self.pace < TAKES {
            return false;
        }
        let now = coarse_ms();
        let is_same = std::mem::replace(&mut self.taken_ms, now) == now;
        self.takes = if is_same { TAKES } else { 0 };
        is_same
    }

    /// A message was taken: finds out how many may be taken without ado from here on.
    fn allow_takes(&mut self) {
        let has_no_choice = matches!(self.role, Role::Pull | Role::Dealer)
            && self.exchange.is_sole_stirred()
            && self
                .exchange
                .sole()
                .is_some_and(|(_, pipe)| pipe.gives_whole());
        self.pace = match has_no_choice {
            true => (2 * self.pace).clamp(1, TAKES),
            false => 0,
        };
        self.takes = self.pace;
    }

    /// The next message, after what is due was done.
    #[inline(never)]
    fn take_any(&mut self, message: &mut Message) -> bool {
        if self.is_same_tick() && self.take_whole(message) {
            return true;
        }
        self.allowance = Allowance::default();
        if !self.is_due() {
            if self.exchange.receive_into(message) {
                self.allow_takes();
                return true;
            }
            self.flush();
            if std::mem::take(&mut self.has_looked) {
                return false;
            }
            if self.look_at_sole(message) {
                return true;
            }
        }
        self.flush();
        self.look_around();
        let found = self.exchange.receive_into(message);
        if !found {
            // Peers whose last message has been taken may go now.
            self.part();
        }
        found
    }

    /// Asks the only peer for news without asking the system first who has any.
    fn look_at_sole(&mut self, message: &mut Message) -> bool {
        let sole = self.exchange.sole().filter(|_| self.waits_for_sole);
        let Some(id) = sole.map(|(id, _)| id) else {
            return false;
        };
        if let Some(pipe) = self.exchange.pipe_mut(id) {
            pipe.note_readable();
        }
        self.exchange.stir(id);
        // After a message that came alone nothing more is expected before the next wait.
        self.has_looked = self.exchange.receive_into(message);
        self.has_looked
    }

    /// What to wait on: with one peer its own connection, and where new ones come in; else all of them.
    fn fds(&self) -> (RawFd, RawFd) {
        let idle = self.greetings.is_empty() && !self.full && self.accept_again.is_none();
        let sole = self.exchange.sole().filter(|_| idle);
        match sole.and_then(|(_, pipe)| pipe.fd()) {
            Some(fd) => (fd, self.listener.as_ref().map_or(-1, AsRawFd::as_raw_fd)),
            None => (self.poll.fd(), -1),
        }
    }

    fn flush(&mut self) {
        self.gathers = false;
        self.allowance = Allowance::default();
        self.exchange.flush();
        self.part();
    }

    /// Takes leave of all peers at once, until `by` at most.
    fn see_off(&mut self, by: Instant) {
        loop {
            // Each of them, not only up to the first that is not done.
            let busy = self
                .exchange
                .pipes_mut()
                .filter_map(|pipe| (!pipe.leave()).then_some(()));
            let busy = busy.count();
            let left = by.saturating_duration_since(Instant::now());
            if busy == 0 || left.is_zero() {
                return;
            }
            sys::poll([self.poll.fd()].into_iter(), Some(left));
            let mut news = Vec::new();
            let _ = self.poll.news(&mut news);
            for news in news {
                let id = u32::try_from(news.key).ok();
                if let Some(pipe) = id.and_then(|id| self.exchange.pipe_mut(id)) {
                    pipe.note(news);
                }
            }
        }
    }

    /// How soon something is due.
    fn look_after(&self, now: Instant) -> Option<Duration> {
        let beat = self.beats.first().map(|&(due, _)| due);
        let greeting = self.greetings.values().next().map(Greeting::by);
        let dial = self.dial.as_ref().and_then(Dial::due);
        let ours = self.ours.as_ref().filter(|ours| !ours.greeted);
        let greeting = greeting.or(ours.map(|ours| ours.by));
        let due = beat
            .into_iter()
            .chain(greeting)
            .chain(dial)
            .chain(self.accept_again);
        due.min().map(|due| due.saturating_duration_since(now))
    }
}

impl TcpSocket {
    #[inline(never)]
    fn send_any(&mut self, message: &[Frame]) -> Result<(), SendError> {
        self.limits.check(message)?;
        self.limits.check_together(message)?;
        let state = self.state.get_mut();
        state.tend();
        let mut sent = state.exchange.send(message);
        if sent.is_err() {
            // There may be a peer by now, or room.
            state.look_around();
            sent = state.exchange.send(message);
        }
        state.full = matches!(sent, Err(SendError::Full));
        // The first message goes out at once; those that follow closely are gathered.
        if !std::mem::replace(&mut state.gathers, true) {
            state.exchange.flush();
        }
        state.allow_sends();
        sent
    }
}

impl Socket for TcpSocket {
    fn send(&mut self, message: &[Frame]) -> Result<(), SendError> {
        if let [frame] = message
            && self.state.get_mut().append(frame)
        {
            return Ok(());
        }
        self.send_any(message)
    }

    fn receive(&mut self) -> Result<Option<Message>, TransportError> {
        let mut message = Message::new();
        Ok(self.receive_into(&mut message)?.then_some(message))
    }

    fn receive_into(&mut self, message: &mut Message) -> Result<bool, TransportError> {
        let state = self.state.get_mut();
        Ok(state.take_whole(message) || state.take_any(message))
    }

    fn link_event(&mut self) -> Option<LinkEvent> {
        let state = self.state.get_mut();
        if state.events.is_empty() {
            state.look_around();
        }
        state.events.pop_front()
    }

    fn subscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        self.limits.check_subscribe()?;
        let state = self.state.get_mut();
        let told = state.exchange.subscribe(topic);
        state.flush();
        subscribed(told, "subscribe")
    }

    fn unsubscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        let state = self.state.get_mut();
        let told = state.exchange.unsubscribe(topic);
        state.flush();
        subscribed(told, "unsubscribe")
    }

    fn flush(&mut self) {
        let state = self.state.get_mut();
        state.flush();
        state.tend();
    }

    fn source(&self) -> Source<'_> {
        let mut state = self.state.borrow_mut();
        state.flush();
        if state.role == Role::Push {
            // It is never asked for messages, and so never looks by itself.
            state.look_around();
        }
        state.has_looked = false;
        let readable = state.exchange.has_message();
        let writable = !state.full;
        let (fd, link_fd) = state.fds();
        state.waits_for_sole = fd != state.poll.fd();
        let mut source = Source::new(fd, readable, writable);
        source.link_fd = link_fd;
        source.look_after = state.look_after(Instant::now());
        source
    }

    fn link_source(&self) -> Option<Source<'_>> {
        let state = self.state.borrow();
        state.options.watch_links.then(|| {
            let mut source = Source::new(state.poll.fd(), !state.events.is_empty(), false);
            source.look_after = state.look_after(Instant::now());
            source
        })
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn sender(&self, message: &[Frame]) -> Option<IpAddr> {
        let state = self.state.borrow();
        let pipe = state.exchange.routed(message.first()?)?;
        let address = pipe.stream().peer_addr().ok()?;
        Some(address.ip().to_canonical())
    }
}

fn subscribed(told: bool, what: &'static str) -> Result<(), TransportError> {
    if told {
        return Ok(());
    }
    Err(TransportError::Failed {
        what,
        reason: "too many subscriptions wait for the publisher".into(),
    })
}

impl Drop for TcpSocket {
    /// Writes what waits, for at most the time to linger.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        state.flush();
        state.see_off(Instant::now() + state.options.linger);
    }
}
