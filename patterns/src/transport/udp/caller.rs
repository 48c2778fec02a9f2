//! Our own connection: made, and made again with growing pauses.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{Endpoint, Scheme};
use crate::machine::Time;
use crate::transport::callee::{Backoff, Callee, Lookup, RESOLVED};
use crate::transport::{Role, SocketOptions, TransportError, fits};

use super::packet::{Header, Kind, Mode, Refusal, hello, take_number};
use super::place;

/// Everything is begun anew after such a time without an answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    /// To begin at this time.
    Waiting(Time),
    Resolving(Lookup),
    /// Says hello until there is an answer.
    Greeting {
        cookie: u64,
        again: Time,
    },
    /// Connected.
    Done,
}

/// Makes the connection of a socket that connects.
#[derive(Debug)]
pub(super) struct Caller {
    callee: Callee,
    role: Role,
    mode: Mode,
    state: State,
    /// What the host has, since when, and which is tried.
    addresses: Vec<SocketAddr>,
    resolved: Time,
    at: usize,
    socket: Option<Arc<UdpSocket>>,
    session: u64,
    backoff: Backoff,
}

/// What an answer to our hello means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    NotYet,
    /// It is a peer now, and this its session.
    Connected {
        theirs: u64,
    },
    /// For this reason; it is tried again.
    Refused(String),
    /// It was no answer.
    Stranger,
}

impl Caller {
    pub(super) fn new(
        endpoint: &Endpoint,
        role: Role,
        mode: Mode,
        options: &SocketOptions,
    ) -> Result<Caller, TransportError> {
        Ok(Caller {
            callee: Callee::new(endpoint)?,
            role,
            mode,
            state: State::Waiting(Time::START),
            addresses: Vec::new(),
            resolved: Time::START,
            at: 0,
            socket: None,
            session: 0,
            backoff: Backoff::new(options),
        })
    }

    /// The socket of the connection that stands or is being made.
    pub(super) fn socket(&self) -> Option<&Arc<UdpSocket>> {
        self.socket.as_ref()
    }

