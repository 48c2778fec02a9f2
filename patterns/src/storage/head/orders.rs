//! Orders to data nodes: given again until they are answered, and given up after a while.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::Time;
use crate::pipeline::PeerId;

use super::super::{Deed, Epoch, HeadAsks, InstanceId, RecordId, Stamp};
use super::desk::Desk;
use super::{HeadId, HeadOutput};

/// What an order is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// A client's record.
    Put(RecordId),
    /// A client's question, and who else may be asked.
    Get(RecordId, PeerId, Vec<InstanceId>),
    /// A record that has too few copies: first read, then stored elsewhere.
    ReadForRepair(RecordId, Vec<InstanceId>),
    Repair(RecordId),
    /// A copy too many, in the end; first those that shall stay are read, as one may be damaged.
    ReadForDrop(Spare),
    Drop,
    List(Option<RecordId>),
    Check,
}

impl Purpose {
    fn is_get(&self) -> bool {
        matches!(self, Purpose::Get(..))
    }
}

/// A copy that may go when all that shall stay are found good.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    pub(super) id: RecordId,
    pub(super) goes: InstanceId,
    pub(super) good: Vec<InstanceId>,
    pub(super) unread: Vec<InstanceId>,
}

#[derive(Debug)]
pub(super) struct Order {
    pub(super) node: InstanceId,
    pub(super) deed: Deed,
    pub(super) purpose: Purpose,
    expires: Time,
    next_send: Time,
}

#[derive(Debug)]
pub(super) struct Orders {
    epoch: Epoch,
    head: HeadId,
    last: u64,
    open: BTreeMap<u64, Order>,
    timers: BTreeSet<(Time, u64)>,
    /// How many of them each node has to answer, and how many are reads for clients.
    to_answer: BTreeMap<InstanceId, usize>,
    gets: usize,
}

impl Orders {
    pub(super) fn new(epoch: Epoch, head: HeadId) -> Orders {
        Orders {
            epoch,
            head,
            last: 0,
            open: BTreeMap::new(),
            timers: BTreeSet::new(),
            to_answer: BTreeMap::new(),
            gets: 0,
        }
    }

    pub(super) fn give(
        &mut self,
        now: Time,
        node: InstanceId,
        deed: Deed,
        purpose: Purpose,
        desk: &mut Desk,
    ) {
        self.last += 1;
        *self.to_answer.entry(node).or_default() += 1;
        self.gets += usize::from(purpose.is_get());
        let expires = now + desk.config.patience;
        let order = Order {
            node,
            deed,
            purpose,
            expires,
            next_send: now,
        };
        self.open.insert(self.last, order);
        self.timers.insert((now, self.last));
        self.send(now, self.last, desk);
    }

    fn send(&mut self, now: Time, seq: u64, desk: &mut Desk) {
        let Some(order) = self.open.get_mut(&seq) else {
            return;
        };
        self.timers.remove(&(order.next_send, seq));
        order.next_send = now + desk.config.resend;
        self.timers.insert((order.next_send, seq));
        let stamp = Stamp {
            epoch: self.epoch,
            seq,
        };
        let asks = HeadAsks::Order {
            to: order.node,
            head: self.head,
            stamp,
            deed: order.deed.clone(),
        };
        desk.say(HeadOutput::ToNode(order.node, asks));
    }

    /// The order that this node has answered, if it is still open.
    pub(super) fn answered(&mut self, node: InstanceId, stamp: Stamp) -> Option<Order> {
        let ours = self.open.get(&stamp.seq)?.node == node && stamp.epoch == self.epoch;
        ours.then(|| self.close(stamp.seq))?
    }

    fn close(&mut self, seq: u64) -> Option<Order> {
        let order = self.open.remove(&seq)?;
        self.timers.remove(&(order.next_send, seq));
        if let Some(count) = self.to_answer.get_mut(&order.node) {
            *count -= 1;
        }
        self.gets -= usize::from(order.purpose.is_get());
        Some(order)
    }

    /// Sends again what is due, and returns what is given up.
    pub(super) fn wake(&mut self, now: Time, desk: &mut Desk) -> Vec<Order> {
        let mut given_up = Vec::new();
        while let Some(&(_, seq)) = self.timers.first().filter(|(due, _)| *due <= now) {
            let expired = self
                .open
                .get(&seq)
                .is_some_and(|order| order.expires <= now);
            match expired {
                true => given_up.extend(self.close(seq)),
                false => self.send(now, seq, desk),
            }
        }
        given_up
    }

    /// Gives up some orders: their answers do not count any more.
    pub(super) fn withdraw(&mut self, which: impl Fn(&Order) -> bool) -> Vec<Order> {
        let open = self.open.iter().filter(|(_, order)| which(order));
        let seqs: Vec<u64> = open.map(|(&seq, _)| seq).collect();
        seqs.into_iter().filter_map(|seq| self.close(seq)).collect()
    }

    /// Whether a node has nothing to answer.
    pub(super) fn is_idle(&self, node: InstanceId) -> bool {
        self.to_answer.get(&node).is_none_or(|count| *count == 0)
    }

    /// Reads for clients that are under way.
    pub(super) fn gets(&self) -> usize {
        self.gets
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|&(due, _)| due)
    }
}
