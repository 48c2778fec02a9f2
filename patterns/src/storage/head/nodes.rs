//! The data nodes: who is up, and what each holds.

use std::collections::BTreeSet;
use std::ops::Bound;

use rand::rngs::StdRng;

use crate::machine::Time;

use super::super::{
    BeatLine, Copy, DataSays, Deed, Fact, HeadAsks, InstanceId, NodeBeat, Outcome, RecordId,
    check_name, data::digest,
};
use super::desk::Desk;
use super::orders::{Order, Purpose};
use super::reign::Reign;
use super::{HeadOutput, Health};

/// Beats in a row in which a node says that it holds something else than believed, before it is asked
/// for a list; one alone may have crossed an order on its way.
const MISMATCHES: u32 = 2;

/// How far a node's own list is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    Wanted,
    UnderWay,
    Done,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) health: Health,
    /// Whether it has spoken in this reign.
    pub(super) heard: bool,
    start: u64,
    round: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) free: u64,
    pub(super) listing: Listing,
    /// What it is believed to hold, and the same in one number.
    pub(super) copies: BTreeSet<RecordId>,
    digest: u64,
    mismatches: u32,
}

impl Node {
    pub(super) fn unheard() -> Node {
        Node {
            health: Health::Stale,
            heard: false,
            start: 0,
            round: 0,
            records: 0,
            bytes: 0,
            free: 0,
            listing: Listing::Wanted,
            copies: BTreeSet::new(),
            digest: 0,
            mismatches: 0,
        }
    }

    /// Whether records can be sent there.
    pub(super) fn takes(&self, bytes: u64) -> bool {
        self.heard && self.health == Health::Alive && self.free >= bytes
    }

    pub(super) fn is_up(&self) -> bool {
        self.heard && self.health == Health::Alive
    }
}

impl Reign {
    pub(super) fn hear_data(
        &mut self,
        now: Time,
        message: DataSays,
        desk: &mut Desk,
        rng: &mut StdRng,
    ) {
        match message {
            DataSays::Alive { epoch, .. } if epoch == self.epoch => self.alive(now, message, desk),
            DataSays::Done {
                instance,
                stamp,
                outcome,
            } => {
                if let Some(order) = self.orders.answered(instance, stamp) {
                    self.settle(now, order, Some(outcome), desk, rng);
                }
            }
            _ => {}
        }
        self.advance(now, desk, rng);
    }

    fn alive(&mut self, now: Time, message: DataSays, desk: &mut Desk) {
        let DataSays::Alive {
            instance,
            start,
            name,
            round,
            records,
            bytes,
            free,
            digest,
            ..
        } = message
        else {
            return;
        };
        if let Err(reason) = self.admit(instance, name, desk) {
            let to = instance;
            let away = HeadAsks::TurnedAway { to, reason };
            return desk.say(HeadOutput::ToNode(instance, away));
        }
        let node = self.nodes.entry(instance).or_insert_with(Node::unheard);
        if !node.heard {
            (node.heard, node.health) = (true, Health::Alive);
        }
        if start < node.start || round < node.round {
            return;
        }
        if start > node.start {
            node.listing = Listing::Wanted;
            // What it was told before, it may never have heard.
            self.orders.hurry(now, instance);
            // What it said before may not be so any more.
            let lists = |purpose: &Purpose| matches!(purpose, Purpose::List(_));
            let _ = self
                .orders
                .withdraw(|order| order.node == instance && lists(&order.purpose));
        }
        (node.start, node.round) = (start, round);
        (node.records, node.bytes, node.free) = (records, bytes, free);
        self.compare(now, instance, digest, desk);
    }

    /// Whether the node may have its name.
    fn admit(&mut self, instance: InstanceId, name: String, desk: &mut Desk) -> Result<(), String> {
        check_name(&name)?;
        match self.catalog.names.get(&name) {
            Some(owner) if *owner == instance => return Ok(()),
            Some(owner)
                if self
                    .nodes
                    .get(owner)
                    .is_some_and(|node| node.health != Health::Dead) =>
            {
                return Err(format!(
                    "another data node has the name {name:?}: start this one with --name and a name of its own"
                ));
            }
            _ => {}
        }
        let before = self.catalog.names.get(&name).copied();
        self.register(Fact::Node { instance, name }, desk);
        if let Some(before) = before {
            self.leave_out(before);
        }
        Ok(())
    }

