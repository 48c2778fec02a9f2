//! News for whoever wants to hear it: every subscriber gets every record of its topics.
//!
//! ```text
//!                 ┌──▶ Subscriber (exactly "weather")
//! Publisher ──────┼──▶ Subscriber (all that begins with "sport")
//!                 └──▶ Subscriber (everything)
//! ```
//!
//! Publishing does not wait for anyone, so that records can be missed: by a subscriber that joins
//! late, is too slow, or loses its connection. Ours says so: the records of each topic are
//! numbered, and [`Subscriber::recv`] yields an [`Event::Gap`] in the place of what is missing. The
//! last records of a topic are followed by marks that carry the next number, so that their loss is
//! found as well.
//!
//! A frame is the topic, a NUL, then a [`Kind::Published`](crate::wire::Kind::Published) frame.

mod publisher;
mod subscriber;

pub use publisher::{
    MAX_TOPIC_BYTES, PublishError, Publisher, PublisherConfig, SlowSubscriber, WaitError,
};
pub use subscriber::{
    Event, Keep, SubscribeError, Subscriber, SubscriberConfig, SubscriberError, SubscriberStats,
};

/// Ends the topic, so that a subscription can be exact.
const END_OF_TOPIC: u8 = 0;
