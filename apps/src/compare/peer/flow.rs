//! Messages one way, PUSH to PULL: as fast as they go, or at a steady pace.

use std::time::Duration;

use mutirao::Endpoint;
use mutirao::machine::{Clock, Time};
use mutirao::transport::{
    Frame, LinkEvent, Message, Role, SendError, Side, Socket, SocketOptions, open,
};
use mutirao::wait::Interest;
use serde::{Deserialize, Serialize};

use super::way::Way;
use crate::compare::arrivals::Arrivals;
use crate::compare::control::{Control, Order};
use crate::compare::usage::{Before, Usage};

/// Messages between two looks at the clock.
const STRIDE: u64 = 32;

/// How long a full socket is left alone at most.
const BREATH: Duration = Duration::from_millis(5);

/// A message begins with its number and the mark of its flow, eight bytes each.
pub(in crate::compare) const LEAST_BYTES: usize = 16;

/// What is sent and counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::compare) struct Flow {
    /// Size of a message.
    pub(in crate::compare) size_bytes: usize,
    /// For how long it is sent.
    pub(in crate::compare) window_ms: u64,
    /// Messages a second; as many as go without one.
    pub(in crate::compare) pace: Option<f64>,
    /// Whether everything is to arrive while the connection stands.
    pub(in crate::compare) promised: bool,
    /// After so long without an arrival nothing more is expected of what is not promised.
    pub(in crate::compare) quiet_ms: u64,
    pub(in crate::compare) way: Way,
    /// Tells these messages from those of others.
    pub(in crate::compare) mark: u64,
}

/// What the sender tells.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::compare) struct Sent {
    /// Messages that the socket took.
    pub(in crate::compare) messages: u64,
    /// For how long it was sent.
    pub(in crate::compare) seconds: f64,
    pub(in crate::compare) usage: Usage,
}

/// What the receiver tells.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::compare) struct Received {
    /// From the first arrival to the last one of a message that had not come before.
    pub(in crate::compare) seconds: f64,
    /// Messages that came, each counted once.
    pub(in crate::compare) distinct: u64,
    /// Whether nothing more was to come. Otherwise the path was so slow that what is missing may still have been on
    /// its way.
    pub(in crate::compare) complete: bool,
    /// Arrivals of messages that had come before.
    pub(in crate::compare) duplicated: u64,
    /// Messages that others have overtaken.
    pub(in crate::compare) reordered: u64,
    pub(in crate::compare) usage: Usage,
}

/// Sends the flow, tells so, and keeps the socket going until it is told to end.
pub(super) fn send(
    at: &Endpoint,
    flow: &Flow,
    control: &Control,
    told: impl FnOnce(Sent),
) -> Result<(), String> {
    let before = Before::now();
    let socket = open(Role::Push, Side::Connect, at, &flow.way.options());
    let mut sender = Sender {
        socket: socket.map_err(|error| error.to_string())?,
        control,
        clock: Clock::start(),
        payload: payload(flow),
        sent: 0,
    };
    let begun = sender.begin(flow.way.connect())?;
    let until = begun + Duration::from_millis(flow.window_ms);
    match flow.pace {
        Some(pace) => sender.send_at(pace, begun, until)?,
        None => sender.send_all(until)?,
    }
    sender.socket.flush();
    told(Sent {
        messages: sender.sent,
        seconds: sender.clock.now().since(begun).as_secs_f64(),
        usage: before.usage(),
    });
    sender.linger()
}

fn payload(flow: &Flow) -> Vec<u8> {
    let mut bytes = vec![7; flow.size_bytes.max(LEAST_BYTES)];
    bytes[8..16].copy_from_slice(&flow.mark.to_le_bytes());
    bytes
}

struct Sender<'a> {
    socket: Box<dyn Socket>,
    control: &'a Control,
    clock: Clock,
    payload: Vec<u8>,
    sent: u64,
}

