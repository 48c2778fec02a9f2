//! `memory://name`: threads of this process, without ZeroMQ; meant for tests.
//!
//! It behaves as ZeroMQ's `tcp` does: a connection may be made before the other side listens and is
//! made again when that side comes back. It differs in that a queue counts exactly, that a socket does not
//! linger (what was sent to a peer that is there stays readable), and that encryption has no meaning.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::routing::{Exchange, Offer, Pipe};
use super::sys::Bell;
use super::{
    Frame, Limits, LinkEvent, Message, Role, SendError, Side, Socket, SocketOptions, Source,
    TransportError, fits,
};
use crate::endpoint::Endpoint;

/// Subscriptions that may wait for a publisher.
const MAX_SUBSCRIPTIONS: usize = 1 << 20;
/// Link events that wait to be asked for; older ones go.
const MAX_EVENTS: usize = 1024;

/// Opens an in-process socket; see [`transport::open`](super::open).
///
/// # Errors
///
/// A socket listens at the endpoint already, or the process has run out of file descriptors.
pub fn open(
    role: Role,
    side: Side,
    endpoint: &Endpoint,
    options: &SocketOptions,
) -> Result<Box<dyn Socket>, TransportError> {
    let limits = Limits::new(role, options)?;
    let desk = Desk::new().map_err(|error| TransportError::Failed {
        what: "open an in-process socket",
        reason: error.to_string(),
    })?;
    let mut socket = MemorySocket {
        exchange: Exchange::new(role, options.when_full),
        role,
        side,
        desk: Arc::new(desk),
        endpoint: endpoint.clone(),
        options: options.clone(),
        limits,
        events: VecDeque::new(),
        announced: false,
        full: false,
    };
    match side {
        Side::Bind => socket.bind()?,
        Side::Connect => socket.connect(),
    }
    Ok(Box::new(socket))
}

/// What is known under each name.
static SITES: Mutex<BTreeMap<String, Site>> = Mutex::new(BTreeMap::new());

/// One name: who listens there and who waits for somebody to.
#[derive(Default)]
struct Site {
    listener: Option<(Role, Arc<Desk>)>,
    waiting: Vec<Caller>,
}

/// The listener's end of a connection, on its way there.
struct Caller {
    role: Role,
    pipe: MemoryPipe,
}

/// No code panics while it holds one of these locks, and none leaves anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where other threads leave word for a socket.
struct Desk {
    bell: Bell,
    /// Whether the bell has been rung since it was silenced; saves the system call.
    rung: AtomicBool,
    /// A peer came or went.
    news: AtomicBool,
    /// There has been room somewhere since the last message was refused.
    room: AtomicBool,
    arrivals: Mutex<Vec<MemoryPipe>>,
}

impl Desk {
    fn new() -> std::io::Result<Desk> {
        Ok(Desk {
            bell: Bell::new()?,
            rung: AtomicBool::new(false),
            news: AtomicBool::new(false),
            room: AtomicBool::new(false),
            arrivals: Mutex::new(Vec::new()),
        })
    }

    /// To be called after that which the socket shall see.
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// To be called before the socket looks at what it may have been rung for.
    fn silence(&self) {
        if self.rung.load(Ordering::SeqCst) {
            self.bell.silence();
            self.rung.store(false, Ordering::SeqCst);
        }
    }

