//! Records on their way to disk: first at the data nodes, then in the register, then confirmed.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;

use crate::machine::Time;
use crate::pipeline::PeerId;

use super::super::{
    Checksum, Deed, Fact, HeadTells, InstanceId, Outcome, Payload, RecordId, Refusal,
};
use super::HeadOutput;
use super::desk::Desk;
use super::orders::Purpose;
use super::reign::Reign;

/// Connections that may wait for one and the same record.
const MAX_ASKERS: usize = 8;

#[derive(Debug)]
pub(super) struct Put {
    checksum: Checksum,
    bytes: Payload,
    askers: BTreeSet<PeerId>,
    /// Where it is on disk.
    stored: BTreeSet<InstanceId>,
    /// Where it has been sent, and how many of those have not answered.
    tried: BTreeSet<InstanceId>,
    under_way: usize,
    /// The entry that must be on disk at most heads before the record is confirmed.
    index: Option<u64>,
}

impl Put {
    /// Who waits for it.
    pub(super) fn into_askers(self) -> BTreeSet<PeerId> {
        self.askers
    }
}

impl Reign {
    pub(super) fn put(
        &mut self,
        now: Time,
        peer: PeerId,
        (id, checksum, bytes): (RecordId, Checksum, Payload),
        desk: &mut Desk,
        rng: &mut StdRng,
    ) {
        if let Some(why) = self.refusal(id, checksum, &bytes, desk) {
            return self.refuse(peer, id, why, desk);
        }
        if let Some(put) = self.puts.get_mut(&id) {
            if put.askers.len() < MAX_ASKERS {
                put.askers.insert(peer);
            }
            return;
        }
        let stored = match self.catalog.records.get(&id) {
            Some(record) => self.safe_copies(&record.copies).collect(),
            None => BTreeSet::new(),
        };
        let put = Put {
            checksum,
            bytes,
            askers: BTreeSet::from([peer]),
            tried: stored.clone(),
            stored,
            under_way: 0,
            index: None,
        };
        self.put_bytes += put.bytes.len() as u64;
        self.puts.insert(id, put);
        self.place(now, id, desk, rng);
    }

    /// Why the record is not taken, if it is not.
    fn refusal(
        &self,
        id: RecordId,
        checksum: Checksum,
        bytes: &Payload,
        desk: &Desk,
    ) -> Option<Refusal> {
        let (length, limit) = (bytes.len() as u64, desk.config.record_bytes);
        let known = self.catalog.records.get(&id);
        let differs = match self.puts.get(&id) {
            Some(put) => put.checksum != checksum || put.bytes != *bytes,
            None => known.is_some_and(|record| !record.is(checksum, length)),
        };
        if length > limit {
            let bytes = length;
            Some(Refusal::Oversized { bytes, limit })
        } else if bytes.checksum() != checksum {
            Some(Refusal::Damaged)
        } else if differs {
            Some(Refusal::Taken)
        } else if desk.disk_full {
            Some(Refusal::Unavailable("the head's disk is full".into()))
        } else if !self.puts.contains_key(&id) && !self.has_room(length, desk) {
            let busy = "the head has as many records on their way as it takes";
            Some(Refusal::Unavailable(busy.into()))
        } else {
            None
        }
    }

    fn has_room(&self, length: u64, desk: &Desk) -> bool {
        self.puts.len() < desk.config.puts && self.put_bytes + length <= desk.config.put_bytes
    }

    fn take_put(&mut self, id: RecordId) -> Option<Put> {
        let put = self.puts.remove(&id)?;
        self.put_bytes -= put.bytes.len() as u64;
        Some(put)
    }

    /// Sends the record to as many data nodes as are missing, or registers it when none is.
    fn place(&mut self, now: Time, id: RecordId, desk: &mut Desk, rng: &mut StdRng) {
        let Some(put) = self.puts.get(&id).filter(|put| put.index.is_none()) else {
            return;
        };
        let wanted = desk.config.replicas;
        if put.stored.len() >= wanted {
            return self.register_put(id, desk);
        }
        let missing = wanted.saturating_sub(put.stored.len() + put.under_way);
        let length = put.bytes.len() as u64;
        let fit = self.nodes.iter().filter(|(_, node)| node.takes(length));
        let fit = fit.map(|(&instance, _)| instance);
        let chosen = fit
            .filter(|instance| !put.tried.contains(instance))
            .sample(rng, missing);
        if chosen.len() < missing {
            return self.give_up_put(id, desk);
        }
        for instance in chosen {
            self.send_put(now, id, instance, desk);
        }
    }