    /// Who is called.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.addresses.get(self.at).copied()
    }

    /// Our session.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// The connection is gone: tries again after a pause.
    pub(super) fn again(&mut self, now: Time) {
        self.socket = None;
        self.state = State::Waiting(now + self.backoff.pause());
    }

    /// When there is something to do; `None` when only news can bring it on.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        match &self.state {
            State::Waiting(due) | State::Greeting { again: due, .. } => Some(*due),
            State::Resolving(_) => Some(now + RESOLVED),
            State::Done => None,
        }
    }

    /// Does what can be done now.
    pub(super) fn go_on(&mut self, now: Time) {
        match &self.state {
            State::Waiting(due) if *due <= now => self.resolve(now),
            State::Resolving(lookup) => match lookup.poll() {
                Some(Ok(addresses)) => self.call(now, addresses),
                Some(Err(reason)) => {
                    self.callee.complain(&reason);
                    self.fail(now, &reason);
                }
                None => {}
            },
            State::Greeting { again, .. } if *again <= now => self.call_next(now),
            _ => {}
        }
    }

    fn fail(&mut self, now: Time, reason: &str) {
        log::debug!("{}: {reason}", self.callee);
        self.again(now);
    }

    fn resolve(&mut self, now: Time) {
        if let Some(address) = self.callee.address() {
            return self.call(now, vec![address]);
        }
        match self.callee.look_up() {
            Ok(lookup) => self.state = State::Resolving(lookup),
            Err(error) => self.fail(now, &error.to_string()),
        }
    }

    fn call(&mut self, now: Time, addresses: Vec<SocketAddr>) {
        (self.addresses, self.resolved, self.at) = (addresses, now, 0);
        self.begin(now);
    }

    /// Nobody answered: the next address, or the same once more.
    fn call_next(&mut self, now: Time) {
        // By now the name may mean another machine, and the way there may begin elsewhere.
        if now.since(self.resolved) >= ASK_AGAIN {
            return self.resolve(now);
        }
        // Without a way there is no socket yet.
        if self.addresses.len() > 1 || self.socket.is_none() {
            self.at = (self.at + 1) % self.addresses.len();
            return self.begin(now);
        }
        let again = now + self.backoff.pause();
        let State::Greeting { cookie, .. } = self.state else {
            return;
        };
        self.state = State::Greeting { cookie, again };
        self.say_hello(cookie);
    }

    /// Says hello from a socket of its own, as somebody new.
    fn begin(&mut self, now: Time) {
        let Some(peer) = self.peer() else { return };
        self.session = rand::random();
        match place::towards(peer) {
            Ok(socket) => self.socket = Some(Arc::new(socket)),
            Err(error) => {
                self.socket = None;
                log::debug!("{}: {error}", self.callee);
            }
        }
        let again = now + self.backoff.pause();
        self.state = State::Greeting { cookie: 0, again };
        self.say_hello(0);
    }

    fn say_hello(&self, cookie: u64) {
        if let Some(socket) = &self.socket {
            // It is said again, if it cannot be sent.
            let _ = socket.send(&hello(self.session, self.role, self.mode, cookie));
        }
    }

    /// The peer's machine says that nobody listens there.
    pub(super) fn refuse(&mut self, now: Time) {
        if matches!(self.state, State::Greeting { .. }) && self.at + 1 < self.addresses.len() {
            self.at += 1;
            self.begin(now);
        }
    }

    /// Whether it waits for an answer to its hello.
    pub(super) fn is_greeting(&self) -> bool {
        matches!(self.state, State::Greeting { .. })
    }

    /// A datagram while it waits for an answer.
    pub(super) fn handle(&mut self, now: Time, header: &Header, body: &[u8]) -> Answer {
        let State::Greeting { again, .. } = self.state else {
            return Answer::Stranger;
        };
        if header.session != self.session {
            return Answer::Stranger;
        }
        match (header.kind, take_number(body)) {
            (Kind::Cookie, Ok((cookie, _))) => {
                self.state = State::Greeting { cookie, again };
                self.say_hello(cookie);
                Answer::NotYet
            }
            (Kind::Welcome, Ok((theirs, _))) => self.welcome(now, header, theirs),
            (Kind::Refused, _) => {
                let refusal = body.first().copied().and_then(Refusal::from_byte);
                self.refused(now, header, refusal)
            }
            _ => Answer::Stranger,
        }
    }

    fn welcome(&mut self, now: Time, header: &Header, theirs: u64) -> Answer {
        let fit = header.role().is_some_and(|role| fits(self.role, role));
        if !fit || header.mode() != Some(self.mode) {
            return self.refused(now, header, Some(Refusal::Role));
        }
        self.state = State::Done;
        self.backoff.succeed();
        Answer::Connected { theirs }
    }

    fn refused(&mut self, now: Time, header: &Header, refusal: Option<Refusal>) -> Answer {
        self.again(now);
        Answer::Refused(match (refusal, header.role()) {
            (Some(Refusal::Role), Some(role)) => role_reason(role),
            (Some(Refusal::Mode), _) => mode_reason(self.mode),
            (Some(Refusal::Crowded), _) => {
                "the other end has as many peers as it takes: try again later".into()
            }
            _ => {
                "the other end speaks another version of the protocol: update the older one".into()
            }
        })
    }
}

/// Why a peer of this role is refused.
pub(super) fn role_reason(role: Role) -> String {
    format!(
        "it is a {role:?} socket, which this one cannot talk to: check the pattern at both ends"
    )
}

/// Why a peer of the other mode is refused.
pub(super) fn mode_reason(ours: Mode) -> String {
    let (ours, other) = match ours {
        Mode::Plain => (Scheme::RawUdp, Scheme::ReliableUdp),
        Mode::Reliable => (Scheme::ReliableUdp, Scheme::RawUdp),
    };
    format!(
        "it speaks {}:// and this end {}://: give both ends the same (--reliable)",
        other.name(),
        ours.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_no_way_to_the_peer_looks_for_one_again() {
        let endpoint = "raw+udp://127.0.0.1:9".parse().unwrap();
        let options = SocketOptions::default();
        let mut caller = Caller::new(&endpoint, Role::Push, Mode::Plain, &options).unwrap();
        caller.go_on(Time::START);
        assert!(caller.socket.take().is_some());
        caller.go_on(caller.due(Time::START).unwrap());
        assert!(caller.socket.is_some());
    }
}
