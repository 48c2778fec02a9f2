//! The guest asks, the hall answers: with what there is for the guest, or, if there is nothing, a second
//! later with nothing.
//!
//! ```text
//! ask      session (8 bytes), number (8 bytes), a packet or nothing
//! answer   number (8 bytes), any number of packets
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mutirao::machine::Time;
use mutirao::transport::{Frame, Message, Role, Side, SocketOptions, Source, TransportError};
use mutirao::wait::Interest;
use mutirao::{Endpoint, OpenError};

use super::port::Port;
use super::{GuestWay, HallWay, peer};
use crate::chat::hall::Peer;
use crate::chat::wire::{self, Down, MAX_PACKET_BYTES, Session, Up};

/// What goes with a packet in a message, in bytes.
pub(super) const OVERHEAD_BYTES: usize = 1024;

/// How long an ask may wait for something to be answered with.
const HOLD: Duration = Duration::from_secs(1);

/// How long a guest waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the next answers wait for each guest who was answered last, and at most. A thousand guests
/// who are all told one thing ask again at once; without this they would be told the next at once, and
/// so on, with nobody getting anywhere. Together in one answer, things cost little more than one of them.
const PACE: Duration = Duration::from_micros(50);
const LONGEST_PACE: Duration = Duration::from_millis(100);

/// Packets that may wait for a guest to ask; beyond it, new ones are dropped.
const MAX_WAITING: usize = 256;

/// Packets in one answer.
const MAX_PACKETS: usize = 32;

/// The hall's end.
pub(super) struct HallEnd {
    socket: Port,
    guests: HashMap<Session, Asker>,
    /// Guests that can be answered, perhaps.
    stirred: Vec<Session>,
    /// When they are answered at the earliest.
    next: Time,
    /// When each ask has been held long enough, in their order.
    held: VecDeque<(Time, Session, u64)>,
    now: Time,
    dropped: u64,
}

#[derive(Default)]
struct Asker {
    /// Asks that are not answered: the guest's routing id and the number.
    asks: VecDeque<(Frame, u64)>,
    waiting: VecDeque<Arc<[u8]>>,
    /// Whether it is no member, and forgotten when it is answered.
    parting: bool,
}

impl HallEnd {
    pub(super) fn open(endpoint: &Endpoint, options: &SocketOptions) -> Result<HallEnd, OpenError> {
        Ok(HallEnd {
            socket: Port::open(Role::Router, Side::Bind, endpoint, options)?,
            guests: HashMap::new(),
            stirred: Vec::new(),
            next: Time::START,
            held: VecDeque::new(),
            now: Time::START,
            dropped: 0,
        })
    }

    /// Answers those who stirred, unless the last answers were a moment ago.
    fn answer_all(&mut self, now: Time) -> Result<(), TransportError> {
        if now < self.next {
            return Ok(());
        }
        let mut stirred = std::mem::take(&mut self.stirred);
        stirred.sort_unstable();
        stirred.dedup();
        let mut answered = 0;
        for session in stirred {
            answered += u32::from(self.answer(session)?);
        }
        self.next = now + LONGEST_PACE.min(PACE * answered);
        Ok(())
    }

    /// Answers what can be answered of a guest's asks: all but the newest in any case. Whether it was
    /// any.
    fn answer(&mut self, session: Session) -> Result<bool, TransportError> {
        let Some(guest) = self.guests.get_mut(&session) else {
            return Ok(false);
        };
        let mut answered = false;
        while guest.asks.len() > 1 || !guest.waiting.is_empty() {
            let Some((route, number)) = guest.asks.pop_front() else {
                break;
            };
            let packets = take_some(&mut guest.waiting);
            self.socket.post(&answer(route, number, packets))?;
            answered = true;
        }
        if guest.parting {
            self.guests.remove(&session);
        }
        Ok(answered)
    }

    /// Ends the asks that have waited long enough.
    fn let_go(&mut self, now: Time) -> Result<(), TransportError> {
        while let Some(&(when, session, number)) = self.held.front()
            && when <= now
        {
            self.held.pop_front();
            let Some(guest) = self.guests.get_mut(&session) else {
                continue;
            };
            while guest.asks.front().is_some_and(|&(_, held)| held <= number) {
                if let Some((route, number)) = guest.asks.pop_front() {
                    self.socket.post(&answer(route, number, Vec::new()))?;
                }
            }
        }
        Ok(())
    }
}

/// As many packets as an answer takes.
fn take_some(waiting: &mut VecDeque<Arc<[u8]>>) -> Vec<Arc<[u8]>> {
    let (mut packets, mut bytes) = (Vec::new(), 0);
    while let Some(packet) = waiting.front() {
        bytes += packet.len();
        if packets.len() == MAX_PACKETS || !packets.is_empty() && bytes > MAX_PACKET_BYTES {
            break;
        }
        packets.extend(waiting.pop_front());
    }
    packets
}

fn answer(route: Frame, number: u64, packets: Vec<Arc<[u8]>>) -> Message {
    let head = [route, Frame::from(&number.to_be_bytes()[..])];
    head.into_iter()
        .chain(packets.into_iter().map(Frame::from))
        .collect()
}

