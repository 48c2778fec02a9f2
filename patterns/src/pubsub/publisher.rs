//! The publishing end.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;

use super::END_OF_TOPIC;
use crate::endpoint::Endpoint;
use crate::machine::{Clock, Time};
use crate::outbox::{Bounds, Duty, Lane, Outbox, Queue, Refusal, Shared, State};
use crate::station::OpenError;
use crate::station::Station;
use crate::stop::StopHandle;
use crate::transport::{Message, Role, Side, Socket, SocketOptions, TransportError, WhenFull};
use crate::wire::{Batch, Kind, RecordError};

/// The longest topic, in bytes.
pub const MAX_TOPIC_BYTES: usize = 255;

/// Heartbeats after a topic's last record up to which its next number is repeated now and then.
const MARKED_BEATS: u32 = 512;

/// What a subscriber that is slower than the publisher gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowSubscriber {
    /// Frames that find its queue full are dropped, for it alone and whatever their topic; it
    /// counts what it missed per topic and hears of it as a gap. Nobody waits.
    #[default]
    DropAndCount,
    /// Nothing is dropped: while any subscriber's queue is full, nothing is sent to anyone on any
    /// topic, the publisher's own queue fills, and publishing blocks. One subscriber that hangs stops
    /// all.
    Block,
    /// Every subscriber's queue holds one record, the newest of all topics that it subscribed to
    /// together: give each topic a publisher of its own where that matters. Each record is a frame of
    /// its own, and there are no marks. Subscribers should be configured with
    /// [`Keep::Latest`](super::Keep::Latest), or their own queues fill first.
    LatestOnly,
}

/// Settings of a [`Publisher`].
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    /// What a slow subscriber gets.
    pub slow_subscriber: SlowSubscriber,
    /// Most bytes in one frame, unless a single record is larger. Frames are smaller whenever the
    /// socket keeps up.
    pub batch_bytes: usize,
    /// Bytes of encoded records that may wait for the socket before
    /// [`publish`](Publisher::publish) blocks.
    pub queue_bytes: usize,
    /// How long [`publish`](Publisher::publish) waits for room; `Duration::MAX` for ever.
    pub timeout: Duration,
    /// How long after a topic's last record its next number is repeated, so that subscribers find
    /// out when they missed that record; once more after twice, four times … 512 times as long, for
    /// those whose queues are still full.
    pub heartbeat: Duration,
    /// Topics that may be in use, at most; publishing on one more is refused.
    pub max_topics: usize,
    /// The socket. `queue_messages` frames may wait for each subscriber; `when_full` is set by
    /// `slow_subscriber`.
    pub socket: SocketOptions,
}

impl Default for PublisherConfig {
    /// Drops for slow subscribers; 4 MiB waiting here and 4 MiB for each subscriber in the socket.
    fn default() -> PublisherConfig {
        PublisherConfig {
            slow_subscriber: SlowSubscriber::default(),
            batch_bytes: 64 << 10,
            queue_bytes: 4 << 20,
            timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(1),
            max_topics: 65_536,
            socket: SocketOptions {
                queue_messages: 64,
                ..SocketOptions::default()
            },
        }
    }
}

impl PublisherConfig {
    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("batch_bytes", self.batch_bytes),
            ("queue_bytes", self.queue_bytes),
            ("max_topics", self.max_topics),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0: give at least 1"));
        }
        if self.batch_bytes > self.socket.max_message_bytes {
            return Err("batch_bytes is over the socket's max_message_bytes: lower it".into());
        }
        if self.heartbeat < Duration::from_millis(10) {
            return Err("heartbeat is shorter than 10 ms: give at least that".into());
        }
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        let alone = self.slow_subscriber == SlowSubscriber::LatestOnly;
        Bounds {
            queue_bytes: self.queue_bytes,
            batch_bytes: self.batch_bytes,
            batch_records: if alone { 1 } else { u32::MAX },
            frame_bytes: self.socket.max_message_bytes,
        }
    }
}

