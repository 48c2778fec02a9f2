//! The subscribing end.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::END_OF_TOPIC;
use super::publisher::check_topic;
use crate::complaints::Complaints;
use crate::endpoint::Endpoint;
use crate::sequence::{Before, PublisherId, Tracker};
use crate::station::OpenError;
use crate::station::{Halt, Patience, Station};
use crate::stop::StopHandle;
use crate::transport::{Message, Role, Side, SocketOptions, TransportError, WhenFull};
use crate::wire::{Inbox, Kind, Reader, RecordError, WireError};

/// What a subscriber keeps of what it has not received yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All that its queue holds; beyond that the publisher decides.
    #[default]
    All,
    /// The newest frame, for publishers with
    /// [`LatestOnly`](super::SlowSubscriber::LatestOnly). It takes one subscription, and what is
    /// skipped is counted but is no gap.
    Latest,
}

/// Settings of a [`Subscriber`].
#[derive(Clone, Debug)]
pub struct SubscriberConfig {
    /// What is kept of what has not been received yet.
    pub keep: Keep,
    /// How long [`recv`](Subscriber::recv) waits for an event; `Duration::MAX` for ever.
    pub timeout: Duration,
    /// Topics whose numbers are tracked, at most. Beyond it the topic that has been silent for
    /// longest is forgotten: its records still arrive, but a gap across that moment goes
    /// unnoticed.
    pub max_topics: usize,
    /// The socket. `queue_messages` frames may wait here for each publisher; `when_full` is set by
    /// `keep`.
    pub socket: SocketOptions,
}

impl Default for SubscriberConfig {
    /// Keeps up to 256 frames of each publisher; tracks 65,536 topics.
    fn default() -> SubscriberConfig {
        SubscriberConfig {
            keep: Keep::All,
            timeout: Duration::from_secs(30),
            max_topics: 65_536,
            socket: SocketOptions {
                queue_messages: 256,
                ..SocketOptions::default()
            },
        }
    }
}

impl SubscriberConfig {
    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.timeout.is_zero() {
            return Err("timeout is 0: recv would never wait; use try_recv for that".into());
        }
        if self.max_topics == 0 {
            return Err("max_topics is 0: no gap could ever be found; give at least 1".into());
        }
        Ok(())
    }
}

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// A record.
    Message {
        /// Its topic.
        topic: Arc<str>,
        /// What was published.
        value: T,
    },
    /// Records of the topic were lost at this point.
    Gap {
        /// Which topic.
        topic: Arc<str>,
        /// How many records.
        missed: u64,
    },
    /// From here on another publisher speaks on the topic: the same program after a restart, or one
    /// more of them. How much was lost of the last words of the one before cannot be known.
    Restarted {
        /// Which topic.
        topic: Arc<str>,
        /// Records that the new publisher had published there before the one that follows.
        missed: u64,
    },
}

/// Why there is no event.
#[derive(Debug, thiserror::Error)]
pub enum SubscriberError {
    /// Nothing came within the time given.
    #[error("nothing was published in time: retry, or check the topic and the publisher")]
    TimedOut,
    /// The subscriber was stopped.
    #[error("the subscriber was stopped: a retry does not help")]
    Stopped,
    /// The socket failed.
    #[error("the socket failed, so open a new subscriber: {0}")]
    Failed(TransportError),
}

impl From<Halt> for SubscriberError {
    fn from(halt: Halt) -> SubscriberError {
        match halt {
            Halt::TimedOut => SubscriberError::TimedOut,
            Halt::Stopped => SubscriberError::Stopped,
            Halt::Failed(error) => SubscriberError::Failed(error),
        }
    }
}

/// Why a subscription was not made or not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The text is too long or contains a NUL; an exact topic must not be empty.
    #[error("{0:?} is not a topic: give 1 to 255 bytes without a NUL; do not retry")]
    BadTopic(String),
    /// The socket refused.
    #[error("{0}; do not retry")]
    Failed(#[from] TransportError),
}

/// What a subscriber has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriberStats {
    /// Records returned to the caller.
    pub received: u64,
    /// Records known to be lost, over all topics.
    pub missed: u64,
    /// Records that came twice and were dropped.
    pub duplicates: u64,
    /// Records that were skipped because they are not a `T`.
    pub wrong_type: u64,
    /// Frames that were dropped, in whole or from the damage on.
    pub bad_frames: u64,
    /// Topics forgotten to keep the limit.
    pub forgotten_topics: u64,
}

