//! The sending half: a stream cut into segments, each sent until it has arrived.
//!
//! Numbers are never used twice: a segment that is sent again gets a new one, so that an acknowledgement says
//! which try arrived (RFC 9002, section 2).

use std::collections::VecDeque;
use std::time::Duration;

use crate::machine::Time;
use crate::transport::Frame;
use crate::transport::udp::frames;
use crate::transport::udp::rooms::{self, SEGMENTS};

use super::congestion::Congestion;
use super::rtt::Rtt;
use super::segment::Acknowledged;
use super::{Limits, Stats};

/// Numbers that have to have arrived before one below them counts as lost (RFC 9002, section 6.1.1).
const REORDERED: u64 = 3;

/// Tries in vain after which the path counts as broken (RFC 9002, section 7.6).
const TRIES: u32 = 3;

/// Datagrams that may be under way; more would be very small ones.
const MAX_FLIGHT: usize = 8192;

/// What a datagram costs beside its segment.
const DATAGRAM_BYTES: usize = 64;

/// So many bytes in full segments go out together: a call of the system for each would cost more than all else.
const GATHER_BYTES: usize = 24 << 10;

/// Things that an idle connection keeps room for.
const IDLE: usize = 16;

/// A piece of the stream.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// Messages that end in it.
    messages: usize,
}

/// A datagram that may not have arrived yet.
#[derive(Debug)]
struct Sent {
    at: Time,
    /// What it counts for; 0 for one without a segment.
    bytes: usize,
    /// Until it is sent again.
    segment: Option<Segment>,
}

/// What is to be sent now.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) number: u64,
    pub(super) segment: Option<(u64, &'a [u8])>,
}

#[derive(Debug)]
pub(super) struct Sending {
    segment_bytes: usize,
    queue_messages: usize,
    queue_bytes: usize,
    /// The segment that is being filled.
    open: Vec<u8>,
    open_messages: usize,
    /// Whether it may go out although it is not full.
    flushing: bool,
    /// Segments that have not been sent.
    queue: VecDeque<Segment>,
    /// Messages that have not been sent whole.
    unsent_messages: usize,
    /// Segments that have to be sent again.
    lost: VecDeque<Segment>,
    /// By their numbers, beginning with `first`.
    flight: VecDeque<Option<Sent>>,
    first: u64,
    in_flight_bytes: usize,
    next_offset: u64,
    /// How far the peer takes the stream.
    credit: u64,
    newest_arrived: Option<u64>,
    congestion: Congestion,
    rtt: Rtt,
    last_sent: Time,
    /// Tries since something arrived.
    tries: u32,
    /// One datagram may go out whatever the window says.
    probe: bool,
    ping: bool,
    /// When something will count as lost.
    loss_at: Option<Time>,
    /// When something arrived last, or began to be under way.
    progress: Time,
}

impl Sending {
    pub(super) fn new(limits: &Limits, now: Time) -> Sending {
        Sending {
            segment_bytes: limits.segment_bytes.max(1),
            queue_messages: limits.queue_messages,
            queue_bytes: limits.queue_bytes,
            open: Vec::new(),
            open_messages: 0,
            flushing: false,
            queue: VecDeque::new(),
            unsent_messages: 0,
            lost: VecDeque::new(),
            flight: VecDeque::new(),
            first: 0,
            in_flight_bytes: 0,
            next_offset: 0,
            // Until the peer says how much it takes.
            credit: limits.segment_bytes as u64,
            newest_arrived: None,
            congestion: Congestion::new(limits.segment_bytes + DATAGRAM_BYTES, limits.window_bytes),
            rtt: Rtt::new(),
            last_sent: now,
            tries: 0,
            probe: false,
            ping: false,
            loss_at: None,
            progress: now,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.unsent_messages < self.queue_messages && self.unsent_bytes() < self.queue_bytes
    }

    fn unsent_bytes(&self) -> usize {
        let first = self.queue.front().map(|segment| segment.offset);
        let sealed = self.next_offset - first.unwrap_or(self.next_offset);
        sealed as usize + self.open.len()
    }

    /// Whether everything has been sent, though it may not have arrived.
    pub(super) fn is_sent(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Whether everything has arrived.
    pub(super) fn is_idle(&self) -> bool {
        let under_way = |sent: &Sent| sent.segment.is_some();
        self.is_sent() && self.lost.is_empty() && !self.flight.iter().flatten().any(under_way)
    }

    /// Adds a message to the stream; whether so much is there that it had better be sent.
    pub(super) fn push(&mut self, message: &[Frame]) -> bool {
        for (header, frame) in frames::headers(message) {
            self.append(&header);
            self.append(frame);
        }
        self.unsent_messages += 1;
        match self.queue.back_mut() {
            Some(last) if self.open.is_empty() => last.messages += 1,
            _ => self.open_messages += 1,
        }
        self.queue.len() * self.segment_bytes >= GATHER_BYTES
    }

    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.open.capacity() == 0 {
                self.open = rooms::borrow(&SEGMENTS);
            }
            let room = self.segment_bytes - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.open.len() == self.segment_bytes {
                self.seal();
                self.flushing = false;
            }
        }
    }

