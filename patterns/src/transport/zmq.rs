//! The ZeroMQ transport: `tcp`, `ipc` and `inproc` endpoints.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::monitor::{Link, Monitor, Words};
use super::sys::{self, Context, Wait};
use super::zap::Admission;
use super::{
    Frame, Heartbeat, Limits, LinkEvent, MAX_FRAMES, Message, Role, SendError, Side, Socket,
    SocketOptions, Source, TransportError, WhenFull, check_exposure,
};
use crate::endpoint::{Endpoint, Scheme};
use crate::security::{Allow, Security, has_curve};

/// How long a connection may take to come about. A machine that has just gone answers nothing, not
/// even a refusal; the system alone would try the same address for minutes, while the name may long
/// stand for another one.
const CONNECT_TIMEOUT_MS: i32 = 3_000;

/// Idle seconds before the kernel probes a TCP connection, and seconds between probes, where pings
/// notice the same much sooner.
const KEEPALIVE_SECONDS: i32 = 30;
/// How long libzmq has at least to say that it tries a lost connection again.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);
/// How long libzmq may take to close a socket that listened.
const CLOSE: Duration = Duration::from_secs(1);
/// How soon to look again at a full socket that cannot tell when it has room.
const BLIND: Duration = Duration::from_millis(1);
/// How soon to look again, at the least, at a connection that may be lost.
const LOST: Duration = Duration::from_millis(10);

/// How long after a message that replaces others it is sent once more.
const REMIND: Duration = Duration::from_millis(20);

/// Unanswered probes after which the kernel gives a TCP connection up.
const KEEPALIVE_PROBES: i32 = 3;

/// Opens a ZeroMQ socket; see [`transport::open`](super::open).
///
/// A connecting socket retries for ever, host names that do not resolve yet included.
///
/// # Errors
///
/// See [`transport::open`](super::open).
pub fn open(
    role: Role,
    side: Side,
    endpoint: &Endpoint,
    options: &SocketOptions,
) -> Result<Box<dyn Socket>, TransportError> {
    let limits = Limits::new(role, options)?;
    check_exposure(side, endpoint, &options.security)?;
    let admission = check_keys(side, endpoint, &options.security)?.map(Arc::new);
    let mut plan = Plan {
        role,
        side,
        endpoint: endpoint.clone(),
        options: options.clone(),
        admission,
    };
    let (socket, monitor) = plan.open()?;
    plan.endpoint = match side {
        Side::Bind => bind(&socket, endpoint)?,
        Side::Connect => connect(&socket, endpoint)?,
    };
    let link = monitor.map(|monitor| RefCell::new(plan.link(monitor)));
    Ok(Box::new(ZmqSocket {
        socket,
        plan,
        limits,
        link,
        topics: Vec::new(),
        full: false,
        quiet: false,
        latest: None,
        overlong: 0,
    }))
}

/// What it takes to make the socket, and to make it again.
struct Plan {
    role: Role,
    side: Side,
    endpoint: Endpoint,
    options: SocketOptions,
    /// Lets clients in while the socket listens with CURVE.
    admission: Option<Arc<Admission>>,
}

impl Plan {
    /// A socket that is ready to listen or to connect.
    fn open(&self) -> Result<(sys::Socket, Option<Monitor>), TransportError> {
        let attempt = || {
            let context = Context::shared()?;
            let socket = sys::Socket::new(context, kind(self.role, &self.options))?;
            configure(&socket, self.role, &self.endpoint, &self.options)?;
            self.secure(&socket)?;
            let monitor = self
                .is_watched()
                .then(|| Monitor::watch(&socket))
                .transpose()?;
            Ok((socket, monitor))
        };
        attempt().map_err(|error| failed("open a ZeroMQ socket", error))
    }

    /// libzmq reports nothing within the process. Connections are always watched, as libzmq gives
    /// some of them up without a word.
    fn is_watched(&self) -> bool {
        let remote = self.endpoint.scheme() != Scheme::Inproc;
        remote && (self.side == Side::Connect || self.options.watch_links)
    }

