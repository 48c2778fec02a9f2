//! A bounded queue of growing frames, filled by any thread and emptied by one that owns the socket.
//!
//! A record goes to the end of the frame that is open for its lane; the driver takes the oldest
//! frame as soon as it has nothing else to do. So frames are full while there is more to send than
//! the socket takes, and a lone record leaves at once.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::machine::{Clock, Time};
use crate::station::OpenError;
use crate::station::Station;
use crate::stop::StopHandle;
use crate::transport::{Frame, SendError, Socket, TransportError};
use crate::wait::{Interest, Sleeper, Waker, wait};
use crate::wire::{Batch, RecordError};

/// Buffers of sent frames that are kept for new ones.
const SPARE_BUFFERS: usize = 4;

/// Why a record was not taken; nothing changed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No room within the time given.
    TimedOut,
    /// The object was stopped.
    Stopped,
    /// The record does not fit into any frame.
    TooLarge { bytes: usize, limit_bytes: usize },
    /// The value cannot be serialised.
    Encode(RecordError),
    /// The socket failed before.
    Failed(String),
}

/// Bounds of an outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of frames beyond which no record is taken.
    pub(crate) queue_bytes: usize,
    /// Bytes beyond which a frame takes no second record.
    pub(crate) batch_bytes: usize,
    /// Records beyond which a frame takes no more.
    pub(crate) batch_records: u32,
    /// Bytes that a frame must not exceed.
    pub(crate) frame_bytes: usize,
}

/// The frame that is open for one stream of records, if it has not been taken yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lane {
    /// The number of the frame, counted from 1 over all frames.
    open: u64,
}

/// The frames that wait.
pub(crate) struct Queue {
    bounds: Bounds,
    frames: VecDeque<Batch>,
    /// How many frames have been taken: the first one waiting has the number after it.
    taken: u64,
    /// Bytes of the frames that wait and of the one being sent.
    bytes: usize,
    /// Records taken from callers.
    accepted: u64,
    /// Records taken by the socket.
    handed: u64,
    /// Whether the driver sleeps and has to be rung.
    idle: bool,
    /// Callers that wait for room or for a flush.
    waiters: u32,
    close_by: Option<Time>,
    failure: Option<String>,
    spare: Vec<Vec<u8>>,
}

impl Queue {
    fn new(bounds: Bounds) -> Queue {
        Queue {
            bounds,
            frames: VecDeque::new(),
            taken: 0,
            bytes: 0,
            accepted: 0,
            handed: 0,
            idle: false,
            waiters: 0,
            close_by: None,
            failure: None,
            spare: Vec::new(),
        }
    }

    /// Appends a record to the lane's open frame, or to a new one made by `start`.
    pub(crate) fn append<T: Serialize + ?Sized>(
        &mut self,
        lane: &mut Lane,
        value: &T,
        start: impl Fn(Vec<u8>) -> Batch,
    ) -> Result<(), Refusal> {
        if !self.is_open(lane) {
            let batch = start(self.spare.pop().unwrap_or_default());
            return self.append_first(lane, batch, value);
        }
        let Bounds {
            batch_bytes,
            batch_records,
            ..
        } = self.bounds;
        let index = (lane.open - self.taken - 1) as usize;
        let batch = &mut self.frames[index];
        let from = batch.len();
        batch.push(value).map_err(Refusal::Encode)?;
        if batch.len() <= batch_bytes && batch.count() <= batch_records {
            self.bytes += batch.len() - from;
            self.accepted += 1;
            return Ok(());
        }
        let mut next = start(self.spare.pop().unwrap_or_default());
        self.frames[index].move_last(from, &mut next);
        self.put(lane, next)
    }

    #[cold]
    fn append_first<T: Serialize + ?Sized>(
        &mut self,
        lane: &mut Lane,
        mut batch: Batch,
        value: &T,
    ) -> Result<(), Refusal> {
        batch.push(value).map_err(Refusal::Encode)?;
        self.put(lane, batch)
    }

    /// Puts a new frame at the end and makes it the lane's open one.
    fn put(&mut self, lane: &mut Lane, batch: Batch) -> Result<(), Refusal> {
        let limit_bytes = self.bounds.frame_bytes;
        if batch.len() > limit_bytes {
            return Err(Refusal::TooLarge {
                bytes: batch.len(),
                limit_bytes,
            });
        }
        self.accepted += u64::from(batch.count());
        self.bytes += batch.len();
        self.frames.push_back(batch);
        lane.open = self.taken + self.frames.len() as u64;
        Ok(())
    }

    /// Puts a frame without records at the end, whatever the room.
    pub(crate) fn put_mark(&mut self, batch: Batch) {
        self.bytes += batch.len();
        self.frames.push_back(batch);
    }

