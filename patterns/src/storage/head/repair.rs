//! Records with too few copies get others, a few at a time; those with too many lose one.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;

use crate::machine::Time;

use super::super::{Deed, Fact, InstanceId, Outcome, RecordId};
use super::desk::Desk;
use super::nodes::Listing;
use super::orders::{Purpose, Spare};
use super::reign::Reign;
use super::{HeadConfig, Health};

/// Records that are looked at in one go, and the pause before the next ones: what is heard meanwhile does not
/// wait, however many records there are.
const LOOKED_AT_ONCE: usize = 1_000;
const LOOK_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Repairs {
    /// Records to look at, and behind which one: each has its turn.
    queue: BTreeSet<RecordId>,
    at: Bound<RecordId>,
    /// Those that lack a copy for which there is no source or no place now.
    stuck: BTreeSet<RecordId>,
    running: BTreeSet<RecordId>,
    /// When the next one may begin.
    next: Time,
}

impl Repairs {
    pub(super) fn new(now: Time) -> Repairs {
        Repairs {
            queue: BTreeSet::new(),
            at: Bound::Unbounded,
            stuck: BTreeSet::new(),
            running: BTreeSet::new(),
            next: now,
        }
    }

    pub(super) fn look_at(&mut self, id: RecordId) {
        self.queue.insert(id);
    }

    /// Looks again at what could not be repaired.
    pub(super) fn try_again(&mut self) {
        // Either may hold all records there are, and then the other is short.
        if self.queue.len() < self.stuck.len() {
            std::mem::swap(&mut self.queue, &mut self.stuck);
        }
        self.queue.extend(std::mem::take(&mut self.stuck));
    }

    fn take_next(&mut self) -> Option<RecordId> {
        let mut behind = self.queue.range((self.at, Bound::Unbounded));
        let id = *behind.next().or_else(|| self.queue.first())?;
        self.queue.remove(&id);
        self.at = Bound::Excluded(id);
        Some(id)
    }

    /// When there is something to do, if what hinders is only the clock.
    pub(super) fn deadline(&self, config: &HeadConfig) -> Option<Time> {
        let waits = !self.queue.is_empty() && self.running.len() < config.repairs;
        waits.then_some(self.next)
    }

    /// Makes room for other work after a copy of so many bytes.
    fn rest(&mut self, now: Time, bytes: u64, config: &HeadConfig) {
        let micros = bytes.saturating_mul(1_000_000) / config.repair_bytes_per_second.max(1);
        self.next = self.next.max(now) + Duration::from_micros(micros);
    }
}