/// A number in a frame.
fn number(frame: Option<&Frame>) -> Option<u64> {
    let bytes: [u8; 8] = frame?[..].try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

impl HallWay for HallEnd {
    fn receive(&mut self, take: &mut dyn FnMut(Peer, Up)) -> Result<bool, TransportError> {
        let HallEnd {
            socket,
            guests,
            stirred,
            held,
            now,
            ..
        } = self;
        socket.receive(|reader, message| {
            let (Some(session), Some(ask), Some(packet)) = (
                number(message.get(1)),
                number(message.get(2)),
                message.get(3),
            ) else {
                return reader.complain(&"it is no question");
            };
            let session = Session(session);
            let up = match packet.is_empty() {
                true => None,
                false => match reader.read::<Up>(Some(packet)) {
                    Some(up) if up.session == session => Some(up),
                    Some(_) => return reader.complain(&"it is of two sessions"),
                    None => return,
                },
            };
            // Only those whose packets have been read are remembered.
            if up.is_none() && !guests.contains_key(&session) {
                return;
            }
            let guest = guests.entry(session).or_default();
            // Whether a packet makes a member of it, the hall says next.
            guest.parting &= up.is_none();
            guest.asks.push_back((message[0].clone(), ask));
            held.push_back((*now + HOLD, session, ask));
            stirred.push(session);
            if let Some(up) = up {
                take(peer(&message[0]), up);
            }
        })
    }

    fn send(&mut self, to: Session, packet: &Arc<[u8]>) -> Result<(), TransportError> {
        let Some(guest) = self.guests.get_mut(&to) else {
            return Ok(());
        };
        if guest.waiting.len() >= MAX_WAITING {
            self.dropped += 1;
            return Ok(());
        }
        guest.waiting.push_back(packet.clone());
        self.stirred.push(to);
        Ok(())
    }

    fn publish(
        &mut self,
        _room: &str,
        members: &mut dyn Iterator<Item = Session>,
        packet: &Arc<[u8]>,
    ) -> Result<(), TransportError> {
        for member in members {
            self.send(member, packet)?;
        }
        Ok(())
    }

    fn forget(&mut self, guest: Session) {
        if let Some(asker) = self.guests.get_mut(&guest) {
            asker.parting = true;
            self.stirred.push(guest);
        }
    }

    fn settle(&mut self, now: Time) -> Result<(), TransportError> {
        self.now = now;
        self.answer_all(now)?;
        self.let_go(now)?;
        self.socket.note_refusals();
        self.socket.flush();
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        let held = self.held.front().map(|&(when, ..)| when);
        let answers = (!self.stirred.is_empty()).then_some(self.next);
        held.into_iter().chain(answers).min()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.socket.interests(sources);
    }

    fn endpoint(&self) -> &Endpoint {
        self.socket.endpoint()
    }

    fn dropped(&self) -> u64 {
        self.dropped + self.socket.dropped()
    }
}

/// A guest's end.
pub(super) struct GuestEnd {
    socket: Port,
    session: Session,
    /// The number of the next ask.
    next: u64,
    /// The newest ask that was answered.
    answered: u64,
    /// When the newest ask counts as lost.
    overdue: Time,
    now: Time,
}

impl GuestEnd {
    pub(super) fn open(
        endpoint: &Endpoint,
        options: &SocketOptions,
        session: Session,
    ) -> Result<GuestEnd, OpenError> {
        Ok(GuestEnd {
            socket: Port::open(Role::Dealer, Side::Connect, endpoint, options)?,
            session,
            next: 1,
            answered: 0,
            overdue: Time::START,
            now: Time::START,
        })
    }

    fn ask(&mut self, packet: &[u8]) -> Result<(), TransportError> {
        let (session, number) = (self.session.0.to_be_bytes(), self.next.to_be_bytes());
        let parts = [&session[..], &number[..], packet];
        self.next += 1;
        self.overdue = self.now + PATIENCE;
        self.socket.post(&parts.map(Frame::from))
    }
}

impl GuestWay for GuestEnd {
    fn receive(&mut self, take: &mut dyn FnMut(Down)) -> Result<bool, TransportError> {
        let answered = &mut self.answered;
        self.socket.receive(|reader, message| {
            let Some(number) = number(message.first()) else {
                return reader.complain(&"it is no answer");
            };
            *answered = number.max(*answered);
            for frame in &message[1..] {
                reader.read(Some(frame)).into_iter().for_each(&mut *take);
            }
        })
    }

    fn send(&mut self, up: &Up) -> Result<(), TransportError> {
        self.ask(&wire::encode(up))
    }

    fn listen(&mut self, _room: &str) -> Result<(), TransportError> {
        Ok(())
    }

    /// Sees to it that there is always an ask that the hall can answer.
    fn settle(&mut self, now: Time) -> Result<(), TransportError> {
        self.now = now;
        let idle = self.answered + 1 >= self.next;
        // The first ask is a knock.
        if self.next > 1 && (idle || self.overdue <= now) {
            self.ask(&[])?;
        }
        self.socket.flush();
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        (self.next > 1).then_some(self.overdue)
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.socket.interests(sources);
    }

    fn refusal(&mut self) -> Option<String> {
        self.socket.refusal()
    }
}