    fn secure(&self, socket: &sys::Socket) -> io::Result<()> {
        let Security::Curve(curve) = &self.options.security else {
            return Ok(());
        };
        let zmq = socket.options();
        zmq.set_curve_publickey(curve.keys.public().as_bytes())?;
        zmq.set_curve_secretkey(curve.keys.secret().as_bytes())?;
        if let (Side::Connect, Some(server)) = (self.side, &curve.server) {
            zmq.set_curve_serverkey(server.as_bytes())?;
        }
        if let Some(admission) = &self.admission {
            socket.context().start_zap()?;
            zmq.set_curve_server(true)?;
            zmq.set_zap_domain(admission.domain())?;
            socket.set_zap_enforce_domain()?;
        }
        Ok(())
    }

    fn link(&self, monitor: Monitor) -> Link {
        let words = Words {
            side: self.side,
            endpoint: self.endpoint.clone(),
            security: self.options.security.clone(),
        };
        let patience = self.options.reconnect_max.max(LEAST_PATIENCE);
        Link::new(
            monitor,
            words,
            self.admission.clone(),
            self.options.watch_links,
            patience,
        )
    }
}

/// Checks that CURVE has the keys which this side needs; nobody is ever let in without a list.
fn check_keys(
    side: Side,
    endpoint: &Endpoint,
    security: &Security,
) -> Result<Option<Admission>, TransportError> {
    let Security::Curve(curve) = security else {
        return Ok(None);
    };
    if !has_curve() {
        return Err(TransportError::NoCurve);
    }
    let reason = match (side, &curve.allow, &curve.server) {
        (Side::Bind, Some(Allow::Folder(path)), _) if !path.is_dir() => format!(
            "{} is not a folder: make it and put the .pub files of allowed clients there",
            path.display()
        ),
        (Side::Bind, Some(allow), _) => return Ok(Some(Admission::open(allow.clone()))),
        (Side::Bind, None, _) => {
            "CURVE needs the keys that are let in: name a folder with their .pub files".to_string()
        }
        (Side::Connect, _, Some(_)) => return Ok(None),
        (Side::Connect, _, None) => {
            "CURVE needs the server's public key: give its .pub file".to_string()
        }
    };
    Err(TransportError::Unusable {
        endpoint: endpoint.clone(),
        reason,
    })
}

fn conflates(options: &SocketOptions) -> bool {
    options.when_full == WhenFull::KeepLatest
}

fn kind(role: Role, options: &SocketOptions) -> zmq::SocketType {
    match role {
        Role::Push => zmq::PUSH,
        Role::Pull => zmq::PULL,
        // XPUB does not know how to keep only the latest message.
        Role::Publish if conflates(options) => zmq::PUB,
        Role::Publish => zmq::XPUB,
        Role::Subscribe => zmq::SUB,
        Role::Dealer => zmq::DEALER,
        Role::Router => zmq::ROUTER,
    }
}

fn configure(
    socket: &sys::Socket,
    role: Role,
    endpoint: &Endpoint,
    options: &SocketOptions,
) -> io::Result<()> {
    let zmq = socket.options();
    zmq.set_sndhwm(options.queue_messages)?;
    zmq.set_rcvhwm(options.queue_messages)?;
    zmq.set_maxmsgsize(i64::try_from(options.max_message_bytes).unwrap_or(i64::MAX))?;
    zmq.set_linger(match role {
        // A subscriber would wait for a publisher that is gone, to tell it that it goes as well.
        Role::Pull | Role::Subscribe => 0,
        _ => milliseconds(options.linger),
    })?;
    zmq.set_reconnect_ivl(milliseconds(options.reconnect_min).max(1))?;
    zmq.set_reconnect_ivl_max(milliseconds(options.reconnect_max).max(1))?;
    zmq.set_handshake_ivl(milliseconds(options.handshake).max(1))?;
    zmq.set_immediate(options.only_connected)?;
    match role {
        Role::Router => zmq.set_router_mandatory(true)?,
        Role::Publish if options.when_full == WhenFull::Refuse => socket.set_xpub_nodrop()?,
        _ if conflates(options) => zmq.set_conflate(true)?,
        _ => {}
    }
    if endpoint.scheme() == Scheme::Tcp {
        configure_tcp(zmq, endpoint, options.heartbeat)?;
    }
    match options.heartbeat {
        Heartbeat::Ping(interval) => configure_pings(zmq, interval),
        Heartbeat::Probe(_) => Ok(()),
    }
}

fn configure_pings(zmq: &zmq::Socket, interval: Duration) -> io::Result<()> {
    let timeout = milliseconds(interval.saturating_mul(3));
    zmq.set_heartbeat_ivl(milliseconds(interval))?;
    zmq.set_heartbeat_timeout(timeout)?;
    // The time to live travels in 16 bits of tenths of a second.
    zmq.set_heartbeat_ttl(timeout.min(6_553_500))?;
    Ok(())
}

