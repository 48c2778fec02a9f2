//! Transports move whole messages between sockets of a [`Role`]; patterns decide what they mean.
//!
//! A [`Socket`] never blocks: [`wait`](crate::wait::wait) is the one place that waits, on any mix of
//! transports. The endpoint's scheme picks the transport, once, in [`open`].

mod callee;
mod counters;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod header;
pub mod memory;
mod monitor;
mod promises;
mod routing;
#[allow(unsafe_code)]
pub(crate) mod sys;
pub mod tcp;
pub mod udp;
mod zap;
pub mod zmq;

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{Endpoint, Scheme};
use crate::security::Security;

pub use counters::Counters;
pub use promises::{MAX_DATAGRAM_BYTES, MAX_PLAIN_BYTES, Needs, Promises, Unfit};

/// How a socket routes messages among its peers, as ZeroMQ's socket types do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends each message to one peer, in turn; receives nothing.
    Push,
    /// Receives from every peer, fairly; sends nothing.
    Pull,
    /// Sends each message to every peer that subscribed to its first bytes. It receives the
    /// subscriptions: a message of `1` or `0` (subscribe, cancel) followed by the topic.
    Publish,
    /// Receives what it subscribed to.
    Subscribe,
    /// Sends to its peers in turn and receives from all of them fairly.
    Dealer,
    /// Receives with the peer's routing id as the first frame; sends to the peer that the first
    /// frame names.
    Router,
}

/// Most frames that a message may have; a longer one is refused, or dropped when it arrives.
pub const MAX_FRAMES: usize = 64;

impl Role {
    /// Every role, in the order of their numbers on the wire.
    const ALL: [Role; 6] = [
        Role::Push,
        Role::Pull,
        Role::Publish,
        Role::Subscribe,
        Role::Dealer,
        Role::Router,
    ];

    /// What stands for it where a transport of our own greets.
    fn number(self) -> u8 {
        self as u8
    }

    /// The role with that number.
    fn from_number(number: u8) -> Option<Role> {
        Role::ALL.get(usize::from(number)).copied()
    }

    /// Whether messages go both ways.
    pub(crate) fn is_two_way(self) -> bool {
        matches!(self, Role::Dealer | Role::Router)
    }
}

/// One frame of a message: bytes that are owned, shared or still in libzmq's buffer.
///
/// A clone copies the bytes only if they are owned.
#[derive(Clone)]
pub struct Frame(Repr);

/// Ids, delimiters and the like are no longer than this; it makes no frame larger in memory.
const INLINE_BYTES: usize = 32;

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Zmq(sys::Buffer),
}

impl Frame {
    pub(crate) fn from_zmq(message: sys::Buffer) -> Frame {
        Frame(Repr::Zmq(message))
    }

    /// What libzmq knows about where the frame came from.
    fn sender(&self) -> Option<IpAddr> {
        match &self.0 {
            Repr::Zmq(buffer) => buffer.sender(),
            _ => None,
        }
    }

    /// libzmq's buffer, to receive into; an empty one if there was none.
    pub(crate) fn zmq_buffer(&mut self) -> &mut sys::Buffer {
        if !matches!(self.0, Repr::Zmq(_)) {
            self.0 = Repr::Zmq(sys::Buffer::empty());
        }
        match &mut self.0 {
            Repr::Zmq(buffer) => buffer,
            _ => unreachable!("it was made one"),
        }
    }

    /// Puts `bytes` in place of what there is; memory of our own is reused.
    #[inline]
    pub(crate) fn refill(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Repr::Owned(owned) => {
                owned.clear();
                owned.extend_from_slice(bytes);
            }
            Repr::Inline { len, bytes: inline } if bytes.len() <= INLINE_BYTES => {
                inline[..bytes.len()].copy_from_slice(bytes);
                *len = bytes.len() as u8;
            }
            _ => self.replace(bytes),
        }
    }

    #[cold]
    fn replace(&mut self, bytes: &[u8]) {
        *self = Frame::from(bytes);
    }

    /// Puts the first `len` of `bytes` in place of what there is.
    #[inline]
    pub(crate) fn refill_front(&mut self, bytes: &[u8], len: usize) {
        if let Repr::Inline {
            len: old,
            bytes: inline,
        } = &mut self.0
            && len <= INLINE_BYTES
            && let Some(whole) = bytes.first_chunk::<INLINE_BYTES>()
        {
            // A copy of a fixed size costs less than one of just what is needed.
            *inline = *whole;
            *old = len as u8;
            return;
        }
        self.refill(&bytes[..len]);
    }

    /// The bytes, to be written anew; none at first if they were not our own.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if !matches!(self.0, Repr::Owned(_)) {
            self.0 = Repr::Owned(Vec::new());
        }
        match &mut self.0 {
            Repr::Owned(bytes) => bytes,
            _ => unreachable!("it was made our own"),
        }
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Owned(bytes) => bytes,
            Repr::Shared(bytes) => bytes,
            Repr::Zmq(message) => message,
        }
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Frame {
        Frame(Repr::Owned(bytes))
    }
}

