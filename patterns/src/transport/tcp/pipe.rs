//! One connection, once both ends have said what they are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::transport::routing::{Offer, Pipe};
use crate::transport::{Frame, Message, Role, fits};

use super::outgoing::Outgoing;
use super::wire::{self, Breach, Control, Decoder, Item, PREFACE_BYTES, control};

/// Bytes that one look reads at most, so that others have their turn.
const READ_BYTES: usize = 256 << 10;

/// A run of bytes that is written at once rather than waiting for more.
const WRITE_BYTES: usize = 64 << 10;

thread_local! {
    /// What is read goes through here, so that ten thousand silent peers take no memory for it.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
}

/// Bounds of a connection.
#[derive(Clone, Debug)]
pub(super) struct PipeLimits {
    pub(super) queue_messages: usize,
    /// Of what is sent only the newest is kept.
    pub(super) keeps_latest: bool,
    /// Of what is received only the newest is kept.
    pub(super) keeps_latest_in: bool,
    pub(super) frame_bytes: usize,
    /// How often a silent peer is asked whether it lives; it is given up after three times as long.
    pub(super) ping: Option<Duration>,
}

/// What the other end of our own connection says first. Until then it gets what is sent, as nothing
/// would be won by waiting.
#[derive(Debug)]
struct Preface {
    ours: Role,
    bytes: [u8; PREFACE_BYTES],
    count: usize,
}

#[derive(Debug)]
pub(super) struct TcpPipe {
    stream: TcpStream,
    limits: PipeLimits,
    decoder: Decoder,
    ready: VecDeque<Message>,
    outgoing: Outgoing,
    /// The newest message, where it replaces those before it and the stream is busy.
    latest: Option<Message>,
    /// Some message was for the peer.
    has_sent: bool,
    /// There may be something to read.
    readable: bool,
    /// The system took all that it was given.
    writable: bool,
    /// The peer reads nothing any more, or sends nothing.
    end: Option<String>,
    /// On our own connection: what the peer has said of itself, as far as it has come.
    preface: Option<Preface>,
    heard: Instant,
    asked: Instant,
}

impl TcpPipe {
    /// A connection whose other end has said what it is.
    pub(super) fn new(stream: TcpStream, limits: PipeLimits) -> TcpPipe {
        let now = Instant::now();
        TcpPipe {
            decoder: Decoder::new(limits.frame_bytes),
            stream,
            limits,
            ready: VecDeque::new(),
            outgoing: Outgoing::default(),
            latest: None,
            has_sent: false,
            readable: true,
            writable: true,
            end: None,
            preface: None,
            heard: now,
            asked: now,
        }
    }

    /// A connection whose other end has yet to say what it is; `ours` is what we are.
    pub(super) fn fresh(stream: TcpStream, limits: PipeLimits, ours: Role) -> TcpPipe {
        let preface = Preface {
            ours,
            bytes: [0; PREFACE_BYTES],
            count: 0,
        };
        TcpPipe {
            preface: Some(preface),
            ..TcpPipe::new(stream, limits)
        }
    }

    /// Whether the peer has said what it is, and that fits.
    pub(super) fn is_greeted(&mut self) -> bool {
        if self.preface.is_some() && self.readable {
            self.read();
        }
        self.preface.is_none()
    }

    /// Why it is no peer for us, if it has turned out not to be.
    pub(super) fn refusal(&self) -> Option<&str> {
        let refused = self.preface.as_ref().filter(|preface| preface.count > 0);
        refused.and(self.end.as_deref())
    }

