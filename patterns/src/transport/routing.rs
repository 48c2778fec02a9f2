//! How the roles share messages among peers, for the transports that do not leave it to libzmq.
//!
//! A transport brings one [`Pipe`] per peer; the [`Exchange`] is the rest of the socket. It is made of
//! the few strategies that libzmq is made of as well: load-balance, fair-queue, distribute, route.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use super::{Frame, Message, Role, SendError, WhenFull};
use crate::complaints::Complaints;

/// Subscription messages that wait for a publisher that does not receive them; older ones go.
const MAX_NOTICES: usize = 4096;

/// Topics that a peer may have subscribed to, and their bytes together; beyond either it is cut off.
const MAX_TOPICS: usize = 4096;
const MAX_TOPIC_BYTES: usize = 256 << 10;

/// Messages for nobody that one look may pass over, so that it ends.
const PASSED_OVER: usize = 256;

/// A bounded queue to one peer and one from it; neither end ever waits.
pub(crate) trait Pipe {
    /// Whether the next message would be taken. After `false`, the transport tells the waiting
    /// thread when that changes.
    fn has_room(&mut self) -> bool;

    /// Queues a message for the peer.
    fn offer(&mut self, message: &[Frame]) -> Offer;

    /// Whether [`take`](Pipe::take) has something to give.
    fn has_message(&self) -> bool;

    /// The next message from the peer.
    fn take(&mut self) -> Option<Message>;

    /// Puts the next message from the peer in place of `message`, whose memory may be reused.
    fn take_into(&mut self, message: &mut Message) -> bool {
        match self.take() {
            Some(taken) => {
                *message = taken;
                true
            }
            None => false,
        }
    }

    /// Queues something for the peer whatever its queue holds: what we want of it, which is bounded by itself.
    fn tell(&mut self, message: &[Frame]) -> Offer {
        self.offer(message)
    }

    /// Ends the connection, as the peer does what its role does not allow: nothing more is heard from it.
    /// `reason` is for the log.
    fn cut_off(&mut self, reason: &'static str);

    /// Whether the peer is gone and everything it sent has been taken.
    fn is_closed(&self) -> bool;

    /// Hands on what has been gathered, where messages are.
    fn flush(&mut self) {}
}

/// What became of a message that was offered to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Taken,
    /// There is no room; as with [`Pipe::has_room`], the waiting thread is told when there is.
    Full,
    /// The peer is not there any more.
    Gone,
}

/// What a router calls a peer: a zero byte, which no chosen name begins with, and a number.
type RoutingId = [u8; 5];

struct Peer<P> {
    number: u32,
    pipe: P,
    /// What the peer subscribed to, if we publish.
    topics: Topics,
    /// Whether it has its place among the stirred.
    is_stirred: bool,
    /// Whether it has its place among those to flush.
    is_dirty: bool,
}

/// A socket's peers and the strategies of its role.
pub(crate) struct Exchange<P> {
    role: Role,
    when_full: WhenFull,
    /// By their numbers, which grow.
    peers: Vec<Peer<P>>,
    last_number: u32,
    balance: Turn,
    fair: Turn,
    /// Those of them that may have sent something, where the transport says so.
    stirred: Option<Stirred>,
    /// Those that have been sent something since the last [`flush`](Exchange::flush).
    dirty: Vec<u32>,
    /// Whether somebody may be gone.
    some_gone: bool,
    /// What we subscribed to.
    topics: Topics,
    /// What all peers subscribed to, if we publish.
    wanted: Topics,
    /// Subscriptions that a publisher has not received yet.
    notices: VecDeque<Message>,
    forgotten: Complaints,
}

impl<P: Pipe> Exchange<P> {
    pub(crate) fn new(role: Role, when_full: WhenFull) -> Exchange<P> {
        Exchange {
            role,
            when_full,
            peers: Vec::new(),
            last_number: 0,
            balance: Turn::default(),
            fair: Turn::default(),
            stirred: None,
            dirty: Vec::new(),
            some_gone: false,
            topics: Topics::default(),
            wanted: Topics::default(),
            notices: VecDeque::new(),
            forgotten: Complaints::default(),
        }
    }

