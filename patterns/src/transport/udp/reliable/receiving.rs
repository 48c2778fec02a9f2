//! The receiving half: numbers to acknowledge, a stream to put together, messages to take.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::machine::Time;
use crate::pipeline::RangeSet;
use crate::transport::Message;
use crate::transport::udp::frames::{Breach, Decoder};

use super::segment::{Acknowledged, FEW_RANGES, MAX_RANGES};
use super::{Limits, Stats};

/// Ranges of numbers that are remembered; older ones count as arrived.
const REMEMBERED_RANGES: usize = 256;

/// What a part that waits for others costs beside its bytes.
const PART_BYTES: usize = 64;

/// How long an acknowledgement may wait for something to travel with.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(5);

/// Datagrams after which it waits no longer.
const ACKNOWLEDGE_AFTER: u32 = 2;

#[derive(Debug)]
pub(super) struct Receiving {
    window_bytes: usize,
    queue_messages: usize,
    keeps_latest: bool,
    numbers: RangeSet,
    /// Numbers below it count as arrived.
    floor: u64,
    /// The newest, and when it came.
    newest: Option<(u64, Time)>,
    /// Datagrams that want to be acknowledged and were not.
    owed: u32,
    owed_since: Time,
    /// Something says that the acknowledgement shall not wait.
    urgent: bool,
    /// Up to here the stream is whole.
    next: u64,
    /// Parts beyond, by their offsets, and what they cost.
    parts: BTreeMap<u64, Vec<u8>>,
    parts_bytes: usize,
    decoder: Decoder,
    ready: VecDeque<Message>,
    ready_bytes: usize,
    /// The offset that the peer has been promised we take.
    credit: u64,
}

impl Receiving {
    pub(super) fn new(limits: &Limits) -> Receiving {
        Receiving {
            window_bytes: limits.window_bytes,
            queue_messages: limits.queue_messages,
            keeps_latest: limits.keeps_latest_in,
            numbers: RangeSet::default(),
            floor: 0,
            newest: None,
            owed: 0,
            owed_since: Time::START,
            urgent: false,
            next: 0,
            parts: BTreeMap::new(),
            parts_bytes: 0,
            decoder: Decoder::new(limits.frame_bytes),
            ready: VecDeque::new(),
            ready_bytes: 0,
            credit: limits.window_bytes as u64,
        }
    }

    /// A datagram that wants to be acknowledged, with a part of the stream or without.
    pub(super) fn handle(
        &mut self,
        now: Time,
        number: u64,
        segment: Option<(u64, &[u8])>,
        stats: &mut Stats,
    ) -> Result<(), Breach> {
        if number < self.floor || self.numbers.contains(number) {
            stats.duplicated += 1;
            // The peer may not have heard that it arrived.
            self.owe(now, true);
            return Ok(());
        }
        if let Some((offset, bytes)) = segment
            && !self.take_in(offset, bytes)?
        {
            // It is as if it had not come.
            stats.dropped += 1;
            return Ok(());
        }
        let newest = self.newest.map_or(0, |(newest, _)| newest);
        let next = self.newest.map_or(0, |_| newest.saturating_add(1));
        if number < newest {
            stats.reordered += 1;
        } else {
            self.newest = Some((number, now));
        }
        self.numbers.insert(number..number.saturating_add(1));
        self.forget_old();
        self.owe(now, number != next);
        Ok(())
    }

    fn owe(&mut self, now: Time, urgent: bool) {
        if self.owed == 0 {
            self.owed_since = now;
        }
        self.owed = self.owed.saturating_add(1);
        self.urgent |= urgent;
    }

    fn forget_old(&mut self) {
        while self.numbers.ranges() > REMEMBERED_RANGES {
            let Some(oldest) = self.numbers.iter().next() else {
                return;
            };
            self.floor = oldest.end;
            self.numbers.remove(oldest);
        }
    }