/// Receives the values of [`Publisher`](super::Publisher)s on the topics that it subscribed to, and
/// says where some are missing.
///
/// A topic that is first heard in the middle is no gap: whoever joins late has not lost anything.
pub struct Subscriber<T> {
    station: Station,
    keep: Keep,
    timeout: Duration,
    tracker: Tracker,
    /// The last message; its frame is what the inbox reads.
    message: Message,
    inbox: Inbox,
    /// The topic of what is in the inbox.
    topic: Arc<str>,
    /// What must be told before the next record.
    notice: Option<Event<T>>,
    received: u64,
    missed: u64,
    duplicates: u64,
    wrong_type: Complaints,
    bad_frames: Complaints,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Subscriber<T> {
    /// Connects to a publisher that listens at `endpoint`, now or later. It hears nothing until it
    /// subscribes.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn connect(endpoint: &Endpoint, config: SubscriberConfig) -> Result<Self, OpenError> {
        Subscriber::open(Side::Connect, endpoint, config)
    }

    /// Listens for publishers at `endpoint`. It hears nothing until it subscribes.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn bind(endpoint: &Endpoint, config: SubscriberConfig) -> Result<Self, OpenError> {
        Subscriber::open(Side::Bind, endpoint, config)
    }

    fn open(side: Side, endpoint: &Endpoint, config: SubscriberConfig) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        let when_full = match config.keep {
            Keep::All => WhenFull::Refuse,
            Keep::Latest => WhenFull::KeepLatest,
        };
        let options = SocketOptions {
            when_full,
            ..config.socket
        };
        Ok(Subscriber {
            station: Station::open(Role::Subscribe, side, endpoint, &options)?,
            keep: config.keep,
            timeout: config.timeout,
            tracker: Tracker::new(config.max_topics),
            message: Message::new(),
            inbox: Inbox::default(),
            topic: Arc::from(""),
            notice: None,
            received: 0,
            missed: 0,
            duplicates: 0,
            wrong_type: Complaints::default(),
            bad_frames: Complaints::default(),
            record: PhantomData,
        })
    }

    /// Subscribes to one topic, and not to others that begin alike.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn subscribe_exact(&mut self, topic: &str) -> Result<(), SubscribeError> {
        let pattern = exact(topic)?;
        Ok(self.station.socket.subscribe(&pattern)?)
    }

    /// Subscribes to all topics that begin with `prefix`; with an empty one, to everything.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn subscribe_prefix(&mut self, prefix: &str) -> Result<(), SubscribeError> {
        check_prefix(prefix)?;
        Ok(self.station.socket.subscribe(prefix.as_bytes())?)
    }

    /// Cancels a subscription made with [`subscribe_exact`](Self::subscribe_exact). What is on its
    /// way still arrives.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn unsubscribe_exact(&mut self, topic: &str) -> Result<(), SubscribeError> {
        let pattern = exact(topic)?;
        Ok(self.station.socket.unsubscribe(&pattern)?)
    }

    /// Cancels a subscription made with [`subscribe_prefix`](Self::subscribe_prefix). What is on
    /// its way still arrives.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn unsubscribe_prefix(&mut self, prefix: &str) -> Result<(), SubscribeError> {
        check_prefix(prefix)?;
        Ok(self.station.socket.unsubscribe(prefix.as_bytes())?)
    }

    /// The next event, waiting for at most the configured timeout.
    ///
    /// # Errors
    ///
    /// See [`SubscriberError`].
    pub fn recv(&mut self) -> Result<Event<T>, SubscriberError> {
        self.recv_within(self.timeout)
    }

    /// The next event if there is one.
    ///
    /// # Errors
    ///
    /// [`SubscriberError::TimedOut`] if there is none, and otherwise as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Event<T>, SubscriberError> {
        self.recv_within(Duration::ZERO)
    }

    /// The next event, waiting for at most `within`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_within(&mut self, within: Duration) -> Result<Event<T>, SubscriberError> {
        let stopped = |_| SubscriberError::Stopped;
        self.station.stop.check().map_err(stopped)?;
        let mut patience = Patience::new(within);
        loop {
            if let Some(event) = self.notice.take().or_else(|| self.unpack()) {
                return Ok(event);
            }
            self.station.receive(&mut self.message, &mut patience)?;
            let useful = self.open_frame();
            // Neither marks nor rubbish make the wait longer.
            if !useful && patience.is_over(&self.station.clock) {
                return Err(SubscriberError::TimedOut);
            }
        }
    }

    /// The events as they come. It ends when the subscriber is stopped, when the socket fails, and
    /// when nothing comes for the configured timeout.
    pub fn iter(&mut self) -> impl Iterator<Item = Event<T>> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// What it has seen up to now.
    pub fn stats(&self) -> SubscriberStats {
        SubscriberStats {
            received: self.received,
            missed: self.missed,
            duplicates: self.duplicates,
            wrong_type: self.wrong_type.count(),
            bad_frames: self.bad_frames.count(),
            forgotten_topics: self.tracker.forgotten(),
        }
    }

    /// Where it connects or listens, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        self.station.socket.endpoint()
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.station.stop.clone()
    }

    fn unpack(&mut self) -> Option<Event<T>> {
        loop {
            let left = self.inbox.left();
            let topic = || self.topic.clone();
            match self.inbox.next(self.message.first()?)? {
                Ok(value) => {
                    self.received += 1;
                    let topic = topic();
                    return Some(Event::Message { topic, value });
                }
                Err(error @ RecordError::Damaged) => {
                    self.bad_frames.add(self.station.socket.endpoint(), &error);
                    if left > 0 {
                        self.missed += left;
                        let topic = topic();
                        return Some(Event::Gap {
                            topic,
                            missed: left,
                        });
                    }
                }
                Err(error) => self.wrong_type.add(self.station.socket.endpoint(), &error),
            }
        }
    }

    /// Opens the frame that came; whether it brings something to tell.
    fn open_frame(&mut self) -> bool {
        let opened = self.arrive();
        match opened {
            Ok(()) => self.notice.is_some() || self.inbox.left() > 0,
            Err(error) => {
                self.bad_frames.add(self.station.socket.endpoint(), &error);
                false
            }
        }
    }

    fn arrive(&mut self) -> Result<(), WireError> {
        let [frame] = self.message.as_slice() else {
            return Err(WireError::Foreign);
        };
        let header = Header::read(frame)?;
        let arrival = self.tracker.arrive(
            header.topic,
            PublisherId(header.publisher),
            header.first,
            header.count,
        );
        self.topic = arrival.topic;
        self.duplicates += arrival.duplicates;
        let topic = || self.topic.clone();
        let (missed, notice) = match arrival.before {
            Before::Nothing => (0, None),
            Before::Missed(missed) => {
                let topic = topic();
                (missed, Some(Event::Gap { topic, missed }))
            }
            Before::Restarted(missed) => {
                let topic = topic();
                (missed, Some(Event::Restarted { topic, missed }))
            }
        };
        self.missed = self.missed.saturating_add(missed);
        self.notice =
            notice.filter(|event| self.keep == Keep::All || !matches!(event, Event::Gap { .. }));
        self.inbox
            .fill(frame.len() - header.record_bytes, header.count);
        if self.inbox.skip(frame, arrival.duplicates).is_err() {
            return Err(WireError::Malformed);
        }
        Ok(())
    }
}