impl From<Arc<[u8]>> for Frame {
    fn from(bytes: Arc<[u8]>) -> Frame {
        Frame(Repr::Shared(bytes))
    }
}

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Frame {
        let mut inline = [0; INLINE_BYTES];
        let Some(start) = inline.get_mut(..bytes.len()) else {
            return Frame(Repr::Owned(bytes.to_vec()));
        };
        start.copy_from_slice(bytes);
        Frame(Repr::Inline {
            len: bytes.len() as u8,
            bytes: inline,
        })
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

/// A message: one frame or several, delivered whole or not at all.
pub type Message = Vec<Frame>;

/// How long a peer may be silent that has been asked something, where a program has to answer for itself: it may
/// be busy with just that.
const BUSY: Duration = Duration::from_secs(60);

/// Why a message was not taken by [`Socket::send`]; nothing of it was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The queue towards the peer is full, or no peer is there; try again when writable.
    #[error("the queue to the peer is full")]
    Full,
    /// A router was given a routing id that no connected peer has; trying again does not help.
    #[error("no connected peer has that routing id")]
    Unroutable,
    /// The transport refused for another reason.
    #[error(transparent)]
    Failed(#[from] TransportError),
}

/// Why a socket could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Another socket listens there already.
    #[error("{endpoint} is in use by another program: stop it or choose another endpoint")]
    InUse {
        /// Where the bind was tried.
        endpoint: Endpoint,
    },
    /// The address does not belong to this machine, or its host name does not resolve.
    #[error("{endpoint} cannot be used: {reason}")]
    Unusable {
        /// Where bind or connect was tried.
        endpoint: Endpoint,
        /// The system's reason.
        reason: String,
    },
    /// Keys were given to a transport that has no encryption.
    #[error(
        "{endpoint} has no encryption, so that keys are of no use there: use tcp:// with them, or leave them out"
    )]
    NoEncryption {
        /// Where bind or connect was tried.
        endpoint: Endpoint,
    },
    /// The role does not exist on that transport, or a limit of the system is reached.
    #[error("{what}: {reason}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        reason: String,
    },
    /// Listening beyond this machine without encryption.
    #[error(
        "{endpoint} would listen beyond this machine without encryption: {}",
        instead(endpoint)
    )]
    Exposed {
        /// Where the bind was tried.
        endpoint: Endpoint,
    },
    /// A frame, or a message as a whole, is larger than the socket's limit, at which the peer would cut us off.
    #[error(
        "{bytes} bytes in a message are over the limit of {limit_bytes}: raise the limit on both sides or send less at once"
    )]
    TooLarge {
        /// Length of the frame, or of all frames together, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// The transport does not promise what the pattern cannot do without.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The linked libzmq has no CURVE.
    #[error(
        "the linked libzmq was built without CURVE: link the system's library (Debian: libzmq3-dev)"
    )]
    NoCurve,
}

/// Refuses keys, for a transport that has no encryption.
fn check_plain(endpoint: &Endpoint, security: &Security) -> Result<(), TransportError> {
    match security {
        Security::Curve(_) => Err(TransportError::NoEncryption {
            endpoint: endpoint.clone(),
        }),
        _ => Ok(()),
    }
}

/// What to do about a socket that would be exposed.
fn instead(endpoint: &Endpoint) -> &'static str {
    match endpoint.scheme().promises().encrypts {
        true => "give CURVE keys, or say that it shall be insecure",
        false => "say that it shall be insecure, or use tcp:// with keys",
    }
}

/// What a socket noticed about a connection, apart from messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A connection stands and its handshake is done.
    Connected,
    /// A connection went away; the transport tries again by itself if it was ours to make.
    Disconnected,
    /// The handshake failed; `reason` is a sentence for the person who holds the keys.
    Refused {
        /// What does not fit, at which endpoint, and what to do about it; whoever passes it on need not name the
        /// endpoint again.
        reason: String,
    },
}