    /// Takes a part of the stream in, unless it lies beyond the credit or memory is used up.
    fn take_in(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, Breach> {
        let end = offset.checked_add(bytes.len() as u64);
        let Some(end) = end.filter(|end| *end <= self.credit) else {
            return Ok(false);
        };
        if end <= self.next {
            return Ok(true);
        }
        if offset > self.next {
            return Ok(self.put_aside(offset, bytes));
        }
        self.append(&bytes[(self.next - offset) as usize..]);
        while let Some(first) = self.parts.first_entry()
            && *first.key() <= self.next
        {
            let (offset, bytes) = first.remove_entry();
            self.parts_bytes -= bytes.len() + PART_BYTES;
            let known = (self.next - offset).min(bytes.len() as u64);
            self.append(&bytes[known as usize..]);
        }
        self.decode()?;
        Ok(true)
    }

    fn put_aside(&mut self, offset: u64, bytes: &[u8]) -> bool {
        if let Some(known) = self.parts.get(&offset) {
            // An honest peer sends the same part again.
            return known.len() == bytes.len();
        }
        let cost = bytes.len() + PART_BYTES;
        if self.parts_bytes + cost > self.window_bytes {
            return false;
        }
        self.parts_bytes += cost;
        self.parts.insert(offset, bytes.to_vec());
        true
    }

    fn append(&mut self, bytes: &[u8]) {
        self.next += bytes.len() as u64;
        self.decoder.feed(bytes);
    }

    /// Takes messages out of the stream, as many as may wait.
    fn decode(&mut self) -> Result<(), Breach> {
        while self.ready.len() < self.queue_messages && self.ready_bytes < self.window_bytes {
            let Some(message) = self.decoder.next()? else {
                break;
            };
            if self.keeps_latest {
                self.ready.clear();
                self.ready_bytes = 0;
            }
            self.ready_bytes += bytes_of(&message);
            self.ready.push_back(message);
        }
        Ok(())
    }

    pub(super) fn has_message(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next message; makes room for more.
    pub(super) fn take(&mut self) -> Result<Option<Message>, Breach> {
        let Some(message) = self.ready.pop_front() else {
            return Ok(None);
        };
        self.ready_bytes -= bytes_of(&message);
        if self.ready.is_empty() && self.decoder.waiting() > 0 {
            self.decode()?;
        }
        // A peer that waits for room is told when a good part of it is there again.
        let room = self.room().saturating_sub(self.credit);
        self.urgent |= room >= self.window_bytes as u64 / 4;
        Ok(Some(message))
    }

    /// Up to where the stream may go on.
    fn room(&self) -> u64 {
        // While messages wait to be taken, what is behind them waits undecoded; of a message that is not
        // whole nothing counts, or one that is longer than the window would never be.
        let undecoded = match self.ready.is_empty() {
            true => 0,
            false => self.decoder.waiting(),
        };
        let used = (self.ready_bytes + undecoded).min(self.window_bytes);
        self.next + (self.window_bytes - used) as u64
    }

    /// What the peer may be told it can send; never less than before.
    pub(super) fn grant(&mut self) -> u64 {
        self.credit = self.credit.max(self.room());
        self.credit
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Acknowledges without waiting for anything to travel with.
    pub(super) fn settle(&mut self) {
        self.urgent |= self.owed > 0;
    }

    /// Whether an acknowledgement should go out without waiting for anything.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.urgent || self.owed >= ACKNOWLEDGE_AFTER || self.due().is_some_and(|due| due <= now)
    }

    /// When an acknowledgement has to go out.
    pub(super) fn due(&self) -> Option<Time> {
        (self.owed > 0).then(|| self.owed_since + ACKNOWLEDGE_WITHIN)
    }

    /// What has arrived; no more than a few ranges where it travels with a segment.
    pub(super) fn acknowledge(&mut self, now: Time, alone: bool) -> Option<Acknowledged> {
        let (_, came) = self.newest?;
        let most = if alone { MAX_RANGES } else { FEW_RANGES };
        if alone || self.numbers.ranges() <= most {
            (self.owed, self.urgent) = (0, false);
        }
        let newest = self.numbers.ranges().saturating_sub(most);
        let mut ranges: Vec<_> = self.numbers.iter().skip(newest).collect();
        ranges.reverse();
        let delay = now.since(came);
        Some(Acknowledged { delay, ranges })
    }

    /// Bytes that wait, all in all.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn footprint(&self) -> usize {
        self.parts_bytes + self.ready_bytes + self.decoder.waiting()
    }

    /// Parts and ranges that are remembered.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn things(&self) -> usize {
        self.parts.len() + self.numbers.ranges()
    }
}

fn bytes_of(message: &Message) -> usize {
    message.iter().map(|frame| frame.len() + 4).sum()
}
