//! Rooms are topics: what a room hears is published once, whoever listens.

use std::collections::HashMap;
use std::sync::Arc;

use mutirao::machine::Time;
use mutirao::transport::{Frame, Role, Side, SocketOptions, Source, TransportError, WhenFull};
use mutirao::wait::Interest;
use mutirao::{Endpoint, OpenError};

use super::port::Port;
use super::{GuestWay, HallWay, peer, topic};
use crate::chat::hall::Peer;
use crate::chat::wire::{self, Down, Session, Up};

/// The hall's end.
pub(super) struct HallEnd {
    rooms: Port,
    guests: Port,
    /// What the router calls each guest.
    routes: HashMap<Session, Frame>,
}

impl HallEnd {
    pub(super) fn open(endpoint: &Endpoint, options: &SocketOptions) -> Result<HallEnd, OpenError> {
        // A subscriber that does not read misses lines, and fetches them.
        let options = SocketOptions {
            when_full: WhenFull::Drop,
            ..options.clone()
        };
        let (rooms, guests) = Port::open_pair(Role::Publish, Role::Router, endpoint, &options)?;
        Ok(HallEnd {
            rooms,
            guests,
            routes: HashMap::new(),
        })
    }
}

impl HallWay for HallEnd {
    fn receive(&mut self, take: &mut dyn FnMut(Peer, Up)) -> Result<bool, TransportError> {
        // Subscriptions are between the sockets.
        self.rooms.receive(|_, _| ())?;
        let routes = &mut self.routes;
        self.guests.receive(|reader, mut message| {
            if let Some(up) = reader.read::<Up>(message.get(1)) {
                let route = message.swap_remove(0);
                let peer = peer(&route);
                routes.insert(up.session, route);
                take(peer, up);
            }
        })
    }

    fn send(&mut self, to: Session, packet: &Arc<[u8]>) -> Result<(), TransportError> {
        match self.routes.get(&to) {
            Some(route) => self.guests.post(&[route.clone(), packet.clone().into()]),
            None => Ok(()),
        }
    }

    fn publish(
        &mut self,
        room: &str,
        _members: &mut dyn Iterator<Item = Session>,
        packet: &Arc<[u8]>,
    ) -> Result<(), TransportError> {
        self.rooms
            .post(&[topic(room).into(), packet.clone().into()])
    }

    fn forget(&mut self, guest: Session) {
        self.routes.remove(&guest);
    }

    fn settle(&mut self, _now: Time) -> Result<(), TransportError> {
        for port in [&mut self.rooms, &mut self.guests] {
            port.note_refusals();
            port.flush();
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.rooms.interests(sources);
        self.guests.interests(sources);
    }

    fn endpoint(&self) -> &Endpoint {
        self.rooms.endpoint()
    }

    fn dropped(&self) -> u64 {
        self.rooms.dropped() + self.guests.dropped()
    }
}

/// A guest's end.
pub(super) struct GuestEnd {
    rooms: Port,
    hall: Port,
    room: Option<String>,
}

impl GuestEnd {
    pub(super) fn open(
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<GuestEnd, OpenError> {
        Ok(GuestEnd {
            rooms: Port::open(Role::Subscribe, Side::Connect, endpoint, options)?,
            hall: Port::open(Role::Dealer, Side::Connect, &endpoint.control()?, options)?,
            room: None,
        })
    }
}

impl GuestWay for GuestEnd {
    fn receive(&mut self, take: &mut dyn FnMut(Down)) -> Result<bool, TransportError> {
        let letters = self.hall.receive(|reader, message| {
            reader
                .read(message.first())
                .into_iter()
                .for_each(&mut *take);
        })?;
        let lines = self.rooms.receive(|reader, message| {
            reader.read(message.get(1)).into_iter().for_each(&mut *take);
        })?;
        Ok(letters || lines)
    }

    fn send(&mut self, up: &Up) -> Result<(), TransportError> {
        self.hall.post(&[wire::encode(up).into()])
    }

    fn listen(&mut self, room: &str) -> Result<(), TransportError> {
        if self.room.as_deref() == Some(room) {
            return Ok(());
        }
        self.rooms.subscribe(&topic(room))?;
        if let Some(old) = self.room.replace(room.to_string()) {
            self.rooms.unsubscribe(&topic(&old))?;
        }
        Ok(())
    }

    fn settle(&mut self, _now: Time) -> Result<(), TransportError> {
        self.hall.flush();
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.hall.interests(sources);
        self.rooms.interests(sources);
    }

    fn refusal(&mut self) -> Option<String> {
        self.hall.refusal().or_else(|| self.rooms.refusal())
    }
}