fn configure_tcp(zmq: &zmq::Socket, endpoint: &Endpoint, heartbeat: Heartbeat) -> io::Result<()> {
    let probe_seconds = match heartbeat {
        Heartbeat::Ping(_) => KEEPALIVE_SECONDS,
        Heartbeat::Probe(interval) => whole_seconds(interval),
    };
    zmq.set_connect_timeout(CONNECT_TIMEOUT_MS)?;
    zmq.set_tcp_keepalive(1)?;
    zmq.set_tcp_keepalive_idle(probe_seconds)?;
    zmq.set_tcp_keepalive_intvl(probe_seconds)?;
    zmq.set_tcp_keepalive_cnt(KEEPALIVE_PROBES)?;
    // Only where the address asks for it: with IPv6 on, libzmq takes `localhost` for `::1`.
    if endpoint.host().is_some_and(|host| host.contains(':')) {
        zmq.set_ipv6(true)?;
    }
    Ok(())
}

/// At least 1 second, and at most what Linux takes.
fn whole_seconds(duration: Duration) -> i32 {
    let seconds = duration.as_nanos().div_ceil(1_000_000_000).clamp(1, 32_767);
    seconds as i32
}

/// Whole milliseconds, rounded up, as libzmq takes them.
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

fn bind(socket: &sys::Socket, endpoint: &Endpoint) -> Result<Endpoint, TransportError> {
    if endpoint.scheme() == Scheme::Ipc {
        check_ipc_path(endpoint)?;
    }
    bind_when_closed(socket, endpoint).map_err(|error| unusable(endpoint, &error))?;
    let bound = socket.options().get_last_endpoint();
    let bound = bound.map_err(|error| failed("find the port of a socket", error.into()))?;
    Ok(bound
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| endpoint.clone()))
}