    /// The same for a transport that [`stir`](Exchange::stir)s a peer whenever it may have sent
    /// something, so that the others need not be looked at.
    pub(crate) fn stirred(role: Role, when_full: WhenFull) -> Exchange<P> {
        Exchange {
            stirred: Some(Stirred::default()),
            ..Exchange::new(role, when_full)
        }
    }

    /// A peer may have sent something.
    pub(crate) fn stir(&mut self, number: u32) {
        let Some(at) = self.position(number) else {
            return;
        };
        if let Some(stirred) = &mut self.stirred
            && !std::mem::replace(&mut self.peers[at].is_stirred, true)
        {
            stirred.peers.push_back(number);
        }
    }

    /// Adds a peer and returns its number; a subscriber tells it at once what it wants.
    pub(crate) fn attach(&mut self, mut pipe: P) -> u32 {
        for topic in self.topics.iter() {
            pipe.tell(&[notice(SUBSCRIBE, topic)]);
        }
        // Four billion connections are more than a process lives to see.
        self.last_number += 1;
        let is_dirty = self.stirred.is_some() && self.topics.iter().next().is_some();
        if is_dirty {
            self.dirty.push(self.last_number);
        }
        self.peers.push(Peer {
            number: self.last_number,
            pipe,
            topics: Topics::default(),
            is_stirred: false,
            is_dirty,
        });
        self.last_number
    }

    fn position(&self, number: u32) -> Option<usize> {
        if let [sole] = &self.peers[..] {
            return (sole.number == number).then_some(0);
        }
        let found = self.peers.binary_search_by_key(&number, |peer| peer.number);
        found.ok()
    }

    /// The pipe of the peer with this number.
    pub(crate) fn pipe_mut(&mut self, number: u32) -> Option<&mut P> {
        let at = self.position(number)?;
        Some(&mut self.peers[at].pipe)
    }

    /// The pipe of the peer that a router calls by this id.
    pub(crate) fn routed(&self, id: &[u8]) -> Option<&P> {
        let at = self.position(number_of(id)?)?;
        Some(&self.peers[at].pipe)
    }

    /// The only peer, if there is just one.
    pub(crate) fn sole(&self) -> Option<(u32, &P)> {
        match &self.peers[..] {
            [sole] => Some((sole.number, &sole.pipe)),
            _ => None,
        }
    }

    /// The only peer's pipe if it is to be flushed anyway.
    pub(crate) fn sole_dirty(&self) -> Option<&P> {
        match &self.peers[..] {
            [sole] if sole.is_dirty => Some(&sole.pipe),
            _ => None,
        }
    }

    /// The only peer's pipe, for whoever knows what is allowed with it.
    #[inline]
    pub(crate) fn sole_mut(&mut self) -> Option<&mut P> {
        match &mut self.peers[..] {
            [sole] => Some(&mut sole.pipe),
            _ => None,
        }
    }

    /// Whether the only peer may have sent something.
    pub(crate) fn is_sole_stirred(&self) -> bool {
        matches!(&self.peers[..], [sole] if sole.is_stirred)
    }

