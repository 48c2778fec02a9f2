//! A head that reigns: what it knows, and what it does about what it hears.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rand::rngs::StdRng;

use crate::machine::Time;
use crate::pipeline::PeerId;

use super::super::{
    ClientAsks, Epoch, Fact, HeadTells, InstanceId, NodeView, Outcome, Position, RecordId, Refusal,
    StatusView,
};
use super::catalog::Catalog;
use super::desk::Desk;
use super::followers::Followers;
use super::nodes::Node;
use super::orders::{Order, Orders, Purpose};
use super::puts::Put;
use super::reads::Checking;
use super::repair::Repairs;
use super::{HeadId, HeadOutput, Health};

/// Records named in one answer to a client.
const PAGE: usize = 1_000;

#[derive(Debug)]
pub(super) struct Reign {
    pub(super) epoch: Epoch,
    /// The entry with which it begins; clients are served when most heads have that.
    pub(super) first: u64,
    /// The last entry that most heads have on disk, and that stays.
    pub(super) committed: u64,
    followers: Followers,
    pub(super) catalog: Catalog,
    pub(super) nodes: BTreeMap<InstanceId, Node>,
    pub(super) orders: Orders,
    pub(super) puts: BTreeMap<RecordId, Put>,
    /// Bytes of them all.
    pub(super) put_bytes: u64,
    /// Records to confirm when the entry is safe.
    pub(super) confirmations: BTreeSet<(u64, RecordId)>,
    pub(super) repairs: Repairs,
    pub(super) checking: Option<Checking>,
    pub(super) round: u64,
    pub(super) next_beat: Time,
    config: super::HeadConfig,
}

impl Reign {
    pub(super) fn new(now: Time, epoch: Epoch, desk: &mut Desk, rng: &mut StdRng) -> Reign {
        let mut catalog = Catalog::default();
        for (index, entry) in (1..).zip(desk.register.entries()) {
            catalog.note(index, entry);
        }
        let followers = Followers::new(epoch, desk);
        let head = desk.config.head;
        let mut reign = Reign {
            epoch,
            first: desk.append(epoch, Fact::Lead { head }),
            committed: 0,
            followers,
            nodes: known_nodes(&catalog, desk),
            catalog,
            orders: Orders::new(epoch, head),
            puts: BTreeMap::new(),
            put_bytes: 0,
            confirmations: BTreeSet::new(),
            repairs: Repairs::new(now),
            checking: None,
            round: 0,
            next_beat: now,
            config: desk.config.clone(),
        };
        for &id in reign.catalog.records.keys() {
            reign.repairs.look_at(id);
        }
        reign.wake(now, desk, rng);
        reign
    }

    /// Tells those who wait to ask another.
    pub(super) fn end(self, leader: Option<HeadId>, desk: &mut Desk) {
        let waiting = self.puts.into_values().flat_map(Put::into_askers);
        for peer in waiting {
            let answer = HeadTells::NotLeading { leader };
            desk.say(HeadOutput::ToClient(peer, answer));
        }
    }

    /// Appends an entry to the register; its number.
    pub(super) fn register(&mut self, fact: Fact, desk: &mut Desk) -> u64 {
        let index = desk.append(self.epoch, fact);
        if let Some(entry) = desk.register.entries().last() {
            self.catalog.note(index, entry);
        }
        index
    }

    pub(super) fn hear_client(
        &mut self,
        now: Time,
        peer: PeerId,
        message: ClientAsks,
        desk: &mut Desk,
        rng: &mut StdRng,
    ) {
        let serves = self.committed >= self.first;
        match message {
            ClientAsks::Put { id, .. } | ClientAsks::Get { id } if !serves => {
                let why = Refusal::Unavailable("the head has just taken over".into());
                self.refuse(peer, id, why, desk);
            }
            ClientAsks::Put {
                id,
                checksum,
                bytes,
            } => self.put(now, peer, (id, checksum, bytes), desk, rng),
            ClientAsks::Get { id } => self.get(now, peer, id, desk, rng),
            // Asked again soon: an answer now would name none.
            ClientAsks::List { .. } if !serves => {}
            ClientAsks::List { after } => {
                let records = self.page(after);
                desk.say(HeadOutput::ToClient(peer, records));
            }
            ClientAsks::Status {} => {
                let status = HeadTells::Status(self.status(desk));
                desk.say(HeadOutput::ToClient(peer, status));
            }
            ClientAsks::Verify {} => self.verify(now, peer, desk),
        }
        self.advance(now, desk, rng);
    }