    /// Ends the connection for this reason.
    pub(super) fn give_up(&mut self, reason: &str) {
        self.end.get_or_insert_with(|| reason.into());
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Takes what the peer says of itself off the front; what is left.
    fn greet<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let Some(preface) = &mut self.preface else {
            return Some(bytes);
        };
        let missing = PREFACE_BYTES - preface.count;
        let (said, rest) = bytes.split_at(missing.min(bytes.len()));
        preface.bytes[preface.count..][..said.len()].copy_from_slice(said);
        preface.count += said.len();
        if preface.count < PREFACE_BYTES {
            return None;
        }
        let refused = match wire::read_preface(&preface.bytes) {
            Ok(role) if fits(preface.ours, role) => {
                self.preface = None;
                return Some(rest);
            }
            Ok(role) => Breach::Role(role),
            Err(breach) => breach,
        };
        self.end = Some(refused.to_string());
        let _ = self.stream.shutdown(Shutdown::Both);
        None
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The system says that something can be read, or written.
    pub(super) fn note(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        if writable && !self.writable {
            self.writable = true;
            self.write();
        }
    }

    /// Writes what waits, until `by` at most, and says that this was all.
    pub(super) fn close(&mut self, by: Instant) {
        let left = by.saturating_duration_since(Instant::now());
        if self.end.is_some() {
            return;
        }
        if self.has_unwritten() && !left.is_zero() {
            let patient = self
                .stream
                .set_nonblocking(false)
                .and_then(|()| self.stream.set_write_timeout(Some(left)));
            if patient.is_ok() {
                self.writable = true;
                self.write();
            }
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until the peer has ended as well, until `by` at most: a connection that is closed with
    /// something unread takes with it what the peer has not read.
    pub(super) fn see_off(&mut self, by: Instant) {
        if !self.has_sent {
            return;
        }
        let _ = self.stream.set_nonblocking(false);
        SCRATCH.with_borrow_mut(|chunk| {
            loop {
                let left = by.saturating_duration_since(Instant::now());
                let patient = !left.is_zero() && self.stream.set_read_timeout(Some(left)).is_ok();
                if self.end.is_some() || !patient || !matches!(self.stream.read(chunk), Ok(1..)) {
                    return;
                }
            }
        });
    }

    fn write(&mut self) {
        if !self.writable || self.outgoing.is_empty() || self.end.is_some() {
            return;
        }
        match self.outgoing.write_to(&mut self.stream) {
            Ok(false) => self.writable = false,
            Ok(true) => {
                if let Some(latest) = self.latest.take() {
                    self.outgoing.push(&latest);
                    self.write();
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.outgoing.is_empty() && self.end.is_none()
    }

    /// Reads what has come, up to a bound.
    fn read(&mut self) {
        SCRATCH.with_borrow_mut(|chunk| self.read_with(chunk));
    }

    fn read_with(&mut self, chunk: &mut [u8]) {
        let mut read = 0;
        while self.readable && self.end.is_none() && read < READ_BYTES {
            match self.stream.read(chunk) {
                Ok(0) => self.end = Some("the peer closed the connection".into()),
                Ok(bytes) => {
                    read += bytes;
                    self.heard = Instant::now();
                    if let Some(rest) = self.greet(&chunk[..bytes]) {
                        self.decoder.feed(rest);
                        self.decode();
                    }
                    // A stream that gives less than it could has nothing more.
                    self.readable = bytes == chunk.len();
                    if !self.ready.is_empty() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.fail(&error),
            }
        }
    }

    fn decode(&mut self) {
        loop {
            match self.decoder.next() {
                Ok(Some(Item::Message(message))) => {
                    if self.limits.keeps_latest_in {
                        self.ready.clear();
                    }
                    self.ready.push_back(message);
                }
                Ok(Some(Item::Control(Control::Ping))) => {
                    // One answer is enough for a peer that asks and does not read.
                    if self.outgoing.bytes() < WRITE_BYTES {
                        self.outgoing.push_control(&control(Control::Pong));
                        self.write();
                    }
                }
                Ok(Some(Item::Control(Control::Pong))) => {}
                Ok(None) => return,
                Err(breach) => {
                    self.end = Some(breach.to_string());
                    let _ = self.stream.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.end.get_or_insert_with(|| error.to_string());
    }

    /// Asks a silent peer whether it lives, and gives it up when it does not answer; when to look again.
    pub(super) fn beat(&mut self, now: Instant) -> Option<Instant> {
        let ping = self.limits.ping?;
        if self.end.is_some() {
            return None;
        }
        if now.duration_since(self.heard) >= 3 * ping {
            // What has come and was not read counts.
            self.readable = true;
            self.read();
        }
        if now.saturating_duration_since(self.heard) >= 3 * ping {
            self.end = Some("the peer has been silent for too long".into());
            return None;
        }
        if now >= self.heard.max(self.asked) + ping {
            self.asked = now;
            self.outgoing.push_control(&control(Control::Ping));
            self.write();
        }
        Some((self.heard.max(self.asked) + ping).min(self.heard + 3 * ping))
    }
}

impl Pipe for TcpPipe {
    fn has_room(&mut self) -> bool {
        self.end.is_some()
            || self.limits.keeps_latest
            || self.outgoing.messages() < self.limits.queue_messages
    }

    fn offer(&mut self, message: &[Frame]) -> Offer {
        if self.end.is_some() {
            return Offer::Gone;
        }
        if !self.has_room() {
            self.write();
        }
        if !self.has_room() {
            return Offer::Full;
        }
        self.has_sent = true;
        if self.limits.keeps_latest && !self.outgoing.is_empty() {
            self.latest = Some(message.to_vec());
            return Offer::Taken;
        }
        self.outgoing.push(message);
        if self.outgoing.bytes() >= WRITE_BYTES {
            self.write();
        }
        Offer::Taken
    }

    fn has_message(&self) -> bool {
        !self.ready.is_empty() || self.readable && self.end.is_none()
    }

    fn take(&mut self) -> Option<Message> {
        if self.ready.is_empty() {
            self.read();
        }
        self.ready.pop_front()
    }

    fn is_closed(&self) -> bool {
        self.end.is_some() && self.ready.is_empty()
    }

    /// Writes what waits, as far as the system takes it.
    fn flush(&mut self) {
        self.write();
    }
}
