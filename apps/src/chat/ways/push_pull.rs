//! Everything is pushed: by the guests to one socket, and to each member by a socket of its own.
//!
//! A PUSH socket cannot choose whom it sends to, so each member has one. The guest knocks beside them,
//! by DEALER and ROUTER, and is told where its door is; its heartbeats go the same way, so that a
//! hall which has started anew can say that it does not know it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mutirao::machine::Time;
use mutirao::transport::{Frame, Role, Side, SocketOptions, Source, TransportError};
use mutirao::wait::Interest;
use mutirao::{Endpoint, OpenError, Pattern};

use super::port::Port;
use super::{GuestWay, HallWay, peer};
use crate::chat::hall::Peer;
use crate::chat::wire::{self, Down, Says, Session, Up};

/// How long the door of a guest that left stays open for what is on its way.
const PARTING: Duration = Duration::from_secs(2);

/// Who pushes: a PULL socket does not say.
const ANYBODY: Peer = Peer(0);

/// Doors that may be open.
const MAX_DOORS: usize = 4_096;

/// The hall's end.
pub(super) struct HallEnd {
    words: Port,
    knocks: Port,
    options: SocketOptions,
    /// What the router calls each guest.
    routes: HashMap<Session, Frame>,
    /// Who has knocked a moment ago: it gets a door when the hall answers, which it does not do for ever.
    knocking: HashSet<Session>,
    doors: HashMap<Session, Door>,
    opened: u64,
    /// Guests that left, and when to close their doors.
    parting: VecDeque<(Option<Time>, Session)>,
    dropped: u64,
}

struct Door {
    port: Port,
    name: String,
    /// Whether the guest has left.
    parting: bool,
}

impl HallEnd {
    pub(super) fn open(endpoint: &Endpoint, options: &SocketOptions) -> Result<HallEnd, OpenError> {
        let (words, knocks) = Port::open_pair(Role::Pull, Role::Router, endpoint, options)?;
        // Closing a door must not hold up the others.
        let options = SocketOptions {
            linger: Duration::ZERO,
            watch_links: false,
            ..options.clone()
        };
        Ok(HallEnd {
            words,
            knocks,
            options,
            routes: HashMap::new(),
            knocking: HashSet::new(),
            doors: HashMap::new(),
            opened: 0,
            parting: VecDeque::new(),
            dropped: 0,
        })
    }

    /// Tells a guest that knocks where its door is.
    fn answer_knock(&mut self, session: Session) -> Result<(), TransportError> {
        if !self.doors.contains_key(&session) {
            match self.open_door() {
                Ok(door) => self.doors.insert(session, door),
                Err(error) => {
                    log::warn!("no door for another member: {error}");
                    return Ok(());
                }
            };
        }
        let Some(door) = self.doors.get_mut(&session) else {
            return Ok(());
        };
        door.parting = false;
        let packet = wire::encode(&Down::Door(door.name.clone()));
        match self.routes.get(&session) {
            Some(route) => self.knocks.post(&[route.clone(), packet.into()]),
            None => Ok(()),
        }
    }

    fn open_door(&mut self) -> Result<Door, OpenError> {
        if self.doors.len() >= MAX_DOORS {
            let most = format!("{MAX_DOORS} are open, which is the most");
            return Err(OpenError::Config(most));
        }
        self.opened += 1;
        let endpoint = beside(self.endpoint(), &format!("{}", self.opened), "*")?;
        let port = Port::open(Role::Push, Side::Bind, &endpoint, &self.options)?;
        let name = match port.endpoint().port() {
            Some(number) => number.to_string(),
            None => self.opened.to_string(),
        };
        Ok(Door {
            port,
            name,
            parting: false,
        })
    }

    fn close_doors(&mut self, now: Time) {
        for (when, _) in self.parting.iter_mut().filter(|(when, _)| when.is_none()) {
            *when = Some(now + PARTING);
        }
        while let Some(&(Some(when), session)) = self.parting.front()
            && when <= now
        {
            self.parting.pop_front();
            if self.doors.get(&session).is_some_and(|door| door.parting) {
                let door = self.doors.remove(&session);
                self.dropped += door.map_or(0, |door| door.port.dropped());
                self.routes.remove(&session);
            }
        }
    }
}

/// The endpoint of a door: another port at the same host, or the same path with something appended.
fn beside(endpoint: &Endpoint, name: &str, port: &str) -> Result<Endpoint, OpenError> {
    let scheme = endpoint.scheme();
    let text = match endpoint.address().rsplit_once(':') {
        Some((host, _)) if scheme.has_port() => format!("{}://{host}:{port}", scheme.name()),
        _ => format!("{endpoint}.{name}"),
    };
    Ok(text.parse()?)
}

impl HallWay for HallEnd {
    fn receive(&mut self, take: &mut dyn FnMut(Peer, Up)) -> Result<bool, TransportError> {
        let (routes, knocking) = (&mut self.routes, &mut self.knocking);
        let control = self.knocks.receive(|reader, mut message| {
            if let Some(up) = reader.read::<Up>(message.get(1)) {
                let route = message.swap_remove(0);
                let peer = peer(&route);
                routes.insert(up.session, route);
                // Those who take another way could not go through a door.
                if matches!(&up.says, Says::Knock(knock) if knock.pattern == Pattern::PushPull.name()) {
                    knocking.insert(up.session);
                }
                take(peer, up);
            }
        })?;
        let words = self.words.receive(|reader, message| {
            if let Some(up) = reader.read(message.first()) {
                take(ANYBODY, up);
            }
        })?;
        Ok(control || words)
    }