/// What [`wait`](crate::wait::wait) watches for a socket, with what the socket knew when asked.
///
/// It borrows the socket: a look that is older than the last send or receive would miss news.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Becomes readable on news of messages and of room.
    pub(crate) fd: RawFd,
    /// Becomes readable on news of connections, which the transport itself may have to act upon;
    /// -1 for none.
    pub(crate) link_fd: RawFd,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// How soon there may be room without `fd` telling.
    pub(crate) room_after: Option<Duration>,
    /// How soon the transport wants to be called in any case.
    pub(crate) look_after: Option<Duration>,
    socket: PhantomData<&'a ()>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(fd: RawFd, readable: bool, writable: bool) -> Source<'a> {
        let socket = PhantomData;
        Source {
            fd,
            link_fd: -1,
            readable,
            writable,
            room_after: None,
            look_after: None,
            socket,
        }
    }
}

/// A non-blocking message socket, used by one thread at a time.
pub trait Socket: Send {
    /// Sends one message, or says why not; the caller keeps the bytes and may try again.
    fn send(&mut self, message: &[Frame]) -> Result<(), SendError>;

    /// The next message that has arrived, or `None` when none has.
    fn receive(&mut self) -> Result<Option<Message>, TransportError>;

    /// Puts the next message that has arrived in place of `message`, whose memory is reused;
    /// `false` when none has.
    fn receive_into(&mut self, message: &mut Message) -> Result<bool, TransportError> {
        message.clear();
        message.extend(self.receive()?.into_iter().flatten());
        Ok(!message.is_empty())
    }

    /// The next thing that happened to a connection, or `None`. Only sockets opened with
    /// [`SocketOptions::watch_links`] report any.
    fn link_event(&mut self) -> Option<LinkEvent>;

    /// Starts to receive messages that begin with `topic`; only for [`Role::Subscribe`].
    fn subscribe(&mut self, topic: &[u8]) -> Result<(), TransportError>;

    /// Stops to receive messages that begin with `topic`; only for [`Role::Subscribe`].
    fn unsubscribe(&mut self, topic: &[u8]) -> Result<(), TransportError>;

    /// Hands to the system what has been gathered. A wait does the same; to be called where none follows
    /// soon.
    fn flush(&mut self) {}

    /// What to wait on for messages.
    fn source(&self) -> Source<'_>;

    /// What to wait on for link events, where they are watched.
    fn link_source(&self) -> Option<Source<'_>>;

    /// Where the socket listens or connects, with the port that the system picked.
    fn endpoint(&self) -> &Endpoint;

    /// The address of whoever sent `message`, which a router has just received and is as it came; `None`
    /// where there are no addresses.
    fn sender(&self, message: &[Frame]) -> Option<IpAddr> {
        let _ = message;
        None
    }

    /// What became of the datagrams, where messages travel in some of our own making.
    fn counters(&self) -> Option<Counters> {
        None
    }
}

/// Whether a socket listens or connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Listens at the endpoint.
    Bind,
    /// Connects to the endpoint, and again with growing pauses whenever the connection is lost.
    Connect,
}

/// What a publishing socket does for a subscriber whose queue is full, or a queue in general.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// `send` returns [`SendError::Full`].
    #[default]
    Refuse,
    /// Publishers drop the message for that subscriber alone.
    Drop,
    /// Only the newest message is kept, on either side. It may arrive twice.
    KeepLatest,
}

/// How a transport notices that a connection is dead, although nobody closed it; the time is the
/// interval.
///
/// `Ping` notices more, and takes something away: a ping, or the answer to one, that reaches a sender
/// after it has closed makes the system throw away all that the sender had handed over and the
/// receiver had not read. It is for protocols that repeat what was lost. Objects that only send or
/// only receive (pushers, pullers, publishers, subscribers) use `Probe` whatever they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// ZeroMQ's own PING and PONG: a peer that says nothing for three intervals is disconnected, a
    /// frozen process included.
    ///
    /// Without ZeroMQ (`raw+tcp`, `raw+udp`, `reliable+udp`) nobody answers for a program that does not use its socket
    /// for a while, as one whose handler takes long. So a dealer that has asked something waits up to a minute; over
    /// TCP whenever the peer's system still acknowledges the pings, and a half-open connection ends after three
    /// intervals as ever. Whoever is only connected and does nothing with its socket is disconnected, and connects
    /// again when it does.
    Ping(Duration),
    /// Probes of the system (TCP keepalive), answered by the peer's system: an idle connection to a
    /// machine that is gone ends after four intervals, in whole seconds. While there is something
    /// unsent it takes the system's patience with lost packets, some minutes.
    Probe(Duration),
}

