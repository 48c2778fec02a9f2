//! A client in the simulator: stores records, asks for those that were confirmed, and remembers all.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use mutirao::machine::{Machine, Time};
use mutirao::sim::{Node, NodeId, Rng};
use mutirao::storage::{
    ClientConfig, ClientInput, ClientMachine, ClientOutput, Done, HeadId, Payload, RecordId,
    Request,
};

use super::nodes::Message;

/// What all clients together were told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) confirmed: BTreeMap<RecordId, Payload>,
    /// In which reign each was confirmed, unless a register was lost since.
    pub(super) registered: BTreeMap<RecordId, u64>,
    pub(super) found: u64,
    pub(super) unknown: u64,
    pub(super) verified: Option<(u64, u64, Vec<String>)>,
}

pub(super) type SharedLedger = Rc<RefCell<Ledger>>;

pub(super) struct ClientNode {
    machine: ClientMachine,
    heads: usize,
    ledger: SharedLedger,
    to_store: VecDeque<(RecordId, Payload)>,
    storing: Option<(RecordId, Payload)>,
    reading: Option<RecordId>,
    reads: bool,
    rng: Rng,
    next: Time,
    outbox: VecDeque<(NodeId, Message)>,
    now: Time,
}

impl ClientNode {
    pub(super) fn new(
        now: Time,
        heads: usize,
        to_store: VecDeque<(RecordId, Payload)>,
        ledger: SharedLedger,
        rng: Rng,
    ) -> ClientNode {
        let config = ClientConfig {
            heads: (0..heads).map(|head| HeadId(head as u32)).collect(),
            resend: Duration::from_millis(700),
            patience: Duration::from_secs(20),
        };
        ClientNode {
            machine: ClientMachine::new(config),
            heads,
            ledger,
            to_store,
            storing: None,
            reading: None,
            reads: true,
            rng,
            next: now,
            outbox: VecDeque::new(),
            now,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.to_store.is_empty() && self.storing.is_none()
    }

    /// Asks for something from outside the simulation.
    pub(super) fn ask(&mut self, now: Time, request: Request) {
        self.now = now;
        self.reads = false;
        self.machine.handle(now, ClientInput::Do(request));
        self.obey();
    }

    fn begin(&mut self) {
        if self.storing.is_none()
            && let Some((id, bytes)) = self.to_store.pop_front()
        {
            self.storing = Some((id, bytes.clone()));
            let put = Request::Put(id, bytes);
            self.machine.handle(self.now, ClientInput::Do(put));
        }
        if self.reading.is_none() && self.reads {
            let ids: Vec<RecordId> = self.ledger.borrow().confirmed.keys().copied().collect();
            if let Some(&id) = self.rng.pick(&ids) {
                self.reading = Some(id);
                let get = Request::Get(id);
                self.machine.handle(self.now, ClientInput::Do(get));
            }
        }
        let pause = Duration::from_millis(100)..Duration::from_millis(600);
        self.next = self.now + self.rng.within(&pause);
    }

    fn obey(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                ClientOutput::ToHead(head, asks) => {
                    let to = NodeId(head.0 as usize);
                    self.outbox.push_back((to, Message::Asks(asks)));
                }
                ClientOutput::Keep(line) => {
                    let kept = ClientInput::Kept(line.id, Ok(()));
                    self.machine.handle(self.now, kept);
                }
                ClientOutput::Done(done) => self.done(done),
            }
        }
    }

    fn done(&mut self, done: Done) {
        let mut ledger = self.ledger.borrow_mut();
        match done {
            Done::Stored(line, _) => {
                let (id, bytes) = self.storing.take().expect("it was asked for");
                assert_eq!((id, bytes.checksum()), (line.id, line.checksum));
                ledger.registered.insert(id, line.epoch);
                ledger.confirmed.insert(id, bytes);
            }
            Done::Found(id, bytes) => {
                assert_eq!(ledger.confirmed.get(&id), Some(&bytes), "what {id} holds");
                ledger.found += 1;
                self.reading = None;
            }
            // A head that does not know yet that another leads may say so; at the end none may.
            Done::Unknown(id) => {
                assert!(self.heads > 1, "{id} is unknown: it was confirmed");
                ledger.unknown += 1;
                self.reading = None;
            }
            Done::TimedOut(Request::Put(id, bytes), _) => {
                self.storing = None;
                self.to_store.push_front((id, bytes));
            }
            Done::TimedOut(Request::Get(_), _) => self.reading = None,
            Done::TimedOut(..) => {}
            Done::Refused(id, why) => panic!("{id} is refused: {why}"),
            Done::Verified(found) => {
                ledger.verified = Some((found.checked, found.damaged, found.missing));
            }
            Done::Records(..) | Done::Status(_) => {}
        }
    }
}

impl Node for ClientNode {
    type Message = Message;

    fn handle(&mut self, now: Time, from: NodeId, message: Message) {
        self.now = now;
        let Message::Tells(tells) = message else {
            unreachable!("not for clients");
        };
        let head = HeadId(from.0 as u32);
        self.machine.handle(now, ClientInput::Head(head, tells));
        self.obey();
    }

    fn wake(&mut self, now: Time) {
        self.now = now;
        self.machine.wake(now);
        self.obey();
        if now >= self.next {
            self.begin();
            self.obey();
        }
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let machine = self.machine.deadline();
        Some(machine.map_or(self.next, |deadline| deadline.min(self.next)))
    }
}
