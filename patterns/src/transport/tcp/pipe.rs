//! One connection, once both ends have said what they are.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use crate::transport::routing::{Offer, Pipe};
use crate::transport::{BUSY, Frame, Message, Role, fits, sys};

use super::incoming::{Incoming, Item};
use super::outgoing::{COPY_BYTES, Outgoing};
use super::poll::News;
use super::wire::{self, Breach, Control, control};

/// Bytes that one look reads at most, so that others have their turn.
const READ_BYTES: usize = 1 << 20;

/// So much is written at once rather than waiting for more.
const WRITE_BYTES: usize = 64 << 10;

/// Bounds of a connection.
#[derive(Clone, Debug)]
pub(super) struct PipeLimits {
    pub(super) queue_messages: usize,
    /// Beyond this the queue is full however few messages it holds.
    pub(super) queue_bytes: usize,
    /// Of what is sent only the newest is kept.
    pub(super) keeps_latest: bool,
    /// Of what is received only the newest is kept.
    pub(super) keeps_latest_in: bool,
    /// The peer is asked things, and may be busy with them.
    pub(super) asks: bool,
    pub(super) frame_bytes: usize,
    /// How often a silent peer is asked whether it lives; it is given up after three times as long.
    pub(super) ping: Option<Duration>,
}

/// What may be sent without looking at anything again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    pub(super) messages: u32,
    /// With their headers.
    pub(super) bytes: usize,
    /// The longest frame.
    pub(super) frame_bytes: usize,
}

impl Allowance {
    /// Whether a frame of so many bytes is within it, which then is less.
    #[inline]
    pub(super) fn spend(&mut self, frame_bytes: usize) -> bool {
        let fits =
            self.messages > 0 && frame_bytes <= self.frame_bytes && frame_bytes + 4 <= self.bytes;
        if fits {
            self.messages -= 1;
            self.bytes -= frame_bytes + 4;
        }
        fits
    }
}

/// How a connection ended, and why.
pub(super) enum Parting<'a> {
    /// The other end was none for us, which is said elsewhere.
    Refused,
    CutOff(&'a str),
    Over(&'a str),
}

/// What is known of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// It has not said what it is, to us who are this. It gets what is sent, as nothing would be won by
    /// waiting.
    Unknown(Role),
    Fits,
    Refused,
}

#[derive(Debug)]
pub(super) struct TcpPipe {
    stream: TcpStream,
    limits: PipeLimits,
    peer: Peer,
    incoming: Incoming,
    outgoing: Outgoing,
    /// The newest message, where it replaces those before it and the stream is busy.
    latest: Option<Message>,
    /// Some message was for the peer.
    has_sent: bool,
    /// Something was for the peer since the last beat.
    has_spoken: bool,
    /// There may be something to read.
    readable: bool,
    /// The peer has said all that it will say: there is always something to read, its end at last.
    has_ended: bool,
    /// The system took all that it was given.
    writable: bool,
    /// The peer does not hear us any more; what it has said before is still heard.
    is_deaf: bool,
    /// It asked whether we live.
    owes_pong: bool,
    /// Why the peer reads nothing any more, or sends nothing.
    end: Option<String>,
    /// Whether that was its doing, against the protocol or what we put up with.
    is_cut_off: bool,
    heard: Instant,
}

impl TcpPipe {
    /// A connection whose other end has said what it is.
    pub(super) fn new(stream: TcpStream, limits: PipeLimits) -> TcpPipe {
        TcpPipe {
            incoming: Incoming::new(limits.frame_bytes),
            stream,
            limits,
            peer: Peer::Fits,
            outgoing: Outgoing::default(),
            latest: None,
            has_sent: false,
            has_spoken: true,
            readable: true,
            has_ended: false,
            writable: true,
            is_deaf: false,
            owes_pong: false,
            end: None,
            is_cut_off: false,
            heard: Instant::now(),
        }
    }

    /// A connection whose other end has yet to say what it is; `ours` is what we are.
    pub(super) fn fresh(stream: TcpStream, limits: PipeLimits, ours: Role) -> TcpPipe {
        TcpPipe {
            peer: Peer::Unknown(ours),
            ..TcpPipe::new(stream, limits)
        }
    }

    /// Whether the peer has said what it is, and that fits.
    pub(super) fn is_greeted(&mut self) -> bool {
        if let Peer::Unknown(_) = self.peer {
            self.fill(&mut READ_BYTES.clone());
            self.greet();
        }
        self.peer == Peer::Fits
    }

    /// Why it is no peer for us, if it has turned out not to be.
    pub(super) fn refusal(&self) -> Option<&str> {
        let refused = self.peer == Peer::Refused;
        self.end.as_deref().filter(|_| refused)
    }

