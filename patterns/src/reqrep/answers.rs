//! What a replier remembers, so that a request that comes again is not worked on again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::request::RequestId;
use crate::transport::{Frame, Message};

/// Who asked what: the envelope with the number of the attempt left out. Whoever works on the
/// request holds a clone until it is answered or given up.
pub(super) type Key = Arc<[u8]>;

/// How many clones of its key a remembered request has while nobody works on it.
const OWN_CLONES: usize = 2;

/// What follows the envelope of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Value(Arc<[u8]>),
    /// Why there is no value.
    Refusal(Arc<[u8]>),
}

impl Body {
    pub(super) fn refusal(reason: &str) -> Body {
        Body::Refusal(reason.as_bytes().into())
    }

    /// Adds its frames to the envelope.
    pub(super) fn append_to(&self, message: &mut Message) {
        let last = match self {
            Body::Value(bytes) => bytes,
            Body::Refusal(reason) => {
                message.push(Frame::from(&[][..]));
                reason
            }
        };
        message.push(Frame::from(last.clone()));
    }

    fn len(&self) -> usize {
        let (Body::Value(bytes) | Body::Refusal(bytes)) = self;
        bytes.len()
    }
}

#[derive(Debug)]
enum Entry {
    Begun,
    Answered(Body),
}

/// What is known about a request that arrives.
#[derive(Debug)]
pub(super) enum Known {
    /// It is new, or whoever worked on it gave up. With the key to remember its answer by, if it shall
    /// be remembered.
    New(Option<Key>),
    /// It is being worked on: the answer will come.
    Begun,
    /// This is the answer.
    Answered(Body),
}

/// The last answers; the oldest are forgotten first.
#[derive(Debug)]
pub(super) struct Answers {
    entries: HashMap<Key, Entry>,
    order: VecDeque<Key>,
    bytes: usize,
    max_answers: usize,
    max_bytes: usize,
    /// The key of the request at hand.
    sought: Vec<u8>,
}

impl Answers {
    pub(super) fn new(max_answers: usize, max_bytes: usize) -> Answers {
        Answers {
            entries: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            max_answers,
            max_bytes,
            sought: Vec::new(),
        }
    }

    /// Looks up the request with this envelope (without the delimiter), and remembers it when it is
    /// new. Those of others, whose ids we do not know, are always new: they may use the same id
    /// for different requests.
    pub(super) fn begin(&mut self, envelope: &[Frame]) -> Known {
        if self.max_answers == 0 || !write_key(&mut self.sought, envelope) {
            return Known::New(None);
        }
        match self.entries.get_key_value(&self.sought[..]) {
            Some((_, Entry::Answered(body))) => Known::Answered(body.clone()),
            Some((key, Entry::Begun)) if Arc::strong_count(key) > OWN_CLONES => Known::Begun,
            Some((key, Entry::Begun)) => Known::New(Some(key.clone())),
            None => Known::New(Some(self.remember())),
        }
    }

    fn remember(&mut self) -> Key {
        let key = Key::from(&self.sought[..]);
        self.entries.insert(key.clone(), Entry::Begun);
        self.order.push_back(key.clone());
        key
    }

    pub(super) fn answer(&mut self, key: &Key, body: &Body) {
        // One that was forgotten meanwhile stays so: it has no place in the order.
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if let Entry::Begun = entry {
            self.bytes += body.len();
            *entry = Entry::Answered(body.clone());
        }
    }

    /// Forgets the oldest answers beyond the bounds. Not part of the other calls, so that it
    /// need not be done while a requester waits.
    pub(super) fn trim(&mut self) {
        while self.order.len() > self.max_answers || self.bytes > self.max_bytes {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(Entry::Answered(body)) = self.entries.remove(&oldest) {
                self.bytes -= body.len();
            }
        }
    }
}

/// Writes the key of a request in place of what is there; `false` when its id is not one of ours.
fn write_key(key: &mut Vec<u8>, envelope: &[Frame]) -> bool {
    let Some((last, path)) = envelope.split_last() else {
        return false;
    };
    let Some(id) = RequestId::from_bytes(last) else {
        return false;
    };
    key.clear();
    for frame in path {
        // With the lengths, no two paths look the same.
        key.extend_from_slice(&(frame.len() as u64).to_le_bytes());
        key.extend_from_slice(frame);
    }
    key.extend_from_slice(&id.first_attempt().to_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(number: u8, attempt: u8) -> [Frame; 2] {
        let id = [0xb5, 0x9e, 0, 0, 0, 0, number, attempt];
        [&b"peer"[..], &id[..]].map(Frame::from)
    }

    fn begun(answers: &mut Answers, number: u8, attempt: u8) -> Key {
        match answers.begin(&envelope(number, attempt)) {
            Known::New(Some(key)) => key,
            other => panic!("{other:?}"),
        }
    }

    fn body(text: &str) -> Body {
        Body::Value(Arc::from(text.as_bytes()))
    }

    #[test]
    fn a_second_attempt_finds_the_work_begun_and_then_its_answer() {
        let mut answers = Answers::new(10, 100);
        let key = begun(&mut answers, 1, 1);
        assert!(matches!(answers.begin(&envelope(1, 2)), Known::Begun));
        answers.answer(&key, &body("done"));
        drop(key);
        assert!(
            matches!(answers.begin(&envelope(1, 3)), Known::Answered(found) if found == body("done"))
        );
        begun(&mut answers, 2, 1);
    }

    #[test]
    fn work_that_was_given_up_is_begun_again() {
        let mut answers = Answers::new(10, 100);
        drop(begun(&mut answers, 1, 1));
        let again = begun(&mut answers, 1, 2);
        assert!(matches!(answers.begin(&envelope(1, 3)), Known::Begun));
        drop(again);
    }

    #[test]
    fn the_oldest_answers_are_forgotten_beyond_either_bound() {
        for (max_answers, max_bytes) in [(2, 100), (100, 8)] {
            let mut answers = Answers::new(max_answers, max_bytes);
            for number in 0..5 {
                let key = begun(&mut answers, number, 1);
                answers.answer(&key, &body("1234"));
                answers.trim();
            }
            assert!(matches!(answers.begin(&envelope(4, 2)), Known::Answered(_)));
            assert!(answers.order.len() <= 2 && answers.bytes <= 8);
            begun(&mut answers, 0, 2);
        }
    }

    #[test]
    fn the_ids_of_others_are_not_remembered() {
        let mut answers = Answers::new(10, 100);
        let foreign = [&b"peer"[..], &b"client-1"[..]].map(Frame::from);
        for envelope in [&foreign[..], &[]] {
            assert!(matches!(answers.begin(envelope), Known::New(None)));
        }
        assert!(answers.order.is_empty());
    }
}