impl Sender<'_> {
    /// Whether the socket has taken the next message.
    fn offer(&mut self) -> Result<bool, String> {
        self.payload[..8].copy_from_slice(&self.sent.to_le_bytes());
        match self.socket.send(&[Frame::from(&self.payload[..])]) {
            Ok(()) => {
                self.sent += 1;
                Ok(true)
            }
            Err(SendError::Full | SendError::Unroutable) => Ok(false),
            Err(SendError::Failed(error)) => Err(error.to_string()),
        }
    }

    /// Waits until there is room, for a breath at the most.
    fn wait_for_room(&mut self) {
        self.socket.flush();
        let until = self.clock.now() + BREATH;
        let source = self.socket.source();
        self.control
            .wait(source, Interest::ReadableOrWritable, &self.clock, until);
    }

    /// The first message: when it was taken.
    fn begin(&mut self, connect: Duration) -> Result<Time, String> {
        let by = self.clock.now() + connect;
        while !self.offer()? {
            if self.clock.now() > by {
                return Err(format!(
                    "no connection came about within {} s",
                    connect.as_secs()
                ));
            }
            self.wait_for_room();
        }
        self.socket.flush();
        Ok(self.clock.now())
    }

    fn send_all(&mut self, until: Time) -> Result<(), String> {
        while !self.sent.is_multiple_of(STRIDE) || self.clock.now() < until {
            if !self.offer()? {
                self.wait_for_room();
                if self.clock.now() >= until {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn send_at(&mut self, pace: f64, begun: Time, until: Time) -> Result<(), String> {
        while self.clock.now() < until {
            let now = self.clock.now();
            let due = (now.since(begun).as_secs_f64() * pace) as u64 + 1;
            while self.sent < due && self.offer()? {}
            self.socket.flush();
            let next = begun + Duration::from_secs_f64(self.sent as f64 / pace);
            let next = next.max(now + Duration::from_micros(20)).min(until);
            let source = self.socket.source();
            self.control
                .wait(source, Interest::Readable, &self.clock, next);
        }
        Ok(())
    }

    /// Bare sockets do their work in this thread, so it must not leave before everything has arrived.
    fn linger(&mut self) -> Result<(), String> {
        while self.control.order() != Some(Order::End) {
            self.socket.receive().map_err(|error| error.to_string())?;
            self.socket.flush();
            let until = self.clock.now() + BREATH;
            let source = self.socket.source();
            self.control
                .wait(source, Interest::Readable, &self.clock, until);
        }
        Ok(())
    }
}

/// Receives a flow and counts it, until all has come that was sent or nothing more comes.
pub(super) fn receive(
    at: &Endpoint,
    flow: &Flow,
    control: &Control,
    ready: impl FnOnce(&Endpoint),
) -> Result<Received, String> {
    let options = SocketOptions {
        watch_links: flow.promised,
        ..flow.way.options()
    };
    let socket = open(Role::Pull, Side::Bind, at, &options);
    let mut socket = socket.map_err(|error| error.to_string())?;
    ready(socket.endpoint());
    let before = Before::now();
    let clock = Clock::start();
    let mut tally = Tally::new(flow);
    let mut message = Message::new();
    let mut sent = None;
    loop {
        while receive_one(&mut *socket, &mut message)? {
            tally.note(&message, &clock);
        }
        tally.look(clock.now());
        tally.broken |= has_lost_its_sender(&mut *socket);
        if let Some(Order::Sent(messages)) = control.order() {
            sent = Some((messages, clock.now()));
        }
        if let Some((messages, since)) = sent {
            let now = clock.now();
            let over = tally.is_over(messages, since, now);
            if over || now.since(since) >= flow.way.drain() {
                return Ok(tally.result(over, before.usage()));
            }
        }
        let until = clock.now() + BREATH;
        control.wait(socket.source(), Interest::Readable, &clock, until);
    }
}

/// Whether the sender's connection has ended: what was on its way is lost with it.
fn has_lost_its_sender(socket: &mut dyn Socket) -> bool {
    std::iter::from_fn(|| socket.link_event()).any(|event| event == LinkEvent::Disconnected)
}

fn receive_one(socket: &mut dyn Socket, message: &mut Message) -> Result<bool, String> {
    socket
        .receive_into(message)
        .map_err(|error| error.to_string())
}

/// What the receiver has counted so far.
struct Tally<'a> {
    flow: &'a Flow,
    arrivals: Arrivals,
    first: Option<Time>,
    last: Time,
    since_look: u64,
    /// Whether the connection has ended at some time, and its promise with it.
    broken: bool,
}

impl Tally<'_> {
    fn new(flow: &Flow) -> Tally<'_> {
        Tally {
            flow,
            arrivals: Arrivals::default(),
            first: None,
            last: Time::START,
            since_look: 0,
            broken: false,
        }
    }

    /// Counts a message of this flow; others do not count.
    fn note(&mut self, message: &[Frame], clock: &Clock) {
        let Some(number) = number_of(message, self.flow) else {
            return;
        };
        let before = self.arrivals.distinct();
        self.arrivals.note(number);
        self.since_look += self.arrivals.distinct() - before;
        if self.first.is_none() || self.since_look >= STRIDE {
            self.look(clock.now());
        }
    }

    /// Notes the time of what has come since the last look.
    fn look(&mut self, now: Time) {
        if self.since_look > 0 {
            self.last = now;
            self.first.get_or_insert(now);
        }
        self.since_look = 0;
    }

    /// Whether all has come, or nothing more comes. What is promised comes while the connection stands, however
    /// long its sender waits before it tries again.
    fn is_over(&self, sent: u64, since: Time, now: Time) -> bool {
        let quiet = Duration::from_millis(self.flow.quiet_ms);
        let may_lose = !self.flow.promised || self.broken;
        self.arrivals.distinct() >= sent || may_lose && now.since(self.last.max(since)) >= quiet
    }

    fn result(&self, complete: bool, usage: Usage) -> Received {
        let first = self.first.unwrap_or(self.last);
        Received {
            seconds: self.last.since(first).as_secs_f64(),
            distinct: self.arrivals.distinct(),
            complete,
            duplicated: self.arrivals.duplicated(),
            reordered: self.arrivals.reordered(),
            usage,
        }
    }
}

