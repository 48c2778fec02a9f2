//! A reliable connection over datagrams, as a machine without sockets and clocks.
//!
//! Messages go into a stream, the stream into segments, each segment into a datagram, which is sent until the
//! peer says that one of its tries has arrived. What follows which source:
//!
//! | rule | source |
//! | --- | --- |
//! | a number for each datagram, none used twice; ranges of them acknowledged | RFC 9000, 13.2; RFC 9002, 2 |
//! | round-trip time, timeout, its doubling | RFC 6298; RFC 9002, 5 and 6.2 |
//! | lost: three later ones have arrived, or one and 9/8 of a round trip | RFC 9002, 6.1 |
//! | after a timeout one datagram is sent again, and the window stays until three were in vain | RFC 9002, 6.2.4 and 7.6 |
//! | window of what is under way | RFC 9002, 7; RFC 9438, 4.3 |
//! | credit of the receiver, as an offset of the stream | RFC 9000, 4.1 |
//!
//! Memory: at the receiver at most twice the window, and one message that is not whole (as it comes, at most
//! [`max_message_bytes`](crate::transport::max_message_bytes) in at most [`MAX_FRAMES`](crate::transport::MAX_FRAMES) frames);
//! at the sender the window and what its queue may hold, which is bounded in messages and in bytes.

mod congestion;
mod receiving;
mod rtt;
mod segment;
mod sending;
#[cfg(test)]
mod tests;

use crate::machine::Time;
use crate::transport::{Frame, Message};

use super::frames::Breach;
use super::live::{Live, Patience, Silence};
use super::packet::Malformed;
use receiving::Receiving;
use segment::Body;
pub(super) use segment::OVERHEAD_BYTES;
use sending::{Outgoing, Sending};

/// Bounds of a connection.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// What a datagram carries of the stream, in bytes.
    pub(super) segment_bytes: usize,
    /// What may be under way or wait to be taken, in bytes, in each direction.
    pub(super) window_bytes: usize,
    /// Messages that may wait to be sent, and as many to be taken.
    pub(super) queue_messages: usize,
    /// Bytes that may wait to be sent; the last message may go beyond.
    pub(super) queue_bytes: usize,
    /// Of what waits to be taken only the newest is kept.
    pub(super) keeps_latest_in: bool,
    /// The longest frame.
    pub(super) frame_bytes: usize,
    pub(super) patience: Patience,
}

/// What was counted since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) lost: u64,
    pub(super) resent: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) dropped: u64,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum End {
    #[error("the peer has been silent for too long")]
    Silent,
    #[error(
        "the peer is there, but nothing that is sent arrives: the path may not carry datagrams of this size"
    )]
    Stuck,
    #[error("{0}")]
    Breach(Breach),
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Reliable {
    sending: Sending,
    receiving: Receiving,
    live: Live,
    end: Option<End>,
    stats: Stats,
}

impl Reliable {
    pub(super) fn new(limits: &Limits, now: Time) -> Reliable {
        Reliable {
            sending: Sending::new(limits, now),
            receiving: Receiving::new(limits),
            live: Live::new(limits.patience, now),
            end: None,
            stats: Stats::default(),
        }
    }

    /// Whether the peer may be busy with what was sent: it is not given up that soon.
    pub(super) fn expect(&mut self, busy: bool) {
        self.live.expect(busy);
    }

    /// Says how much it takes, before there is anything else to say.
    pub(super) fn begin(&mut self) {
        self.sending.ping();
    }

    /// A datagram of the peer, without its header.
    ///
    /// # Errors
    ///
    /// It makes no sense; nothing has changed.
    pub(super) fn handle(&mut self, now: Time, body: &[u8]) -> Result<(), Malformed> {
        let body = Body::read(body)?;
        if self.end.is_some() {
            return Ok(());
        }
        if let Some(acknowledged) = &body.acknowledged
            && !self.sending.acknowledge(now, acknowledged, &mut self.stats)
        {
            return Err(Malformed::Senseless);
        }
        self.live.hear(now);
        self.sending.grant(body.credit);
        if body.elicits {
            let taken = self
                .receiving
                .handle(now, body.number, body.segment, &mut self.stats);
            self.end = taken.err().map(End::Breach);
        }
        Ok(())
    }

