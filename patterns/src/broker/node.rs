//! The broker's machine with its socket and its store.

use std::collections::HashMap;
use std::sync::Arc;

use crate::complaints::Complaints;
use crate::driver::{Delivery, Node, Port};
use crate::machine::{Machine, Time};
use crate::pipeline::PeerId;
use crate::transport::{Frame, Message, Source, TransportError};
use crate::wait::Interest;
use crate::wire::{Kind, WireError};

use super::frames;
use super::keeper::Keeper;
use super::machine::{BrokerInput, BrokerMachine, BrokerOutput};
use super::object::Shared;
use super::store::Write;

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
        port.receive(|message| match read(peers, message) {
            Ok(input) => machine.handle(now, input),
            Err(error) => {
                machine.note_malformed();
                mistakes.add(&"the broker", &error);
            }
        })
    }

    fn act(&mut self, now: Time) -> Result<(), TransportError> {
        while let Some(output) = self.machine.poll() {
            let (peer, frame) = match output {
                BrokerOutput::ToClient(peer, says) => (peer, frames::control(Kind::Client, &says)),
                BrokerOutput::ToWorker(peer, tells) => {
                    (peer, frames::control(Kind::Worker, &tells))
                }
                BrokerOutput::Grant(grant) => (grant.peer, frames::leased(&grant)),
                BrokerOutput::Results {
                    peer,
                    job,
                    span,
                    records,
                } => (peer, frames::outcomes(job, span, &records)),
                BrokerOutput::Keep(write) => {
                    self.writes.push(write);
                    continue;
                }
                BrokerOutput::Gone(peer) => {
                    self.peers.forget(peer);
                    continue;
                }
            };
            self.send(now, peer, frame)?;
        }
        Ok(())
    }

    fn send(&mut self, now: Time, peer: PeerId, frame: Frame) -> Result<(), TransportError> {
        let Some(route) = self.peers.routes.get(&peer) else {
            return Ok(());
        };
        let message = vec![route.clone(), frame];
        if self.port.send_now(&message)? == Delivery::Unroutable {
            self.machine.handle(now, BrokerInput::Unreachable(peer));
        }
        Ok(())
    }

    /// Exchanges news with the store.
    fn keep(&mut self, now: Time) {
        let Some(keeper) = &self.keeper else { return };
        keeper.write(&mut self.writes);
        let (stored, trouble, waiting_bytes) = keeper.look();
        self.port.set_open(waiting_bytes <= MAX_UNWRITTEN_BYTES);
        if stored != self.stored {
            self.stored = stored;
            self.machine.handle(now, BrokerInput::Stored(stored));
        }
        if trouble != self.trouble {
            self.trouble.clone_from(&trouble);
            self.machine.handle(now, BrokerInput::StoreTrouble(trouble));
        }
    }
}

fn read(peers: &mut Peers, mut message: Message) -> Result<BrokerInput, WireError> {
    if message.len() != 2 {
        return Err(WireError::Foreign);
    }
    let frame = message.swap_remove(1);
    let route = message.swap_remove(0);
    let peer = peers.number(route);
    frames::read_at_broker(peer, &frame)
}

impl Node for BrokerNode {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        self.machine.wake(now);
        let more = self.receive(now)?;
        self.act(now)?;
        self.keep(now);
        self.act(now)?;
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
