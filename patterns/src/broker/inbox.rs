//! What the broker's socket receives, read into what its machine understands.

use std::collections::{HashMap, HashSet};

use crate::complaints::Complaints;
use crate::machine::{Machine, Time};
use crate::pipeline::{JobId, PeerId};
use crate::transport::{Frame, Message};
use crate::wire::{Kind, WireError};

use super::hands::Deed;
use super::json::{self, Codec, End, JsonError};
use super::machine::{BrokerInput, BrokerMachine};
use super::majordomo::{self, Malformed, Said, Version};
use super::protocol::BrokerSays;
use super::{bodies, frames};

/// The routing ids of those who speak to us, numbered.
#[derive(Default)]
pub(super) struct Peers {
    numbers: HashMap<Box<[u8]>, PeerId>,
    routes: HashMap<PeerId, Frame>,
    /// Those who spoke JSON last.
    json: HashSet<PeerId>,
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

    /// Whether the peer is answered in JSON.
    pub(super) fn speaks_json(&self, number: PeerId) -> bool {
        self.json.contains(&number)
    }

    fn note_codec(&mut self, number: PeerId, is_json: bool) {
        match is_json {
            true => self.json.insert(number),
            false => self.json.remove(&number),
        };
    }

    pub(super) fn forget(&mut self, number: PeerId) {
        self.json.remove(&number);
        if let Some(route) = self.routes.remove(&number) {
            self.numbers.remove(&route[..]);
        }
    }
}

/// Those who speak to the broker, and what they said wrong.
pub(super) struct Inbox {
    pub(super) peers: Peers,
    /// What they may speak.
    codec: Codec,
    /// The longest frame that is not JSON, which is longer than the same in another way.
    most_bytes: usize,
    mistakes: Complaints,
}

impl Inbox {
    pub(super) fn new(codec: Codec, most_bytes: usize) -> Inbox {
        Inbox {
            peers: Peers::default(),
            codec,
            most_bytes,
            mistakes: Complaints::default(),
        }
    }

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
        let is_json = matches!(&rest[..], [frame] if json::is_json(frame));
        let mistake = match self.read(peer, rest, is_json) {
            Ok(input) => {
                self.peers.note_codec(peer, is_json);
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
    Json(#[from] JsonError),
    /// The broker was told so.
    #[error("a peer does not speak JSON, and this broker nothing else: add --codec json there")]
    NotJson(Option<Message>),
    #[error("a frame of {0} bytes is over the limit: raise the limit or send less at once")]
    TooLarge(usize),
    #[error(transparent)]
    Ours(#[from] WireError),
    #[error(transparent)]
    Majordomo(#[from] Malformed),
}

impl Mistake {
    /// What the sender is told, if anything.
    fn answer(&self) -> Option<Message> {
        match self {
            Mistake::Ours(WireError::Version(_)) => Some(refuse(self.to_string())),
            Mistake::NotJson(answer) => answer.clone(),
            Mistake::Ours(_) | Mistake::Json(_) | Mistake::TooLarge(_) => None,
            Mistake::Majordomo(malformed) => malformed.answer(),
        }
    }
}

/// What a broker that speaks JSON only says to whom it does not understand.
const ONLY_JSON: &str = "it speaks JSON only: add --codec json, or start it without";

/// Refuses a job that nobody has: what a broker says to everybody whom it does not understand.
fn refuse(reason: String) -> Message {
    let job = JobId(0);
    let refused = BrokerSays::Refused { job, reason };
    vec![frames::control(Kind::Client, &refused)]
}

/// The same in the words of whoever speaks, and nothing to one that leaves.
fn refuse_all_but_json(message: &[Frame]) -> Result<Option<Message>, Malformed> {
    let version = match majordomo::read(message)? {
        Said::Ours => return Ok(Some(refuse(ONLY_JSON.into()))),
        Said::Request {
            version, service, ..
        } => {
            // As for a request that failed.
            let body = ["", ONLY_JSON].map(|text| Frame::from(text.as_bytes()));
            let reply = majordomo::to_client::reply(version, service, body);
            return Ok(Some(reply));
        }
        Said::Disconnect { .. } => return Ok(None),
        Said::Ready { version, .. } | Said::Reply { version, .. } => version,
        Said::Heartbeat { version } => version,
        Said::Partial { .. } => Version::V2,
    };
    Ok(Some(majordomo::disconnect(version)))
}

impl Inbox {
    /// Reads a message without its routing id, in whatever way it is written.
    fn read(&self, peer: PeerId, message: Message, is_json: bool) -> Result<BrokerInput, Mistake> {
        if is_json {
            let frame = json::read(End::Broker, &message[0])?;
            self.check_size(frame.len())?;
            return Ok(frames::read_at_broker(peer, &frame)?);
        }
        if self.codec == Codec::Json {
            return Err(Mistake::NotJson(refuse_all_but_json(&message)?));
        }
        let longest = message.iter().map(|frame| frame.len()).max();
        self.check_size(longest.unwrap_or(0))?;
        read(peer, &message)
    }

    fn check_size(&self, bytes: usize) -> Result<(), Mistake> {
        match bytes > self.most_bytes {
            true => Err(Mistake::TooLarge(bytes)),
            false => Ok(()),
        }
    }
}

/// Reads a message without its routing id, whose frame, if it was JSON, is in MessagePack by now.
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
