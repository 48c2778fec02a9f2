//! The broker's machine with its socket and its store.

use std::collections::HashMap;
use std::sync::Arc;

use crate::complaints::Complaints;
use crate::driver::{Delivery, Node, Port};
use crate::machine::{Machine, Time};
use crate::pipeline::{JobId, PeerId};
use crate::transport::{Frame, Message, Source, TransportError};
use crate::wait::Interest;
use crate::wire::{Kind, WireError};

use super::hands::{self, Deed};
use super::keeper::Keeper;
use super::machine::{BrokerInput, BrokerMachine, BrokerOutput, Grant};
use super::majordomo::{self, Malformed, Said, Version};
use super::object::Shared;
use super::protocol::BrokerSays;
use super::store::Write;
use super::{bodies, frames};

/// Bytes of writes that may wait for the disk before no more is read.
const MAX_UNWRITTEN_BYTES: usize = 64 << 20;

/// The routing ids of those who speak to us, numbered.
#[derive(Default)]
struct Peers {
    numbers: HashMap<Box<[u8]>, PeerId>,
    routes: HashMap<PeerId, Frame>,
    next: PeerId,
}

impl Peers {
    fn number(&mut self, route: Frame) -> PeerId {
        if let Some(&number) = self.numbers.get(&route[..]) {
            return number;
        }
        self.next += 1;
        let bytes: Box<[u8]> = route[..].into();
        self.routes.insert(self.next, Frame::from(&bytes[..]));
        self.numbers.insert(bytes, self.next);
        self.next
    }

    fn forget(&mut self, number: PeerId) {
        if let Some(route) = self.routes.remove(&number) {
            self.numbers.remove(&route[..]);
        }
    }
}

pub(super) struct BrokerNode {
    pub(super) machine: BrokerMachine,
    pub(super) port: Port,
    pub(super) keeper: Option<Keeper>,
    pub(super) shared: Arc<Shared>,
    peers: Peers,
    writes: Vec<Write>,
    stored: u64,
    trouble: Option<String>,
    mistakes: Complaints,
}

impl BrokerNode {
    pub(super) fn new(
        machine: BrokerMachine,
        port: Port,
        keeper: Option<Keeper>,
        shared: Arc<Shared>,
    ) -> BrokerNode {
        BrokerNode {
            machine,
            port,
            keeper,
            shared,
            peers: Peers::default(),
            writes: Vec::new(),
            stored: 0,
            trouble: None,
            mistakes: Complaints::default(),
        }
    }

    fn receive(&mut self, now: Time) -> Result<bool, TransportError> {
        let BrokerNode {
            machine,
            port,
            peers,
            mistakes,
            ..
        } = self;
        let mut answers = Vec::new();
        let more = port.receive(|mut message| {
            let rest = message.split_off(message.len().min(1));
            let Some(route) = message.pop() else { return };
            let is_new = !peers.numbers.contains_key(&route[..]);
            let peer = peers.number(route.clone());
            match read(peer, &rest) {
                Ok(input) => machine.handle(now, input),
                Err(mistake) => {
                    if is_new {
                        peers.forget(peer);
                    }
                    machine.note_malformed();
                    mistakes.add(&"the broker", &mistake);
                    answers.extend(mistake.answer().map(|answer| (route, answer)));
                }
            }
        })?;
        for (route, mut answer) in answers {
            answer.insert(0, route);
            port.send_now(&answer)?;
        }
        Ok(more)
    }

    fn act(&mut self, now: Time) -> Result<(), TransportError> {
        while let Some(output) = self.machine.poll() {
            match output {
                BrokerOutput::Keep(write) => self.writes.push(write),
                BrokerOutput::Gone(peer) => self.peers.forget(peer),
                output => {
                    let (peer, message) = message(output);
                    self.send(now, peer, message)?;
                }
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        now: Time,
        peer: PeerId,
        mut message: Message,
    ) -> Result<(), TransportError> {
        let Some(route) = self.peers.routes.get(&peer) else {
            return Ok(());
        };
        message.insert(0, route.clone());
        if self.port.send_now(&message)? == Delivery::Unroutable {
            self.machine.handle(now, BrokerInput::Unreachable(peer));
        }
        Ok(())
    }

    /// Hears how far the store is.
    fn hear_store(&mut self, now: Time) {
        let Some(keeper) = &self.keeper else { return };
        let (stored, trouble, waiting_bytes) = keeper.look();
        // A disk that is full is emptied by what clients and workers have to say.
        let open = waiting_bytes <= MAX_UNWRITTEN_BYTES || trouble.is_some();
        self.port.set_open(open);
        if stored != self.stored {
            self.stored = stored;
            self.machine.handle(now, BrokerInput::Stored(stored));
        }
        if trouble != self.trouble {
            self.trouble.clone_from(&trouble);
            self.machine.handle(now, BrokerInput::StoreTrouble(trouble));
        }
    }

    fn hand_over_writes(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.write(&mut self.writes);
        }
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

/// What the machine wants sent, without the routing id, and to whom.
fn message(output: BrokerOutput) -> (PeerId, Message) {
    match output {
        BrokerOutput::ToClient(peer, says) => (peer, vec![frames::control(Kind::Client, &says)]),
        BrokerOutput::ToWorker(peer, tells) => (peer, vec![frames::control(Kind::Worker, &tells)]),
        BrokerOutput::Grant(grant) => (grant.peer, grant_message(&grant)),
        BrokerOutput::Results {
            peer,
            job,
            span,
            records,
        } => (peer, vec![frames::outcomes(job, span, &records)]),
        BrokerOutput::Reply {
            peer,
            version,
            service,
            body,
        } => {
            let body = bodies::frames(body.bytes());
            (peer, majordomo::to_client::reply(version, &service, body))
        }
        BrokerOutput::Part {
            peer,
            service,
            body,
        } => {
            let body = bodies::frames(body.bytes());
            (peer, majordomo::to_client::partial(&service, body))
        }
        BrokerOutput::HandBeat(peer, version) => (peer, majordomo::heartbeat(version)),
        BrokerOutput::Dismiss(peer, version) => (peer, majordomo::disconnect(version)),
        BrokerOutput::Keep(_) | BrokerOutput::Gone(_) => unreachable!("these are not sent"),
    }
}

fn grant_message(grant: &Grant) -> Message {
    match grant.majordomo {
        None => vec![frames::leased(grant)],
        Some(version) => {
            let client = hands::address(grant.lease);
            majordomo::to_worker::request(version, client, hands::body(&grant.records))
        }
    }
}

impl Node for BrokerNode {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        self.machine.wake(now);
        let more = self.receive(now)?;
        self.act(now)?;
        self.hand_over_writes();
        self.hear_store(now);
        self.act(now)?;
        self.hand_over_writes();
        Ok(more)
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.port.interests(sources);
    }

    fn is_over(&self) -> bool {
        self.shared.stop.is_stopped()
    }

    fn close(&mut self, error: Option<TransportError>) {
        // Writes what waits before anybody is told that the broker has ended.
        self.keeper = None;
        self.shared.end(error.map(|error| error.to_string()));
    }
}
