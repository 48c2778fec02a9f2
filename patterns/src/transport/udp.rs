//! `raw+udp://host:port` and `reliable+udp://host:port`: the roles on datagrams, without ZeroMQ.
//!
//! | | plain | reliable |
//! | --- | --- | --- |
//! | a message is | a datagram, at most 65,507 bytes with 24 and four for each frame before it | part of a stream |
//! | lost, repeated, reordered | as it comes; [counted](super::Counters) | repaired while the connection stands |
//! | a peer that does not keep up | loses what its system has no room for | stops the sender: [`SendError::Full`] |
//!
//! As with raw TCP everything is done in the thread that uses the socket: acknowledgements, repetitions, heartbeats
//! and reconnection happen when it is used or waited on, and what is sent is gathered until then, or until
//! [`flush`](super::Socket::flush). A peer that does not get to use its socket looks dead; see
//! [`Heartbeat::Ping`](super::Heartbeat::Ping) for how long that may take. A socket without a peer refuses messages. What was sent to a peer whose
//! connection ended is lost with it; [`LinkEvent::Disconnected`] tells.
//!
//! Peers greet each other first, and a listener keeps nothing of a peer that has not shown that it receives what is
//! sent to its address (see `packet`). A peer is known by its address and a random session; who knows neither is
//! a stranger, whose datagrams are counted and dropped. That keeps out who cannot read the traffic, and nobody
//! else: UDP has no encryption here. A listener takes at most [`MAX_PEERS`].
//!
//! A *group* is a multicast address, to which [`Role::Publish`] sends and which [`Role::Subscribe`] hears: plain only,
//! on the interface of the default route, within the local network. Nobody greets anybody there, so whoever can
//! send to the group is heard.

mod caller;
mod cookie;
mod frames;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod line;
mod listener;
mod live;
mod packet;
mod pipe;
mod place;
mod plain;
mod reliable;
mod rooms;
mod seen;
mod state;
mod tally;

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{
    Counters, Frame, Limits, LinkEvent, MAX_DATAGRAM_BYTES, Message, Role, SendError, Side, Socket,
    SocketOptions, Source, TransportError, check_exposure, check_plain, max_message_bytes, sys,
};
use crate::endpoint::{Endpoint, Scheme};
pub use listener::MAX_PEERS;
use packet::Mode;
use state::State;

/// Opens a UDP socket; see [`transport::open`](super::open).
///
/// # Errors
///
/// See [`transport::open`](super::open); also when encryption is asked for, which UDP has not, or a group for a role
/// that does not publish or subscribe.
pub fn open(
    role: Role,
    side: Side,
    endpoint: &Endpoint,
    options: &SocketOptions,
) -> Result<Box<dyn Socket>, TransportError> {
    let limits = Limits::new(role, options)?;
    let mode = match endpoint.scheme() {
        Scheme::ReliableUdp => Mode::Reliable,
        _ => Mode::Plain,
    };
    check_plain(endpoint, &options.security)?;
    let mut state = State::new(role, mode, endpoint, options);
    match place::group(endpoint) {
        Some(group) => {
            check_group(role, mode, endpoint)?;
            // Whoever hears a group listens, whatever it calls that.
            let side = if role == Role::Subscribe {
                Side::Bind
            } else {
                side
            };
            check_exposure(side, endpoint, &options.security)?;
            state.join(group)?;
        }
        None => {
            check_exposure(side, endpoint, &options.security)?;
            match side {
                Side::Bind => state.bind()?,
                Side::Connect => state.connect()?,
            }
        }
    }
    state.look_around();
    Ok(Box::new(UdpSocket {
        endpoint: state.endpoint().clone(),
        limits,
        mode,
        state: RefCell::new(state),
    }))
}