    pub(crate) fn pipes_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.peers.iter_mut().map(|peer| &mut peer.pipe)
    }

    /// Forgets the peers that are gone, after a last look at each; returns how many.
    pub(crate) fn detach_closed(&mut self, mut last_look: impl FnMut(&P)) -> usize {
        let (before, mut cancelled) = (self.peers.len(), Vec::new());
        self.peers.retain(|peer| {
            let is_closed = peer.pipe.is_closed();
            if is_closed {
                last_look(&peer.pipe);
                let topics = peer.topics.iter().filter(|topic| self.wanted.remove(topic));
                cancelled.extend(topics.map(|topic| notice(CANCEL, topic)));
            }
            !is_closed
        });
        cancelled.into_iter().for_each(|topic| self.remember(topic));
        before - self.peers.len()
    }

    /// One of those that have gathered something, which then count as flushed.
    pub(crate) fn pop_dirty(&mut self) -> Option<u32> {
        let number = self.dirty.pop()?;
        if let Some(at) = self.position(number) {
            self.peers[at].is_dirty = false;
        }
        Some(number)
    }

    /// Lets every peer write what it has gathered.
    pub(crate) fn flush(&mut self) {
        while let Some(number) = self.pop_dirty() {
            if let Some(pipe) = self.pipe_mut(number) {
                pipe.flush();
                self.some_gone |= pipe.is_closed();
            }
        }
    }

    /// The same, if somebody may be gone.
    pub(crate) fn detach_gone(&mut self, last_look: impl FnMut(&P)) -> usize {
        match std::mem::take(&mut self.some_gone) {
            true => self.detach_closed(last_look),
            false => 0,
        }
    }

    /// Somebody may be gone.
    pub(crate) fn suspect(&mut self) {
        self.some_gone = true;
    }

    /// Offers a message to a peer, and takes note of what follows.
    fn offer(&mut self, at: usize, message: &[Frame]) -> Offer {
        let offer = self.peers[at].pipe.offer(message);
        self.note_offer(at, offer);
        offer
    }

    fn note_offer(&mut self, at: usize, offer: Offer) {
        let peer = &mut self.peers[at];
        match offer {
            Offer::Taken if self.stirred.is_some() && !peer.is_dirty => {
                peer.is_dirty = true;
                self.dirty.push(peer.number);
            }
            Offer::Gone => self.some_gone = true,
            _ => {}
        }
    }

    /// Forgets all peers.
    pub(crate) fn detach_all(&mut self) {
        self.peers.clear();
    }

    /// Whether [`receive`](Exchange::receive) may have something to give.
    pub(crate) fn has_message(&self) -> bool {
        let any = match &self.stirred {
            None => self.pipes().any(Pipe::has_message),
            Some(stirred) => stirred.peers.iter().any(|&number| {
                self.position(number)
                    .is_some_and(|at| self.peers[at].pipe.has_message())
            }),
        };
        any || !self.notices.is_empty()
    }

    pub(crate) fn pipes(&self) -> impl Iterator<Item = &P> {
        self.peers.iter().map(|peer| &peer.pipe)
    }

    /// Sends as the role does; the message has been checked for the role.
    pub(crate) fn send(&mut self, message: &[Frame]) -> Result<(), SendError> {
        let sent = match self.role {
            Role::Push | Role::Dealer => self.balance(message),
            Role::Publish => self.distribute(message),
            Role::Router => return self.route(message),
            Role::Pull | Role::Subscribe => true,
        };
        if sent { Ok(()) } else { Err(SendError::Full) }
    }

    /// The same in place of `message`, whose memory may be reused.
    pub(crate) fn receive_into(&mut self, message: &mut Message) -> bool {
        if let Role::Pull | Role::Dealer = self.role {
            return self.take_fair_into(message).is_some();
        }
        message.clear();
        message.extend(self.receive().into_iter().flatten());
        !message.is_empty()
    }

    /// The next message as the role delivers it.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        match self.role {
            Role::Push => {
                self.hear_out();
                None
            }
            Role::Pull | Role::Dealer => Some(self.take_fair()?.1),
            Role::Router => {
                let (peer, mut message) = self.take_fair()?;
                let id = routing_id(self.peers[peer].number);
                message.insert(0, Frame::from(&id[..]));
                Some(message)
            }
            Role::Subscribe => self.receive_wanted(),
            Role::Publish => {
                self.read_subscriptions();
                self.notices.pop_front()
            }
        }
    }

    fn receive_wanted(&mut self) -> Option<Message> {
        for _ in 0..PASSED_OVER {
            let (_, message) = self.take_fair()?;
            // What was on its way when its topic was cancelled goes no further.
            let first = message.first();
            if first.is_some_and(|first| self.topics.match_prefix(first)) {
                return Some(message);
            }
        }
        None
    }

    /// Lets peers say that they live, or end, to a socket that only sends.
    fn hear_out(&mut self) {
        if self.stirred.is_none() {
            return;
        }
        if let Some((at, _)) = self.take_fair() {
            self.peers[at]
                .pipe
                .cut_off("it sent a message to a socket that only sends");
            self.some_gone = true;
        }
    }

    /// Subscribes at every peer; `false` when one of them did not take note, and nothing has changed.
    pub(crate) fn subscribe(&mut self, topic: &[u8]) -> bool {
        let told = !self.topics.add(topic) || self.tell_all(&notice(SUBSCRIBE, topic));
        if !told {
            self.topics.remove(topic);
        }
        told
    }

    /// Cancels one [`subscribe`](Exchange::subscribe); `false` when a peer did not take note.
    pub(crate) fn unsubscribe(&mut self, topic: &[u8]) -> bool {
        !self.topics.remove(topic) || self.tell_all(&notice(CANCEL, topic))
    }

    /// How many topics we subscribed to, and their bytes together.
    pub(crate) fn subscribed(&self) -> (usize, usize) {
        (self.topics.counts.len(), self.topics.bytes)
    }

    fn tell_all(&mut self, notice: &Frame) -> bool {
        let mut told = true;
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            let offer = peer.pipe.tell(std::slice::from_ref(notice));
            told &= offer != Offer::Full;
            self.note_offer(at, offer);
        }
        told
    }

    /// To one peer that has room, each in turn.
    fn balance(&mut self, message: &[Frame]) -> bool {
        if self.peers.len() == 1 {
            return self.offer(0, message) == Offer::Taken;
        }
        let mut balance = std::mem::take(&mut self.balance);
        let count = self.peers.len();
        let offer = |at: usize| (self.offer(at, message) == Offer::Taken).then_some(());
        let taken = balance.find(count, offer).is_some();
        self.balance = balance;
        taken
    }

    /// From one peer that has sent something, each in turn.
    fn take_fair(&mut self) -> Option<(usize, Message)> {
        let mut message = Message::new();
        Some((self.take_fair_into(&mut message)?, message))
    }

    fn take_fair_into(&mut self, message: &mut Message) -> Option<usize> {
        if self.stirred.is_some() {
            return self.take_stirred_into(message);
        }
        let peers = &mut self.peers;
        self.fair.find(peers.len(), |i| {
            peers[i].pipe.take_into(message).then_some(i)
        })
    }

    fn take_stirred_into(&mut self, message: &mut Message) -> Option<usize> {
        let tries = self.stirred.as_ref().map_or(0, |all| all.peers.len());
        for _ in 0..tries {
            let number = self.stirred.as_mut()?.turn()?;
            let at = self.position(number);
            let peer = at.and_then(|at| self.peers.get_mut(at));
            let stirred = self.stirred.as_mut()?;
            let Some(peer) = peer else {
                stirred.remove();
                continue;
            };
            if peer.pipe.take_into(message) {
                return at;
            }
            if peer.pipe.has_message() {
                stirred.pass();
                continue;
            }
            self.some_gone |= peer.pipe.is_closed();
            peer.is_stirred = false;
            stirred.remove();
        }
        None
    }

    /// To every peer that subscribed to the first frame: to all of them, or to those with room.
    fn distribute(&mut self, message: &[Frame]) -> bool {
        self.read_subscriptions();
        let wants = |peer: &Peer<P>| peer.topics.match_prefix(&message[0]);
        if self.when_full == WhenFull::Refuse
            && !self
                .peers
                .iter_mut()
                .all(|peer| !wants(peer) || peer.pipe.has_room())
        {
            return false;
        }
        for at in 0..self.peers.len() {
            if wants(&self.peers[at]) {
                self.offer(at, message);
            }
        }
        true
    }

    /// To the peer that the first frame names.
    fn route(&mut self, message: &[Frame]) -> Result<(), SendError> {
        let (id, rest) = message.split_first().ok_or(SendError::Unroutable)?;
        let at = number_of(id).and_then(|number| self.position(number));
        match self.offer(at.ok_or(SendError::Unroutable)?, rest) {
            Offer::Taken => Ok(()),
            Offer::Full => Err(SendError::Full),
            Offer::Gone => Err(SendError::Unroutable),
        }
    }

    fn read_subscriptions(&mut self) {
        for _ in 0..PASSED_OVER {
            let Some((peer, message)) = self.take_fair() else {
                return;
            };
            self.note(peer, &message);
        }
    }

    /// Applies a subscription; the publisher hears of each topic's first and of its last.
    fn note(&mut self, at: usize, message: &[Frame]) {
        let Some((&kind, topic)) = message.first().and_then(|frame| frame.split_first()) else {
            return;
        };
        let peer = &mut self.peers[at];
        let changed = match kind {
            SUBSCRIBE => peer.topics.insert(topic) && self.wanted.add(topic),
            CANCEL => peer.topics.remove(topic) && self.wanted.remove(topic),
            _ => false,
        };
        if peer.topics.is_too_much() {
            peer.pipe.cut_off("it subscribed to too many topics");
            self.some_gone = true;
        }
        if changed {
            self.remember(notice(kind, topic));
        }
    }

    fn remember(&mut self, notice: Frame) {
        if self.notices.len() == MAX_NOTICES {
            let what = "subscriptions are not received: the oldest is dropped";
            self.forgotten.add(&"a publisher", &what);
            self.notices.pop_front();
        }
        self.notices.push_back(vec![notice]);
    }
}

