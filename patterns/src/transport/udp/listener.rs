//! The listening end: who says hello becomes a peer, once it has shown that it is where it says.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use crate::machine::Time;
use crate::transport::{Role, fits};

use super::caller::{mode_reason, role_reason};
use super::cookie::Cookies;
use super::packet::{HELLO_BYTES, Header, Kind, Mode, Refusal, numbered, refused, take_number};

/// Peers that a listening UDP socket takes; it refuses more.
pub const MAX_PEERS: usize = 16_384;

/// A peer: its number in the exchange, its session, and ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) number: u32,
    pub(super) theirs: u64,
    pub(super) ours: u64,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) peers: HashMap<SocketAddr, Known>,
    cookies: Cookies,
    role: Role,
    mode: Mode,
}

/// What a hello leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeted {
    /// This answer, and nothing else.
    Answer(Vec<u8>),
    /// This answer, and it is said why.
    Refused(Vec<u8>, String),
    /// It shall be a peer, in the place of the one with this number.
    New { instead: Option<u32> },
    /// It is no hello.
    Senseless,
}

impl Listener {
    pub(super) fn new(socket: UdpSocket, role: Role, mode: Mode) -> Listener {
        Listener {
            socket: Arc::new(socket),
            peers: HashMap::new(),
            cookies: Cookies::default(),
            role,
            mode,
        }
    }

    /// Somebody says hello. Nothing is kept of it.
    pub(super) fn greet(
        &self,
        now: Time,
        from: SocketAddr,
        header: &Header,
        body: &[u8],
    ) -> Greeted {
        let (Some(role), Some(mode), Ok((cookie, rest))) =
            (header.role(), header.mode(), take_number(body))
        else {
            return Greeted::Senseless;
        };
        // Shorter ones could be used to send somebody else more than was sent to us.
        if rest.len() < HELLO_BYTES - super::packet::HEADER_BYTES - 8 {
            return Greeted::Senseless;
        }
        let session = header.session;
        let known = self.peers.get(&from);
        if let Some(known) = known.filter(|known| known.theirs == session) {
            return Greeted::Answer(self.welcome(session, known.ours));
        }
        if !self.cookies.is_good(now, from, session, cookie) {
            let cookie = self.cookies.make(now, from, session);
            let header = Header::greeting(Kind::Cookie, session, self.role, self.mode);
            return Greeted::Answer(numbered(header, cookie));
        }
        let refusal = match () {
            () if mode != self.mode => (Refusal::Mode, mode_reason(self.mode)),
            () if !fits(self.role, role) => (Refusal::Role, role_reason(role)),
            () if known.is_none() && self.peers.len() >= MAX_PEERS => (
                Refusal::Crowded,
                format!("there are {MAX_PEERS} peers already"),
            ),
            () => {
                let instead = known.map(|known| known.number);
                return Greeted::New { instead };
            }
        };
        let answer = refused(session, self.role, self.mode, refusal.0);
        Greeted::Refused(answer, refusal.1)
    }

    /// The answer to one that is a peer now.
    pub(super) fn welcome(&self, theirs: u64, ours: u64) -> Vec<u8> {
        let header = Header::greeting(Kind::Welcome, theirs, self.role, self.mode);
        numbered(header, ours)
    }

    /// The answer to a hello of another version.
    pub(super) fn other_version(&self, session: u64) -> Vec<u8> {
        refused(session, self.role, self.mode, Refusal::Version)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::packet::hello;
    use super::*;

    fn listener() -> Listener {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Listener::new(socket, Role::Pull, Mode::Plain)
    }

    fn greet(listener: &Listener, port: u16, session: u64, cookie: u64) -> Greeted {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let datagram = hello(session, Role::Push, Mode::Plain, cookie);
        let (header, body) = Header::read(&datagram).unwrap();
        listener.greet(Time::START, from, &header, body)
    }

    fn cookie(answer: Greeted) -> u64 {
        let Greeted::Answer(answer) = answer else {
            panic!("{answer:?}");
        };
        let (header, body) = Header::read(&answer).unwrap();
        assert_eq!(header.kind, Kind::Cookie);
        take_number(body).unwrap().0
    }

    #[test]
    fn who_shows_its_cookie_becomes_a_peer() {
        let listener = listener();
        let good = cookie(greet(&listener, 1, 7, 0));
        assert_eq!(greet(&listener, 1, 7, good), Greeted::New { instead: None });
        cookie(greet(&listener, 1, 7, good ^ 1));
        cookie(greet(&listener, 2, 7, good));
        cookie(greet(&listener, 1, 8, good));
    }

    #[test]
    fn a_short_hello_gets_no_answer() {
        let listener = listener();
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let datagram = hello(7, Role::Push, Mode::Plain, 0);
        for len in 16..HELLO_BYTES {
            let (header, body) = Header::read(&datagram[..len]).unwrap();
            let greeted = listener.greet(Time::START, from, &header, body);
            assert_eq!(greeted, Greeted::Senseless);
        }
    }

    #[test]
    fn no_more_peers_than_the_limit_are_taken() {
        let mut listener = listener();
        for at in 0..MAX_PEERS {
            let known = Known {
                number: at as u32,
                theirs: at as u64,
                ours: 1,
            };
            let from = SocketAddr::from((Ipv4Addr::LOCALHOST, at as u16 + 1));
            listener.peers.insert(from, known);
        }
        let port = u16::MAX;
        let good = cookie(greet(&listener, port, 7, 0));
        let refused = greet(&listener, port, 7, good);
        assert!(matches!(refused, Greeted::Refused(..)), "{refused:?}");
        // One that has restarted takes its own place.
        let good = cookie(greet(&listener, 5, 7, 0));
        let instead = Some(4);
        assert_eq!(greet(&listener, 5, 7, good), Greeted::New { instead });
    }
}
