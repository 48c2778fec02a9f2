//! `raw+tcp://host:port`: the roles on bare TCP, without ZeroMQ.
//!
//! Everything is done in the thread that uses the socket: there is no other that a message would have
//! to pass through. So heartbeats are answered, and lost connections made again, when the socket is used or
//! waited on. What is sent is gathered and written when enough has come together, when the socket is
//! waited on, or by [`flush`](super::Socket::flush).
//!
//! A socket without a peer refuses messages ([`SendError::Full`]); a peer that does not read has a bounded queue,
//! and then the outcome that [`WhenFull`](super::WhenFull) states.

mod dial;
mod greeting;
mod outgoing;
mod pipe;
mod poll;
mod wire;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::routing::{Exchange, Pipe as _};
use super::{
    Frame, Heartbeat, Limits, LinkEvent, Message, Role, SendError, Side, Socket, SocketOptions,
    Source, TransportError, check_exposure,
};
use crate::endpoint::Endpoint;
use crate::security::Security;
use dial::{Dial, Dialed};
use greeting::{Greeted, Greeting};
use pipe::{PipeLimits, TcpPipe};
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
    };
    match side {
        Side::Bind => state.bind()?,
        Side::Connect => state.dial = Some(Dial::new(endpoint, options)?),
    }
    state.look_around();
    Ok(Box::new(TcpSocket {
        endpoint: state.endpoint.clone(),
        limits,
        state: RefCell::new(state),
    }))
}

fn check_plain(endpoint: &Endpoint, security: &Security) -> Result<(), TransportError> {
    match security {
        Security::Curve(_) => Err(TransportError::Unusable {
            endpoint: endpoint.clone(),
            reason: "raw TCP has no encryption: use tcp:// with the keys".into(),
        }),
        _ => Ok(()),
    }
}

fn pipe_limits(role: Role, options: &SocketOptions) -> PipeLimits {
    let keeps_latest = options.when_full == super::WhenFull::KeepLatest;
    PipeLimits {
        queue_messages: usize::try_from(options.queue_messages).unwrap_or(1),
        // Subscriptions are no news that newer ones replace.
        keeps_latest: keeps_latest && role != Role::Subscribe,
        keeps_latest_in: keeps_latest && role != Role::Publish,
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
        let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
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
            listener.set_nonblocking(true)?;
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
        let (mut news, mut more) = (Vec::new(), true);
        while more {
            news.clear();
            more = self.poll.news(&mut news).unwrap_or(false);
            for news in &news {
                self.note(*news);
            }
        }
        let now = Instant::now();
        if self.accept_again.is_some_and(|due| due <= now) {
            self.accept();
        }
        self.beat(now);
        self.greet_in_time(now);
        self.go_on_dialing(now);
        self.watch_ours(now);
        self.part();
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
                    pipe.note(news.readable, news.writable);
                    self.exchange.stir(id);
                    self.skim(id);
                }
            }
        }
    }

    /// A socket that only sends learns in no other way that its peer asks whether it lives, or is gone.
    fn skim(&mut self, id: u32) {
        if self.role != Role::Push {
            return;
        }
        let Some(pipe) = self.exchange.pipe_mut(id) else {
            return;
        };
        while pipe.take().is_some() {}
        if pipe.is_closed() {
            self.exchange.suspect();
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
                    log::warn!("{} takes no connections for now: {error}", self.endpoint);
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
            log::warn!("{}: a peer is refused: {reason}", self.endpoint);
        }
        self.report(LinkEvent::Refused { reason });
    }

    fn greet_in_time(&mut self, now: Instant) {
        let late = self
            .greetings
            .iter()
            .filter(|(_, greeting)| greeting.by() <= now);
        let late: Vec<u64> = late.map(|(&key, _)| key).collect();
        for key in late {
            self.greetings.remove(&key);
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
        let gone = self.exchange.detach_gone();
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

    fn report(&mut self, event: LinkEvent) {
        if !self.options.watch_links {
            return;
        }
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn flush(&mut self) {
        self.gathers = false;
        self.exchange.flush();
        self.part();
    }

    /// How soon something is due.
    fn look_after(&self, now: Instant) -> Option<Duration> {
        let beat = self.beats.first().map(|&(due, _)| due);
        let greeting = self.greetings.values().map(Greeting::by).min();
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

impl Socket for TcpSocket {
    fn send(&mut self, message: &[Frame]) -> Result<(), SendError> {
        self.limits.check(message)?;
        let state = self.state.get_mut();
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
        sent
    }

    fn receive(&mut self) -> Result<Option<Message>, TransportError> {
        let state = self.state.get_mut();
        let message = state.exchange.receive();
        if message.is_some() {
            return Ok(message);
        }
        state.flush();
        state.look_around();
        let message = state.exchange.receive();
        if message.is_none() {
            // Peers whose last message has been taken may go now.
            state.part();
        }
        Ok(message)
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
        self.state.get_mut().flush();
    }

    fn source(&self) -> Source<'_> {
        let mut state = self.state.borrow_mut();
        state.flush();
        if state.role == Role::Push {
            // It is never asked for messages, and so never looks by itself.
            state.look_around();
        }
        let readable = state.exchange.has_message();
        let writable = !state.full;
        let mut source = Source::new(state.poll.fd(), readable, writable);
        source.look_after = state.look_after(Instant::now());
        source
    }

    fn link_source(&self) -> Option<Source<'_>> {
        let state = self.state.borrow();
        let watched = state.options.watch_links;
        watched.then(|| Source::new(state.poll.fd(), !state.events.is_empty(), false))
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
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
        let by = Instant::now() + state.options.linger;
        for pipe in state.exchange.pipes_mut() {
            pipe.close(by);
        }
        for pipe in state.exchange.pipes_mut() {
            pipe.see_off(by);
        }
    }
}
