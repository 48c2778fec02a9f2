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