impl Heartbeat {
    /// The same interval, without messages of its own.
    #[must_use]
    pub fn without_messages(self) -> Heartbeat {
        let (Heartbeat::Ping(interval) | Heartbeat::Probe(interval)) = self;
        Heartbeat::Probe(interval)
    }
}

/// Settings of a socket, made before it binds or connects.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Messages that may wait in each direction for each peer (ZeroMQ's high-water mark, which is
    /// inexact). A batch counts as one message.
    pub queue_messages: i32,
    /// Largest frame accepted or sent, in bytes; a peer that announces more is cut off before memory is
    /// taken.
    pub max_message_bytes: usize,
    /// How long a closing socket may still try to send what is queued. The last socket of the
    /// process blocks for as long while it is dropped.
    ///
    /// Sent means handed to the system. Over `ipc`, libzmq 4.3.4 then loses what the receiver has no
    /// room for at that moment ([issue 4660](https://github.com/zeromq/libzmq/issues/4660)): where that
    /// matters, let the receiver confirm before the sender closes, or use `tcp`.
    pub linger: Duration,
    /// First pause before a lost connection is tried again.
    pub reconnect_min: Duration,
    /// Longest pause between tries; pauses double up to it.
    pub reconnect_max: Duration,
    /// How the death of a connection is noticed.
    pub heartbeat: Heartbeat,
    /// How long a new connection may take until its handshake is done before it is cut off.
    pub handshake: Duration,
    /// What happens when a queue is full.
    pub when_full: WhenFull,
    /// Take messages only for peers that are connected: without one, a socket that connects refuses
    /// with [`SendError::Full`] instead of queueing for a peer that may come much later. `inproc`
    /// queues all the same, as libzmq cannot tell there.
    pub only_connected: bool,
    /// The longest datagram that reliable UDP sends, in bytes, from 576 to 65,507; other transports have no use for
    /// it. By default 1,232, which every path carries whole, and 32 KiB to loopback addresses. Lower it there when
    /// what listens passes the datagrams on to a network, as a proxy does.
    pub datagram_bytes: Option<usize>,
    /// Report [`LinkEvent`]s.
    pub watch_links: bool,
    /// Encryption and authentication.
    pub security: Security,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            queue_messages: 1_000,
            max_message_bytes: 64 << 20,
            linger: Duration::from_secs(2),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(2),
            heartbeat: Heartbeat::Ping(Duration::from_secs(2)),
            handshake: Duration::from_secs(10),
            when_full: WhenFull::Refuse,
            only_connected: false,
            datagram_bytes: None,
            watch_links: false,
            security: Security::default(),
        }
    }
}

/// The shortest limit of datagrams: what IPv4 demands of every host.
const MIN_DATAGRAM_BYTES: usize = 576;

/// What a socket refuses before the transport sees it.
#[derive(Clone, Copy, Debug)]
struct Limits {
    role: Role,
    when_full: WhenFull,
    frame_bytes: usize,
    /// Subscriptions made so far.
    topics: usize,
}

impl Limits {
    fn new(role: Role, options: &SocketOptions) -> Result<Limits, TransportError> {
        let SocketOptions {
            when_full,
            max_message_bytes: frame_bytes,
            ..
        } = *options;
        let limits = Limits {
            role,
            when_full,
            frame_bytes,
            topics: 0,
        };
        let refuse = |reason| {
            Err(TransportError::Failed {
                what: "open a socket",
                reason,
            })
        };
        if limits.keeps_latest() && matches!(role, Role::Dealer | Role::Router) {
            return refuse(format!(
                "a {role:?} socket cannot keep only the latest message"
            ));
        }
        if options.queue_messages < 1 {
            return refuse("its queues must hold at least one message".to_string());
        }
        if let Some(bytes) = options.datagram_bytes
            && !(MIN_DATAGRAM_BYTES..=MAX_DATAGRAM_BYTES).contains(&bytes)
        {
            return refuse(format!(
                "its datagrams cannot have up to {bytes} bytes: give {MIN_DATAGRAM_BYTES} to {MAX_DATAGRAM_BYTES}"
            ));
        }
        Ok(limits)
    }

