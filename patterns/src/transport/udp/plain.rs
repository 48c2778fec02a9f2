//! A plain connection: datagrams as they come, numbered so that it can be told what became of them.
//!
//! A subscriber says again and again what it wants, all of it in one datagram: a publisher that missed one takes
//! note of the next. A publisher forgets a subscriber that falls silent.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::machine::Time;
use crate::transport::{Frame, Message, Role};

use super::frames;
use super::live::{Live, Patience, Silence};
use super::packet::{HEADER_BYTES, Header, Kind, Malformed, numbered, take_number};
use super::seen::{Arrival, Seen};
use super::tally::Tally;

/// What a subscriber can want from one publisher, in bytes: two for each topic and its length.
pub(super) const MAX_TOPICS_BYTES: usize = 16 << 10;

/// What topics of so many bytes take for a publisher to be told, in bytes.
pub(super) fn topics_bytes(count: usize, bytes: usize) -> usize {
    2 * count + bytes
}

/// First pause before topics are sent again that the publisher did not take note of; doubles each time.
const TOPICS_AGAIN: Duration = Duration::from_millis(50);

const MAX_TOPICS_PAUSE: Duration = Duration::from_secs(1);

/// What stands before the frames of a message, in bytes.
pub(super) const MESSAGE_HEADER_BYTES: usize = HEADER_BYTES + 8;

const SUBSCRIBE: u8 = 1;
const CANCEL: u8 = 0;

/// One end of a plain connection.
#[derive(Debug)]
pub(super) struct Plain {
    session: u64,
    role: Role,
    /// The number of the next datagram.
    next: u64,
    seen: Seen,
    live: Live,
    topics: BTreeSet<Vec<u8>>,
    /// Number of the datagram with the topics that was sent, or taken note of, last.
    topics_number: Option<u64>,
    /// When the topics have to be sent (again), and the pause afterwards.
    tell: Option<Time>,
    tell_pause: Duration,
    ping: bool,
    pong: bool,
    end: bool,
}