fn routing_id(number: u32) -> RoutingId {
    let mut id = [0; 5];
    id[1..].copy_from_slice(&number.to_be_bytes());
    id
}

fn number_of(id: &[u8]) -> Option<u32> {
    let (zero, number) = id.split_first()?;
    let number = number.try_into().ok()?;
    (*zero == 0).then_some(u32::from_be_bytes(number))
}

/// Messages that are taken from one peer before it is the next one's turn.
const TURN_MESSAGES: u32 = 32;

/// Peers that may have sent something, each in its turn.
#[derive(Default)]
struct Stirred {
    peers: VecDeque<u32>,
    taken: u32,
}

impl Stirred {
    /// Whose turn it is.
    fn turn(&mut self) -> Option<u32> {
        if self.taken == TURN_MESSAGES {
            self.pass();
        }
        self.taken += 1;
        self.peers.front().copied()
    }

    /// Puts the one whose turn it is last.
    fn pass(&mut self) {
        self.taken = 0;
        if self.peers.len() > 1 {
            self.peers.rotate_left(1);
        }
    }

    /// The one whose turn it is has nothing more.
    fn remove(&mut self) {
        self.taken = 0;
        self.peers.pop_front();
    }
}

const SUBSCRIBE: u8 = 1;
const CANCEL: u8 = 0;

