//! The one place that waits: for messages on any mix of transports, for a wake-up, for a deadline.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::machine::{Clock, Time};
use crate::transport::{Source, Writable, sys};

/// What to watch a [`Source`] for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A message has arrived.
    Readable,
    /// A message has arrived or one can be sent.
    ReadableOrWritable,
}

/// How soon to look again at a full socket that cannot tell when it has room.
const RETRY: Duration = Duration::from_millis(1);

/// Waits until a source is ready, the waker rings or `deadline` has come; `None` waits for ever.
///
/// It may return early and without cause; callers look for themselves what is there: they receive
/// until nothing is left, and try to send what they have, before they wait again.
pub fn wait(
    sources: &[(Source<'_>, Interest)],
    waker: &Sleeper,
    clock: &Clock,
    deadline: Option<Time>,
) {
    if sources.iter().any(is_ready) {
        return waker.skip();
    }
    waker.sleep(|bell| {
        let timeout = deadline.map(|deadline| deadline.since(clock.now()));
        let retry = sources.iter().any(must_retry).then_some(RETRY);
        let timeout = timeout.into_iter().chain(retry).min();
        let fd = |i| {
            sources
                .get(i)
                .map_or(bell, |(source, _): &(Source<'_>, _)| source.fd)
        };
        sys::poll((0..sources.len() + 1).map(fd), timeout)
    });
}

fn is_ready((source, interest): &(Source<'_>, Interest)) -> bool {
    source.readable || *interest == Interest::ReadableOrWritable && source.writable == Writable::Yes
}

fn must_retry((source, interest): &(Source<'_>, Interest)) -> bool {
    *interest == Interest::ReadableOrWritable && source.writable == Writable::Unknown
}

/// The sleeping side of a waker: owned by the thread that waits.
#[derive(Debug)]
pub struct Sleeper {
    bell: UnixStream,
    shared: Arc<Shared>,
}

/// Rings from any thread to end a [`wait`]; cheap when nobody sleeps.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Set by `wake`, cleared when the sleeper looks; a set flag makes the next sleep return at once.
    rung: AtomicBool,
    /// Whether the sleeper is, or is about to be, asleep and needs the bell.
    asleep: AtomicBool,
    bell: UnixStream,
}

impl Sleeper {
    /// A new pair of sleeper and waker.
    ///
    /// # Errors
    ///
    /// The process has run out of file descriptors.
    pub fn new() -> std::io::Result<(Sleeper, Waker)> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            rung: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            bell: writer,
        });
        Ok((
            Sleeper {
                bell: reader,
                shared: shared.clone(),
            },
            Waker { shared },
        ))
    }

    /// Hears the rings up to now without a sleep: the caller is about to look around anyway.
    fn skip(&self) {
        self.shared.rung.store(false, Ordering::SeqCst);
    }

    /// Sleeps in `block`, which says whether the bell rang.
    fn sleep(&self, block: impl FnOnce(std::os::fd::RawFd) -> bool) {
        self.shared.asleep.store(true, Ordering::SeqCst);
        let rang = !self.shared.rung.swap(false, Ordering::SeqCst) && block(self.bell.as_raw_fd());
        self.shared.asleep.store(false, Ordering::SeqCst);
        self.shared.rung.store(false, Ordering::SeqCst);
        // A ring that comes later than this look ends the next sleep, which then hears it.
        if rang {
            let mut rings = [0; 64];
            while matches!((&self.bell).read(&mut rings), Ok(64)) {}
        }
    }
}

impl Waker {
    /// Ends the sleeper's present or next wait.
    pub fn wake(&self) {
        let already = self.shared.rung.swap(true, Ordering::SeqCst);
        if !already && self.shared.asleep.load(Ordering::SeqCst) {
            // A full pipe means that rings are waiting already, which is all we want.
            let _ = (&self.shared.bell).write(&[1]);
        }
    }
}
