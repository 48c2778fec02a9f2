//! Who is behind a head's door: routing ids by name.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::machine::Time;
use crate::pipeline::PeerId;
use crate::transport::Frame;

use super::super::InstanceId;

/// Clients that may wait for an answer at once; the oldest is forgotten then, and asks again.
const MAX_CLIENTS: usize = 65_536;

/// Data nodes that are known; more are not answered.
const MAX_NODES: usize = 4_096;

/// For so long a hello of a program may wait here, as on a machine that stood still, while the next one with the
/// same file is there already.
const OVERLAP: Duration = Duration::from_secs(3);

/// How often two programs are then heard in turn before both are believed to be there.
const TURNS: u32 = 3;

/// The way back to whoever has spoken.
#[derive(Debug, Default)]
pub(crate) struct Visitors {
    clients: HashMap<PeerId, Frame>,
    numbers: HashMap<Box<[u8]>, PeerId>,
    oldest: VecDeque<PeerId>,
    last: PeerId,
    nodes: HashMap<InstanceId, Way>,
}

/// The way back to a data node.
#[derive(Debug)]
struct Way {
    route: Frame,
    life: u64,
    /// The program whose place it has taken.
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    life: u64,
    /// When its place was taken.
    since: Time,
    /// How often the two were heard in turn after that.
    turns: u32,
    /// Whether the later one was heard after it.
    answered: bool,
}

impl Way {
    /// The same program is heard again.
    fn again(&mut self, route: &Frame) -> Came {
        if let Some(before) = &mut self.before {
            before.answered = true;
        }
        match self.route[..] == route[..] {
            true => Came::Known,
            false => {
                self.route = route.clone();
                Came::New
            }
        }
    }
}

impl Before {
    /// It is heard although its place was taken: whether that is more than what it had said before it ended.
    fn is_there(&mut self, now: Time) -> bool {
        if now.since(self.since) >= OVERLAP && std::mem::take(&mut self.answered) {
            self.turns += 1;
        }
        self.turns >= TURNS
    }
}

/// What a hello of a data node means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// It is where it was.
    Known,
    /// It is there for the first time, or comes another way.
    New,
    /// It is from before the program was started again.
    Late,
    /// There is another program with the same file, which is reached this way: it has taken this one's place before.
    Twin(Box<[u8]>),
    /// There are too many.
    TooMany,
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

    /// Notes where a data node is reached.
    pub(crate) fn note_node(
        &mut self,
        now: Time,
        node: InstanceId,
        life: u64,
        route: &Frame,
    ) -> Came {
        let fresh = |before| Way {
            route: route.clone(),
            life,
            before,
        };
        let has_room = self.nodes.len() < MAX_NODES;
        let Some(known) = self.nodes.get_mut(&node) else {
            if !has_room {
                return Came::TooMany;
            }
            self.nodes.insert(node, fresh(None));
            return Came::New;
        };
        if known.life == life {
            return known.again(route);
        }
        match &mut known.before {
            Some(before) if before.life == life => {
                if !before.is_there(now) {
                    return Came::Late;
                }
                let twin = std::mem::replace(known, fresh(None));
                Came::Twin(twin.route[..].into())
            }
            _ => {
                let before = Before {
                    life: known.life,
                    since: now,
                    turns: 0,
                    answered: false,
                };
                *known = fresh(Some(before));
                Came::New
            }
        }
    }

    /// Where a data node is reached.
    pub(crate) fn node_route(&self, node: InstanceId) -> Option<&Frame> {
        self.nodes.get(&node).map(|way| &way.route)
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
        let (node, now) = (InstanceId(1), Time::START);
        assert_eq!(visitors.note_node(now, node, 7, &route(1)), Came::New);
        assert_eq!(visitors.note_node(now, node, 7, &route(1)), Came::Known);
        assert_eq!(visitors.note_node(now, node, 7, &route(2)), Came::New);
        assert_eq!(&visitors.node_route(node).unwrap()[..], [2]);
    }

    #[test]
    fn two_programs_with_one_file_are_told_from_one_that_was_started_again() {
        let mut visitors = Visitors::default();
        let route = |byte: u64| Frame::from(&[byte as u8][..]);
        let (node, now) = (InstanceId(1), Time::START);
        for life in [7, 8, 9] {
            let came = visitors.note_node(now, node, life, &route(life));
            assert_eq!(came, Came::New, "{life}");
        }
        let soon = now + Duration::from_millis(10);
        assert_eq!(visitors.note_node(soon, node, 8, &route(8)), Came::Late);
        let later = now + OVERLAP;
        for _ in 1..TURNS {
            visitors.note_node(later, node, 9, &route(9));
            let came = visitors.note_node(later, node, 8, &route(8));
            assert_eq!(came, Came::Late);
        }
        // A backlog of the one that has ended is no sign of life.
        assert_eq!(visitors.note_node(later, node, 8, &route(8)), Came::Late);
        visitors.note_node(later, node, 9, &route(9));
        let came = visitors.note_node(later, node, 8, &route(8));
        assert_eq!(came, Came::Twin(route(9)[..].into()));
        assert_eq!(visitors.note_node(later, node, 8, &route(8)), Came::Known);
    }
}