    fn send(&mut self, to: Session, packet: &Arc<[u8]>) -> Result<(), TransportError> {
        if self.knocking.remove(&to) {
            self.answer_knock(to)?;
        }
        let packet = Frame::from(packet.clone());
        match (self.doors.get_mut(&to), self.routes.get(&to)) {
            (Some(door), _) => door.port.post(&[packet]),
            // A stranger.
            (None, Some(route)) => self.knocks.post(&[route.clone(), packet]),
            (None, None) => Ok(()),
        }
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
        match self.doors.get_mut(&guest) {
            Some(door) if !door.parting => {
                door.parting = true;
                self.parting.push_back((None, guest));
            }
            Some(_) => {}
            None => {
                self.routes.remove(&guest);
            }
        }
    }

    fn settle(&mut self, now: Time) -> Result<(), TransportError> {
        self.knocking.clear();
        self.close_doors(now);
        self.words.note_refusals();
        self.knocks.note_refusals();
        self.knocks.flush();
        self.doors.values_mut().for_each(|door| door.port.flush());
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        self.parting.front().and_then(|&(when, _)| when)
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.words.interests(sources);
        self.knocks.interests(sources);
        self.doors
            .values()
            .for_each(|door| door.port.interests(sources));
    }

    fn endpoint(&self) -> &Endpoint {
        self.words.endpoint()
    }

    fn dropped(&self) -> u64 {
        let doors = self.doors.values().map(|door| door.port.dropped());
        self.dropped + self.knocks.dropped() + doors.sum::<u64>()
    }
}

/// A guest's end.
pub(super) struct GuestEnd {
    words: Port,
    knocks: Port,
    endpoint: Endpoint,
    options: SocketOptions,
    door: Option<(String, Port)>,
}

impl GuestEnd {
    pub(super) fn open(
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<GuestEnd, OpenError> {
        Ok(GuestEnd {
            words: Port::open(Role::Push, Side::Connect, endpoint, options)?,
            knocks: Port::open(Role::Dealer, Side::Connect, &endpoint.control()?, options)?,
            endpoint: endpoint.clone(),
            options: options.clone(),
            door: None,
        })
    }

    /// Connects to the door that it was told of.
    fn go_to(&mut self, name: String) {
        if self.door.as_ref().is_some_and(|(known, _)| *known == name)
            || !name.bytes().all(|byte| byte.is_ascii_digit())
        {
            return;
        }
        let opened = beside(&self.endpoint, &name, &name)
            .and_then(|endpoint| Port::open(Role::Pull, Side::Connect, &endpoint, &self.options));
        match opened {
            Ok(port) => self.door = Some((name, port)),
            Err(error) => log::warn!("the door {name} cannot be used: {error}"),
        }
    }
}

impl GuestWay for GuestEnd {
    fn receive(&mut self, take: &mut dyn FnMut(Down)) -> Result<bool, TransportError> {
        let mut doors = Vec::new();
        let control =
            self.knocks
                .receive(|reader, message| match reader.read(message.first()) {
                    Some(Down::Door(name)) => doors.push(name),
                    Some(packet) => take(packet),
                    None => {}
                })?;
        doors.into_iter().for_each(|name| self.go_to(name));
        let Some((_, door)) = &mut self.door else {
            return Ok(control);
        };
        let pushed = door.receive(|reader, message| {
            reader
                .read(message.first())
                .into_iter()
                .for_each(&mut *take);
        })?;
        Ok(control || pushed)
    }

    fn send(&mut self, up: &Up) -> Result<(), TransportError> {
        let frame = [wire::encode(up).into()];
        match up.says.is_control() {
            true => self.knocks.post(&frame),
            false => self.words.post(&frame),
        }
    }

    fn listen(&mut self, _room: &str) -> Result<(), TransportError> {
        Ok(())
    }

    fn settle(&mut self, _now: Time) -> Result<(), TransportError> {
        self.knocks.flush();
        self.words.flush();
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.knocks.interests(sources);
        self.words.interests(sources);
        self.door
            .iter()
            .for_each(|(_, door)| door.interests(sources));
    }

    fn refusal(&mut self) -> Option<String> {
        self.knocks.refusal().or_else(|| self.words.refusal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::wire::Knock;

    const KNOCKS: u64 = 50;

    /// A knock under a new session.
    fn knock(session: u64) -> Frame {
        let knock = Knock {
            pattern: Pattern::PushPull.name().into(),
            attempt: 1,
            name: format!("e{session}"),
            room: "lobby".into(),
            last: 0,
            after: None,
            next_word: 1,
        };
        let up = Up {
            session: Session(session),
            lane: 0,
            heard: 0,
            says: Says::Knock(knock),
        };
        wire::encode(&up).into()
    }

    #[test]
    fn whom_the_hall_does_not_answer_gets_no_door() {
        let endpoint: Endpoint = "raw+tcp://127.0.0.1:*".parse().unwrap();
        let options = SocketOptions::default();
        let mut hall = HallEnd::open(&endpoint, &options).unwrap();
        let place = hall.endpoint().control().unwrap();
        let mut guest = Port::open(Role::Dealer, Side::Connect, &place, &options).unwrap();
        let (mut sent, mut taken) = (0, 0);
        while taken < KNOCKS {
            // Dropped while there is no connection.
            if sent < KNOCKS {
                let dropped = guest.dropped();
                guest.post(&[knock(sent)]).unwrap();
                sent += u64::from(guest.dropped() == dropped);
            }
            guest.flush();
            hall.receive(&mut |_, _| taken += 1).unwrap();
        }
        hall.send(Session(7), &Arc::from(&b"no"[..])).unwrap();
        hall.settle(Time::START).unwrap();
        hall.send(Session(8), &Arc::from(&b"late"[..])).unwrap();
        let doors: Vec<_> = hall.doors.keys().collect();
        assert_eq!(doors, [&Session(7)]);
    }
}