/// Why a record was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The queue stayed full for as long as the call might wait. The record was not taken.
    #[error(
        "the queue to the subscribers stayed full: nothing was published; retry, or find the subscriber that hangs"
    )]
    TimedOut,
    /// The publisher was stopped. The record was not taken.
    #[error("the publisher was stopped: nothing was published, and a retry does not help")]
    Stopped,
    /// The topic is empty, longer than [`MAX_TOPIC_BYTES`] or contains a NUL.
    #[error("{0:?} is not a topic: give 1 to 255 bytes without a NUL; do not retry")]
    BadTopic(String),
    /// As many topics as allowed are in use.
    #[error("{0} topics are in use already: raise max_topics or use fewer; do not retry")]
    TooManyTopics(usize),
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
    #[error("the socket failed, so open a new publisher: {0}")]
    Failed(String),
}

impl From<Refusal> for PublishError {
    fn from(refusal: Refusal) -> PublishError {
        match refusal {
            Refusal::TimedOut => PublishError::TimedOut,
            Refusal::Stopped => PublishError::Stopped,
            Refusal::TooLarge { bytes, limit_bytes } => {
                PublishError::TooLarge { bytes, limit_bytes }
            }
            Refusal::Encode(error) => PublishError::Encode(error),
            Refusal::Failed(reason) => PublishError::Failed(reason),
        }
    }
}

/// Why waiting for a subscriber ended without one.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// None came in time.
    #[error("no subscriber came in time: retry, or publish for those who come later")]
    TimedOut,
    /// The publisher was stopped.
    #[error("the publisher was stopped: a retry does not help")]
    Stopped,
    /// A socket that keeps only the latest record does not hear of its subscribers.
    #[error(
        "a publisher that keeps the latest record only cannot see its subscribers: do not wait"
    )]
    Unsupported,
    /// The socket failed.
    #[error("the socket failed, so open a new publisher: {0}")]
    Failed(String),
}

impl From<Refusal> for WaitError {
    fn from(refusal: Refusal) -> WaitError {
        match refusal {
            Refusal::Stopped => WaitError::Stopped,
            Refusal::Failed(reason) => WaitError::Failed(reason),
            _ => WaitError::TimedOut,
        }
    }
}

/// Sends values to every [`Subscriber`](super::Subscriber) of their topic; threads may share it.
///
/// The order is kept within a topic. Dropping it waits until all is handed to the socket, and the
/// socket until all is handed to the system, each for at most the configured linger.
pub struct Publisher<T: ?Sized> {
    outbox: Outbox<Topics>,
    id: u64,
    max_topics: usize,
    timeout: Duration,
    sees_subscribers: bool,
    record: PhantomData<fn(&T)>,
}

/// What the callers share with the driver besides the queue.
#[derive(Default)]
struct Topics {
    by_name: HashMap<Box<str>, Topic>,
    /// Whether a topic has had a record since the driver looked last.
    news: bool,
    /// Different topics and prefixes that are subscribed to.
    subscriptions: u64,
}

struct Topic {
    /// The name and the NUL.
    prefix: Box<[u8]>,
    lane: Lane,
    /// The number of the next record.
    next: u64,
    /// Whether there was a record since the last heartbeat.
    fresh: bool,
    /// Heartbeats without one.
    silent_beats: u32,
}