    pub(super) fn refuse(&mut self, peer: PeerId, id: RecordId, why: Refusal, desk: &mut Desk) {
        let refused = HeadTells::Refused { id, why };
        desk.say(HeadOutput::ToClient(peer, refused));
    }

    fn page(&self, after: Option<RecordId>) -> HeadTells {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.catalog.records.range((start, Bound::Unbounded));
        let mut safe = behind.filter(|(_, record)| record.index <= self.committed);
        let page = safe.by_ref().take(PAGE);
        let records = page.map(|(&id, record)| (id, record.length)).collect();
        let more = safe.next().is_some();
        HeadTells::Records {
            after,
            records,
            more,
        }
    }

    /// An order is answered, or given up.
    pub(super) fn settle(
        &mut self,
        now: Time,
        order: Order,
        outcome: Option<Outcome>,
        desk: &mut Desk,
        rng: &mut StdRng,
    ) {
        let node = order.node;
        match order.purpose {
            Purpose::Put(id) => self.put_settled(now, id, node, outcome, desk, rng),
            Purpose::Get(id, peer, places) => {
                self.get_settled(now, (id, peer, places), node, outcome, desk);
            }
            Purpose::ReadForRepair(id, sources) => {
                self.read_for_repair(now, (id, sources), node, outcome, desk, rng);
            }
            Purpose::ReadForDrop(spare) => self.read_for_drop(now, spare, node, outcome, desk),
            Purpose::Repair(id) => self.repair_settled(id, node, outcome, desk),
            Purpose::List(after) => self.listed(now, node, after, outcome, desk),
            Purpose::Check => self.check_settled(now, node, outcome, desk),
            // Whether it is gone the node's next beat says.
            Purpose::Drop => {}
        }
    }

    pub(super) fn appended(
        &mut self,
        now: Time,
        from: HeadId,
        matched: bool,
        last: Position,
        desk: &mut Desk,
    ) {
        self.followers.appended(from, matched, last, desk);
        self.commit(desk);
        self.followers.send(now, desk);
    }

    /// Only an entry of this reign counts by its number alone; those before it are safe with it.
    fn commit(&mut self, desk: &mut Desk) {
        let agreed = self.followers.agreed_by_most(desk);
        if agreed >= self.first {
            self.committed = self.committed.max(agreed);
        }
        self.confirm(desk);
    }

    /// Does what has become possible.
    pub(super) fn advance(&mut self, now: Time, desk: &mut Desk, rng: &mut StdRng) {
        self.commit(desk);
        self.repair(now, desk, rng);
        self.followers.send(now, desk);
    }

    pub(super) fn wake(&mut self, now: Time, desk: &mut Desk, rng: &mut StdRng) {
        for order in self.orders.wake(now, desk) {
            self.settle(now, order, None, desk, rng);
        }
        if now >= self.next_beat {
            self.beat(now, desk);
        }
        self.advance(now, desk, rng);
    }

    pub(super) fn deadline(&self) -> Time {
        let others = [
            self.orders.deadline(),
            self.followers.deadline(),
            self.repairs.deadline(&self.config),
        ];
        others.into_iter().flatten().fold(self.next_beat, Time::min)
    }

    pub(super) fn status(&self, desk: &Desk) -> StatusView {
        let (mut lacking, mut unreachable) = (0, 0);
        for record in self.catalog.records.values() {
            let copies = self.safe_copies(&record.copies).count();
            lacking += u64::from(copies < desk.config.replicas);
            unreachable += u64::from(copies == 0);
        }
        StatusView {
            epoch: self.epoch,
            records: self.catalog.records.len() as u64,
            lacking,
            unreachable,
            nodes: self
                .nodes
                .iter()
                .map(|(id, node)| self.view(*id, node))
                .collect(),
        }
    }

    fn view(&self, instance: InstanceId, node: &Node) -> NodeView {
        let health = match node.health {
            Health::Alive => "alive",
            Health::Stale => "stale",
            Health::Dead => "dead",
        };
        NodeView {
            instance,
            name: self.catalog.name(instance),
            health: health.into(),
            records: node.records,
            bytes: node.bytes,
            free: node.free,
        }
    }
}

/// The nodes that the register names; the failure detector gives them time to say that they are there.
fn known_nodes(catalog: &Catalog, desk: &mut Desk) -> BTreeMap<InstanceId, Node> {
    let named = catalog.names.values().copied();
    let places = catalog
        .records
        .values()
        .flat_map(|record| record.places.iter().copied());
    let all: BTreeSet<InstanceId> = named.chain(places).collect();
    for &instance in &all {
        desk.say(HeadOutput::Watch(instance));
    }
    all.into_iter()
        .map(|instance| (instance, Node::unheard()))
        .collect()
}
