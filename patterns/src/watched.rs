//! A value that a program and its driver share, and waiting for it to change.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::stop::StopHandle;

/// A value under a lock whose holders may wait for others to change it.
#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    /// A value to share.
    pub(crate) fn new(value: T) -> Watched<T> {
        Watched {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    /// The value. No code panics while it leaves it half changed.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all who wait; to be called after the change.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change; `None` when the deadline has passed.
    pub(crate) fn wait<'a>(
        &self,
        value: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> Option<MutexGuard<'a, T>> {
        let Some(deadline) = deadline else {
            let waited = self.changed.wait(value);
            return Some(waited.unwrap_or_else(PoisonError::into_inner));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let waited = self.changed.wait_timeout(value, left);
        Some(waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl<T: Send + 'static> Watched<T> {
    /// Wakes all who wait when the object is stopped; under the lock, so that nobody misses it who
    /// is about to wait.
    pub(crate) fn notify_when_stopped(self: &Arc<Self>, stop: &StopHandle) {
        let weak = Arc::downgrade(self);
        stop.on_stop(move || {
            if let Some(watched) = weak.upgrade() {
                let _value = watched.lock();
                watched.notify();
            }
        });
    }
}
