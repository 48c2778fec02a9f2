//! The thread that writes to the store, so that the broker never waits for a disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wait::Waker;

use super::store::{Group, Store, StoreError, Write};

/// Pause before a group that the store refused is tried again, with what has come by then.
const RETRY: Duration = Duration::from_secs(1);

/// What is written at once to a disk that may have room for a part of a group.
const PART_BYTES: usize = 1 << 20;

/// What happened since the last look.
#[derive(Debug, Default)]
pub(super) struct News {
    /// How many writes are safe, from the first on.
    pub(super) stored: u64,
    /// Why the store takes nothing, if so.
    pub(super) trouble: Option<String>,
}

/// Hands writes to the store in groups: whatever has gathered while the last group was synced.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    waker: Waker,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Write>,
    waiting_bytes: usize,
    news: News,
    closing: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    pub(super) fn start(store: Box<dyn Store>, waker: Waker) -> std::io::Result<Keeper> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            waker,
        });
        let keeping = shared.clone();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                // Nothing may be taken in that nobody would ever write.
                let kept = AssertUnwindSafe(|| keep(&keeping, store));
                if catch_unwind(kept).is_err() {
                    complain(
                        &keeping,
                        "the store's thread panicked, which is a bug: start the broker again",
                    );
                }
            })?;
        Ok(Keeper {
            shared,
            thread: Some(thread),
        })
    }

    /// Hands over writes, and empties `writes`.
    pub(super) fn write(&self, writes: &mut Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let mut state = self.shared.state();
        state.waiting_bytes += writes.iter().map(Write::bytes).sum::<usize>();
        state.waiting.append(writes);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// How many writes are safe, why not more, and how many bytes wait.
    pub(super) fn look(&self) -> (u64, Option<String>, usize) {
        let state = self.shared.state();
        let News {
            stored, trouble, ..
        } = &state.news;
        (*stored, trouble.clone(), state.waiting_bytes)
    }
}

impl Drop for Keeper {
    /// Writes what waits, then ends.
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(shared: &Shared, mut store: Box<dyn Store>) {
    let (mut group, mut covers) = (Group::default(), 0);
    while let Some(writes) = gathered(shared, !group.is_empty()) {
        covers += writes.len() as u64;
        group.add(writes);
        if let Err(error) = commit(&mut *store, &mut group) {
            complain(shared, &error.to_string());
            match wait_a_little(shared) {
                true => continue,
                false => return,
            }
        }
        group = Group::default();
        let mut state = shared.state();
        state.news.stored += std::mem::take(&mut covers);
        state.news.trouble = None;
        drop(state);
        shared.waker.wake();
    }
}

/// Makes a group safe. On a full disk at least what makes room, and then as much as there is room
/// for, in order; that is no more part of it.
fn commit(store: &mut dyn Store, group: &mut Group) -> Result<(), StoreError> {
    let done = store.commit(group.writes());
    if !matches!(done, Err(StoreError::Full { .. })) {
        return done;
    }
    let (ahead, rest) = group.split();
    if !ahead.is_empty() {
        store.commit(ahead.writes())?;
        *group = rest;
    }
    while !group.is_empty() {
        let (part, rest) = group.cut(PART_BYTES);
        store.commit(part.writes())?;
        *group = rest;
    }
    Ok(())
}

/// What has gathered, once there is something, or at once; `None` when nothing will any more.
fn gathered(shared: &Shared, at_once: bool) -> Option<Vec<Write>> {
    let mut state = shared.state();
    loop {
        if at_once || !state.waiting.is_empty() {
            state.waiting_bytes = 0;
            return Some(std::mem::take(&mut state.waiting));
        }
        if state.closing {
            return None;
        }
        let waited = shared.changed.wait(state);
        state = waited.unwrap_or_else(PoisonError::into_inner);
    }
}

/// Says what is wrong.
fn complain(shared: &Shared, sentence: &str) {
    let mut state = shared.state();
    if state.news.trouble.as_deref() != Some(sentence) {
        log::error!("{sentence}");
        state.news.trouble = Some(sentence.to_string());
        shared.waker.wake();
    }
}

/// Waits before another try; whether there is to be one.
fn wait_a_little(shared: &Shared) -> bool {
    let state = shared.state();
    let waited = shared
        .changed
        .wait_timeout_while(state, RETRY, |state| !state.closing);
    let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    !state.closing
}
