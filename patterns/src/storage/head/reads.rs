//! Reads for clients, and the reading of everything that is called a check.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::machine::Time;
use crate::pipeline::PeerId;

use super::super::{
    Deed, HeadTells, InstanceId, Outcome, RecordId, Refusal, StatusView, Verification,
};
use super::desk::Desk;
use super::nodes::{Listing, Node};
use super::orders::Purpose;
use super::reign::Reign;
use super::{HeadOutput, Health};

/// A check under way.
#[derive(Debug, Default)]
pub(super) struct Checking {
    askers: BTreeSet<PeerId>,
    /// The nodes that have not come to the end.
    open: BTreeSet<InstanceId>,
    checked: u64,
    damaged: u64,
    missing: Vec<String>,
}

impl Reign {
    pub(super) fn get(
        &mut self,
        now: Time,
        peer: PeerId,
        id: RecordId,
        desk: &mut Desk,
        rng: &mut StdRng,
    ) {
        let Some(record) = self.catalog.records.get(&id) else {
            return self.get_unknown(peer, id, desk);
        };
        if record.index > self.committed {
            let why = Refusal::Unavailable("the record is just being stored".into());
            return self.refuse(peer, id, why, desk);
        }
        // Asked again while it is on its way.
        if self.orders.is_getting(peer, id) {
            return;
        }
        let (gets, bytes) = self.orders.gets();
        if gets >= desk.config.gets || gets > 0 && bytes + record.length > desk.config.put_bytes {
            let why =
                Refusal::Unavailable("the head has as many reads under way as it takes".into());
            return self.refuse(peer, id, why, desk);
        }
        let mut places = self.readable(id);
        places.shuffle(rng);
        self.best_last(&mut places);
        self.ask_next(now, id, peer, places, desk);
    }

    /// A register that was lost or has gaps is whole again when all data nodes have said what they hold.
    fn get_unknown(&mut self, peer: PeerId, id: RecordId, desk: &mut Desk) {
        let owes = |node: &&Node| node.listing != Listing::Done && node.health != Health::Dead;
        let owing = self.nodes.values().filter(owes).count();
        // Nobody is known to a head without a register before it has asked.
        let asked = self.first > 1 || self.round > 1;
        if owing == 0 && asked {
            return desk.say(HeadOutput::ToClient(peer, HeadTells::Unknown { id }));
        }
        let why = format!(
            "the register does not name the record, and data nodes that have not said yet what they hold: {owing}"
        );
        self.refuse(peer, id, Refusal::Unavailable(why), desk);
    }

    /// Puts the places that answer to the end, from where they are taken.
    pub(super) fn best_last(&self, places: &mut [InstanceId]) {
        places.sort_by_key(|place| self.nodes.get(place).is_some_and(Node::is_up));
    }

    /// Who may have a copy that can be read now.
    pub(super) fn readable(&self, id: RecordId) -> Vec<InstanceId> {
        let Some(record) = self.catalog.records.get(&id) else {
            return Vec::new();
        };
        let listed = |instance: &InstanceId| {
            let node = self.nodes.get(instance);
            node.is_none_or(|node| node.listing == Listing::Done)
        };
        let unsure = record.places.iter().filter(|place| !listed(place));
        let all: BTreeSet<InstanceId> = record.copies.iter().chain(unsure).copied().collect();
        let reachable = |instance: &InstanceId| {
            let node = self.nodes.get(instance);
            node.is_some_and(|node| node.health != Health::Dead)
        };
        all.into_iter().filter(reachable).collect()
    }

    /// Bytes of a record.
    pub(super) fn length(&self, id: RecordId) -> u64 {
        let record = self.catalog.records.get(&id);
        record.map(|record| record.length).unwrap_or_default()
    }

    fn ask_next(
        &mut self,
        now: Time,
        id: RecordId,
        peer: PeerId,
        mut places: Vec<InstanceId>,
        desk: &mut Desk,
    ) {
        match places.pop() {
            Some(place) => {
                let purpose = Purpose::Get(id, peer, places);
                let read = (id, self.length(id));
                self.orders.give_read(now, place, read, purpose, desk);
            }
            None => {
                let why = "no data node that has the record answers";
                self.refuse(peer, id, Refusal::Unavailable(why.into()), desk);
            }
        }
    }

    /// A data node has sent the record, or has none.
    pub(super) fn get_settled(
        &mut self,
        now: Time,
        (id, peer, places): (RecordId, PeerId, Vec<InstanceId>),
        node: InstanceId,
        outcome: Option<Outcome>,
        desk: &mut Desk,
    ) {
        let checksum = self.catalog.records.get(&id).map(|record| record.checksum);
        match (outcome, checksum) {
            (Some(Outcome::Bytes(bytes)), Some(checksum)) if bytes.checksum() == checksum => {
                let found = HeadTells::Found {
                    id,
                    checksum,
                    bytes,
                };
                desk.say(HeadOutput::ToClient(peer, found));
            }
            (outcome, _) => {
                if outcome.is_some() {
                    self.lose_copy(id, node);
                }
                self.ask_next(now, id, peer, places, desk);
            }
        }
    }

    /// Lets every node that is up read all that it holds.
    pub(super) fn verify(&mut self, now: Time, peer: PeerId, desk: &mut Desk) {
        let fresh = self.checking.is_none();
        let checking = self.checking.get_or_insert_default();
        checking.askers.insert(peer);
        if !fresh {
            return;
        }
        let mut up = BTreeMap::new();
        for (&instance, node) in &self.nodes {
            up.insert(instance, node.is_up());
        }
        for (instance, up) in up {
            match up {
                true => {
                    checking.open.insert(instance);
                    let deed = Deed::Check { after: None };
                    self.orders.give(now, instance, deed, Purpose::Check, desk);
                }
                false => checking.missing.push(self.catalog.name(instance)),
            }
        }
        self.finish_check(desk);
    }

    pub(super) fn check_settled(
        &mut self,
        now: Time,
        node: InstanceId,
        outcome: Option<Outcome>,
        desk: &mut Desk,
    ) {
        let name = self.catalog.name(node);
        let Some(checking) = &mut self.checking else {
            return;
        };
        match outcome {
            Some(Outcome::Checked {
                checked,
                damaged,
                next,
            }) => {
                checking.checked = checking.checked.saturating_add(checked);
                checking.damaged += damaged.len() as u64;
                if next.is_none() {
                    checking.open.remove(&node);
                }
                for id in damaged {
                    self.lose_copy(id, node);
                }
                if next.is_some() {
                    let deed = Deed::Check { after: next };
                    self.orders.give(now, node, deed, Purpose::Check, desk);
                }
            }
            _ => {
                checking.open.remove(&node);
                checking.missing.push(name);
            }
        }
        self.finish_check(desk);
    }

    fn finish_check(&mut self, desk: &mut Desk) {
        let Some(checking) = self.checking.take_if(|checking| checking.open.is_empty()) else {
            return;
        };
        let StatusView {
            lacking,
            unreachable,
            ..
        } = self.status(desk);
        let verified = HeadTells::Verified(Verification {
            checked: checking.checked,
            damaged: checking.damaged,
            missing: checking.missing,
            lacking,
            unreachable,
        });
        for peer in checking.askers {
            desk.say(HeadOutput::ToClient(peer, verified.clone()));
        }
    }
}
