//! What a replier remembers, so that a request that comes again is not worked on again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use crate::request::RequestId;
use crate::transport::Frame;

/// Who asked what: the envelope with the number of the attempt left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<[u8]>);

impl Key {
    /// The key of an envelope (without the delimiter) that ends in one of our ids; `None` for those of
    /// others, who may use the same id for different requests.
    pub(super) fn of(envelope: &[Frame]) -> Option<Key> {
        let (last, path) = envelope.split_last()?;
        let id = RequestId::from_bytes(last)?.first_attempt();
        let mut key = Vec::with_capacity(32);
        for frame in path {
            // With the lengths, no two paths look the same.
            key.extend_from_slice(&(frame.len() as u64).to_le_bytes());
            key.extend_from_slice(frame);
        }
        key.extend_from_slice(&id.to_bytes());
        Some(Key(key.into()))
    }
}

/// The body frames of a reply.
pub(super) type Body = Arc<[Arc<[u8]>]>;

/// Alive while somebody works on the request.
pub(super) type Token = Arc<()>;

#[derive(Debug)]
enum Entry {
    Begun(Weak<()>),
    Answered(Body),
}

/// What is known about a request that arrives.
#[derive(Debug)]
pub(super) enum Known {
    /// It is new, or whoever worked on it gave up.
    New(Token),
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
}

impl Answers {
    pub(super) fn new(max_answers: usize, max_bytes: usize) -> Answers {
        Answers {
            entries: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            max_answers,
            max_bytes,
        }
    }

    pub(super) fn begin(&mut self, key: &Key) -> Known {
        match self.entries.get(key) {
            Some(Entry::Answered(body)) => return Known::Answered(body.clone()),
            Some(Entry::Begun(token)) if token.strong_count() > 0 => return Known::Begun,
            _ => {}
        }
        let token = Token::default();
        if self.max_answers > 0 {
            let begun = Entry::Begun(Arc::downgrade(&token));
            if self.entries.insert(key.clone(), begun).is_none() {
                self.order.push_back(key.clone());
            }
            self.trim();
        }
        Known::New(token)
    }

    pub(super) fn answer(&mut self, key: &Key, body: &Body) {
        // One that was forgotten meanwhile stays so: it has no place in the order.
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if let Entry::Begun(_) = entry {
            self.bytes += size(body);
            *entry = Entry::Answered(body.clone());
            self.trim();
        }
    }

    fn trim(&mut self) {
        while self.order.len() > self.max_answers || self.bytes > self.max_bytes {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(Entry::Answered(body)) = self.entries.remove(&oldest) {
                self.bytes -= size(&body);
            }
        }
    }
}

fn size(body: &Body) -> usize {
    body.iter().map(|frame| frame.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8, attempt: u8) -> Key {
        let id = [0xb5, 0x9e, 0, 0, 0, 0, number, attempt];
        Key::of(&[Frame::from(&b"peer"[..]), Frame::from(&id[..])]).unwrap()
    }

    fn body(text: &str) -> Body {
        Arc::new([Arc::from(text.as_bytes())])
    }

    #[test]
    fn a_second_attempt_finds_the_work_begun_and_then_its_answer() {
        let mut answers = Answers::new(10, 100);
        let Known::New(token) = answers.begin(&key(1, 1)) else {
            panic!("it is new");
        };
        assert!(matches!(answers.begin(&key(1, 2)), Known::Begun));
        answers.answer(&key(1, 1), &body("done"));
        drop(token);
        assert!(
            matches!(answers.begin(&key(1, 3)), Known::Answered(found) if found == body("done"))
        );
        assert!(matches!(answers.begin(&key(2, 1)), Known::New(_)));
    }

    #[test]
    fn work_that_was_given_up_is_begun_again() {
        let mut answers = Answers::new(10, 100);
        drop(answers.begin(&key(1, 1)));
        assert!(matches!(answers.begin(&key(1, 2)), Known::New(_)));
    }

    #[test]
    fn the_oldest_answers_are_forgotten_beyond_either_bound() {
        for (max_answers, max_bytes) in [(2, 100), (100, 8)] {
            let mut answers = Answers::new(max_answers, max_bytes);
            let tokens: Vec<_> = (0..5)
                .map(|n| {
                    let token = answers.begin(&key(n, 1));
                    answers.answer(&key(n, 1), &body("1234"));
                    token
                })
                .collect();
            assert_eq!(tokens.len(), 5);
            assert!(matches!(answers.begin(&key(4, 2)), Known::Answered(_)));
            assert!(answers.order.len() <= 3 && answers.bytes <= 8);
            assert!(matches!(answers.begin(&key(0, 2)), Known::New(_)));
        }
    }

    #[test]
    fn the_ids_of_others_are_not_remembered() {
        assert!(Key::of(&[Frame::from(&b"peer"[..]), Frame::from(&b"client-1"[..])]).is_none());
        assert!(Key::of(&[]).is_none());
    }
}
