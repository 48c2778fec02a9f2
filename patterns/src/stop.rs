//! Stopping an object from outside: every blocking call then returns an error at once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wait::Waker;

/// The object was stopped through its [`StopHandle`]; trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was stopped: nothing more is sent or received, so do not retry")]
pub struct Stopped;

/// Stops the object that it belongs to, from any thread; clones stop the same object.
///
/// Stopping is final. A call that is blocked returns its error `Stopped` at once, and so does every
/// later one; what was handed over before may still be sent while the object lingers.
#[derive(Clone)]
pub struct StopHandle {
    shared: Arc<Shared>,
}

struct Shared {
    stopped: AtomicBool,
    /// How to end the waits of whoever looks at `stopped`.
    rings: Mutex<Vec<Ring>>,
}

type Ring = Box<dyn Fn() + Send + Sync>;

impl StopHandle {
    /// A handle that ends the waits of `waker`'s sleeper.
    pub fn new(waker: Waker) -> StopHandle {
        let handle = StopHandle::default();
        handle.on_stop(move || waker.wake());
        handle
    }

    /// Stops the object. Harmless when it has been stopped or is gone.
    pub fn stop(&self) {
        if !self.shared.stopped.swap(true, Ordering::SeqCst) {
            self.rings().iter().for_each(|ring| ring());
        }
    }

    /// Whether [`stop`](StopHandle::stop) has been called.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::SeqCst)
    }

    /// For `?` between two waits.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when it is.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_stopped() {
            Err(Stopped)
        } else {
            Ok(())
        }
    }

    /// Calls `ring` as well when the object is stopped, at once when it has been: for objects with
    /// several threads. `ring` must not block for long.
    pub fn on_stop(&self, ring: impl Fn() + Send + Sync + 'static) {
        let mut rings = self.rings();
        // Under the lock: either `stop` finds the new ring, or we find that it came first.
        if self.is_stopped() {
            ring();
        }
        rings.push(Box::new(ring));
    }

    /// A panic in a ring leaves the list as it was.
    fn rings(&self) -> MutexGuard<'_, Vec<Ring>> {
        self.shared
            .rings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for StopHandle {
    /// A handle that nobody listens to yet; see [`on_stop`](StopHandle::on_stop).
    fn default() -> StopHandle {
        StopHandle {
            shared: Arc::new(Shared {
                stopped: AtomicBool::new(false),
                rings: Mutex::new(Vec::new()),
            }),
        }
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StopHandle(stopped: {})", self.is_stopped())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::machine::Clock;
    use crate::wait::{Sleeper, wait};

    #[test]
    fn a_wait_without_deadline_ends_when_stopped_from_another_thread() {
        let (sleeper, waker) = Sleeper::new().unwrap();
        let handle = StopHandle::new(waker);
        let stopper = handle.clone();
        let thread = thread::spawn(move || stopper.stop());
        while !handle.is_stopped() {
            wait(&[], &sleeper, &Clock::start(), None);
        }
        thread.join().unwrap();
        assert_eq!(handle.check(), Err(Stopped));
    }

    #[test]
    fn a_ring_is_called_once_whether_it_came_before_the_stop_or_after() {
        let (sender, calls) = mpsc::channel();
        let handle = StopHandle::default();
        let early = sender.clone();
        handle.on_stop(move || early.send("early").unwrap());
        handle.stop();
        handle.stop();
        handle.on_stop(move || sender.send("late").unwrap());
        drop(handle);
        assert_eq!(calls.iter().collect::<Vec<_>>(), ["early", "late"]);
    }
}