    /// The register is to name a data node no more that will not come back.
    fn leave_out(&mut self, gone: InstanceId) {
        let records = self.catalog.records.iter();
        let named = records.filter(|(_, record)| record.places.contains(&gone));
        for (&id, _) in named {
            self.repairs.look_at(id);
        }
    }

    /// Whether it is dead, and its name is another's by now.
    pub(super) fn is_gone(&self, instance: InstanceId) -> bool {
        let node = self.nodes.get(&instance);
        let is_named = |owner: &InstanceId| *owner == instance;
        node.is_some_and(|node| node.health == Health::Dead)
            && !self.catalog.names.values().any(is_named)
    }

    /// Forgets those whom the register names no more.
    pub(super) fn forget_gone(&mut self) {
        let all = self.nodes.keys().copied();
        let gone: Vec<InstanceId> = all.filter(|instance| self.is_gone(*instance)).collect();
        for instance in gone {
            let mut records = self.catalog.records.values();
            if !records.any(|record| record.places.contains(&instance)) {
                self.forget_node(instance);
            }
        }
    }

    /// Asks for a list where belief and truth differ.
    fn compare(&mut self, now: Time, instance: InstanceId, digest: u64, desk: &mut Desk) {
        let idle = self.orders.is_idle(instance);
        let Some(node) = self.nodes.get_mut(&instance) else {
            return;
        };
        match node.digest == digest {
            true => node.mismatches = 0,
            false if idle => node.mismatches += 1,
            false => {}
        }
        if node.mismatches >= MISMATCHES {
            node.listing = Listing::Wanted;
        }
        if node.listing == Listing::Wanted && node.health == Health::Alive {
            (node.listing, node.mismatches) = (Listing::UnderWay, 0);
            self.list(now, instance, None, desk);
        }
    }

    fn list(&mut self, now: Time, instance: InstanceId, after: Option<RecordId>, desk: &mut Desk) {
        let deed = Deed::List { after };
        self.orders
            .give(now, instance, deed, Purpose::List(after), desk);
    }

    /// A part of a node's list has come: what it does not name there the node does not have.
    pub(super) fn listed(
        &mut self,
        now: Time,
        instance: InstanceId,
        after: Option<RecordId>,
        outcome: Option<Outcome>,
        desk: &mut Desk,
    ) {
        let Some(Outcome::Listed { copies, more }) = outcome else {
            if let Some(node) = self.nodes.get_mut(&instance) {
                node.listing = Listing::Wanted;
            }
            return;
        };
        // A list that does not get on has come to its end.
        let gets_on = |copy: &&Copy| more && after.is_none_or(|after| copy.id > after);
        let last = copies.last().filter(gets_on).map(|copy| copy.id);
        self.forget_unnamed(instance, after, last, &copies);
        for copy in &copies {
            self.found(instance, copy, desk);
        }
        match last {
            Some(last) => self.list(now, instance, Some(last), desk),
            None => {
                if let Some(node) = self.nodes.get_mut(&instance) {
                    node.listing = Listing::Done;
                }
                self.reconsider(instance);
            }
        }
    }

    fn forget_unnamed(
        &mut self,
        instance: InstanceId,
        after: Option<RecordId>,
        last: Option<RecordId>,
        copies: &[Copy],
    ) {
        let Some(node) = self.nodes.get(&instance) else {
            return;
        };
        let named: BTreeSet<RecordId> = copies.iter().map(|copy| copy.id).collect();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let end = last.map_or(Bound::Unbounded, Bound::Included);
        let part = node.copies.range((start, end));
        let gone: Vec<RecordId> = part.filter(|id| !named.contains(id)).copied().collect();
        for id in gone {
            self.lose_copy(id, instance);
        }
    }