    fn send_put(&mut self, now: Time, id: RecordId, instance: InstanceId, desk: &mut Desk) {
        let Some(put) = self.puts.get_mut(&id) else {
            return;
        };
        put.tried.insert(instance);
        put.under_way += 1;
        let deed = Deed::Store {
            id,
            checksum: put.checksum,
            bytes: put.bytes.clone(),
        };
        self.orders
            .give(now, instance, deed, Purpose::Put(id), desk);
    }

    /// What is stored already stays where it is: the client that tries again needs less.
    fn give_up_put(&mut self, id: RecordId, desk: &mut Desk) {
        let Some(put) = self.take_put(id) else {
            return;
        };
        // A late answer must not count for another record that comes under this id.
        let of_put = |purpose: &Purpose| matches!(purpose, Purpose::Put(other) if *other == id);
        let _ = self.orders.withdraw(|order| of_put(&order.purpose));
        self.repairs.look_at(id);
        let healthy = self.nodes.values().filter(|node| node.takes(0)).count();
        let fit = put.bytes.len() as u64;
        let fit = self.nodes.values().filter(|node| node.takes(fit)).count();
        let (wanted, stored) = (desk.config.replicas, put.stored.len());
        let why = Refusal::Unavailable(format!(
            "copies asked for: {wanted}; data nodes that have stored it: {stored}, that are healthy: {healthy}, with room for it: {fit}"
        ));
        for peer in put.askers {
            self.refuse(peer, id, why.clone(), desk);
        }
    }

    /// A data node has answered, or does not.
    pub(super) fn put_settled(
        &mut self,
        now: Time,
        id: RecordId,
        node: InstanceId,
        outcome: Option<Outcome>,
        desk: &mut Desk,
        rng: &mut StdRng,
    ) {
        if let Some(put) = self.puts.get_mut(&id) {
            put.under_way = put.under_way.saturating_sub(1);
        }
        if outcome == Some(Outcome::Stored) {
            match self.puts.get_mut(&id).filter(|put| put.index.is_none()) {
                Some(put) => drop(put.stored.insert(node)),
                // Too late to count for the client, and a copy all the same.
                None => self.gain_copy(id, node),
            }
        }
        self.place(now, id, desk, rng);
    }

    fn register_put(&mut self, id: RecordId, desk: &mut Desk) {
        let Some(put) = self.puts.get(&id) else {
            return;
        };
        let places: Vec<InstanceId> = put.stored.iter().copied().collect();
        let fact = match self.catalog.records.get(&id) {
            Some(_) => Fact::Places {
                id,
                places: places.clone(),
            },
            None => Fact::Record {
                id,
                length: put.bytes.len() as u64,
                checksum: put.checksum,
                places: places.clone(),
            },
        };
        // A record that is known is safe with the entry that made it so.
        let known = self.catalog.records.get(&id);
        let index = match known.filter(|record| places.iter().all(|at| record.copies.contains(at)))
        {
            Some(record) => record.index,
            None => self.register(fact, desk),
        };
        if let Some(put) = self.puts.get_mut(&id) {
            put.index = Some(index);
        }
        for place in places {
            self.gain_copy(id, place);
        }
        self.confirmations.insert((index, id));
    }

    /// Confirms what most heads have on disk.
    pub(super) fn confirm(&mut self, desk: &mut Desk) {
        while let Some(&(index, id)) = self.confirmations.first() {
            if index > self.committed {
                return;
            }
            self.confirmations.pop_first();
            let Some(put) = self.take_put(id) else {
                continue;
            };
            let names = put.stored.iter().map(|&place| self.catalog.name(place));
            let confirmed = HeadTells::Confirmed {
                id,
                epoch: self.epoch,
                places: names.collect(),
            };
            for peer in put.askers {
                desk.say(HeadOutput::ToClient(peer, confirmed.clone()));
            }
            self.repairs.look_at(id);
        }
    }
}
