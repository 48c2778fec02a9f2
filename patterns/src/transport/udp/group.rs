//! Whom a group is heard of.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::machine::Time;
use crate::transport::Message;

use super::frames;
use super::packet::{Header, Kind, Malformed, take_number};
use super::plain::note;
use super::seen::Seen;
use super::tally::Tally;

/// Publishers of one group whose datagrams are counted; those of more are dropped, and counted as strangers'.
pub(super) const MAX_SOURCES: usize = 1024;

#[derive(Debug)]
struct Publisher {
    session: u64,
    seen: Seen,
    heard: Time,
}

/// The publishers of a group.
#[derive(Debug)]
pub(super) struct Publishers {
    known: HashMap<SocketAddr, Publisher>,
    /// They are forgotten when they have been silent for so long.
    limit: Duration,
    look: Time,
}

/// What a datagram of a group means.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) message: Option<Message>,
    /// A publisher that was not known.
    pub(super) came: bool,
    pub(super) left: bool,
}

impl Publishers {
    pub(super) fn new(limit: Duration, now: Time) -> Publishers {
        Publishers {
            known: HashMap::new(),
            limit,
            look: now + limit,
        }
    }

    /// A datagram of this address.
    pub(super) fn handle(
        &mut self,
        now: Time,
        from: SocketAddr,
        header: &Header,
        body: &[u8],
        tally: &Tally,
    ) -> Result<Heard, Malformed> {
        let mut heard = Heard::default();
        let known = self.known.get(&from);
        let session = known.map(|known| known.session);
        if header.kind == Kind::Bye {
            heard.left = session == Some(header.session);
            if heard.left {
                self.known.remove(&from);
            }
            return Ok(heard);
        }
        if !matches!(header.kind, Kind::Message | Kind::Ping) {
            return Err(Malformed::Senseless);
        }
        let (number, body) = take_number(body)?;
        let message = match header.kind {
            Kind::Message => Some(frames::read(body)?),
            _ => None,
        };
        if session != Some(header.session) {
            if session.is_none() && self.known.len() >= MAX_SOURCES {
                tally.strangers.add(1);
                return Ok(heard);
            }
            (heard.came, heard.left) = (true, session.is_some());
            let seen = Seen::new(number);
            let session = header.session;
            let heard = now;
            self.known.insert(
                from,
                Publisher {
                    session,
                    seen,
                    heard,
                },
            );
        }
        if let Some(known) = self.known.get_mut(&from) {
            known.heard = now;
            match header.kind {
                Kind::Message => note(&mut known.seen, number, tally)?,
                _ => tally.lost.add(known.seen.note_next(number)),
            }
        }
        heard.message = message;
        Ok(heard)
    }

    /// Forgets those that have fallen silent; how many.
    pub(super) fn forget(&mut self, now: Time) -> usize {
        if now < self.look {
            return 0;
        }
        let before = self.known.len();
        self.known
            .retain(|_, known| now.since(known.heard) < self.limit);
        self.look = now + self.limit / 2;
        before - self.known.len()
    }

    /// When to [`forget`](Publishers::forget).
    pub(super) fn due(&self) -> Option<Time> {
        (!self.known.is_empty()).then_some(self.look)
    }
}
