//! Who is behind a head's door: routing ids by name.

use std::collections::{HashMap, VecDeque};

use crate::pipeline::PeerId;
use crate::transport::Frame;

use super::super::InstanceId;

/// Clients that may wait for an answer at once; the oldest is forgotten then, and asks again.
const MAX_CLIENTS: usize = 65_536;

/// Data nodes that are known; more are not answered.
const MAX_NODES: usize = 4_096;

/// The way back to whoever has spoken.
#[derive(Debug, Default)]
pub(crate) struct Visitors {
    clients: HashMap<PeerId, Frame>,
    numbers: HashMap<Box<[u8]>, PeerId>,
    oldest: VecDeque<PeerId>,
    last: PeerId,
    nodes: HashMap<InstanceId, Frame>,
}

impl Visitors {
    /// The number of the client that this routing id belongs to.
    pub(crate) fn client(&mut self, route: &Frame) -> PeerId {
        if let Some(&number) = self.numbers.get(&route[..]) {
            return number;
        }
        if self.oldest.len() >= MAX_CLIENTS {
            let oldest = self.oldest.pop_front();
            let route = oldest.and_then(|oldest| self.clients.remove(&oldest));
            route.and_then(|route| self.numbers.remove(&route[..]));
        }
        self.last += 1;
        self.clients.insert(self.last, route.clone());
        self.numbers.insert(route[..].into(), self.last);
        self.oldest.push_back(self.last);
        self.last
    }

    /// Where a client is answered.
    pub(crate) fn client_route(&self, client: PeerId) -> Option<&Frame> {
        self.clients.get(&client)
    }

    /// Notes where a data node is reached; whether that is new.
    pub(crate) fn note_node(&mut self, node: InstanceId, route: &Frame) -> bool {
        let known = self.nodes.get(&node);
        let is_new = known.is_none_or(|known| known[..] != route[..]);
        let has_room = known.is_some() || self.nodes.len() < MAX_NODES;
        if is_new && has_room {
            self.nodes.insert(node, route.clone());
        }
        is_new && has_room
    }

    /// Where a data node is reached.
    pub(crate) fn node_route(&self, node: InstanceId) -> Option<&Frame> {
        self.nodes.get(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_numbered_and_the_oldest_makes_room() {
        let mut visitors = Visitors::default();
        let route = |number: u32| Frame::from(&number.to_be_bytes()[..]);
        let first = visitors.client(&route(0));
        assert_eq!(visitors.client(&route(0)), first);
        for number in 1..=MAX_CLIENTS as u32 {
            visitors.client(&route(number));
        }
        assert!(visitors.client_route(first).is_none());
        assert_ne!(visitors.client(&route(0)), first);
        assert_eq!(visitors.clients.len(), MAX_CLIENTS);
    }

    #[test]
    fn a_data_node_that_comes_back_another_way_is_noticed() {
        let mut visitors = Visitors::default();
        let route = |byte: u8| Frame::from(&[byte][..]);
        assert!(visitors.note_node(InstanceId(1), &route(1)));
        assert!(!visitors.note_node(InstanceId(1), &route(1)));
        assert!(visitors.note_node(InstanceId(1), &route(2)));
        assert_eq!(&visitors.node_route(InstanceId(1)).unwrap()[..], [2]);
    }
}