struct Header<'a> {
    topic: &'a str,
    publisher: u64,
    first: u64,
    count: u64,
    record_bytes: usize,
}

impl<'a> Header<'a> {
    fn read(frame: &'a [u8]) -> Result<Header<'a>, WireError> {
        let end = frame.iter().take(super::MAX_TOPIC_BYTES + 1);
        let end = end.clone().position(|&byte| byte == END_OF_TOPIC);
        let (topic, rest) = frame.split_at(end.ok_or(WireError::Foreign)?);
        let topic = std::str::from_utf8(topic).map_err(|_| WireError::Foreign)?;
        let mut reader = Reader::expect(&rest[1..], Kind::Published)?;
        let (publisher, first, count) = (reader.uint()?, reader.uint()?, reader.uint()?);
        let record_bytes = reader.rest().len();
        // Every record takes at least a byte: a larger count would spoil what we know of the topic.
        if count > record_bytes as u64 {
            return Err(WireError::Malformed);
        }
        Ok(Header {
            topic,
            publisher,
            first,
            count,
            record_bytes,
        })
    }
}

fn exact(topic: &str) -> Result<Vec<u8>, SubscribeError> {
    check_topic(topic).map_err(SubscribeError::BadTopic)?;
    Ok([topic.as_bytes(), &[END_OF_TOPIC]].concat())
}

fn check_prefix(prefix: &str) -> Result<(), SubscribeError> {
    if prefix.is_empty() {
        return Ok(());
    }
    check_topic(prefix).map_err(SubscribeError::BadTopic)
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").finish_non_exhaustive()
    }
}