    /// Whether a frame with records of this lane waits.
    pub(crate) fn is_open(&self, lane: &Lane) -> bool {
        lane.open > self.taken
    }

    /// Whether no frame waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// A buffer to start a frame in.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn has_room(&self) -> bool {
        self.bytes < self.bounds.queue_bytes
    }

    /// Whether a caller that waits should be woken: with half the room free it can go on for a
    /// while, and a flush may be done.
    fn is_worth_waking(&self) -> bool {
        self.bytes <= self.bounds.queue_bytes / 2
    }

    /// Records that were accepted and not handed to the socket.
    fn unsent(&self) -> u64 {
        self.accepted - self.handed
    }

    /// Takes note that a frame was sent, and keeps its memory.
    fn sent(&mut self, bytes: usize, records: u32, buffer: Vec<u8>) {
        self.bytes -= bytes;
        self.handed += u64::from(records);
        let worth_keeping = buffer.capacity() <= 2 * self.bounds.batch_bytes.max(1024);
        if self.spare.len() < SPARE_BUFFERS && worth_keeping {
            self.spare.push(buffer);
        }
    }
}

/// What is shared between callers and driver: the lanes of the pattern, and the queue.
pub(crate) struct State<L> {
    pub(crate) lanes: L,
    pub(crate) queue: Queue,
}

pub(crate) struct Shared<L> {
    state: Mutex<State<L>>,
    /// Signalled when there is room, when a flush is done, when all is over.
    changed: Condvar,
    waker: Waker,
    stop: StopHandle,
}

impl<L> Shared<L> {
    /// What a panic in a caller's `Serialize` leaves behind is whole; see [`Batch::push`].
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }
}

/// The callers' side.
pub(crate) struct Outbox<L> {
    shared: Arc<Shared<L>>,
    endpoint: Endpoint,
    linger: Duration,
    clock: Clock,
    thread: Option<JoinHandle<()>>,
}

/// What a pattern does in the driver's thread besides sending.
pub(crate) trait Duty<L>: Send + 'static {
    /// Called whenever the socket may have received something or [`deadline`](Duty::deadline) has
    /// come.
    fn tend(
        &mut self,
        socket: &mut dyn Socket,
        shared: &Shared<L>,
        clock: &Clock,
    ) -> Result<(), TransportError>;

    /// When to be called again at the latest.
    fn deadline(&self) -> Option<Time>;
}

impl<L: Send + 'static> Outbox<L> {
    /// Hands the station's socket to a new thread.
    pub(crate) fn start(
        name: &str,
        station: Station,
        lanes: L,
        bounds: Bounds,
        linger: Duration,
        duty: impl Duty<L>,
    ) -> Result<Outbox<L>, OpenError> {
        let Station {
            socket,
            sleeper,
            waker,
            clock,
            stop,
        } = station;
        let queue = Queue::new(bounds);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { lanes, queue }),
            changed: Condvar::new(),
            waker,
            stop,
        });
        let weak: Weak<Shared<L>> = Arc::downgrade(&shared);
        shared.stop.on_stop(move || {
            if let Some(shared) = weak.upgrade() {
                // With the lock, nobody is between the look at the flag and the wait.
                let _state = shared.lock();
                shared.notify();
            }
        });
        let endpoint = socket.endpoint().clone();
        let driver = Driver {
            shared: shared.clone(),
            socket,
            sleeper,
            clock,
            duty,
        };
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || driver.run())?;
        Ok(Outbox {
            shared,
            endpoint,
            linger,
            clock,
            thread: Some(thread),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }

    /// Waits for room for at most `within`, then lets `append` add to the queue.
    pub(crate) fn add(
        &self,
        within: Duration,
        append: impl FnOnce(&mut State<L>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        self.check(&state.queue)?;
        if !state.queue.has_room() {
            state = self.wait_until(state, within, |state| state.queue.has_room())?;
        }
        append(&mut state)?;
        let wake = std::mem::take(&mut state.queue.idle);
        drop(state);
        if wake {
            self.shared.waker.wake();
        }
        Ok(())
    }

    /// Waits until the socket has taken all that was added before, for at most `within`.
    pub(crate) fn flush(&self, within: Duration) -> Result<(), Refusal> {
        let state = self.shared.lock();
        let goal = state.queue.accepted;
        self.wait_until(state, within, |state| state.queue.handed >= goal)
            .map(drop)
    }

    /// Waits until something about the state is true, for at most `within`.
    pub(crate) fn wait_for(
        &self,
        within: Duration,
        done: impl Fn(&State<L>) -> bool,
    ) -> Result<(), Refusal> {
        self.wait_until(self.shared.lock(), within, done).map(drop)
    }

    #[cold]
    fn wait_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<L>>,
        within: Duration,
        done: impl Fn(&State<L>) -> bool,
    ) -> Result<MutexGuard<'a, State<L>>, Refusal> {
        let deadline = Instant::now().checked_add(within);
        loop {
            self.check(&state.queue)?;
            if done(&state) {
                return Ok(state);
            }
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Err(Refusal::TimedOut);
            }
            state.queue.waiters += 1;
            let waited = self.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.queue.waiters -= 1;
        }
    }

    fn check(&self, queue: &Queue) -> Result<(), Refusal> {
        if self.shared.stop.is_stopped() {
            return Err(Refusal::Stopped);
        }
        match &queue.failure {
            Some(reason) => Err(Refusal::Failed(reason.clone())),
            None => Ok(()),
        }
    }
}