/// Binds, and waits for a socket of ours that was dropped there just now: libzmq closes it a moment
/// later, in another thread.
fn bind_when_closed(socket: &sys::Socket, endpoint: &Endpoint) -> io::Result<()> {
    let name = endpoint.to_string();
    loop {
        match socket.bind(&name) {
            Err(error)
                if error.raw_os_error() == Some(libc::EADDRINUSE) && is_closing(endpoint) =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

/// Where our listening sockets were dropped, and when.
static CLOSING: Mutex<Vec<(Endpoint, Instant)>> = Mutex::new(Vec::new());

fn is_closing(endpoint: &Endpoint) -> bool {
    closing().iter().any(|(other, _)| other == endpoint)
}

fn closing() -> MutexGuard<'static, Vec<(Endpoint, Instant)>> {
    // A panic elsewhere cannot leave the list half changed.
    let mut closing = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
    closing.retain(|(_, since)| since.elapsed() < CLOSE);
    closing
}

/// libzmq deletes whatever lies at the path before it binds; only what a dead process left may go.
fn check_ipc_path(endpoint: &Endpoint) -> Result<(), TransportError> {
    use std::os::unix::fs::FileTypeExt;
    let address = endpoint.address();
    // `@` stands for the abstract namespace and `*` for a path of libzmq's choice.
    if address.starts_with('@') || address == "*" {
        return Ok(());
    }
    let path = Path::new(address);
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let reason = "something that is not a socket is at this path".to_string();
        return Err(TransportError::Unusable {
            endpoint: endpoint.clone(),
            reason,
        });
    }
    while sys::is_listening(path) {
        if !is_closing(endpoint) {
            return Err(TransportError::InUse {
                endpoint: endpoint.clone(),
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn connect(socket: &sys::Socket, endpoint: &Endpoint) -> Result<Endpoint, TransportError> {
    if endpoint.scheme() == Scheme::Tcp {
        let missing = match (endpoint.host(), endpoint.port()) {
            (Some("*"), _) => Some("a connection needs a host; `*` is only for listening"),
            (_, None | Some(0)) => Some("a connection needs a port number"),
            _ => None,
        };
        if let Some(reason) = missing {
            return Err(TransportError::Unusable {
                endpoint: endpoint.clone(),
                reason: reason.to_string(),
            });
        }
    }
    socket
        .connect(&endpoint.to_string())
        .map_err(|error| unusable(endpoint, &error))?;
    Ok(endpoint.clone())
}

fn unusable(endpoint: &Endpoint, error: &io::Error) -> TransportError {
    let ipc = endpoint.scheme() == Scheme::Ipc;
    let reason = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            return TransportError::InUse {
                endpoint: endpoint.clone(),
            };
        }
        Some(libc::EADDRNOTAVAIL | libc::ENODEV) if !ipc => {
            "the host is no address or interface of this machine".to_string()
        }
        Some(libc::ENOENT) if ipc => "the folder does not exist".to_string(),
        Some(libc::ENOTDIR) if ipc => "a part of the path is not a folder".to_string(),
        Some(libc::EACCES) if ipc => "the folder cannot be written".to_string(),
        Some(libc::EACCES) => "ports below 1024 need more rights".to_string(),
        Some(libc::EINVAL) => "the host does not resolve or the address is malformed".to_string(),
        _ => describe(error),
    };
    TransportError::Unusable {
        endpoint: endpoint.clone(),
        reason,
    }
}

fn failed(what: &'static str, error: io::Error) -> TransportError {
    let reason = match error.raw_os_error() {
        Some(libc::EMFILE) => "too many open sockets or files (raise `ulimit -n`)".to_string(),
        _ => describe(&error),
    };
    TransportError::Failed { what, reason }
}

/// The system's words without Rust's ` (os error 22)`, which says nothing to a user.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
}

struct ZmqSocket {
    /// Declared, hence dropped, before `link`, which receives what libzmq reports about it.
    socket: sys::Socket,
    plan: Plan,
    limits: Limits,
    /// What is known of the connections. In a cell, so that a look from outside can bring it up to
    /// date.
    link: Option<RefCell<Link>>,
    /// What we subscribed to, as often as we did.
    topics: Vec<Vec<u8>>,
    /// Whether the last message was refused because a queue was full.
    full: bool,
    /// Whether nothing has been done with the socket since it had nothing to receive. libzmq has
    /// then taken note of everything up to that moment, and its descriptor tells the rest.
    quiet: bool,
    /// The newest message, where only that is kept, and when to send it once more: libzmq 4.3.4 may
    /// leave it in the queue until the next one comes, if it is put there just while its thread looks
    /// whether there is one.
    latest: Option<(Frame, Instant)>,
    /// Messages dropped because they had more than [`MAX_FRAMES`] frames.
    overlong: u64,
}

impl ZmqSocket {
    /// Takes note of what happened to the connections, and connects anew where libzmq gave up.
    ///
    /// Called whenever there is nothing else to do.
    fn mend(&mut self) {
        self.remind();
        let Some(link) = &mut self.link else { return };
        let link = link.get_mut();
        link.update_now_and_then();
        if link.is_lost()
            && let Err(error) = self.reopen()
        {
            log::warn!("{error}");
        }
    }

    fn remind(&mut self) {
        if let Some((frame, _)) = self.latest.take_if(|(_, due)| *due <= Instant::now()) {
            // Where it is refused, nobody is there to be reminded.
            let _ = self.socket.send(&frame, false);
        }
    }

    /// Replaces the socket by one that connects again. What waited in the old one for its lost
    /// connection is gone already.
    fn reopen(&mut self) -> Result<(), TransportError> {
        let (socket, monitor) = self.plan.open()?;
        for topic in &self.topics {
            let done = socket.options().set_subscribe(topic);
            done.map_err(|error| failed("subscribe", error.into()))?;
        }
        connect(&socket, &self.plan.endpoint)?;
        // Drops the old socket, then those who listen to its reports: see `ZmqSocket::socket`.
        self.socket = socket;
        self.quiet = false;
        if let (Some(link), Some(monitor)) = (&mut self.link, monitor) {
            link.get_mut().replace(monitor);
        }
        Ok(())
    }

    /// Receives what follows the first frame; whether the message is there to be used.
    fn receive_rest(&mut self, message: &mut Message) -> Result<bool, TransportError> {
        let mut more = true;
        let mut overlong = false;
        while more {
            let frame = self.socket.receive(Wait::No);
            let frame = frame.map_err(|error| failed("receive a message", error))?;
            more = frame.has_more();
            overlong = message.len() == MAX_FRAMES;
            if !overlong {
                message.push(Frame::from_zmq(frame));
            }
        }
        if overlong {
            message.clear();
            self.overlong += 1;
            log::warn!(
                "{}: a message of more than {MAX_FRAMES} frames was dropped ({} so far)",
                self.plan.endpoint,
                self.overlong
            );
        }
        Ok(!overlong)
    }
}

impl Socket for ZmqSocket {
    fn send(&mut self, message: &[Frame]) -> Result<(), SendError> {
        self.limits.check(message)?;
        self.quiet = false;
        let last = message.len() - 1;
        for (i, frame) in message.iter().enumerate() {
            // Only the first frame can be refused for want of room or of the peer: the rest of a
            // message that was begun is always taken.
            let Err(error) = self.socket.send(frame, i < last) else {
                continue;
            };
            self.full = error.kind() == io::ErrorKind::WouldBlock;
            self.mend();
            return Err(match error.raw_os_error() {
                Some(libc::EAGAIN) if i == 0 => SendError::Full,
                Some(libc::EHOSTUNREACH) => SendError::Unroutable,
                _ => failed("send a message", error).into(),
            });
        }
        self.full = false;
        if self.limits.keeps_latest() {
            self.latest = Some((message[0].clone(), Instant::now() + REMIND));
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Message>, TransportError> {
        let mut message = Message::with_capacity(1);
        Ok(self.receive_into(&mut message)?.then_some(message))
    }

    fn receive_into(&mut self, message: &mut Message) -> Result<bool, TransportError> {
        // PUSH and PUB receive nothing, and say so with an error.
        let deaf = self.plan.role == Role::Push
            || self.plan.role == Role::Publish && self.limits.keeps_latest();
        message.truncate(1);
        if message.is_empty() {
            message.push(Frame::from_zmq(sys::Buffer::empty()));
        }
        // In place: moving frames about would cost as much as receiving small ones.
        let first = message[0].zmq_buffer();
        let received = match deaf {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.socket.receive_into(first, Wait::No),
        };
        let Err(error) = received else {
            self.quiet = false;
            return match first.has_more() {
                true => self.receive_rest(message),
                false => Ok(true),
            };
        };
        message.clear();
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(failed("receive a message", error));
        }
        self.quiet = !deaf;
        self.mend();
        Ok(false)
    }

    fn link_event(&mut self) -> Option<LinkEvent> {
        self.mend();
        self.link.as_mut()?.get_mut().next_event()
    }

    fn subscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        self.limits.check_subscribe()?;
        self.quiet = false;
        let done = self.socket.options().set_subscribe(topic);
        done.map_err(|error| failed("subscribe", error.into()))?;
        self.topics.push(topic.to_vec());
        Ok(())
    }

    fn unsubscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        self.quiet = false;
        let done = self.socket.options().set_unsubscribe(topic);
        done.map_err(|error| failed("unsubscribe", error.into()))?;
        if let Some(i) = self.topics.iter().position(|held| held == topic) {
            self.topics.swap_remove(i);
        }
        Ok(())
    }

    fn source(&self) -> Source<'_> {
        let idle = self.quiet && !self.full;
        let (readable, room) = if idle {
            (false, true)
        } else {
            self.socket.readiness()
        };
        // Routers and publishers always claim to have room, whichever queue refused.
        let blind = matches!(self.plan.role, Role::Router | Role::Publish);
        let mut source = Source::new(self.socket.fd(), readable, !self.full || room && !blind);
        source.room_after = (blind && self.full).then_some(BLIND);
        if let Some(link) = &self.link {
            let mut link = link.borrow_mut();
            link.update_now_and_then();
            source.link_fd = link.fd();
            source.look_after = link.time_to_loss().map(|time| time.max(LOST));
        }
        if let Some((_, due)) = &self.latest {
            let wait = due.saturating_duration_since(Instant::now());
            source.look_after = Some(source.look_after.map_or(wait, |look| look.min(wait)));
        }
        source
    }

    fn link_source(&self) -> Option<Source<'_>> {
        let link = self
            .link
            .as_ref()
            .filter(|_| self.plan.options.watch_links)?
            .borrow();
        // Its descriptor is among those of the other source.
        Some(Source::new(-1, link.has_event(), false))
    }

    fn endpoint(&self) -> &Endpoint {
        &self.plan.endpoint
    }

    fn sender(&self, message: &[Frame]) -> Option<std::net::IpAddr> {
        message.iter().find_map(Frame::sender)
    }
}

impl Drop for ZmqSocket {
    fn drop(&mut self) {
        if self.plan.side == Side::Bind {
            closing().push((self.plan.endpoint.clone(), Instant::now()));
        }
    }
}
