//! How often may be knocked over one connection.
//!
//! Who is let in and leaves is announced to everybody in the room, so that this, too, needs a bound; and a
//! guest can make up a new session for each time.

use std::collections::{HashMap, VecDeque};

use mutirao::machine::Time;

use crate::chat::bucket::Bucket;

/// Knocks over one connection, in a second on average and at once. An impatient guest knocks four times in the
/// first second and once in each that follows.
const RATE: u32 = 5;
const BURST: u32 = 20;

/// Connections that are remembered; beyond it, the one that knocked first is forgotten.
const MAX_PEERS: usize = 16_384;

/// Names a connection; what cannot be told apart has the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer(pub(crate) u64);

/// The connections over which somebody knocked.
#[derive(Debug, Default)]
pub(super) struct Knocks {
    buckets: HashMap<Peer, Bucket>,
    /// In the order of their first knock.
    order: VecDeque<Peer>,
}

impl Knocks {
    /// Whether another knock is taken.
    pub(super) fn take(&mut self, peer: Peer, now: Time) -> bool {
        if !self.buckets.contains_key(&peer) {
            self.order.push_back(peer);
        }
        let bucket = self.buckets.entry(peer);
        let taken = bucket
            .or_insert_with(|| Bucket::new(RATE, BURST, now))
            .take(now);
        while self.order.len() > MAX_PEERS {
            let first = self.order.pop_front();
            first.map(|peer| self.buckets.remove(&peer));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_its_own_patience_and_memory_is_bounded() {
        let mut knocks = Knocks::default();
        let mut taken = |peer, times| {
            let taken = (0..times).filter(|_| knocks.take(Peer(peer), Time::START));
            taken.count()
        };
        assert_eq!((taken(1, 100), taken(2, 3)), (BURST as usize, 3));
        (10..50_000).for_each(|peer| assert_eq!(taken(peer, 1), 1));
        assert_eq!(knocks.buckets.len(), MAX_PEERS);
        assert_eq!(knocks.order.len(), MAX_PEERS);
    }
}