impl<L> Drop for Outbox<L> {
    /// Waits until all is handed to the socket, for at most the linger time.
    fn drop(&mut self) {
        self.shared.lock().queue.close_by = Some(self.clock.now() + self.linger);
        self.shared.waker.wake();
        if let Some(thread) = self.thread.take() {
            // The driver does not panic; if a transport did, its message has been printed.
            let _ = thread.join();
        }
    }
}

struct Driver<L, D> {
    shared: Arc<Shared<L>>,
    socket: Box<dyn Socket>,
    sleeper: Sleeper,
    clock: Clock,
    duty: D,
}

/// What became of a frame.
enum Handed {
    Taken,
    /// The time to linger is over.
    TooLate,
}

impl<L, D: Duty<L>> Driver<L, D> {
    fn run(mut self) {
        if let Err(error) = self.drive() {
            log::error!("{}: {error}", self.socket.endpoint());
            self.shared.lock().queue.failure = Some(error.to_string());
        }
        let left = self.shared.lock().queue.unsent();
        if left > 0 {
            log::warn!("{}: {left} records were not sent", self.socket.endpoint());
        }
        self.shared.notify();
    }

    fn drive(&mut self) -> Result<(), TransportError> {
        loop {
            self.duty
                .tend(&mut *self.socket, &self.shared, &self.clock)?;
            match self.take() {
                Next::Send(batch) => {
                    if let Handed::TooLate = self.send(batch)? {
                        return Ok(());
                    }
                }
                Next::Sleep => self.sleep(Interest::Readable, self.duty.deadline()),
                Next::Close => return Ok(()),
            }
        }
    }

    fn take(&self) -> Next {
        let queue = &mut self.shared.lock().queue;
        queue.idle = queue.frames.is_empty();
        match queue.frames.pop_front() {
            Some(batch) => {
                queue.taken += 1;
                Next::Send(batch)
            }
            None if queue.close_by.is_some() => Next::Close,
            None => Next::Sleep,
        }
    }

    fn send(&mut self, batch: Batch) -> Result<Handed, TransportError> {
        let (bytes, records) = (batch.len(), batch.count());
        let mut frame = Frame::from(batch.finish());
        loop {
            match self.socket.send(std::slice::from_ref(&frame)) {
                Ok(()) => break,
                Err(SendError::Full) => {}
                Err(SendError::Failed(error)) => return Err(error),
                // Only routers say so, and none has an outbox.
                Err(SendError::Unroutable) => break,
            }
            let close_by = self.close_by();
            if close_by.is_some_and(|close_by| self.clock.now() >= close_by) {
                return Ok(Handed::TooLate);
            }
            let deadline = close_by.into_iter().chain(self.duty.deadline()).min();
            self.sleep(Interest::ReadableOrWritable, deadline);
            self.duty
                .tend(&mut *self.socket, &self.shared, &self.clock)?;
        }
        let queue = &mut self.shared.lock().queue;
        queue.sent(bytes, records, std::mem::take(frame.buffer()));
        if queue.waiters > 0 && queue.is_worth_waking() {
            self.shared.notify();
        }
        Ok(Handed::Taken)
    }

    /// The end of the time to linger; also tells waiting callers of the room there is.
    fn close_by(&self) -> Option<Time> {
        let queue = &self.shared.lock().queue;
        if queue.waiters > 0 && queue.has_room() {
            self.shared.notify();
        }
        queue.close_by
    }

    fn sleep(&self, interest: Interest, deadline: Option<Time>) {
        let source = self.socket.source();
        wait(&[(source, interest)], &self.sleeper, &self.clock, deadline);
    }
}

/// What the driver does next.
enum Next {
    Send(Batch),
    Sleep,
    Close,
}