/// The number of a message that belongs to the flow.
fn number_of(message: &[Frame], flow: &Flow) -> Option<u64> {
    let [frame] = message else { return None };
    let (number, rest) = frame.split_first_chunk::<8>()?;
    let mark = rest.first_chunk::<8>()?;
    let ours = frame.len() == flow.size_bytes && u64::from_le_bytes(*mark) == flow.mark;
    ours.then(|| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: Flow = Flow {
        size_bytes: 20,
        window_ms: 100,
        pace: None,
        promised: false,
        quiet_ms: 10,
        way: Way {
            round_trip_ms: 0.0,
            datagram_bytes: None,
        },
        mark: 0xabc,
    };

    #[test]
    fn only_messages_of_the_flow_have_a_number() {
        let mut bytes = payload(&FLOW);
        bytes[..8].copy_from_slice(&5u64.to_le_bytes());
        let message = |bytes: &[u8]| vec![Frame::from(bytes)];
        assert_eq!(number_of(&message(&bytes), &FLOW), Some(5));
        assert_eq!(number_of(&message(&bytes[..19]), &FLOW), None);
        assert_eq!(number_of(&message(&bytes[..3]), &FLOW), None);
        assert_eq!(number_of(&[], &FLOW), None);
        bytes[8] ^= 1;
        assert_eq!(number_of(&message(&bytes), &FLOW), None);
    }

    #[test]
    fn time_runs_from_the_first_to_the_last_arrival_and_ends_when_all_is_there_or_nothing_comes() {
        let at = |ms| Time::START + Duration::from_millis(ms);
        let mut tally = Tally::new(&FLOW);
        for (number, ms) in [(0, 50), (1, 60), (2, 300)] {
            tally.look(at(ms - 1));
            tally.arrivals.note(number);
            tally.since_look += 1;
            tally.look(at(ms));
        }
        let received = tally.result(true, Usage::default());
        assert_eq!((received.seconds, received.distinct), (0.25, 3));
        assert!(!tally.is_over(4, at(0), at(309)) && tally.is_over(4, at(0), at(310)));
        assert!(!tally.is_over(4, at(305), at(310)) && tally.is_over(3, at(300), at(300)));
    }

    #[test]
    fn what_is_promised_is_not_given_up_while_the_connection_stands() {
        let flow = Flow {
            promised: true,
            ..FLOW
        };
        let at = |ms| Time::START + Duration::from_millis(ms);
        let mut tally = Tally::new(&flow);
        tally.arrivals.note(0);
        assert!(!tally.is_over(2, at(0), at(60_000)));
        tally.broken = true;
        assert!(tally.is_over(2, at(0), at(60_000)));
    }

    #[test]
    fn what_comes_twice_does_not_prolong_the_time() {
        let mut tally = Tally::new(&FLOW);
        let mut bytes = payload(&FLOW);
        bytes[..8].copy_from_slice(&0u64.to_le_bytes());
        let message = [Frame::from(&bytes[..])];
        let clock = Clock::start();
        tally.note(&message, &clock);
        let last = tally.last;
        tally.note(&message, &clock);
        tally.look(last + Duration::from_secs(1));
        assert_eq!((tally.last, tally.arrivals.duplicated()), (last, 1));
    }
}