impl<T: Serialize + ?Sized> Publisher<T> {
    /// Listens for subscribers at `endpoint`.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn bind(endpoint: &Endpoint, config: PublisherConfig) -> Result<Self, OpenError> {
        Publisher::open(Side::Bind, endpoint, config)
    }

    /// Connects to a subscriber that listens at `endpoint`, now or later.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used, or the configuration.
    pub fn connect(endpoint: &Endpoint, config: PublisherConfig) -> Result<Self, OpenError> {
        Publisher::open(Side::Connect, endpoint, config)
    }

    fn open(side: Side, endpoint: &Endpoint, config: PublisherConfig) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        let bounds = config.bounds();
        let when_full = match config.slow_subscriber {
            SlowSubscriber::DropAndCount => WhenFull::Drop,
            SlowSubscriber::Block => WhenFull::Refuse,
            SlowSubscriber::LatestOnly => WhenFull::KeepLatest,
        };
        let options = SocketOptions {
            when_full,
            ..config.socket
        };
        let station = Station::open(Role::Publish, side, endpoint, &options)?;
        let latest_only = config.slow_subscriber == SlowSubscriber::LatestOnly;
        let id = rand::random();
        let herald = Herald {
            publisher: id,
            heartbeat: (!latest_only).then_some(config.heartbeat),
            next_beat: None,
            message: Message::new(),
        };
        let (topics, linger) = (Topics::default(), options.linger);
        Ok(Publisher {
            outbox: Outbox::start("publisher", station, topics, bounds, linger, herald)?,
            id,
            max_topics: config.max_topics,
            timeout: config.timeout,
            sees_subscribers: !latest_only,
            record: PhantomData,
        })
    }

    /// Publishes a value under `topic`, waiting for room for at most the configured timeout. It is
    /// encoded when the call returns, and on its way soon after. Without subscribers it is dropped.
    ///
    /// # Errors
    ///
    /// See [`PublishError`]; in every case the value was not taken.
    pub fn publish(&self, topic: &str, value: &T) -> Result<(), PublishError> {
        self.publish_within(topic, value, self.timeout)
    }

    /// Publishes a value if there is room for it now.
    ///
    /// # Errors
    ///
    /// [`PublishError::TimedOut`] if there is none, and otherwise as [`publish`](Self::publish).
    pub fn try_publish(&self, topic: &str, value: &T) -> Result<(), PublishError> {
        self.publish_within(topic, value, Duration::ZERO)
    }

    /// Publishes a value, waiting for room for at most `within`.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn publish_within(
        &self,
        topic: &str,
        value: &T,
        within: Duration,
    ) -> Result<(), PublishError> {
        let mut outcome = Ok(());
        self.outbox.add(within, |state| {
            let State { lanes, queue } = state;
            match lanes.topic(topic, self.max_topics) {
                Ok(found) => {
                    found.append(queue, self.id, value)?;
                    lanes.news = true;
                }
                Err(error) => outcome = Err(error),
            }
            Ok(())
        })?;
        outcome
    }

    /// Waits until the socket has taken all that was published before, for at most `within`.
    ///
    /// # Errors
    ///
    /// [`PublishError::TimedOut`], [`PublishError::Stopped`] or [`PublishError::Failed`]; what was
    /// taken stays taken.
    pub fn flush(&self, within: Duration) -> Result<(), PublishError> {
        Ok(self.outbox.flush(within)?)
    }

    /// Waits until somebody subscribes to anything, for at most `within`; what is published after
    /// that reaches it. Without ZeroMQ (`raw+tcp` and the like) a subscriber connects and subscribes while it
    /// receives, as nobody else does its work.
    ///
    /// # Errors
    ///
    /// See [`WaitError`].
    pub fn wait_for_subscriber(&self, within: Duration) -> Result<(), WaitError> {
        if !self.sees_subscribers {
            return Err(WaitError::Unsupported);
        }
        let done = |state: &State<Topics>| state.lanes.subscriptions > 0;
        Ok(self.outbox.wait_for(within, done)?)
    }

    /// Where it listens or connects, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        self.outbox.endpoint()
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.outbox.stop_handle()
    }
}

impl<T: ?Sized> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl Topics {
    fn topic(&mut self, name: &str, max_topics: usize) -> Result<&mut Topic, PublishError> {
        if !self.by_name.contains_key(name) {
            check_topic(name).map_err(PublishError::BadTopic)?;
            if self.by_name.len() >= max_topics {
                return Err(PublishError::TooManyTopics(max_topics));
            }
            self.by_name.insert(name.into(), Topic::new(name));
        }
        match self.by_name.get_mut(name) {
            Some(topic) => Ok(topic),
            None => unreachable!("it was inserted"),
        }
    }
}

