//! The broker's machine with its socket and its store.

use std::sync::Arc;

use crate::complaints::Complaints;
use crate::driver::{Delivery, MESSAGES_PER_TURN, Node, Port};
use crate::machine::{Machine, Time};
use crate::pipeline::PeerId;
use crate::transport::{Message, Source, TransportError};
use crate::wait::Interest;
use crate::wire::{Kind, Reader};

use super::hands;
use super::inbox::Inbox;
use super::json::{Codec, End};
use super::keeper::Keeper;
use super::machine::{BrokerInput, BrokerMachine, BrokerOutput, Grant};
use super::majordomo;
use super::object::Shared;
use super::store::Write;
use super::{bodies, frames};

/// Bytes of writes that may wait for the disk before no more is read.
const MAX_UNWRITTEN_BYTES: usize = 64 << 20;

pub(super) struct BrokerNode {
    pub(super) machine: BrokerMachine,
    pub(super) port: Port,
    pub(super) keeper: Option<Keeper>,
    pub(super) shared: Arc<Shared>,
    inbox: Inbox,
    writes: Vec<Write>,
    stored: u64,
    trouble: Option<String>,
    /// Nothing is read, as too much waits for the disk.
    deaf: bool,
    unread: Complaints,
}

impl BrokerNode {
    pub(super) fn new(
        machine: BrokerMachine,
        port: Port,
        inbox: Inbox,
        keeper: Option<Keeper>,
        shared: Arc<Shared>,
    ) -> BrokerNode {
        BrokerNode {
            machine,
            port,
            keeper,
            shared,
            inbox,
            writes: Vec::new(),
            stored: 0,
            trouble: None,
            deaf: false,
            unread: Complaints::default(),
        }
    }

    fn receive(&mut self, now: Time, most: usize) -> Result<bool, TransportError> {
        let BrokerNode {
            machine,
            port,
            inbox,
            ..
        } = self;
        let mut answers = Vec::new();
        let more = port.receive_some(most, |message| {
            answers.extend(inbox.take(machine, now, message))
        })?;
        for answer in answers {
            match port.send_now(&answer) {
                Err(error @ TransportError::TooLarge { .. }) => log::error!("{error}"),
                sent => drop(sent?),
            }
        }
        Ok(more)
    }

    fn act(&mut self, now: Time) -> Result<(), TransportError> {
        while let Some(output) = self.machine.poll() {
            match output {
                BrokerOutput::Keep(write) => self.writes.push(write),
                BrokerOutput::Gone(peer) => self.inbox.peers.forget(peer),
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
        let Some(route) = self.inbox.peers.route(peer) else {
            return Ok(());
        };
        if self.inbox.peers.speaks_json(peer) {
            message = in_json(message);
        }
        message.insert(0, route);
        match self.port.send_now(&message) {
            Ok(Delivery::Taken) => {}
            Ok(Delivery::Unroutable) => self.machine.handle(now, BrokerInput::Unreachable(peer)),
            Ok(Delivery::Full) => {
                let what = "a peer does not read what it asked for: it counts as lost";
                self.unread.add(&"the broker", &what);
                self.machine.handle(now, BrokerInput::Unreachable(peer));
            }
            // Nothing that one peer is to get may end the broker for all.
            Err(error @ TransportError::TooLarge { .. }) => {
                log::error!("a message was not sent: {error}");
            }
            Err(error) => return Err(error),
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
        if open == self.deaf {
            self.deaf = !open;
            self.machine.handle(now, BrokerInput::Deaf(!open));
        }
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

/// The same message for a peer that speaks JSON.
fn in_json(message: Message) -> Message {
    let frames = message.into_iter();
    let written = frames.map(|frame| match Reader::open(&frame) {
        Ok((Kind::Client | Kind::Outcomes, _)) => Codec::Json.outgoing(End::Client, frame),
        Ok(_) => Codec::Json.outgoing(End::Worker, frame),
        // Majordomo, which such a peer has spoken before.
        Err(_) => frame,
    });
    written.collect()
}

/// What the machine wants sent, without the routing id, and to whom.
pub(super) fn message(output: BrokerOutput) -> (PeerId, Message) {
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
        // Who has just been forgotten and speaks now is somebody new.
        self.act(now)?;
        // What follows from a single message goes out before the look whether there are more.
        let mut more = self.receive(now, 1)?;
        self.act(now)?;
        if more {
            more = self.receive(now, MESSAGES_PER_TURN)?;
            self.act(now)?;
        }
        self.hand_over_writes();
        self.hear_store(now);
        self.act(now)?;
        self.hand_over_writes();
        self.port.flush()?;
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
