//! The pushing end.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::machine::{Clock, Time};
use crate::outbox::{Bounds, Duty, Lane, Outbox, Refusal, Shared};
use crate::station::OpenError;
use crate::station::{Halt, Station};
use crate::stop::StopHandle;
use crate::transport::{Frame, Role, Side, Socket, SocketOptions, TransportError};
use crate::wire::{Batch, Kind, RecordError, single};

/// Whether records share frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// A thread sends the records: many to a frame while they come faster than the socket takes
    /// them, at once when they do not. Several times faster for small records.
    On {
        /// Most bytes in one frame, unless a single record is larger. 64 KiB is where larger
        /// frames stop being faster; smaller ones spread few records more evenly over the pullers.
        batch_bytes: usize,
    },
    /// Each record is its own frame, sent by the calling thread before the call returns. For large
    /// records, and for pullers that take records very slowly and should share them evenly. Several
    /// threads that share the pusher take turns, so that one may have to sit out another's wait.
    Off,
}

/// Settings of a [`Pusher`].
#[derive(Clone, Debug)]
pub struct PusherConfig {
    /// Whether records share frames.
    pub batching: Batching,
    /// Bytes of encoded records that may wait for the socket before [`send`](Pusher::send) blocks;
    /// only with batching. A few times `batch_bytes` is enough; more only delays the
    /// backpressure.
    pub queue_bytes: usize,
    /// How long [`send`](Pusher::send) waits for room; `Duration::MAX` for ever.
    pub timeout: Duration,
    /// The socket. Its queues count frames: with batching, `queue_messages` × `batch_bytes` may wait
    /// there as well, for each puller. Its `linger` also bounds how long dropping the pusher waits
    /// for its own queue.
    pub socket: SocketOptions,
}

impl Default for PusherConfig {
    /// Batching, 4 MiB waiting here and 4 MiB for each puller in the socket.
    fn default() -> PusherConfig {
        let socket = SocketOptions {
            queue_messages: 64,
            ..SocketOptions::default()
        };
        PusherConfig {
            batching: Batching::On {
                batch_bytes: 64 << 10,
            },
            queue_bytes: 4 << 20,
            timeout: Duration::from_secs(30),
            socket,
        }
    }
}

impl PusherConfig {
    /// One record per frame, a thousand of them waiting for each puller.
    pub fn unbatched() -> PusherConfig {
        PusherConfig {
            batching: Batching::Off,
            socket: SocketOptions::default(),
            ..PusherConfig::default()
        }
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.queue_bytes == 0 {
            return Err("queue_bytes is 0: nothing could ever be sent; give at least 1".into());
        }
        match self.batching {
            Batching::On { batch_bytes: 0 } => Err("batch_bytes is 0: give at least 1".into()),
            Batching::On { batch_bytes } if batch_bytes > self.socket.max_message_bytes => {
                Err("batch_bytes is over the socket's max_message_bytes: lower it".into())
            }
            _ => Ok(()),
        }
    }
}

/// Why a record was not sent.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The queue stayed full for as long as the call might wait. The record was not taken.
    #[error(
        "the queue to the pullers stayed full: nothing was sent; retry, or start more or faster pullers"
    )]
    TimedOut,
    /// The pusher was stopped. The record was not taken.
    #[error("the pusher was stopped: nothing was sent, and a retry does not help")]
    Stopped,
    /// The record does not fit into a frame. It was not taken.
    #[error(
        "a record makes a frame of {bytes} bytes, over the limit of {limit_bytes}: do not retry; split it or raise max_message_bytes at both ends"
    )]
    TooLarge {
        /// Length of the frame, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// The value cannot be encoded. It was not taken.
    #[error("{0}: do not retry")]
    Encode(RecordError),
    /// The socket failed; records that waited may be lost.
    #[error("the socket failed, so open a new pusher: {0}")]
    Failed(String),
}

impl From<Refusal> for PushError {
    fn from(refusal: Refusal) -> PushError {
        match refusal {
            Refusal::TimedOut => PushError::TimedOut,
            Refusal::Stopped => PushError::Stopped,
            Refusal::TooLarge { bytes, limit_bytes } => PushError::TooLarge { bytes, limit_bytes },
            Refusal::Encode(error) => PushError::Encode(error),
            Refusal::Failed(reason) => PushError::Failed(reason),
        }
    }
}

impl From<Halt> for PushError {
    fn from(halt: Halt) -> PushError {
        match halt {
            Halt::TimedOut => PushError::TimedOut,
            Halt::Stopped => PushError::Stopped,
            Halt::Failed(TransportError::TooLarge { bytes, limit_bytes }) => {
                PushError::TooLarge { bytes, limit_bytes }
            }
            Halt::Failed(error) => PushError::Failed(error.to_string()),
        }
    }
}

/// Sends values to [`Puller`](super::Puller)s, each to one of them; threads may share it.
///
/// Dropping it waits until all is handed to the socket, and the socket until all is handed to the
/// system, each for at most the configured linger. Stopping it ends the calls, and dropping it
/// still sends what was taken before.
pub struct Pusher<T: ?Sized> {
    line: Line,
    timeout: Duration,
    record: PhantomData<fn(&T)>,
}

enum Line {
    Batched(Outbox<Lane>),
    Direct(Box<Direct>),
}

