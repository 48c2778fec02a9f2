//! What has been obeyed of those who are gone, so that nothing is said twice.

use std::collections::{HashMap, VecDeque};

use super::Author;

/// Authors of whom the hall remembers which words it has obeyed, beyond those who are there.
const MAX_REMEMBERED: usize = 16_384;

/// Which words of which authors have been obeyed; the oldest are forgotten.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    words: HashMap<Author, u64>,
    order: VecDeque<Author>,
}

impl Remembered {
    pub(super) fn insert(&mut self, author: Author, word: u64) {
        match self.words.get_mut(&author) {
            Some(known) => *known = (*known).max(word),
            None => {
                self.words.insert(author, word);
                self.order.push_back(author);
            }
        }
        while self.order.len() > MAX_REMEMBERED {
            let oldest = self.order.pop_front();
            oldest.map(|author| self.words.remove(&author));
        }
    }

    pub(super) fn of(&self, author: Author) -> u64 {
        self.words.get(&author).copied().unwrap_or(0)
    }
}