fn notice(kind: u8, topic: &[u8]) -> Frame {
    Frame::from([&[kind], topic].concat())
}

/// Whose turn it is among peers that come and go.
#[derive(Default)]
struct Turn(usize);

impl Turn {
    /// Tries each of `count` peers once, beginning with the one whose turn it is; the turn passes
    /// to the one after that for which `attempt` succeeded.
    fn find<T>(&mut self, count: usize, mut attempt: impl FnMut(usize) -> Option<T>) -> Option<T> {
        let first = self.0;
        for i in (0..count).map(|step| (first + step) % count) {
            if let Some(found) = attempt(i) {
                self.0 = (i + 1) % count;
                return Some(found);
            }
        }
        None
    }
}

/// Topics, each with the number of times that it was subscribed to.
#[derive(Default)]
struct Topics {
    counts: BTreeMap<Vec<u8>, usize>,
    /// The bytes of all topics.
    bytes: usize,
}

impl Topics {
    /// Counts one more subscription; `true` when it is the first.
    fn add(&mut self, topic: &[u8]) -> bool {
        if let Some(count) = self.counts.get_mut(topic) {
            *count += 1;
            return false;
        }
        self.bytes += topic.len();
        self.counts.insert(topic.to_vec(), 1);
        true
    }

    /// Subscribes without counting; `true` when it is the first.
    fn insert(&mut self, topic: &[u8]) -> bool {
        !self.counts.contains_key(topic) && self.add(topic)
    }

    /// Counts one subscription less; `true` when it was the last.
    fn remove(&mut self, topic: &[u8]) -> bool {
        let Some(count) = self.counts.get_mut(topic) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.bytes -= topic.len();
        self.counts.remove(topic).is_some()
    }

    /// Whether nobody needs so many.
    fn is_too_much(&self) -> bool {
        self.counts.len() > MAX_TOPICS || self.bytes > MAX_TOPIC_BYTES
    }