fn check_group(role: Role, mode: Mode, endpoint: &Endpoint) -> Result<(), TransportError> {
    let reason = match (role, mode) {
        (_, Mode::Reliable) => {
            "nobody acknowledges what a multicast group gets: use raw+udp:// for it".into()
        }
        (Role::Publish | Role::Subscribe, Mode::Plain) if endpoint.port().is_none() => {
            "a multicast group needs a port number".into()
        }
        (Role::Publish | Role::Subscribe, Mode::Plain) => return Ok(()),
        (role, Mode::Plain) => format!(
            "a multicast group reaches everybody who listens, which is publish and subscribe and not {role:?}: use \
             the address of a machine"
        ),
    };
    Err(TransportError::Unusable {
        endpoint: endpoint.clone(),
        reason,
    })
}

struct UdpSocket {
    endpoint: Endpoint,
    limits: Limits,
    mode: Mode,
    /// In a cell, so that a look before a wait can send what was gathered and read what has come.
    state: RefCell<State>,
}

impl UdpSocket {
    /// A plain message has to fit into a datagram, a reliable one into what the peer takes at once.
    fn check_fits(&self, message: &[Frame]) -> Result<(), TransportError> {
        let message = match self.limits.role {
            Role::Router => message.get(1..).unwrap_or_default(),
            _ => message,
        };
        let bytes = message.iter().map(|frame| frame.len()).sum();
        let limit_bytes = match self.mode {
            Mode::Plain => {
                let headers = frames::encoded_bytes(message) - bytes;
                MAX_DATAGRAM_BYTES.saturating_sub(plain::MESSAGE_HEADER_BYTES + headers)
            }
            Mode::Reliable => max_message_bytes(self.limits.frame_bytes),
        };
        match bytes <= limit_bytes {
            true => Ok(()),
            false => Err(TransportError::TooLarge { bytes, limit_bytes }),
        }
    }
}

impl Socket for UdpSocket {
    fn send(&mut self, message: &[Frame]) -> Result<(), SendError> {
        self.limits.check(message)?;
        self.check_fits(message)?;
        self.state.get_mut().send(message)
    }

    fn receive(&mut self) -> Result<Option<Message>, TransportError> {
        Ok(self.state.get_mut().receive())
    }

    fn link_event(&mut self) -> Option<LinkEvent> {
        self.state.get_mut().link_event()
    }

    fn subscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        self.limits.check_subscribe()?;
        let told = self.state.get_mut().subscribe(topic);
        subscribed(told, "subscribe")
    }

    fn unsubscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        let told = self.state.get_mut().unsubscribe(topic);
        subscribed(told, "unsubscribe")
    }

    fn flush(&mut self) {
        self.state.get_mut().flush();
    }

    fn source(&self) -> Source<'_> {
        let mut state = self.state.borrow_mut();
        state.settle();
        let mut source = Source::new(state.fd(), state.is_readable(), state.is_writable());
        source.look_after = state.look_after();
        source
    }

    fn link_source(&self) -> Option<Source<'_>> {
        let state = self.state.borrow();
        state
            .watches_links()
            .then(|| Source::new(state.fd(), state.has_events(), false))
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn sender(&self, message: &[Frame]) -> Option<IpAddr> {
        let state = self.state.borrow();
        let address = state.peer_of(message.first()?)?;
        Some(address.ip().to_canonical())
    }

    fn counters(&self) -> Option<Counters> {
        Some(self.state.borrow().counters())
    }
}

fn subscribed(told: bool, what: &'static str) -> Result<(), TransportError> {
    if told {
        return Ok(());
    }
    Err(TransportError::Failed {
        what,
        reason: format!(
            "a subscriber can tell a publisher of {} bytes of topics over UDP: subscribe to fewer or shorter ones",
            plain::MAX_TOPICS_BYTES
        ),
    })
}

impl Drop for UdpSocket {
    /// Sends what waits until it has arrived, for at most the time to linger, and says goodbye.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let by = Instant::now() + state.linger();
        state.settle();
        while !state.is_idle() {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                log::warn!(
                    "{}: closed before all that was sent had arrived: let it linger longer",
                    self.endpoint
                );
                break;
            }
            let timeout = state.look_after().map_or(left, |after| after.min(left));
            sys::poll(
                [state.fd()].into_iter(),
                Some(timeout.max(Duration::from_micros(100))),
            );
            state.look_around();
            state.settle();
        }
        state.close();
        log::debug!("{}: {}", self.endpoint, state.counters());
    }
}