    fn keeps_latest(&self) -> bool {
        self.when_full == WhenFull::KeepLatest
    }

    fn check(&self, message: &[Frame]) -> Result<(), TransportError> {
        let least = if self.role == Role::Router { 2 } else { 1 };
        let most = if self.keeps_latest() { 1 } else { MAX_FRAMES };
        let reason = match message.len() {
            _ if matches!(self.role, Role::Pull | Role::Subscribe) => {
                format!("{:?} sockets only receive", self.role)
            }
            frames if frames < least => format!("it has {frames} frames and needs {least}"),
            frames if frames > most => format!("it has {frames} frames and may have {most}"),
            _ => return self.check_bytes(message),
        };
        Err(TransportError::Failed {
            what: "send a message",
            reason,
        })
    }

    fn check_bytes(&self, message: &[Frame]) -> Result<(), TransportError> {
        match message.iter().map(|frame| frame.len()).max() {
            Some(bytes) if bytes > self.frame_bytes => Err(TransportError::TooLarge {
                bytes,
                limit_bytes: self.frame_bytes,
            }),
            _ => Ok(()),
        }
    }

    /// Where a message is taken apart by our own code, its frames together are bounded too.
    fn check_together(&self, message: &[Frame]) -> Result<(), TransportError> {
        let limit_bytes = max_message_bytes(self.frame_bytes);
        let bytes = match message {
            [_] => return Ok(()),
            frames => frames.iter().map(|frame| frame.len()).sum(),
        };
        match bytes > limit_bytes {
            true => Err(TransportError::TooLarge { bytes, limit_bytes }),
            false => Ok(()),
        }
    }

    fn check_subscribe(&mut self) -> Result<(), TransportError> {
        let reason = match self.role {
            Role::Subscribe if self.keeps_latest() && self.topics > 0 => {
                "a socket that keeps only the latest message takes one topic".to_string()
            }
            Role::Subscribe => {
                self.topics += 1;
                return Ok(());
            }
            role => format!("{role:?} sockets do not subscribe"),
        };
        Err(TransportError::Failed {
            what: "subscribe",
            reason,
        })
    }
}

/// What the frames of a message may have together, in bytes, where one may have `limit`: room for the short
/// ones before it.
fn max_message_bytes(limit: usize) -> usize {
    limit.saturating_add(64 << 10)
}

/// Whether sockets of these roles can talk to each other.
fn fits(a: Role, b: Role) -> bool {
    use Role::*;
    matches!(
        (a, b),
        (Push, Pull)
            | (Pull, Push)
            | (Publish, Subscribe)
            | (Subscribe, Publish)
            | (Dealer | Router, Dealer | Router)
    )
}

fn check_exposure(
    side: Side,
    endpoint: &Endpoint,
    security: &Security,
) -> Result<(), TransportError> {
    let open = side == Side::Bind && !endpoint.is_local();
    if open && matches!(security, Security::None) {
        return Err(TransportError::Exposed {
            endpoint: endpoint.clone(),
        });
    }
    Ok(())
}

/// Opens a socket of `role` at `endpoint`; the endpoint's scheme picks the transport.
///
/// # Errors
///
/// The endpoint is in use or unusable, listens beyond this machine without encryption, or the
/// process has run out of sockets.
pub fn open(
    role: Role,
    side: Side,
    endpoint: &Endpoint,
    options: &SocketOptions,
) -> Result<Box<dyn Socket>, TransportError> {
    match endpoint.scheme() {
        Scheme::RawTcp => tcp::open(role, side, endpoint, options),
        Scheme::RawUdp | Scheme::ReliableUdp => udp::open(role, side, endpoint, options),
        Scheme::Memory => memory::open(role, side, endpoint, options),
        Scheme::Tcp | Scheme::Ipc | Scheme::Inproc => zmq::open(role, side, endpoint, options),
    }
}

/// The same for `what`, of which no message may be lost while a connection stands.
///
/// # Errors
///
/// As [`open`]; also when the transport promises less.
pub(crate) fn open_complete(
    what: &'static str,
    role: Role,
    side: Side,
    endpoint: &Endpoint,
    options: &SocketOptions,
) -> Result<Box<dyn Socket>, TransportError> {
    let needs = Needs {
        complete: true,
        ..Needs::default()
    };
    needs.check(what, endpoint.scheme())?;
    open(role, side, endpoint, options)
}
