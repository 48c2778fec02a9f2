//! The thread that writes to the store, so that the broker never waits for a disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wait::Waker;

use super::store::{Store, StoreError, Write};

/// Pause before a group that the store refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What happened since the last look.
#[derive(Debug, Default)]
pub(super) struct News {
    /// How many writes are safe, from the first on.
    pub(super) stored: u64,
    /// Why the store takes nothing, if so.
    pub(super) trouble: Option<String>,
    pub(super) bytes: u64,
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
            .spawn(move || keep(&keeping, store))?;
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
        state.waiting_bytes += writes.iter().map(bytes).sum::<usize>();
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
    while let Some(group) = next_group(shared) {
        while let Err(error) = store.commit(&group) {
            if !complain(shared, &error) {
                return;
            }
        }
        let mut state = shared.state();
        state.news.stored += group.len() as u64;
        state.news.trouble = None;
        state.news.bytes = store.bytes();
        drop(state);
        shared.waker.wake();
    }
}

/// What has gathered; `None` when nothing will any more.
fn next_group(shared: &Shared) -> Option<Vec<Write>> {
    let mut state = shared.state();
    loop {
        if !state.waiting.is_empty() {
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

/// Says what is wrong and waits a little; whether to try again.
fn complain(shared: &Shared, error: &StoreError) -> bool {
    let mut state = shared.state();
    let sentence = error.to_string();
    if state.news.trouble.as_ref() != Some(&sentence) {
        log::error!("{sentence}");
        state.news.trouble = Some(sentence);
        shared.waker.wake();
    }
    let waited = shared
        .changed
        .wait_timeout_while(state, RETRY, |state| !state.closing);
    let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    !state.closing
}

fn bytes(write: &Write) -> usize {
    match write {
        Write::Tasks { body, .. } | Write::Results { body, .. } => body.len() + 64,
        Write::Job { description, .. } => description.len() + 64,
        Write::Fetched { tasks, .. } => 16 * tasks.len() + 64,
        _ => 64,
    }
}
