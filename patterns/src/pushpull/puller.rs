//! The pulling end.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::complaints::Complaints;
use crate::endpoint::Endpoint;
use crate::station::OpenError;
use crate::station::{Halt, Patience, Station};
use crate::stop::StopHandle;
use crate::transport::{Message, Role, Side, SocketOptions, TransportError};
use crate::wire::{Inbox, Kind, Reader, RecordError, WireError};

/// Settings of a [`Puller`].
#[derive(Clone, Debug)]
pub struct PullerConfig {
    /// How long [`recv`](Puller::recv) waits for a record; `Duration::MAX` for ever.
    pub timeout: Duration,
    /// The socket. `queue_messages` frames may wait here for each pusher, in batches of 64 KiB or
    /// whatever the pushers make: lower it to take less in advance.
    pub socket: SocketOptions,
}

impl Default for PullerConfig {
    /// Waits for 30 seconds; keeps up to 256 frames of each pusher.
    fn default() -> PullerConfig {
        let socket = SocketOptions {
            queue_messages: 256,
            ..SocketOptions::default()
        };
        PullerConfig {
            timeout: Duration::from_secs(30),
            socket,
        }
    }
}

impl PullerConfig {
    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.timeout.is_zero() {
            return Err("timeout is 0: recv would never wait; use try_recv for that".into());
        }
        Ok(())
    }
}

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// None came within the time given; nothing is lost.
    #[error("no record came in time: retry, or check that a pusher is connected here")]
    TimedOut,
    /// The puller was stopped; records that had arrived and were not taken are lost with it.
    #[error("the puller was stopped: a retry does not help")]
    Stopped,
    /// The socket failed.
    #[error("the socket failed, so open a new puller: {0}")]
    Failed(TransportError),
}

impl From<Halt> for PullError {
    fn from(halt: Halt) -> PullError {
        match halt {
            Halt::TimedOut => PullError::TimedOut,
            Halt::Stopped => PullError::Stopped,
            Halt::Failed(error) => PullError::Failed(error),
        }
    }
}

/// What a puller has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullerStats {
    /// Records returned to the caller.
    pub received: u64,
    /// Records that were skipped because they are not a `T`.
    pub wrong_type: u64,
    /// Frames that were dropped, in whole or from the damage on.
    pub bad_frames: u64,
}

/// Receives the values of [`Pusher`](super::Pusher)s, fairly from all of them.
///
/// What is not for it is skipped, counted in [`stats`](Puller::stats) and logged.
pub struct Puller<T> {
    station: Station,
    timeout: Duration,
    /// The last message; its frame is what the inbox reads.
    message: Message,
    inbox: Inbox,
    received: u64,
    wrong_type: Complaints,
    bad_frames: Complaints,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Puller<T> {
    /// Listens for pushers at `endpoint`.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn bind(endpoint: &Endpoint, config: PullerConfig) -> Result<Puller<T>, OpenError> {
        Puller::open(Side::Bind, endpoint, config)
    }

    /// Connects to a pusher that listens at `endpoint`, now or later.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn connect(endpoint: &Endpoint, config: PullerConfig) -> Result<Puller<T>, OpenError> {
        Puller::open(Side::Connect, endpoint, config)
    }

    fn open(side: Side, endpoint: &Endpoint, config: PullerConfig) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        Ok(Puller {
            station: Station::open(Role::Pull, side, endpoint, &config.socket)?,
            timeout: config.timeout,
            message: Message::new(),
            inbox: Inbox::default(),
            received: 0,
            wrong_type: Complaints::default(),
            bad_frames: Complaints::default(),
            record: PhantomData,
        })
    }

    /// The next record, waiting for at most the configured timeout.
    ///
    /// # Errors
    ///
    /// See [`PullError`].
    pub fn recv(&mut self) -> Result<T, PullError> {
        self.recv_within(self.timeout)
    }

    /// The next record if one has arrived.
    ///
    /// # Errors
    ///
    /// [`PullError::TimedOut`] if none has, and otherwise as [`recv`](Puller::recv).
    pub fn try_recv(&mut self) -> Result<T, PullError> {
        self.recv_within(Duration::ZERO)
    }

    /// The next record, waiting for at most `within`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Puller::recv).
    pub fn recv_within(&mut self, within: Duration) -> Result<T, PullError> {
        self.station.stop.check().map_err(|_| PullError::Stopped)?;
        let mut patience = Patience::new(within);
        loop {
            if let Some(value) = self.unpack() {
                return Ok(value);
            }
            self.station.receive(&mut self.message, &mut patience)?;
            // Whoever sends rubbish must not make the wait longer.
            if !self.open_frame() && patience.is_over(&self.station.clock) {
                return Err(PullError::TimedOut);
            }
        }
    }

    /// The records as they come. It ends when the puller is stopped, when the socket fails, and when
    /// none comes for the configured timeout.
    pub fn iter(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// What it has seen up to now.
    pub fn stats(&self) -> PullerStats {
        PullerStats {
            received: self.received,
            wrong_type: self.wrong_type.count(),
            bad_frames: self.bad_frames.count(),
        }
    }

    /// Where it listens or connects, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        self.station.socket.endpoint()
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.station.stop.clone()
    }

    fn unpack(&mut self) -> Option<T> {
        loop {
            match self.inbox.next(self.message.first()?)? {
                Ok(value) => {
                    self.received += 1;
                    return Some(value);
                }
                Err(error @ RecordError::Damaged) => {
                    self.bad_frames.add(self.station.socket.endpoint(), &error);
                }
                Err(error) => self.wrong_type.add(self.station.socket.endpoint(), &error),
            }
        }
    }

    /// Opens the frame that came; whether it is one of ours.
    fn open_frame(&mut self) -> bool {
        let opened = match self.message.as_slice() {
            [frame] => open(frame, &mut self.inbox),
            _ => Err(WireError::Foreign),
        };
        if let Err(error) = &opened {
            self.bad_frames.add(self.station.socket.endpoint(), error);
        }
        opened.is_ok()
    }
}

fn open(frame: &[u8], inbox: &mut Inbox) -> Result<(), WireError> {
    let mut reader = Reader::expect(frame, Kind::Records)?;
    let count = reader.uint()?;
    inbox.fill(frame.len() - reader.rest().len(), count);
    Ok(())
}

impl<T> fmt::Debug for Puller<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Puller").finish_non_exhaustive()
    }
}