struct Direct {
    seat: Mutex<Seat>,
    endpoint: Endpoint,
    stop: StopHandle,
}

struct Seat {
    station: Station,
    /// The last frame, for its memory.
    frame: Frame,
}

impl<T: Serialize + ?Sized> Pusher<T> {
    /// Listens for pullers at `endpoint`.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn bind(endpoint: &Endpoint, config: PusherConfig) -> Result<Pusher<T>, OpenError> {
        Pusher::open(Side::Bind, endpoint, config)
    }

    /// Connects to a puller that listens at `endpoint`, now or later.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn connect(endpoint: &Endpoint, config: PusherConfig) -> Result<Pusher<T>, OpenError> {
        Pusher::open(Side::Connect, endpoint, config)
    }

    fn open(side: Side, endpoint: &Endpoint, config: PusherConfig) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        let station = Station::open(Role::Push, side, endpoint, &config.socket)?;
        let line = match config.batching {
            Batching::Off => Line::Direct(Box::new(Direct {
                endpoint: station.socket.endpoint().clone(),
                stop: station.stop.clone(),
                seat: Mutex::new(Seat {
                    station,
                    frame: Frame::from(Vec::new()),
                }),
            })),
            Batching::On { batch_bytes } => {
                let bounds = Bounds {
                    queue_bytes: config.queue_bytes,
                    batch_bytes,
                    batch_records: u32::MAX,
                    frame_bytes: config.socket.max_message_bytes,
                };
                let (lane, linger) = (Lane::default(), config.socket.linger);
                Line::Batched(Outbox::start(
                    "pusher", station, lane, bounds, linger, Idle,
                )?)
            }
        };
        Ok(Pusher {
            line,
            timeout: config.timeout,
            record: PhantomData,
        })
    }

    /// Sends a value, waiting for room for at most the configured timeout. It is encoded when the
    /// call returns, and on its way soon after.
    ///
    /// # Errors
    ///
    /// See [`PushError`]; in every case the value was not taken.
    pub fn send(&self, value: &T) -> Result<(), PushError> {
        self.send_within(value, self.timeout)
    }

    /// Sends a value if there is room for it now.
    ///
    /// # Errors
    ///
    /// [`PushError::TimedOut`] if there is none, and otherwise as [`send`](Pusher::send).
    pub fn try_send(&self, value: &T) -> Result<(), PushError> {
        self.send_within(value, Duration::ZERO)
    }

    /// Sends a value, waiting for room for at most `within`.
    ///
    /// # Errors
    ///
    /// As [`send`](Pusher::send).
    pub fn send_within(&self, value: &T, within: Duration) -> Result<(), PushError> {
        match &self.line {
            Line::Batched(outbox) => outbox
                .add(within, |state| {
                    state.queue.append(&mut state.lanes, value, start)
                })
                .map_err(PushError::from),
            Line::Direct(direct) => direct.send(value, within),
        }
    }

    /// Sends values one after the other and returns how many; each may wait for the configured
    /// timeout.
    ///
    /// # Errors
    ///
    /// As [`send`](Pusher::send) for the first value that was not taken; those before it were.
    pub fn send_all<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<u64, PushError>
    where
        T: 'a,
    {
        let mut sent = 0;
        for value in values {
            self.send(value)?;
            sent += 1;
        }
        Ok(sent)
    }

    /// Waits until the socket has taken all that was sent before, for at most `within`. The
    /// socket may still be on its way to the pullers with it.
    ///
    /// # Errors
    ///
    /// [`PushError::TimedOut`], [`PushError::Stopped`] or [`PushError::Failed`]; what was taken
    /// stays taken.
    pub fn flush(&self, within: Duration) -> Result<(), PushError> {
        match &self.line {
            Line::Batched(outbox) => Ok(outbox.flush(within)?),
            Line::Direct(_) => Ok(()),
        }
    }

    /// Where it listens or connects, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        match &self.line {
            Line::Batched(outbox) => outbox.endpoint(),
            Line::Direct(direct) => &direct.endpoint,
        }
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        match &self.line {
            Line::Batched(outbox) => outbox.stop_handle(),
            Line::Direct(direct) => direct.stop.clone(),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Pusher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher").finish_non_exhaustive()
    }
}

fn start(buffer: Vec<u8>) -> Batch {
    Batch::start(buffer, b"", Kind::Records, &[])
}

impl Direct {
    fn send<T: Serialize + ?Sized>(&self, value: &T, within: Duration) -> Result<(), PushError> {
        let mut seat = match self.seat.try_lock() {
            Ok(seat) => seat,
            Err(TryLockError::WouldBlock) if within.is_zero() => return Err(PushError::TimedOut),
            // A panic in `serialize` leaves only a buffer that is begun anew.
            Err(_) => self.seat.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let seat = &mut *seat;
        single(seat.frame.buffer(), value).map_err(PushError::Encode)?;
        let frame = std::slice::from_ref(&seat.frame);
        Ok(seat.station.send(frame, within)?)
    }
}

/// A pusher's driver has nothing to do but to send.
struct Idle;

impl Duty<Lane> for Idle {
    fn tend(
        &mut self,
        _socket: &mut dyn Socket,
        _shared: &Shared<Lane>,
        _clock: &Clock,
    ) -> Result<(), TransportError> {
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}
