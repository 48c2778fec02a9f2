//! What a store should hold, for the tests: a map from keys to the writes that made them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::DiskStore;
use crate::broker::store::{Store as _, Write};
use crate::pipeline::{JobId, Span};

/// In the order in which a store hands out what it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model(BTreeMap<(JobId, u8, u64), Write>);

impl Model {
    pub(super) fn apply(&mut self, group: &[Write]) {
        for write in group {
            match write {
                Write::Job { job, .. } => self.put((*job, 0, 0), write),
                Write::Fetched { job, .. } => self.put((*job, 1, 0), write),
                Write::Tasks { job, span, .. } => self.put((*job, 3, span.first), write),
                Write::Results { job, span, .. } => self.put((*job, 2, span.first), write),
                Write::TasksDone { job, first } => drop(self.0.remove(&(*job, 3, *first))),
                Write::ResultsFetched { job, first } => drop(self.0.remove(&(*job, 2, *first))),
                Write::Forget { job } => self.0.retain(|(of, ..), _| of != job),
            }
        }
    }

    fn put(&mut self, key: (JobId, u8, u64), write: &Write) {
        self.0.insert(key, write.clone());
    }

    pub(super) fn after(&self, group: &[Write]) -> Model {
        let mut after = self.clone();
        after.apply(group);
        after
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        self.0.values().cloned().collect()
    }
}

/// Everything that a store has.
pub(super) fn content(store: &mut DiskStore) -> Vec<Write> {
    let mut content = Vec::new();
    let loaded = store.load(&mut |write| content.push(write));
    loaded.unwrap_or_else(|error| panic!("{error}"));
    content
}

/// Groups that often touch the same records again.
pub(super) fn groups(most: usize) -> impl Strategy<Value = Vec<Vec<Write>>> {
    vec(vec(write(), 1..12), 1..most)
}

fn write() -> impl Strategy<Value = Write> {
    let job = prop_oneof![Just(JobId(0)), Just(JobId(1)), Just(JobId(u64::MAX))];
    (job, 0..9_u8, 0..8_u64, 1..5000_u32).prop_map(|(job, kind, number, size)| {
        let first = number * 5000;
        let span = Span { first, count: size };
        let body: Arc<[u8]> = (0..size).map(|at| (at ^ size) as u8).collect();
        match kind {
            0 => Write::Job {
                job,
                description: body[..size as usize / 50].to_vec(),
            },
            1 | 2 => Write::Tasks { job, span, body },
            3 | 4 => Write::TasksDone { job, first },
            5 => Write::Results { job, span, body },
            6 => Write::ResultsFetched { job, first },
            7 => Write::Fetched {
                job,
                tasks: (0..number).map(|n| n * 9..n * 9 + 4).collect(),
            },
            _ => Write::Forget { job },
        }
    })
}