impl Reign {
    /// Copies at nodes that are not dead.
    pub(super) fn safe_copies<'a>(
        &'a self,
        copies: &'a [InstanceId],
    ) -> impl Iterator<Item = InstanceId> + 'a {
        let copies = copies.iter().copied();
        copies.filter(|place| self.fares(*place, |health| health != Health::Dead))
    }

    fn fares(&self, place: InstanceId, how: impl Fn(Health) -> bool) -> bool {
        self.nodes.get(&place).is_some_and(|node| how(node.health))
    }

    /// Looks at records as long as there is room for repairs.
    pub(super) fn repair(&mut self, now: Time, desk: &mut Desk, rng: &mut StdRng) {
        let mut looked = 0;
        while now >= self.repairs.next && self.repairs.running.len() < desk.config.repairs {
            let Some(id) = self.repairs.take_next() else {
                return;
            };
            self.consider(now, id, desk, rng);
            looked += 1;
            if looked == LOOKED_AT_ONCE {
                self.repairs.next = self.repairs.next.max(now + LOOK_PAUSE);
            }
        }
    }

    fn consider(&mut self, now: Time, id: RecordId, desk: &mut Desk, rng: &mut StdRng) {
        let Some(record) = self.catalog.records.get(&id) else {
            return;
        };
        // What is being stored is looked at when it is confirmed.
        if self.repairs.running.contains(&id) || self.puts.contains_key(&id) {
            return;
        }
        if record.index > self.committed {
            self.repairs.stuck.insert(id);
            return;
        }
        let wanted = desk.config.replicas;
        let safe = self.safe_copies(&record.copies).count();
        let unsure = self.readable(id).len().saturating_sub(safe);
        if safe + unsure < wanted {
            self.mend(now, id, desk, rng);
        } else if safe > wanted && unsure == 0 {
            self.thin_out(now, id, desk);
        } else if unsure > 0 {
            self.repairs.stuck.insert(id);
        } else if self.names_the_gone(id) {
            self.note_places(id, desk);
        }
    }

    /// Whether the register still names a data node for this record whose name is another's by now.
    fn names_the_gone(&self, id: RecordId) -> bool {
        let record = self.catalog.records.get(&id);
        record.is_some_and(|record| record.places.iter().any(|place| self.is_gone(*place)))
    }

    /// Reads a copy; what is read goes to another node.
    fn mend(&mut self, now: Time, id: RecordId, desk: &mut Desk, rng: &mut StdRng) {
        let mut sources = self.readable(id);
        self.best_last(&mut sources);
        let Some(record) = self.catalog.records.get(&id) else {
            return;
        };
        let target = self.place_for(id, record.length, rng);
        let (Some(source), Some(_)) = (sources.pop(), target) else {
            self.repairs.stuck.insert(id);
            return;
        };
        self.repairs.running.insert(id);
        let read = (id, record.length);
        self.repairs.rest(now, record.length, &desk.config);
        let purpose = Purpose::ReadForRepair(id, sources);
        self.orders.give_read(now, source, read, purpose, desk);
    }

    /// A healthy node without a copy.
    fn place_for(&self, id: RecordId, bytes: u64, rng: &mut StdRng) -> Option<InstanceId> {
        let fit = |node: &super::nodes::Node| node.takes(bytes) && !node.copies.contains(&id);
        let fit = self.nodes.iter().filter(|(_, node)| fit(node));
        fit.map(|(&instance, _)| instance).choose(rng)
    }

    pub(super) fn read_for_repair(
        &mut self,
        now: Time,
        (id, mut sources): (RecordId, Vec<InstanceId>),
        node: InstanceId,
        outcome: Option<Outcome>,
        desk: &mut Desk,
        rng: &mut StdRng,
    ) {
        let record = self.catalog.records.get(&id);
        let checksum = record.map(|record| record.checksum);
        match outcome {
            Some(Outcome::Bytes(bytes)) if Some(bytes.checksum()) == checksum => {
                match (self.place_for(id, bytes.len() as u64, rng), checksum) {
                    (Some(place), Some(checksum)) => {
                        let deed = Deed::Store {
                            id,
                            checksum,
                            bytes,
                        };
                        self.orders
                            .give(now, place, deed, Purpose::Repair(id), desk);
                    }
                    _ => self.stop_repair(id),
                }
            }
            outcome => {
                if outcome.is_some() {
                    self.lose_copy(id, node);
                }
                match sources.pop() {
                    Some(source) => {
                        let purpose = Purpose::ReadForRepair(id, sources);
                        let read = (id, self.length(id));
                        self.orders.give_read(now, source, read, purpose, desk);
                    }
                    None => self.stop_repair(id),
                }
            }
        }
    }

    fn stop_repair(&mut self, id: RecordId) {
        self.repairs.running.remove(&id);
        self.repairs.stuck.insert(id);
    }

    pub(super) fn repair_settled(
        &mut self,
        id: RecordId,
        node: InstanceId,
        outcome: Option<Outcome>,
        desk: &mut Desk,
    ) {
        // Whatever hindered it may be over in the next round.
        self.stop_repair(id);
        if outcome == Some(Outcome::Stored) {
            self.gain_copy(id, node);
            self.note_places(id, desk);
        }
    }

    /// Copies at nodes that are up and have said in this reign what they hold.
    fn sure_copies(&self, id: RecordId) -> Vec<InstanceId> {
        let Some(record) = self.catalog.records.get(&id) else {
            return Vec::new();
        };
        let sure = |place: &&InstanceId| {
            let node = self.nodes.get(place);
            node.is_some_and(|node| node.is_up() && node.listing == Listing::Done)
        };
        record.copies.iter().filter(sure).copied().collect()
    }

    /// Picks the copy where least room is left, if enough others are sure, and begins to read those.
    fn thin_out(&mut self, now: Time, id: RecordId, desk: &mut Desk) {
        let mut unread = self.sure_copies(id);
        if unread.len() <= desk.config.replicas {
            self.repairs.stuck.insert(id);
            return;
        }
        unread.sort_by_key(|place| self.nodes.get(place).map_or(0, |node| node.free));
        let goes = unread.remove(0);
        let spare = Spare {
            id,
            goes,
            good: Vec::new(),
            unread,
        };
        self.repairs.running.insert(id);
        self.read_keeper(now, spare, desk);
    }

    fn read_keeper(&mut self, now: Time, mut spare: Spare, desk: &mut Desk) {
        let id = spare.id;
        let length = self.length(id);
        self.repairs.rest(now, length, &desk.config);
        match spare.unread.pop() {
            Some(keeper) => {
                let purpose = Purpose::ReadForDrop(spare);
                self.orders
                    .give_read(now, keeper, (id, length), purpose, desk);
            }
            None => self.stop_repair(id),
        }
    }

    /// A copy that shall stay was read; with the last of them the one too many goes.
    pub(super) fn read_for_drop(
        &mut self,
        now: Time,
        mut spare: Spare,
        node: InstanceId,
        outcome: Option<Outcome>,
        desk: &mut Desk,
    ) {
        let id = spare.id;
        let record = self.catalog.records.get(&id);
        let checksum = record.map(|record| record.checksum);
        match outcome {
            Some(Outcome::Bytes(bytes)) if Some(bytes.checksum()) == checksum => {
                spare.good.push(node);
            }
            Some(_) => self.lose_copy(id, node),
            None => {}
        }
        if spare.good.len() < desk.config.replicas {
            return self.read_keeper(now, spare, desk);
        }
        let sure = self.sure_copies(id);
        match spare
            .good
            .iter()
            .chain([&spare.goes])
            .all(|place| sure.contains(place))
        {
            true => self.drop_copy(now, id, spare.goes, desk),
            false => self.stop_repair(id),
        }
    }

    /// First the copy does not count any more, then it goes.
    fn drop_copy(&mut self, now: Time, id: RecordId, place: InstanceId, desk: &mut Desk) {
        self.repairs.running.remove(&id);
        self.lose_copy(id, place);
        self.note_places(id, desk);
        self.orders
            .give(now, place, Deed::Drop { id }, Purpose::Drop, desk);
    }

    /// Says in the register where the copies are now.
    fn note_places(&mut self, id: RecordId, desk: &mut Desk) {
        if let Some(record) = self.catalog.records.get(&id) {
            let copies = record.copies.iter().copied();
            let places = copies.filter(|place| !self.is_gone(*place)).collect();
            self.register(Fact::Places { id, places }, desk);
        }
    }
}
