//! How packets travel between the hall and its guests: one file for each pattern, with both ends.
//!
//! | pattern | from a guest | to one guest | to a room | sockets |
//! | --- | --- | --- | --- | --- |
//! | `pub-sub` | DEALER → ROUTER | ROUTER → DEALER | PUB → SUB, a topic for each room | PUB at the endpoint, ROUTER at the next port |
//! | `push-pull` | PUSH → PULL | PUSH → PULL, a socket for each member | the same to each | PULL at the endpoint, ROUTER for knocks at the next port, a port of the system's choice for each member |
//! | `req-rep` | DEALER asks ROUTER | ROUTER answers, when there is something or after a second | the same to each | ROUTER at the endpoint |
//!
//! A packet that a socket does not take is dropped and counted: hall and guest repeat what matters.

mod port;
mod pub_sub;
mod push_pull;
mod req_rep;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use mutirao::endpoint::Scheme;
use mutirao::machine::Time;
use mutirao::security::Security;
use mutirao::transport::{
    Frame, Heartbeat, Needs, SocketOptions, Source, TransportError, WhenFull,
};
use mutirao::wait::Interest;
use mutirao::{Endpoint, OpenError, Pattern};

use super::hall::Peer;
use super::wire::{Down, MAX_PACKET_BYTES, Session, Up};
use crate::exit::Exit;

/// Packets that may wait for one peer.
const QUEUE: i32 = 1_000;

/// The hall's end.
pub(crate) trait HallWay {
    /// Takes what has arrived and over which connection, a bounded number at a time; whether there may
    /// be more.
    fn receive(&mut self, take: &mut dyn FnMut(Peer, Up)) -> Result<bool, TransportError>;

    /// Sends a packet to one guest.
    fn send(&mut self, to: Session, packet: &Arc<[u8]>) -> Result<(), TransportError>;

    /// Sends a packet to the members of a room.
    fn publish(
        &mut self,
        room: &str,
        members: &mut dyn Iterator<Item = Session>,
        packet: &Arc<[u8]>,
    ) -> Result<(), TransportError>;

    /// Nothing more is sent to this guest for now.
    fn forget(&mut self, guest: Session);

    /// Does what is due, and sends what has gathered; to be called before each wait.
    fn settle(&mut self, now: Time) -> Result<(), TransportError>;

    /// When to settle at the latest.
    fn deadline(&self) -> Option<Time>;

    /// What to wait on.
    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>);

    /// Where guests connect.
    fn endpoint(&self) -> &Endpoint;

    /// Packets dropped because a guest does not read.
    fn dropped(&self) -> u64;
}

/// A guest's end.
pub(crate) trait GuestWay: Send {
    /// Takes what has arrived, a bounded number at a time; whether there may be more.
    fn receive(&mut self, take: &mut dyn FnMut(Down)) -> Result<bool, TransportError>;

    /// Sends a packet.
    fn send(&mut self, up: &Up) -> Result<(), TransportError>;

    /// Listens to this room and to no other.
    fn listen(&mut self, room: &str) -> Result<(), TransportError>;

    /// Does what is due, and sends what has gathered; to be called before each wait.
    fn settle(&mut self, now: Time) -> Result<(), TransportError>;

    /// When to settle at the latest.
    fn deadline(&self) -> Option<Time>;

    /// What to wait on.
    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>);

    /// Why the hall's side refuses the connection, once that is certain.
    fn refusal(&mut self) -> Option<String>;
}

/// Opens the hall's end.
///
/// # Errors
///
/// The endpoint cannot be listened at, or the pattern cannot do with its transport.
pub(crate) fn listen(
    pattern: Pattern,
    endpoint: &Endpoint,
    security: &Security,
) -> Result<Box<dyn HallWay>, Exit> {
    check(pattern, endpoint.scheme())?;
    let options = SocketOptions {
        watch_links: true,
        ..options(security)
    };
    let way: Result<Box<dyn HallWay>, OpenError> = match pattern {
        Pattern::PubSub => pub_sub::HallEnd::open(endpoint, &options).map(|end| Box::new(end) as _),
        Pattern::PushPull => {
            push_pull::HallEnd::open(endpoint, &options).map(|end| Box::new(end) as _)
        }
        Pattern::ReqRep => req_rep::HallEnd::open(endpoint, &options).map(|end| Box::new(end) as _),
    };
    Ok(way?)
}

/// Where a guest finds the hall.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) pattern: Pattern,
    pub(crate) endpoint: Endpoint,
    pub(crate) security: Security,
}

/// Opens a guest's end; the hall need not be there yet.
///
/// # Errors
///
/// The endpoint cannot be connected to, or the pattern cannot do with its transport.
pub(crate) fn connect(address: &Address, session: Session) -> Result<Box<dyn GuestWay>, Exit> {
    let Address {
        pattern,
        endpoint,
        security,
    } = address;
    check(*pattern, endpoint.scheme())?;
    let options = SocketOptions {
        only_connected: true,
        watch_links: true,
        ..options(security)
    };
    let way: Result<Box<dyn GuestWay>, OpenError> = match pattern {
        Pattern::PubSub => {
            pub_sub::GuestEnd::open(endpoint, &options).map(|end| Box::new(end) as _)
        }
        Pattern::PushPull => {
            push_pull::GuestEnd::open(endpoint, &options).map(|end| Box::new(end) as _)
        }
        Pattern::ReqRep => {
            req_rep::GuestEnd::open(endpoint, &options, session).map(|end| Box::new(end) as _)
        }
    };
    Ok(way?)
}

/// The chat repeats what is lost; its packets have to fit.
fn check(pattern: Pattern, scheme: Scheme) -> Result<(), Exit> {
    let needs = Needs {
        complete: false,
        message_bytes: MAX_PACKET_BYTES + req_rep::OVERHEAD_BYTES,
    };
    let name = match pattern {
        Pattern::PubSub => "the chat by pub-sub",
        Pattern::PushPull => "the chat by push-pull",
        Pattern::ReqRep => "the chat by req-rep",
    };
    let fits = needs.check(name, scheme);
    fits.map_err(|unfit| Exit::Usage(unfit.to_string()))
}

fn options(security: &Security) -> SocketOptions {
    SocketOptions {
        queue_messages: QUEUE,
        max_message_bytes: MAX_PACKET_BYTES,
        linger: Duration::from_millis(500),
        // Hall and guests beat by themselves. libzmq's own pings, of a thousand guests, would keep the
        // hall busy: it looks through all its timers for each.
        heartbeat: Heartbeat::Probe(Duration::from_secs(2)),
        when_full: WhenFull::Refuse,
        security: security.clone(),
        ..SocketOptions::default()
    }
}

/// The connection that a router calls so.
fn peer(route: &Frame) -> Peer {
    let mut hasher = DefaultHasher::new();
    route[..].hash(&mut hasher);
    Peer(hasher.finish())
}

/// The topic of a room: no other topic begins with it.
fn topic(room: &str) -> Vec<u8> {
    [room.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chat_does_with_every_transport() {
        for pattern in Pattern::ALL {
            for scheme in Scheme::ALL {
                assert!(check(pattern, scheme).is_ok(), "{pattern} {scheme:?}");
            }
        }
    }
}