    fn tell_news(&self) {
        self.news.store(true, Ordering::SeqCst);
        self.room.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Joins a caller to the listener whose desk this is, and tells both.
    fn admit(self: &Arc<Desk>, pipe: MemoryPipe) {
        pipe.belongs_to(self);
        if let Some(caller) = &pipe.output.lock().reader {
            caller.tell_news();
        }
        lock(&self.arrivals).push(pipe);
        self.tell_news();
    }

    fn tell_room(&self) {
        self.room.store(true, Ordering::SeqCst);
        self.ring();
    }
}

/// Messages on their way in one direction.
struct Queue(Mutex<QueueState>);

struct QueueState {
    messages: VecDeque<Message>,
    limit: usize,
    keeps_latest: bool,
    /// Whom to ring for a message.
    reader: Option<Arc<Desk>>,
    /// Whom to ring for room.
    writer: Option<Arc<Desk>>,
    writer_waits: bool,
    reader_gone: bool,
    writer_gone: bool,
}

impl Queue {
    fn new(limit: usize, keeps_latest: bool) -> Arc<Queue> {
        Arc::new(Queue(Mutex::new(QueueState {
            messages: VecDeque::new(),
            limit,
            keeps_latest,
            reader: None,
            writer: None,
            writer_waits: false,
            reader_gone: false,
            writer_gone: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.0)
    }
}

impl QueueState {
    /// Whether one more message fits; if not, the writer is rung when one does.
    fn has_room(&mut self) -> bool {
        let room = self.keeps_latest || self.messages.len() < self.limit;
        self.writer_waits |= !room;
        room
    }

    fn put(&mut self, message: Message) {
        if self.keeps_latest {
            self.messages.clear();
        }
        self.messages.push_back(message);
        if let Some(reader) = &self.reader {
            reader.ring();
        }
    }

    fn take(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        if std::mem::take(&mut self.writer_waits) {
            self.writer.iter().for_each(|writer| writer.tell_room());
        }
        Some(message)
    }
}

/// One end of a connection.
struct MemoryPipe {
    input: Arc<Queue>,
    output: Arc<Queue>,
}

impl MemoryPipe {
    /// Makes `desk` the one that is rung for this end.
    fn belongs_to(&self, desk: &Arc<Desk>) {
        self.input.lock().reader = Some(desk.clone());
        self.output.lock().writer = Some(desk.clone());
    }

    /// Whether somebody holds the other end.
    fn is_joined(&self) -> bool {
        self.output.lock().reader.is_some()
    }
}

impl Pipe for MemoryPipe {
    fn has_room(&mut self) -> bool {
        let mut output = self.output.lock();
        output.reader_gone || output.has_room()
    }

    fn offer(&mut self, message: &[Frame]) -> Offer {
        let mut output = self.output.lock();
        if output.reader_gone {
            return Offer::Gone;
        }
        if !output.has_room() {
            return Offer::Full;
        }
        output.put(message.to_vec());
        Offer::Taken
    }

    fn has_message(&self) -> bool {
        !self.input.lock().messages.is_empty()
    }

    fn take(&mut self) -> Option<Message> {
        self.input.lock().take()
    }

    fn cut_off(&mut self, reason: &'static str) {
        log::warn!("a peer in this process is cut off: {reason}");
        let mut input = self.input.lock();
        input.messages.clear();
        input.writer_gone = true;
    }

    fn is_closed(&self) -> bool {
        let input = self.input.lock();
        input.writer_gone && input.messages.is_empty()
    }
}

impl Drop for MemoryPipe {
    fn drop(&mut self) {
        let mut input = self.input.lock();
        input.reader_gone = true;
        input.messages.clear();
        input.writer.iter().for_each(|writer| writer.tell_news());
        drop(input);
        let mut output = self.output.lock();
        output.writer_gone = true;
        output.reader.iter().for_each(|reader| reader.tell_news());
    }
}

struct MemorySocket {
    exchange: Exchange<MemoryPipe>,
    role: Role,
    side: Side,
    desk: Arc<Desk>,
    endpoint: Endpoint,
    options: SocketOptions,
    limits: Limits,
    events: VecDeque<LinkEvent>,
    /// Whether our connection has been announced as connected.
    announced: bool,
    /// Whether the last message was refused for want of room.
    full: bool,
}

impl MemorySocket {
    fn bind(&mut self) -> Result<(), TransportError> {
        let mut sites = lock(&SITES);
        let site = sites
            .entry(self.endpoint.address().to_string())
            .or_default();
        if site.listener.is_some() {
            return Err(TransportError::InUse {
                endpoint: self.endpoint.clone(),
            });
        }
        site.listener = Some((self.role, self.desk.clone()));
        let waiting = std::mem::take(&mut site.waiting);
        for caller in waiting {
            match fits(caller.role, self.role) {
                true => self.desk.admit(caller.pipe),
                false => site.waiting.push(caller),
            }
        }
        Ok(())
    }

    fn connect(&mut self) {
        let (near, far) = self.new_connection();
        near.belongs_to(&self.desk);
        self.exchange.attach(near);
        self.announced = false;
        let caller = Caller {
            role: self.role,
            pipe: far,
        };
        let mut sites = lock(&SITES);
        let site = sites
            .entry(self.endpoint.address().to_string())
            .or_default();
        match &site.listener {
            Some((role, desk)) if fits(*role, self.role) => {
                desk.admit(caller.pipe);
            }
            Some((role, _)) => {
                site.waiting.push(caller);
                let reason = format!(
                    "a {role:?} socket listens at {}, which a {:?} socket cannot talk to",
                    self.endpoint, self.role
                );
                self.report(LinkEvent::Refused { reason });
            }
            None => site.waiting.push(caller),
        }
    }

    fn new_connection(&self) -> (MemoryPipe, MemoryPipe) {
        let there = Queue::new(self.capacity(), self.limits.keeps_latest());
        // The listener sets its own limit for what it sends.
        let back = Queue::new(self.capacity(), self.limits.keeps_latest());
        let near = MemoryPipe {
            input: back.clone(),
            output: there.clone(),
        };
        (
            near,
            MemoryPipe {
                input: there,
                output: back,
            },
        )
    }

    fn capacity(&self) -> usize {
        match self.role {
            Role::Subscribe => MAX_SUBSCRIPTIONS,
            _ => self.options.queue_messages.max(1) as usize,
        }
    }

    /// Takes note of peers that came and went.
    fn look_around(&mut self) {
        if !self.desk.news.swap(false, Ordering::SeqCst) {
            return;
        }
        let arrivals = std::mem::take(&mut *lock(&self.desk.arrivals));
        for pipe in arrivals {
            self.welcome(pipe);
        }
        if self.side == Side::Connect && !self.announced {
            self.announced = self.is_connected();
            if self.announced {
                self.report(LinkEvent::Connected);
            }
        }
        self.part();
    }

    fn is_connected(&self) -> bool {
        self.exchange.pipes().any(MemoryPipe::is_joined)
    }

    fn welcome(&mut self, pipe: MemoryPipe) {
        let mut output = pipe.output.lock();
        output.limit = self.capacity();
        output.keeps_latest |= self.limits.keeps_latest();
        drop(output);
        pipe.input.lock().keeps_latest |= self.limits.keeps_latest();
        self.exchange.attach(pipe);
        self.report(LinkEvent::Connected);
    }

    /// Lets go of the peers that are gone, and calls again if we are the one who calls.
    fn part(&mut self) {
        for _ in 0..self.exchange.detach_closed(|_| {}) {
            self.report(LinkEvent::Disconnected);
            if self.side == Side::Connect {
                self.connect();
            }
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

    fn told(&self, told: bool, what: &'static str) -> Result<(), TransportError> {
        let reason = || "too many subscriptions wait for the publisher".to_string();
        if told {
            Ok(())
        } else {
            Err(TransportError::Failed {
                what,
                reason: reason(),
            })
        }
    }
}

impl Socket for MemorySocket {
    fn send(&mut self, message: &[Frame]) -> Result<(), SendError> {
        self.limits.check(message)?;
        self.look_around();
        self.desk.room.store(false, Ordering::SeqCst);
        let sent = match self.options.only_connected && !self.is_connected() {
            true => Err(SendError::Full),
            false => self.exchange.send(message),
        };
        self.full = matches!(sent, Err(SendError::Full));
        sent
    }

    fn receive(&mut self) -> Result<Option<Message>, TransportError> {
        self.look_around();
        let message = self.exchange.receive();
        if message.is_none() {
            // Peers whose last message has been taken may go now.
            self.part();
        }
        Ok(message)
    }

    fn link_event(&mut self) -> Option<LinkEvent> {
        self.look_around();
        self.events.pop_front()
    }

    fn subscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        self.limits.check_subscribe()?;
        let told = self.exchange.subscribe(topic);
        self.told(told, "subscribe")
    }

    fn unsubscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        let told = self.exchange.unsubscribe(topic);
        self.told(told, "unsubscribe")
    }

    fn source(&self) -> Source<'_> {
        self.desk.silence();
        let readable = self.desk.news.load(Ordering::SeqCst) || self.exchange.has_message();
        let writable = !self.full || self.desk.room.load(Ordering::SeqCst);
        Source::new(self.desk.bell.fd(), readable, writable)
    }

    fn link_source(&self) -> Option<Source<'_>> {
        let news = !self.events.is_empty() || self.desk.news.load(Ordering::SeqCst);
        self.options
            .watch_links
            .then(|| Source::new(self.desk.bell.fd(), news, false))
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.exchange.detach_all();
        let mut sites = lock(&SITES);
        let Some(site) = sites.get_mut(self.endpoint.address()) else {
            return;
        };
        if site
            .listener
            .as_ref()
            .is_some_and(|(_, desk)| Arc::ptr_eq(desk, &self.desk))
        {
            site.listener = None;
        }
        site.waiting
            .retain(|caller| !caller.pipe.input.lock().writer_gone);
        if site.listener.is_none() && site.waiting.is_empty() {
            sites.remove(self.endpoint.address());
        }
        drop(sites);
        // Nobody can add to these any more; letting go of them tells the callers.
        lock(&self.desk.arrivals).clear();
    }
}
