//! What the broker's socket receives, read into what its machine understands.

use std::collections::HashMap;

use crate::complaints::Complaints;
use crate::machine::{Machine, Time};
use crate::pipeline::{JobId, PeerId};
use crate::transport::{Frame, Message};
use crate::wire::{Kind, WireError};

use super::hands::Deed;
use super::machine::{BrokerInput, BrokerMachine};
use super::majordomo::{self, Malformed, Said, Version};
use super::protocol::BrokerSays;
use super::{bodies, frames};

/// The routing ids of those who speak to us, numbered.
#[derive(Default)]
pub(super) struct Peers {
    numbers: HashMap<Box<[u8]>, PeerId>,
    routes: HashMap<PeerId, Frame>,
    next: PeerId,
}

impl Peers {
    fn number(&mut self, route: Frame) -> PeerId {
        if let Some(number) = self.find(&route) {
            return number;
        }
        self.next += 1;
        let bytes: Box<[u8]> = route[..].into();
        self.routes.insert(self.next, Frame::from(&bytes[..]));
        self.numbers.insert(bytes, self.next);
        self.next
    }

    /// The number of a peer that has one.
    pub(super) fn find(&self, route: &[u8]) -> Option<PeerId> {
        self.numbers.get(route).copied()
    }

    /// Where messages to the peer go; `None` when it is forgotten.
    pub(super) fn route(&self, number: PeerId) -> Option<Frame> {
        self.routes.get(&number).cloned()
    }

    pub(super) fn forget(&mut self, number: PeerId) {
        if let Some(route) = self.routes.remove(&number) {
            self.numbers.remove(&route[..]);
        }
    }
}

/// Those who speak to the broker, and what they said wrong.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) peers: Peers,
    mistakes: Complaints,
}

impl Inbox {
    /// Hands a message, its routing id first, to the machine. Returns what the sender of one that
    /// makes no sense is answered.
    pub(super) fn take(
        &mut self,
        machine: &mut BrokerMachine,
        now: Time,
        mut message: Message,
    ) -> Option<Message> {
        let rest = message.split_off(message.len().min(1));
        let route = message.pop()?;
        let is_new = self.peers.find(&route).is_none();
        let peer = self.peers.number(route.clone());
        let mistake = match read(peer, &rest) {
            Ok(input) => {
                machine.handle(now, input);
                return None;
            }
            Err(mistake) => mistake,
        };
        if is_new {
            self.peers.forget(peer);
        }
        machine.note_malformed();
        self.mistakes.add(&"the broker", &mistake);
        let mut answer = mistake.answer()?;
        answer.insert(0, route);
        Some(answer)
    }
}

/// Why a message was dropped.
#[derive(Debug, thiserror::Error)]
enum Mistake {
    #[error(transparent)]
    Ours(#[from] WireError),
    #[error(transparent)]
    Majordomo(#[from] Malformed),
}

impl Mistake {
    /// What the sender is told, if anything.
    fn answer(&self) -> Option<Message> {
        match self {
            Mistake::Ours(error @ WireError::Version(_)) => {
                let (job, reason) = (JobId(0), error.to_string());
                let refused = BrokerSays::Refused { job, reason };
                Some(vec![frames::control(Kind::Client, &refused)])
            }
            Mistake::Ours(_) => None,
            Mistake::Majordomo(malformed) => malformed.answer(),
        }
    }
}

/// Reads a message without its routing id.
fn read(peer: PeerId, message: &[Frame]) -> Result<BrokerInput, Mistake> {
    let hand = |version, deed| Ok(BrokerInput::Hand(peer, version, deed));
    match majordomo::read(message)? {
        Said::Ours => match message {
            [frame] => Ok(frames::read_at_broker(peer, frame)?),
            _ => Err(WireError::Malformed.into()),
        },
        Said::Request {
            version,
            service,
            body,
        } => Ok(BrokerInput::Request {
            peer,
            version,
            service: service.to_string(),
            record: bodies::record(body),
        }),
        Said::Ready { version, service } => hand(version, Deed::Ready(service.to_string())),
        Said::Reply {
            version,
            client,
            body,
        } => hand(version, Deed::Reply(client.to_vec(), bodies::record(body))),
        Said::Partial { client, body } => {
            let part = Deed::Partial(client.to_vec(), bodies::record(body));
            hand(Version::V2, part)
        }
        Said::Heartbeat { version } => hand(version, Deed::Heartbeat),
        Said::Disconnect { version } => hand(version, Deed::Disconnect),
    }
}