    /// Whether one more message is taken.
    pub(super) fn has_room(&self) -> bool {
        self.sending.has_room()
    }

    /// Whether everything has been sent once, at least.
    pub(super) fn is_sent(&self) -> bool {
        self.sending.is_sent()
    }

    /// Whether everything has arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.sending.is_idle()
    }

    /// Sends a message, gathered with others until a segment is full or [`flush`](Reliable::flush); whether a
    /// segment is.
    pub(super) fn push(&mut self, message: &[Frame]) -> bool {
        self.sending.push(message)
    }

    /// Sends what was gathered.
    pub(super) fn flush(&mut self) {
        self.sending.flush();
    }

    pub(super) fn has_message(&self) -> bool {
        self.receiving.has_message()
    }

    /// The next message of the peer. Afterwards there may be something to [`poll`](Reliable::poll).
    pub(super) fn take(&mut self) -> Option<Message> {
        match self.receiving.take() {
            Ok(message) => message,
            Err(breach) => {
                self.end.get_or_insert(End::Breach(breach));
                None
            }
        }
    }

    /// Whether the peer should hear now how much we take.
    pub(super) fn is_urgent(&self) -> bool {
        self.receiving.is_urgent()
    }

    /// Lets all that has arrived be acknowledged now.
    pub(super) fn settle(&mut self) {
        self.receiving.settle();
    }

    /// Appends the next datagram to be sent, without its header; `false` when there is none.
    pub(super) fn poll(&mut self, now: Time, datagram: &mut Vec<u8>) -> bool {
        if self.end.is_some() {
            return false;
        }
        let number = self.sending.next_number();
        let due = self.receiving.is_due(now);
        let outgoing = self.sending.poll(now, &mut self.stats);
        let (number, segment, elicits) = match outgoing {
            Some(Outgoing { number, segment }) => (number, segment, true),
            None if due => (number, None, false),
            None => return false,
        };
        let body = Body {
            number,
            credit: self.receiving.grant(),
            elicits,
            acknowledged: self.receiving.acknowledge(now, segment.is_none()),
            segment,
        };
        body.write(datagram);
        true
    }

    /// When to [`wake`](Reliable::wake) it at the latest.
    pub(super) fn deadline(&self) -> Option<Time> {
        if self.end.is_some() {
            return None;
        }
        let sending = self.sending.deadline().into_iter();
        sending
            .chain(self.receiving.due())
            .chain([self.live.due()])
            .min()
    }

    /// Time has passed. Whether all that came has been [`handle`](Reliable::handle)d: only then may silence
    /// mean anything.
    pub(super) fn wake(&mut self, now: Time, heard_all: bool) {
        if self.end.is_some() {
            return;
        }
        match self.live.check(now) {
            Silence::Fine => {}
            Silence::Ask => self.sending.ping(),
            Silence::Dead if heard_all => self.end = Some(End::Silent),
            Silence::Dead => {}
        }
        self.sending.wake(now, &mut self.stats);
        if heard_all && self.sending.is_stuck(now, self.live.limit()) {
            self.end.get_or_insert(End::Stuck);
        }
    }

    /// Why it is over, if it is. What has arrived can still be taken.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// What is held: bytes in both directions, and things.
    #[cfg(feature = "fuzzing")]
    pub(super) fn footprint(&self) -> (usize, usize) {
        let (waiting, under_way) = self.sending.footprint();
        let bytes = waiting + under_way + self.receiving.footprint();
        (bytes, self.sending.things() + self.receiving.things())
    }

    /// What was counted since this was asked last.
    pub(super) fn take_stats(&mut self) -> Stats {
        std::mem::take(&mut self.stats)
    }
}
