//! Orders to data nodes: given again until they are answered, and given up after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    /// Whether a client waits for it.
    pub(super) fn is_for_client(&self) -> bool {
        matches!(self, Purpose::Put(_) | Purpose::Get(..))
    }

    /// Who reads what, if it is for a client.
    fn get(&self) -> Option<(PeerId, RecordId)> {
        match self {
            Purpose::Get(id, peer, _) => Some((*peer, *id)),
            _ => None,
        }
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
    /// Bytes that travel with it or with its answer.
    bytes: u64,
}

/// What a node has to answer.
#[derive(Debug, Default)]
struct Load {
    orders: usize,
    bytes: u64,
}

/// Bytes that an answer to a check may have read from the disk.
const CHECK_BYTES: u64 = 32 << 20;

#[derive(Debug)]
pub(super) struct Orders {
    epoch: Epoch,
    head: HeadId,
    last: u64,
    open: BTreeMap<u64, Order>,
    timers: BTreeSet<(Time, u64)>,
    to_answer: BTreeMap<InstanceId, Load>,
    /// Those among them that are reads for clients, and the bytes of these.
    gets: BTreeSet<(PeerId, RecordId)>,
    get_bytes: u64,
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
            gets: BTreeSet::new(),
            get_bytes: 0,
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
        let bytes = match &deed {
            Deed::Store { bytes, .. } => bytes.len() as u64,
            Deed::Check { .. } => CHECK_BYTES,
            Deed::Read { .. } | Deed::Drop { .. } | Deed::List { .. } => 0,
        };
        self.open(now, (node, deed, purpose, bytes), desk);
    }

    /// Has a record of so many bytes read.
    pub(super) fn give_read(
        &mut self,
        now: Time,
        node: InstanceId,
        (id, bytes): (RecordId, u64),
        purpose: Purpose,
        desk: &mut Desk,
    ) {
        self.open(now, (node, Deed::Read { id }, purpose, bytes), desk);
    }

    fn open(
        &mut self,
        now: Time,
        (node, deed, purpose, bytes): (InstanceId, Deed, Purpose, u64),
        desk: &mut Desk,
    ) {
        self.last += 1;
        let load = self.to_answer.entry(node).or_default();
        load.orders += 1;
        load.bytes += bytes;
        if let Some(get) = purpose.get() {
            self.gets.insert(get);
            self.get_bytes += bytes;
        }
        let order = Order {
            node,
            deed,
            purpose,
            expires: now + desk.config.patience + self.slack(node, desk),
            next_send: now,
            bytes,
        };
        self.open.insert(self.last, order);
        self.timers.insert((now, self.last));
        self.send(now, self.last, desk);
    }

    /// How long a slow node takes for all the bytes that it has to answer for: none is hurried, or given up, for
    /// being busy.
    fn slack(&self, node: InstanceId, desk: &Desk) -> Duration {
        let bytes = self.to_answer.get(&node).map_or(0, |load| load.bytes);
        let micros = bytes.saturating_mul(1_000_000) / desk.config.slow_bytes_per_second.max(1);
        Duration::from_micros(micros)
    }

    fn send(&mut self, now: Time, seq: u64, desk: &mut Desk) {
        let node = self.open.get(&seq).map(|order| order.node);
        let slack = node.map(|node| self.slack(node, desk));
        let (Some(order), Some(slack)) = (self.open.get_mut(&seq), slack) else {
            return;
        };
        self.timers.remove(&(order.next_send, seq));
        // Looked at when it is to be given up, too.
        let again = now + desk.config.resend + slack;
        order.next_send = match order.expires > now {
            true => again.min(order.expires),
            false => again,
        };
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

    /// What this node has to answer is sent again at once.
    pub(super) fn hurry(&mut self, now: Time, node: InstanceId) {
        let orders = self.open.iter_mut();
        for (&seq, order) in orders.filter(|(_, order)| order.node == node) {
            self.timers.remove(&(order.next_send, seq));
            order.next_send = now;
            self.timers.insert((now, seq));
        }
    }

    /// The order that this node has answered, if it is still open.
    pub(super) fn answered(&mut self, node: InstanceId, stamp: Stamp) -> Option<Order> {
        let ours = self.open.get(&stamp.seq)?.node == node && stamp.epoch == self.epoch;
        ours.then(|| self.close(stamp.seq))?
    }

    fn close(&mut self, seq: u64) -> Option<Order> {
        let order = self.open.remove(&seq)?;
        self.timers.remove(&(order.next_send, seq));
        if let Some(load) = self.to_answer.get_mut(&order.node) {
            load.orders -= 1;
            load.bytes -= order.bytes;
        }
        if let Some(get) = order.purpose.get() {
            self.gets.remove(&get);
            self.get_bytes -= order.bytes;
        }
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
        self.to_answer
            .get(&node)
            .is_none_or(|load| load.orders == 0)
    }

    /// Reads for clients that are under way, and the bytes of the records.
    pub(super) fn gets(&self) -> (usize, u64) {
        (self.gets.len(), self.get_bytes)
    }

    /// Whether the record is being read for this client.
    pub(super) fn is_getting(&self, peer: PeerId, id: RecordId) -> bool {
        self.gets.contains(&(peer, id))
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|&(due, _)| due)
    }
}