    /// A node has a copy. One that no register knows is taken into it: it was confirmed by a head that
    /// lost its register, or nearly so, and keeping it does no harm.
    fn found(&mut self, instance: InstanceId, copy: &Copy, desk: &mut Desk) {
        let known = match self.catalog.records.get(&copy.id) {
            Some(record) => Some(record.is(copy.checksum, copy.length)),
            None => self.puts.get(&copy.id).map(|_| false),
        };
        if known.is_none() {
            let fact = Fact::Record {
                id: copy.id,
                length: copy.length,
                checksum: copy.checksum,
                places: vec![instance],
            };
            self.register(fact, desk);
        }
        if known != Some(false) {
            self.gain_copy(copy.id, instance);
        }
    }

    pub(super) fn gain_copy(&mut self, id: RecordId, instance: InstanceId) {
        let Some(record) = self.catalog.records.get_mut(&id) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&instance) else {
            return;
        };
        if node.copies.insert(id) {
            node.digest ^= digest(&record.copy(id));
            record.copies.push(instance);
        }
        self.repairs.look_at(id);
    }

    pub(super) fn lose_copy(&mut self, id: RecordId, instance: InstanceId) {
        let Some(record) = self.catalog.records.get_mut(&id) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&instance)
            && node.copies.remove(&id)
        {
            node.digest ^= digest(&record.copy(id));
        }
        record.copies.retain(|place| *place != instance);
        // The register may still say so; it is not to be believed any more.
        record.places.retain(|place| *place != instance);
        self.repairs.look_at(id);
    }

    /// Looks at all records of which a node has or had a copy.
    fn reconsider(&mut self, instance: InstanceId) {
        for (&id, record) in &self.catalog.records {
            if record.copies.contains(&instance) || record.places.contains(&instance) {
                self.repairs.look_at(id);
            }
        }
    }

    /// The failure detector speaks.
    pub(super) fn fare(
        &mut self,
        now: Time,
        instance: InstanceId,
        health: Health,
        desk: &mut Desk,
        rng: &mut StdRng,
    ) {
        let Some(node) = self.nodes.get_mut(&instance) else {
            return;
        };
        if node.health == Health::Dead && health != Health::Dead {
            // Much may have happened there.
            node.listing = Listing::Wanted;
        }
        // One that was never heard in this reign is not alive, whatever was heard before.
        node.health = match health {
            Health::Alive if !node.heard => Health::Stale,
            other => other,
        };
        if health != Health::Alive {
            // Clients need not wait for one that is late, while there are others.
            let goes = |order: &Order| health == Health::Dead || order.purpose.is_for_client();
            let withdrawn = self
                .orders
                .withdraw(|order| order.node == instance && goes(order));
            for order in withdrawn {
                self.settle(now, order, None, desk, rng);
            }
        }
        if health == Health::Dead {
            self.reconsider(instance);
        }
        self.advance(now, desk, rng);
    }

    /// Should it come back, under another name, it has nothing that it is believed to have.
    fn forget_node(&mut self, instance: InstanceId) {
        let node = self.nodes.get(&instance);
        let copies: Vec<RecordId> =
            node.map_or_else(Vec::new, |node| node.copies.iter().copied().collect());
        for id in copies {
            self.lose_copy(id, instance);
        }
        self.nodes.remove(&instance);
    }

    /// Closes one round of heartbeats and opens the next.
    pub(super) fn beat(&mut self, now: Time, desk: &mut Desk) {
        if self.round > 0 {
            desk.say(HeadOutput::Beat(self.beat_line()));
        }
        self.round += 1;
        self.next_beat = now + desk.config.beat;
        desk.say(HeadOutput::ToAll(HeadAsks::Beat {
            epoch: self.epoch,
            head: desk.config.head,
            round: self.round,
        }));
        self.repairs.try_again();
        self.forget_gone();
    }

    fn beat_line(&self) -> BeatLine {
        let beat = |(&instance, node): (&InstanceId, &Node)| NodeBeat {
            name: self.catalog.name(instance),
            answered: node.heard && node.round == self.round,
            records: node.records,
            bytes: node.bytes,
            free: node.free,
        };
        BeatLine {
            round: self.round,
            epoch: self.epoch,
            nodes: self.nodes.iter().map(beat).collect(),
        }
    }
}