/// Gives the text back when it is not a topic.
pub(super) fn check_topic(text: &str) -> Result<(), String> {
    let fits = (1..=MAX_TOPIC_BYTES).contains(&text.len());
    if fits && !text.as_bytes().contains(&END_OF_TOPIC) {
        Ok(())
    } else {
        Err(text.to_string())
    }
}

impl Topic {
    fn new(name: &str) -> Topic {
        Topic {
            prefix: [name.as_bytes(), &[END_OF_TOPIC]].concat().into(),
            lane: Lane::default(),
            next: 0,
            fresh: false,
            silent_beats: 0,
        }
    }

    fn append<T: Serialize + ?Sized>(
        &mut self,
        queue: &mut Queue,
        publisher: u64,
        value: &T,
    ) -> Result<(), Refusal> {
        let (prefix, fields) = (&self.prefix, [publisher, self.next]);
        let start = |buffer| Batch::start(buffer, prefix, Kind::Published, &fields);
        queue.append(&mut self.lane, value, start)?;
        self.next += 1;
        self.fresh = true;
        self.silent_beats = 0;
        Ok(())
    }

    /// Repeats the next number when there was nothing to publish for a while.
    fn beat(&mut self, queue: &mut Queue, publisher: u64) {
        if std::mem::take(&mut self.fresh) || !self.needs_marks() {
            return;
        }
        self.silent_beats += 1;
        if self.silent_beats.is_power_of_two() {
            let fields = [publisher, self.next];
            let buffer = queue.buffer();
            queue.put_mark(Batch::start(buffer, &self.prefix, Kind::Published, &fields));
        }
    }

    fn needs_marks(&self) -> bool {
        self.silent_beats < MARKED_BEATS
    }
}

/// The driver's other duties: to hear of subscriptions and to send marks.
struct Herald {
    publisher: u64,
    heartbeat: Option<Duration>,
    next_beat: Option<Time>,
    message: Message,
}

impl Herald {
    /// How the number of subscriptions changes with what has arrived.
    fn hear(&mut self, socket: &mut dyn Socket) -> Result<i64, TransportError> {
        let mut change = 0;
        while socket.receive_into(&mut self.message)? {
            match self.message.first().and_then(|frame| frame.first()) {
                Some(1) => change += 1,
                Some(0) => change -= 1,
                _ => log::debug!("{}: a message that is no subscription", socket.endpoint()),
            }
        }
        Ok(change)
    }

    fn beat(&mut self, topics: &mut Topics, queue: &mut Queue) {
        // While frames wait, marks would only lengthen the queue.
        if queue.is_empty() {
            for topic in topics.by_name.values_mut() {
                topic.beat(queue, self.publisher);
            }
        }
    }
}

impl Duty<Topics> for Herald {
    fn tend(
        &mut self,
        socket: &mut dyn Socket,
        shared: &Shared<Topics>,
        clock: &Clock,
    ) -> Result<(), TransportError> {
        let change = self.hear(socket)?;
        let State { lanes, queue } = &mut *shared.lock();
        if change != 0 {
            lanes.subscriptions = lanes.subscriptions.saturating_add_signed(change);
            shared.notify();
        }
        let Some(heartbeat) = self.heartbeat else {
            return Ok(());
        };
        let news = std::mem::take(&mut lanes.news);
        match self.next_beat {
            None if news => self.next_beat = Some(clock.now() + heartbeat),
            Some(due) if clock.now() >= due => {
                self.beat(lanes, queue);
                let goes_on = lanes.by_name.values().any(Topic::needs_marks);
                self.next_beat = goes_on.then(|| clock.now() + heartbeat);
            }
            _ => {}
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        self.next_beat
    }
}