    fn seal(&mut self) {
        let bytes = std::mem::take(&mut self.open);
        let offset = self.next_offset;
        self.next_offset += bytes.len() as u64;
        let messages = std::mem::take(&mut self.open_messages);
        self.queue.push_back(Segment {
            offset,
            bytes,
            messages,
        });
    }

    /// Lets go out what is there, though a segment is not full.
    pub(super) fn flush(&mut self) {
        self.flushing = !self.open.is_empty();
    }

    /// Wants an answer of any kind.
    pub(super) fn ping(&mut self) {
        self.ping = true;
    }

    /// What has to be sent now.
    pub(super) fn poll(&mut self, now: Time, stats: &mut Stats) -> Option<Outgoing<'_>> {
        let again = !self.lost.is_empty();
        let segment = match self.lost.front().map(|segment| segment.bytes.len()) {
            Some(len) if self.may_send(len) => self.lost.pop_front(),
            Some(_) => None,
            None => self.next_new(),
        };
        if segment.is_none() && !std::mem::take(&mut self.ping) && !self.probe {
            return None;
        }
        stats.resent += u64::from(again && segment.is_some());
        (self.probe, self.ping) = (false, false);
        Some(self.send(now, segment))
    }

    fn next_new(&mut self) -> Option<Segment> {
        let (offset, len) = self.next_in_line()?;
        if !self.may_send(len) || offset + len as u64 > self.credit {
            return None;
        }
        if self.queue.is_empty() {
            self.seal();
            self.flushing = false;
        }
        let segment = self.queue.pop_front()?;
        self.unsent_messages -= segment.messages;
        Some(segment)
    }

    /// Offset and length of what would be sent next for the first time.
    fn next_in_line(&self) -> Option<(u64, usize)> {
        match self.queue.front() {
            Some(segment) => Some((segment.offset, segment.bytes.len())),
            None if self.flushing => Some((self.next_offset, self.open.len())),
            None => None,
        }
    }

    fn may_send(&self, bytes: usize) -> bool {
        let room = self.congestion.window() >= self.in_flight_bytes + bytes + DATAGRAM_BYTES;
        self.probe || room && self.flight.len() < MAX_FLIGHT
    }

    fn send(&mut self, now: Time, segment: Option<Segment>) -> Outgoing<'_> {
        let number = self.next_number();
        if self.flight.is_empty() {
            self.progress = now;
        }
        self.last_sent = now;
        let bytes = segment
            .as_ref()
            .map_or(0, |segment| segment.bytes.len() + DATAGRAM_BYTES);
        self.in_flight_bytes += bytes;
        self.flight.push_back(Some(Sent {
            at: now,
            bytes,
            segment,
        }));
        let sent = self.flight.back().and_then(Option::as_ref);
        let segment = sent.and_then(|sent| sent.segment.as_ref());
        let segment = segment.map(|segment| (segment.offset, &segment.bytes[..]));
        Outgoing { number, segment }
    }

    /// The number that comes next.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.flight.len() as u64
    }

    /// The peer takes the stream up to here.
    pub(super) fn grant(&mut self, credit: u64) {
        self.credit = self.credit.max(credit);
    }

    /// The peer says what has arrived; `false` when it names a number that was never sent.
    pub(super) fn acknowledge(
        &mut self,
        now: Time,
        acknowledged: &Acknowledged,
        stats: &mut Stats,
    ) -> bool {
        let Some(newest) = acknowledged.ranges.first().map(|range| range.end - 1) else {
            return true;
        };
        if newest >= self.next_number() {
            return false;
        }
        let in_flight = self.in_flight_bytes;
        let mut any = false;
        for range in &acknowledged.ranges {
            for number in range.start.max(self.first)..range.end.max(self.first) {
                let sent = self.flight[(number - self.first) as usize].take();
                let Some(sent) = sent else { continue };
                if number == newest {
                    let sample = now.since(sent.at);
                    self.rtt.measure(sample, acknowledged.delay);
                }
                any = true;
                self.arrive(sent, in_flight);
            }
        }
        self.newest_arrived = self.newest_arrived.max(Some(newest));
        if any {
            (self.tries, self.probe) = (0, false);
            self.progress = now;
        }
        self.find_lost(now, stats);
        true
    }

    fn arrive(&mut self, sent: Sent, in_flight: usize) {
        self.in_flight_bytes -= sent.bytes;
        self.congestion.acknowledge(sent.bytes, sent.at, in_flight);
        if let Some(segment) = sent.segment {
            rooms::give_back(&SEGMENTS, segment.bytes);
        }
    }

    /// Gives up what should have arrived before something that has.
    fn find_lost(&mut self, now: Time, stats: &mut Stats) {
        self.loss_at = None;
        let newest = self.newest_arrived.unwrap_or(0);
        let patience = self.rtt.reordering();
        for at in 0..self.flight.len() {
            let number = self.first + at as u64;
            if number >= newest {
                break;
            }
            let Some(sent) = &mut self.flight[at] else {
                continue;
            };
            let due = sent.at + patience;
            if newest - number < REORDERED && now < due {
                self.loss_at = Some(self.loss_at.map_or(due, |other| other.min(due)));
                continue;
            }
            if sent.bytes > 0 {
                stats.lost += 1;
                self.congestion.lose(now, sent.at);
            }
            self.in_flight_bytes -= sent.bytes;
            self.lost.extend(sent.segment.take());
            self.flight[at] = None;
        }
        while let Some(None) = self.flight.front() {
            self.flight.pop_front();
            self.first += 1;
        }
        if self.flight.is_empty() && self.queue.is_empty() {
            self.flight.shrink_to(IDLE);
            self.queue.shrink_to(IDLE);
        }
    }

    /// When [`wake`](Sending::wake) has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        let timeout = self.waits().then(|| self.last_sent + self.timeout());
        timeout.into_iter().chain(self.loss_at).min()
    }

    /// Whether an answer is due: to what is under way, or to the question whether there is room.
    fn waits(&self) -> bool {
        let blocked = |(offset, len): (u64, usize)| offset + len as u64 > self.credit;
        !self.flight.is_empty() || self.next_in_line().is_some_and(blocked)
    }

    fn timeout(&self) -> Duration {
        // A peer without room says so itself when there is some; to ask is only for when that gets lost.
        let patient = if self.flight.is_empty() { TRIES } else { 0 };
        self.rtt.timeout(self.tries.max(patient))
    }

    /// Time has passed.
    pub(super) fn wake(&mut self, now: Time, stats: &mut Stats) {
        if self.loss_at.is_some_and(|at| at <= now) {
            self.find_lost(now, stats);
        }
        if !self.waits() || now < self.last_sent + self.timeout() {
            return;
        }
        self.tries = self.tries.saturating_add(1);
        // So that it is not woken at once if the probe cannot be sent.
        self.last_sent = now;
        if self.tries >= TRIES {
            self.congestion.collapse();
        }
        self.probe = true;
        // The oldest is sent again, and stays under way: it may only be late.
        let oldest = self.flight.iter_mut().flatten();
        let oldest = oldest.filter_map(|sent| sent.segment.take()).next();
        if let Some(segment) = oldest {
            self.lost.push_front(segment);
        }
    }

    /// Whether nothing has arrived for so long, though it was tried.
    pub(super) fn is_stuck(&self, now: Time, limit: Duration) -> bool {
        !self.flight.is_empty() && self.tries >= TRIES && now.since(self.progress) >= limit
    }

    /// Bytes that wait to be sent or to be acknowledged.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn footprint(&self) -> (usize, usize) {
        let flight = self.flight.iter().flatten();
        let flight = flight.filter_map(|sent| sent.segment.as_ref());
        let under_way = flight.chain(&self.lost).map(|segment| segment.bytes.len());
        let waiting = self.queue.iter().map(|segment| segment.bytes.len());
        (
            waiting.sum::<usize>() + self.open.len(),
            under_way.sum::<usize>(),
        )
    }

    /// Datagrams that are remembered.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn things(&self) -> usize {
        self.flight.len()
    }
}