impl Plain {
    pub(super) fn new(session: u64, role: Role, patience: Patience, now: Time) -> Plain {
        Plain {
            session,
            role,
            next: 0,
            seen: Seen::new(0),
            live: Live::new(patience, now),
            topics: BTreeSet::new(),
            topics_number: None,
            tell: (role == Role::Subscribe).then_some(now),
            tell_pause: TOPICS_AGAIN,
            ping: false,
            pong: false,
            end: false,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Writes a message as the next datagram.
    pub(super) fn write(&mut self, message: &[Frame], datagram: &mut Vec<u8>) {
        Header::new(Kind::Message, self.session).write(datagram);
        datagram.extend_from_slice(&self.number().to_be_bytes());
        frames::write(message, datagram);
    }

    /// Takes note of a subscription of our own, or that it is cancelled; `false` when it is one too many.
    pub(super) fn want(&mut self, notice: &[u8], now: Time) -> bool {
        let changed = match notice.split_first() {
            Some((&SUBSCRIBE, topic)) => {
                if self.topics_bytes() + topic.len() + 2 > MAX_TOPICS_BYTES {
                    return false;
                }
                self.topics.insert(topic.to_vec())
            }
            Some((_, topic)) => self.topics.remove(topic),
            None => false,
        };
        if changed {
            self.tell = Some(now);
            self.tell_pause = TOPICS_AGAIN;
        }
        true
    }

    fn topics_bytes(&self) -> usize {
        let bytes = self.topics.iter().map(Vec::len).sum();
        topics_bytes(self.topics.len(), bytes)
    }

    /// A datagram of the peer, without its header; the messages that follow from it.
    pub(super) fn handle(
        &mut self,
        now: Time,
        kind: Kind,
        body: &[u8],
        tally: &Tally,
        mut deliver: impl FnMut(Message),
    ) -> Result<(), Malformed> {
        let (number, body) = take_number(body)?;
        match kind {
            Kind::Message if !matches!(self.role, Role::Publish | Role::Push) => {
                let message = frames::read(body)?;
                note(&mut self.seen, number, tally)?;
                deliver(message);
            }
            Kind::Topics if self.role == Role::Publish => {
                let topics = read_topics(body)?;
                note(&mut self.seen, number, tally)?;
                self.take_note(number, topics, deliver);
                self.pong = true;
            }
            Kind::Ping => {
                tally.lost.add(self.seen.note_next(number));
                self.pong = true;
            }
            Kind::Pong => {
                let (noted, _) = take_number(body)?;
                tally.lost.add(self.seen.note_next(number));
                if self.topics_number == Some(noted) {
                    (self.tell, self.tell_pause) = (None, TOPICS_AGAIN);
                }
            }
            _ => return Err(Malformed::Senseless),
        }
        self.live.hear(now);
        Ok(())
    }

    /// A subscriber says all that it wants; an older word than the last one counts for nothing.
    fn take_note(
        &mut self,
        number: u64,
        wanted: BTreeSet<Vec<u8>>,
        mut deliver: impl FnMut(Message),
    ) {
        if self.topics_number.is_some_and(|last| last > number) {
            return;
        }
        self.topics_number = Some(number);
        let mut tell =
            |kind: u8, topic: &[u8]| deliver(vec![Frame::from([&[kind], topic].concat())]);
        for topic in wanted.difference(&self.topics) {
            tell(SUBSCRIBE, topic);
        }
        for topic in self.topics.difference(&wanted) {
            tell(CANCEL, topic);
        }
        self.topics = wanted;
    }

    /// The next datagram that the connection itself needs.
    pub(super) fn poll(&mut self, now: Time) -> Option<Vec<u8>> {
        if std::mem::take(&mut self.pong) {
            let mut datagram = numbered(Header::new(Kind::Pong, self.session), self.next);
            let noted = self.topics_number.unwrap_or(u64::MAX);
            datagram.extend_from_slice(&noted.to_be_bytes());
            return Some(datagram);
        }
        if self.tell.is_some_and(|due| due <= now) {
            return Some(self.tell(now));
        }
        std::mem::take(&mut self.ping)
            .then(|| numbered(Header::new(Kind::Ping, self.session), self.next))
    }

    fn tell(&mut self, now: Time) -> Vec<u8> {
        let number = self.number();
        let mut datagram = numbered(Header::new(Kind::Topics, self.session), number);
        for topic in &self.topics {
            datagram.extend_from_slice(&(topic.len() as u16).to_be_bytes());
            datagram.extend_from_slice(topic);
        }
        self.topics_number = Some(number);
        self.tell = Some(now + self.tell_pause);
        self.tell_pause = (2 * self.tell_pause).min(MAX_TOPICS_PAUSE);
        datagram
    }

    pub(super) fn due(&self) -> Time {
        let live = self.live.due();
        self.tell.map_or(live, |tell| tell.min(live))
    }

    /// Time has passed; see [`Reliable::wake`](super::reliable::Reliable::wake).
    pub(super) fn wake(&mut self, now: Time, heard_all: bool) {
        match self.live.check(now) {
            Silence::Fine => {}
            Silence::Ask if self.role == Role::Subscribe => self.tell = Some(now),
            Silence::Ask => self.ping = true,
            Silence::Dead => self.end |= heard_all,
        }
    }

    /// The same where nobody ever answers: they are told the number that comes next from time to time.
    pub(super) fn beat(&mut self, now: Time) {
        if self.live.check(now) != Silence::Fine {
            self.live.hear(now);
            self.ping = true;
        }
    }

    /// Whether the peer may be busy with what was sent: it is not given up that soon.
    pub(super) fn expect(&mut self, busy: bool) {
        self.live.expect(busy);
    }

    /// Something came of the peer, of which no note was taken.
    pub(super) fn hear(&mut self, now: Time) {
        self.live.hear(now);
    }

    /// Whether the peer has been silent for too long.
    pub(super) fn is_over(&self) -> bool {
        self.end
    }
}

/// Counts what the arrival of a number means.
pub(super) fn note(seen: &mut Seen, number: u64, tally: &Tally) -> Result<(), Malformed> {
    match seen.note(number) {
        Arrival::Newest { missing } => tally.lost.add(missing),
        Arrival::Again => tally.duplicated.add(1),
        Arrival::Late => {
            tally.lost.subtract(1);
            tally.reordered.add(1);
        }
        Arrival::Senseless => return Err(Malformed::Senseless),
    }
    Ok(())
}

fn read_topics(mut bytes: &[u8]) -> Result<BTreeSet<Vec<u8>>, Malformed> {
    if bytes.len() > MAX_TOPICS_BYTES {
        return Err(Malformed::Senseless);
    }
    let mut topics = BTreeSet::new();
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len));
        let (topic, rest) = rest.split_at_checked(len).ok_or(Malformed::Senseless)?;
        topics.insert(topic.to_vec());
        bytes = rest;
    }
    match bytes.is_empty() {
        true => Ok(topics),
        false => Err(Malformed::Senseless),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience {
        interval: Duration::from_secs(2),
        limit: Duration::from_secs(6),
    };

    fn end(role: Role) -> Plain {
        Plain::new(7, role, PATIENCE, Time::START)
    }

    /// What a datagram makes its receiver say to its user.
    fn take(to: &mut Plain, now: Time, datagram: &[u8]) -> Vec<Vec<u8>> {
        let (header, body) = Header::read(datagram).unwrap();
        let mut messages = Vec::new();
        let handled = to.handle(now, header.kind, body, &Tally::default(), |message| {
            messages.push(message.iter().flat_map(|frame| frame.to_vec()).collect());
        });
        handled.unwrap();
        messages
    }

    #[test]
    fn lost_topics_are_told_again_until_they_are_noted() {
        let (mut publisher, mut subscriber) = (end(Role::Publish), end(Role::Subscribe));
        let mut now = Time::START;
        assert!(subscriber.want(b"\x01a", now));
        let first = subscriber.poll(now).unwrap();
        assert!(subscriber.poll(now).is_none());
        assert!(subscriber.want(b"\x01b", now) && subscriber.want(b"\x00a", now));
        let second = subscriber.poll(now).unwrap();
        // That one is lost.
        drop(second);
        now = subscriber.due();
        let third = subscriber.poll(now).unwrap();
        assert_eq!(take(&mut publisher, now, &third), [b"\x01b"]);
        // An older word changes nothing.
        assert!(take(&mut publisher, now, &first).is_empty());
        let pong = publisher.poll(now).unwrap();
        assert!(take(&mut subscriber, now, &pong).is_empty());
        assert_eq!(subscriber.due(), now + PATIENCE.interval);
        assert!(subscriber.want(b"\x00b", now));
        let last = subscriber.poll(now).unwrap();
        assert_eq!(take(&mut publisher, now, &last), [b"\x00b"]);
    }

    #[test]
    fn nobody_has_to_answer_the_beats_to_a_group() {
        let mut mouth = end(Role::Publish);
        for beat in 1..100 {
            let now = mouth.due();
            assert_eq!(now, Time::START + beat * PATIENCE.interval);
            mouth.beat(now);
            let ping = mouth.poll(now).unwrap();
            assert_eq!(Header::read(&ping).unwrap().0.kind, Kind::Ping);
            assert!(mouth.poll(now).is_none() && mouth.due() > now);
        }
        assert!(!mouth.is_over());
    }

    #[test]
    fn topics_that_are_never_noted_are_told_at_least_once_a_second() {
        let mut subscriber = end(Role::Subscribe);
        let mut pong = numbered(Header::new(Kind::Pong, 7), 0);
        pong.extend(u64::MAX.to_be_bytes());
        let (mut now, mut told) = (Time::START, 0);
        while now.since(Time::START) < Duration::from_secs(1000) {
            now = subscriber.due();
            subscriber.wake(now, true);
            told += std::iter::from_fn(|| subscriber.poll(now)).count();
            take(&mut subscriber, now, &pong);
        }
        assert!((1000..1100).contains(&told), "{told}");
    }

    proptest! {
        #[test]
        fn rubbish_neither_panics_nor_gives_more_than_came(
            kind in 1..12_u8, bytes in prop::collection::vec(any::<u8>(), 0..200), role in 0..4_usize,
        ) {
            let mut plain = end([Role::Pull, Role::Publish, Role::Subscribe, Role::Dealer][role]);
            let datagram = [b"MUTU1", &[kind, 0, 0][..], &[0; 8], &bytes].concat();
            let (header, body) = Header::read(&datagram).unwrap();
            let mut taken = 0;
            let _ = plain.handle(Time::START, header.kind, body, &Tally::default(), |message| {
                taken += message.iter().map(|frame| frame.len()).sum::<usize>();
            });
            prop_assert!(taken <= bytes.len());
        }
    }
}
