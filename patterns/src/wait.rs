//! The one place that waits: for messages on any mix of transports, for a wake-up, for a deadline.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::machine::{Clock, Time};
use crate::transport::{Source, sys};

/// What to watch a [`Source`] for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A message has arrived.
    Readable,
    /// A message has arrived or one can be sent.
    ReadableOrWritable,
}

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
        let timeout = sources.iter().filter_map(look_after).chain(timeout).min();
        let fds = sources
            .iter()
            .flat_map(|(source, _)| [source.fd, source.link_fd]);
        sys::poll(fds.chain([bell]), timeout)
    });
}

fn is_ready((source, interest): &(Source<'_>, Interest)) -> bool {
    source.readable || *interest == Interest::ReadableOrWritable && source.writable
}

fn look_after((source, interest): &(Source<'_>, Interest)) -> Option<Duration> {
    let room = source
        .room_after
        .filter(|_| *interest == Interest::ReadableOrWritable);
    room.into_iter().chain(source.look_after).min()
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

    /// `block` waits until the bell rings, among others, and tells whether it did.
    fn sleep(&self, block: impl FnOnce(std::os::fd::RawFd) -> bool) {
        self.shared.asleep.store(true, Ordering::SeqCst);
        let mut rings = false;
        if !self.shared.rung.swap(false, Ordering::SeqCst) {
            rings = block(self.bell.as_raw_fd());
        }
        self.shared.asleep.store(false, Ordering::SeqCst);
        self.shared.rung.store(false, Ordering::SeqCst);
        // A ring that comes only now ends the next sleep, and is heard then.
        let mut bytes = [0; 64];
        while rings && matches!((&self.bell).read(&mut bytes), Ok(64)) {}
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