    /// How it ended.
    pub(super) fn parting(&self) -> Parting<'_> {
        let reason = self.end.as_deref().unwrap_or("it is closed");
        match self.peer {
            Peer::Refused => Parting::Refused,
            _ if self.is_cut_off => Parting::CutOff(reason),
            _ => Parting::Over(reason),
        }
    }

    /// Ends the connection for this reason.
    pub(super) fn give_up(&mut self, reason: &str) {
        self.end.get_or_insert_with(|| reason.into());
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Hears what the peer is; whether it is one for us.
    fn greet(&mut self) -> bool {
        let Peer::Unknown(ours) = self.peer else {
            return self.peer == Peer::Fits;
        };
        let Some(preface) = self.incoming.take_bytes() else {
            return false;
        };
        let breach = match wire::read_preface(&preface) {
            Ok(role) if fits(ours, role) => {
                self.peer = Peer::Fits;
                return true;
            }
            Ok(role) => Breach::Role(role),
            Err(breach) => breach,
        };
        self.peer = Peer::Refused;
        self.breach(breach);
        false
    }

    /// The peer has broken the protocol: nothing more is heard from it.
    fn breach(&mut self, breach: Breach) {
        self.is_cut_off = true;
        self.give_up(&breach.to_string());
        self.incoming.clear();
    }

    /// What may be [appended](TcpPipe::append) now: messages, of how many bytes together, each no longer
    /// than what is copied.
    pub(super) fn allowance(&self) -> Allowance {
        let may = self.end.is_none() && !self.is_deaf && !self.limits.keeps_latest;
        if !may {
            return Allowance::default();
        }
        let limits = &self.limits;
        let messages = limits
            .queue_messages
            .saturating_sub(self.outgoing.messages());
        let most = if self.writable {
            WRITE_BYTES
        } else {
            limits.queue_bytes
        };
        Allowance {
            messages: messages.try_into().unwrap_or(u32::MAX),
            bytes: most.saturating_sub(self.outgoing.bytes()),
            frame_bytes: COPY_BYTES.min(self.limits.frame_bytes),
        }
    }

    /// Sends a message of one frame that is within the [allowance](TcpPipe::allowance); `false` if there is no
    /// room for it, and it has to be [offered](Pipe::offer).
    #[inline]
    pub(super) fn append(&mut self, frame: &[u8]) -> bool {
        self.outgoing.append(frame)
    }

    /// Whether messages may be [taken whole](TcpPipe::take_whole).
    pub(super) fn gives_whole(&self) -> bool {
        self.peer == Peer::Fits && !self.limits.keeps_latest_in
    }

    /// Takes a message of one frame that has come whole, if there is one; else it has to be
    /// [taken](Pipe::take_into).
    #[inline]
    pub(super) fn take_whole(&mut self, message: &mut Message) -> bool {
        self.incoming.take_whole(message)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What to wait on for messages; `None` while it is room that is waited for.
    pub(super) fn fd(&self) -> Option<RawFd> {
        let only_reads = self.outgoing.is_empty() && self.end.is_none();
        only_reads.then(|| self.stream.as_raw_fd())
    }

    /// The system says that something may be read.
    pub(super) fn note_readable(&mut self) {
        self.readable = true;
    }

    /// The system says what is new.
    pub(super) fn note(&mut self, news: News) {
        self.has_ended |= news.ended;
        self.readable |= news.readable;
        if news.writable && !self.writable {
            self.writable = true;
            self.write();
        }
    }

    /// Writes what waits, says that this was all, and hears the peer out: a connection that is closed with
    /// something unread takes with it what the peer has not read. Whether that is done.
    pub(super) fn leave(&mut self) -> bool {
        self.write();
        if self.end.is_some() || self.is_deaf {
            return true;
        }
        if !self.outgoing.is_empty() {
            return false;
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        !self.has_sent || self.is_heard_out()
    }

    fn is_heard_out(&mut self) -> bool {
        let mut rest = [0; 4096];
        // One that goes on and on has its next turn later.
        for _ in 0..READ_BYTES / rest.len() {
            match self.stream.read(&mut rest) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return true,
            }
        }
        false
    }

    fn write(&mut self) {
        let speaks = self.writable && self.end.is_none() && !self.is_deaf;
        if !speaks || self.outgoing.is_empty() {
            return;
        }
        let written = self.outgoing.write_to(&mut self.stream);
        self.wrote(written);
    }

    fn wrote(&mut self, written: io::Result<bool>) {
        match written {
            Ok(false) => self.writable = false,
            Ok(true) => {
                if let Some(latest) = self.latest.take() {
                    self.outgoing.push(&latest);
                    self.write();
                }
            }
            Err(_) => {
                // Reading will tell that it is gone, after what it has said before.
                self.is_deaf = true;
                self.readable = true;
                self.outgoing = Outgoing::default();
            }
        }
    }

    /// Reads until there is something to decode, at most `budget` bytes; whether there is.
    fn fill(&mut self, budget: &mut usize) -> bool {
        while self.readable && *budget > 0 && self.end.is_none() {
            match self.incoming.read(&self.stream) {
                Ok((0, _)) => self.end = Some("the peer closed the connection".into()),
                Ok((bytes, more)) => {
                    self.heard = Instant::now();
                    *budget = budget.saturating_sub(bytes);
                    self.readable = more || self.has_ended;
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.fail(&error),
            }
        }
        self.incoming.settle();
        false
    }

    /// One answer is enough for a peer that asks often, or does not read.
    fn answer(&mut self) {
        if std::mem::take(&mut self.owes_pong) && self.outgoing.bytes() < WRITE_BYTES {
            self.say(Control::Pong);
        }
    }

    fn say(&mut self, word: Control) {
        self.outgoing.push_control(&control(word));
        self.has_spoken = true;
        self.write();
    }

    fn fail(&mut self, error: &io::Error) {
        self.end.get_or_insert_with(|| error.to_string());
    }

    /// Lets the peer know that we live, which it answers, and gives it up when it has been silent; when to
    /// look again.
    pub(super) fn beat(&mut self, now: Instant) -> Option<Instant> {
        let ping = self.limits.ping?;
        if self.end.is_some() {
            return None;
        }
        let patience = 3 * ping;
        if now.saturating_duration_since(self.heard) >= patience && !self.incoming.has_item() {
            // What has come and was not read counts.
            self.readable = true;
            self.fill(&mut READ_BYTES.clone());
            let silence = now.saturating_duration_since(self.heard);
            if silence >= patience && !self.may_be_busy(silence) {
                self.end = Some("the peer has been silent for too long".into());
                return None;
            }
        }
        if !std::mem::take(&mut self.has_spoken) && self.outgoing.is_empty() {
            self.say(Control::Ping);
            self.has_spoken = false;
        }
        Some(now + ping)
    }

    /// Whether it is only the peer's program that is silent, and may have a reason.
    fn may_be_busy(&self, silence: Duration) -> bool {
        self.limits.asks && silence < BUSY && sys::stream::is_answered(&self.stream)
    }

    fn take_next(&mut self, message: &mut Message) -> bool {
        let (mut found, mut budget) = (false, READ_BYTES);
        loop {
            if !self.greet() {
                match self.fill(&mut budget) {
                    true => continue,
                    false => return false,
                }
            }
            match self.incoming.next_into(message) {
                Ok(Some(Item::Message)) if self.limits.keeps_latest_in => found = true,
                Ok(Some(Item::Message)) => return true,
                Ok(Some(Item::Control(control))) => self.owes_pong |= control == Control::Ping,
                Ok(None) if self.fill(&mut budget) => {}
                Ok(None) => return found,
                Err(breach) => {
                    self.breach(breach);
                    return found;
                }
            }
        }
    }

    /// Sends a message whose frames are too long to be copied for nothing.
    fn offer_long(&mut self, message: &[Frame]) {
        if !self.writable {
            return self.outgoing.push(message);
        }
        let written = self.outgoing.write_through(message, &mut self.stream);
        self.wrote(written);
    }
}

impl Pipe for TcpPipe {
    fn has_room(&mut self) -> bool {
        self.end.is_some()
            || self.is_deaf
            || self.limits.keeps_latest
            || self.outgoing.messages() < self.limits.queue_messages
                && self.outgoing.bytes() < self.limits.queue_bytes
    }

    fn offer(&mut self, message: &[Frame]) -> Offer {
        if self.end.is_some() || self.is_deaf {
            return Offer::Gone;
        }
        if !self.has_room() {
            self.write();
            if !self.has_room() {
                return Offer::Full;
            }
        }
        self.has_sent = true;
        self.has_spoken = true;
        if self.limits.keeps_latest && !self.outgoing.is_empty() {
            self.latest = Some(message.to_vec());
            return Offer::Taken;
        }
        if message.iter().any(|frame| frame.len() > COPY_BYTES) {
            self.offer_long(message);
            return Offer::Taken;
        }
        self.outgoing.push(message);
        if self.outgoing.bytes() >= WRITE_BYTES {
            self.write();
        }
        Offer::Taken
    }

    fn has_message(&self) -> bool {
        self.incoming.has_item() || self.readable && self.end.is_none()
    }

    fn take(&mut self) -> Option<Message> {
        let mut message = Message::new();
        self.take_into(&mut message).then_some(message)
    }

    fn take_into(&mut self, message: &mut Message) -> bool {
        let found = self.take_next(message);
        self.answer();
        found
    }

    fn tell(&mut self, message: &[Frame]) -> Offer {
        if self.end.is_some() || self.is_deaf {
            return Offer::Gone;
        }
        self.has_sent = true;
        self.outgoing.push(message);
        Offer::Taken
    }

    fn cut_off(&mut self, reason: &'static str) {
        self.is_cut_off = true;
        self.give_up(reason);
        self.incoming.clear();
    }

    fn is_closed(&self) -> bool {
        self.end.is_some() && !self.incoming.has_item()
    }

    /// Writes what waits, as far as the system takes it.
    fn flush(&mut self) {
        self.write();
    }
}