    /// Whether `text` begins with one of the topics.
    fn match_prefix(&self, mut text: &[u8]) -> bool {
        let up_to = |text| (Bound::Unbounded, Bound::Included(text));
        // In their order, what `text` begins with comes before it, and closer than all that is like it for as long.
        while let Some((topic, _)) = self.counts.range::<[u8], _>(up_to(text)).next_back() {
            let alike = topic.iter().zip(text).take_while(|(a, b)| a == b).count();
            if alike == topic.len() {
                return true;
            }
            text = &text[..alike];
        }
        false
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.counts.keys().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer in the test's own hands.
    struct Mock {
        room: usize,
        sent: Vec<String>,
        coming: VecDeque<Message>,
        closed: bool,
    }

    impl Pipe for Mock {
        fn has_room(&mut self) -> bool {
            self.sent.len() < self.room
        }

        fn offer(&mut self, message: &[Frame]) -> Offer {
            if !self.has_room() {
                return Offer::Full;
            }
            self.sent.push(text(message));
            Offer::Taken
        }

        fn has_message(&self) -> bool {
            !self.coming.is_empty()
        }

        fn take(&mut self) -> Option<Message> {
            self.coming.pop_front()
        }

        fn cut_off(&mut self, _: &'static str) {
            self.closed = true;
            self.coming.clear();
        }

        fn is_closed(&self) -> bool {
            self.closed && self.coming.is_empty()
        }
    }

    fn text(message: &[Frame]) -> String {
        message
            .iter()
            .map(|frame| String::from_utf8_lossy(frame))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn message(text: &str) -> Message {
        vec![Frame::from(text.as_bytes())]
    }

    /// An exchange with one peer for each entry, which has so much room and sent such messages.
    fn exchange(role: Role, when_full: WhenFull, peers: &[(usize, &[&str])]) -> Exchange<Mock> {
        let mut exchange = Exchange::new(role, when_full);
        for (room, coming) in peers {
            let coming = coming.iter().map(|text| message(text)).collect();
            exchange.attach(Mock {
                room: *room,
                sent: Vec::new(),
                coming,
                closed: false,
            });
        }
        exchange
    }

    fn sent(exchange: &Exchange<Mock>) -> Vec<String> {
        exchange.pipes().map(|pipe| pipe.sent.join(",")).collect()
    }

    #[test]
    fn a_push_goes_round_and_passes_over_the_full() {
        let mut push = exchange(
            Role::Push,
            WhenFull::Refuse,
            &[(2, &[]), (1, &[]), (3, &[])],
        );
        for text in ["a", "b", "c", "d", "e", "f"] {
            push.send(&message(text)).unwrap();
        }
        assert_eq!(sent(&push), ["a,d", "b", "c,e,f"]);
        assert!(matches!(push.send(&message("g")), Err(SendError::Full)));
    }

    #[test]
    fn a_push_without_peers_is_full() {
        let mut push = exchange(Role::Push, WhenFull::Refuse, &[]);
        assert!(matches!(push.send(&message("a")), Err(SendError::Full)));
    }

    #[test]
    fn a_pull_takes_from_each_in_turn() {
        let peers: &[(usize, &[&str])] = &[(0, &["a", "b", "c"]), (0, &["x"]), (0, &["p", "q"])];
        let mut pull = exchange(Role::Pull, WhenFull::Refuse, peers);
        let order: Vec<_> = std::iter::from_fn(|| pull.receive())
            .map(|m| text(&m))
            .collect();
        assert_eq!(order, ["a", "x", "p", "b", "q", "c"]);
    }

    #[test]
    fn a_publisher_that_refuses_sends_to_all_or_to_none() {
        let peers: &[(usize, &[&str])] = &[(2, &["\u{1}a"]), (1, &["\u{1}"]), (9, &["\u{1}z"])];
        let mut publish = exchange(Role::Publish, WhenFull::Refuse, peers);
        publish.send(&message("ab")).unwrap();
        assert!(matches!(publish.send(&message("ac")), Err(SendError::Full)));
        publish.send(&message("zz")).unwrap_err();
        assert_eq!(sent(&publish), ["ab", "ab", ""]);
    }

    #[test]
    fn a_publisher_that_drops_leaves_out_only_the_full() {
        let peers: &[(usize, &[&str])] = &[(2, &["\u{1}a"]), (1, &["\u{1}"])];
        let mut publish = exchange(Role::Publish, WhenFull::Drop, peers);
        for text in ["a1", "a2", "b"] {
            publish.send(&message(text)).unwrap();
        }
        assert_eq!(sent(&publish), ["a1,a2", "a1"]);
    }

    #[test]
    fn a_publisher_hears_of_the_first_and_of_the_last_subscription() {
        let peers: &[(usize, &[&str])] = &[(9, &["\u{1}a", "\u{1}b"]), (9, &["\u{1}a"])];
        let mut publish = exchange(Role::Publish, WhenFull::Drop, peers);
        let heard = |publish: &mut Exchange<Mock>| -> Vec<String> {
            std::iter::from_fn(|| publish.receive())
                .map(|m| text(&m))
                .collect()
        };
        assert_eq!(heard(&mut publish), ["\u{1}a", "\u{1}b"]);
        publish.peers[0].pipe.closed = true;
        assert_eq!(publish.detach_closed(|_| {}), 1);
        assert_eq!(heard(&mut publish), ["\0b"]);
        publish.peers[0].pipe.coming.push_back(message("\0a"));
        assert_eq!(heard(&mut publish), ["\0a"]);
    }

    #[test]
    fn a_subscriber_tells_peers_that_come_later_and_filters_what_it_cancelled() {
        let mut subscribe = exchange(Role::Subscribe, WhenFull::Refuse, &[(9, &["a1", "b1"])]);
        assert!(
            subscribe.subscribe(b"a") && subscribe.subscribe(b"a") && subscribe.subscribe(b"b")
        );
        assert!(subscribe.unsubscribe(b"a") && subscribe.unsubscribe(b"a"));
        subscribe.attach(Mock {
            room: 9,
            sent: vec![],
            coming: VecDeque::new(),
            closed: false,
        });
        assert_eq!(sent(&subscribe), ["\u{1}a,\u{1}b,\0a", "\u{1}b"]);
        assert_eq!(subscribe.receive().map(|m| text(&m)).as_deref(), Some("b1"));
        assert!(subscribe.receive().is_none());
    }

    #[test]
    fn a_text_matches_if_it_begins_with_a_topic() {
        // Every set of short topics over two letters, against every short text.
        let texts: Vec<Vec<u8>> = (0..=3_u32)
            .flat_map(|len| {
                (0..1 << len)
                    .map(move |bits: u32| (0..len).map(|i| b'a' + (bits >> i & 1) as u8).collect())
            })
            .collect();
        for set in 0..1_u32 << texts.len() {
            let mut topics = Topics::default();
            let chosen = || texts.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1);
            chosen().for_each(|(_, topic)| assert!(topics.add(topic)));
            for text in &texts {
                let expected = chosen().any(|(_, topic)| text.starts_with(topic));
                assert_eq!(topics.match_prefix(text), expected, "{set:b} {text:?}");
            }
        }
    }

    #[test]
    fn a_router_answers_the_peer_that_asked() {
        let mut router = exchange(Role::Router, WhenFull::Refuse, &[(1, &["a"]), (1, &["b"])]);
        router.receive().unwrap();
        let mut second = router.receive().unwrap();
        router.send(&second).unwrap();
        assert_eq!(sent(&router), ["", "b"]);
        assert!(matches!(router.send(&second), Err(SendError::Full)));
        second[0] = Frame::from(&b"nobody"[..]);
        assert!(matches!(router.send(&second), Err(SendError::Unroutable)));
    }

    #[test]
    fn a_closed_peer_is_heard_to_the_end() {
        let mut pull = exchange(Role::Pull, WhenFull::Refuse, &[(0, &["last"])]);
        pull.peers[0].pipe.closed = true;
        assert_eq!(pull.detach_closed(|_| {}), 0);
        assert!(pull.receive().is_some());
        assert_eq!(pull.detach_closed(|_| {}), 1);
    }
}
