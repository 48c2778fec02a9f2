//! Publishers and subscribers over every transport, with strangers, gaps and slow subscribers.

use std::cell::{Cell, RefCell};
use std::thread;
use std::time::Duration;

use mutirao::pubsub::{
    Event, Keep, PublishError, PublisherConfig, SlowSubscriber, SubscribeError, SubscriberConfig,
    SubscriberError, WaitError,
};
use mutirao::{Publisher, Subscriber};
use proptest::prelude::*;

use crate::bare::{Bare, SCHEMES, until};
use crate::support::{PATIENCE, fresh_endpoint};

fn publisher(scheme: &str, config: PublisherConfig) -> Publisher<u32> {
    Publisher::bind(&fresh_endpoint(scheme), config).expect("a publisher")
}

fn subscriber(publisher: &Publisher<u32>, config: SubscriberConfig) -> Subscriber<u32> {
    Subscriber::connect(publisher.endpoint(), config).expect("a subscriber")
}

fn quick_marks() -> PublisherConfig {
    PublisherConfig {
        heartbeat: Duration::from_millis(20),
        ..PublisherConfig::default()
    }
}

fn message(topic: &str, value: u32) -> Event<u32> {
    Event::Message {
        topic: topic.into(),
        value,
    }
}

fn gap(topic: &str, missed: u64) -> Event<u32> {
    Event::Gap {
        topic: topic.into(),
        missed,
    }
}

fn restarted(topic: &str, missed: u64) -> Event<u32> {
    Event::Restarted {
        topic: topic.into(),
        missed,
    }
}

#[test]
fn subscribers_hear_their_topics_in_order_over_every_transport() {
    for scheme in SCHEMES {
        let config = PublisherConfig {
            slow_subscriber: SlowSubscriber::Block,
            batch_bytes: 100,
            ..PublisherConfig::default()
        };
        let publisher = publisher(scheme, config);
        let mut subscriber = subscriber(&publisher, SubscriberConfig::default());
        subscriber.subscribe_exact("a").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                // Meanwhile the subscriber receives: without ZeroMQ nobody else makes its connection.
                publisher.wait_for_subscriber(PATIENCE).unwrap();
                for number in 0..3_000 {
                    publisher.publish("ab", &0).unwrap();
                    publisher.publish("a", &number).unwrap();
                    publisher.publish("b", &0).unwrap();
                }
                publisher.flush(PATIENCE).unwrap();
            });
            for number in 0..3_000 {
                assert_eq!(subscriber.recv().unwrap(), message("a", number), "{scheme}");
            }
        });
    }
}

#[test]
fn prefixes_and_exact_topics_differ() {
    let publisher = publisher("tcp", PublisherConfig::default());
    let mut subscriber = subscriber(&publisher, SubscriberConfig::default());
    subscriber.subscribe_prefix("sport/").unwrap();
    subscriber.subscribe_exact("end").unwrap();
    // Subscriptions arrive in order: with the last of them all are there.
    until("subscriptions", || {
        publisher.publish("end", &0).unwrap();
        subscriber.recv_within(Duration::from_millis(50)).ok()
    });
    for topic in ["sport/futebol", "sport", "endless", "sport/", "other"] {
        publisher.publish(topic, &1).unwrap();
    }
    publisher.publish("end", &2).unwrap();
    let heard: Vec<_> = subscriber
        .iter()
        .filter(|event| *event != message("end", 0))
        .take(3)
        .collect();
    assert_eq!(
        heard,
        [
            message("sport/futebol", 1),
            message("sport/", 1),
            message("end", 2)
        ]
    );
    subscriber.unsubscribe_prefix("sport/").unwrap();
    subscriber.unsubscribe_exact("end").unwrap();
}

#[test]
fn topics_are_checked_at_both_ends() {
    let publisher = publisher(
        "inproc",
        PublisherConfig {
            max_topics: 2,
            ..PublisherConfig::default()
        },
    );
    let mut subscriber = subscriber(&publisher, SubscriberConfig::default());
    for bad in ["", "a\0b", &"x".repeat(256)] {
        assert!(matches!(
            publisher.publish(bad, &1),
            Err(PublishError::BadTopic(_))
        ));
        let refused = subscriber.subscribe_exact(bad);
        assert!(matches!(refused, Err(SubscribeError::BadTopic(_))));
    }
    publisher.publish("a", &1).unwrap();
    publisher.publish("b", &1).unwrap();
    assert!(matches!(
        publisher.publish("c", &1),
        Err(PublishError::TooManyTopics(2))
    ));
}

/// A frame as a publisher of that number makes it.
fn frame(topic: &str, publisher: u8, first: u8, values: &[u8]) -> Vec<u8> {
    let header = [b"\0MUT1\x04", &[publisher, first, values.len() as u8][..]].concat();
    [topic.as_bytes(), &header, values].concat()
}

/// A subscriber to everything and a plain publisher that it is connected to.
fn with_stranger() -> (Subscriber<u32>, Bare) {
    let mut subscriber =
        Subscriber::bind(&fresh_endpoint("tcp"), SubscriberConfig::default()).unwrap();
    subscriber.subscribe_prefix("").unwrap();
    let stranger = Bare::connect(zmq::XPUB, subscriber.endpoint());
    stranger.socket.set_rcvtimeo(0).unwrap();
    // The subscriber announces what it wants while it receives.
    let wish = until("subscription", || {
        let _ = subscriber.recv_within(Duration::from_millis(1));
        stranger.socket.recv_bytes(0).ok()
    });
    assert_eq!(wish, b"\x01");
    (subscriber, stranger)
}

#[test]
fn gaps_duplicates_lost_ends_and_restarts_are_told() {
    let (mut subscriber, stranger) = with_stranger();
    for frame in [
        frame("t", 1, 5, &[50]),
        frame("t", 1, 8, &[80, 81]),
        frame("t", 1, 9, &[81, 82]),
        frame("u", 1, 0, &[1]),
        frame("t", 1, 11, &[]),
        frame("t", 1, 14, &[]),
        frame("t", 2, 3, &[90]),
    ] {
        stranger.send(&[&frame]);
    }
    let expected = [
        message("t", 50),
        gap("t", 2),
        message("t", 80),
        message("t", 81),
        message("t", 82),
        message("u", 1),
        gap("t", 3),
        restarted("t", 3),
        message("t", 90),
    ];
    for event in expected {
        assert_eq!(subscriber.recv().unwrap(), event);
    }
    let stats = subscriber.stats();
    assert_eq!((stats.received, stats.missed, stats.duplicates), (6, 8, 1));
}

#[test]
fn strangers_are_counted_and_skipped() {
    let (mut subscriber, stranger) = with_stranger();
    let good = frame("t", 1, 0, &[1]);
    let bad: [&[&[u8]]; 8] = [
        &[b"GET / HTTP/1.1"],
        &[b""],
        &[b"t\0"],
        &[b"t\0MUT2\x04\x01\x00\x01\x01"],
        &[b"t\0MUT1\x00\x01\x01"],
        &[b"\xff\0MUT1\x04\x01\x00\x01\x01"],
        &[b"t\0MUT1\x04\x01\x00\xce\xff\xff\xff\xff\x01"],
        &[&good, &good],
    ];
    for frames in bad {
        stranger.send(frames);
    }
    stranger.send(&[&frame("t", 1, 0, b"\xc3\x07")]);
    assert_eq!(subscriber.recv().unwrap(), message("t", 7));
    // Two of three records can be read; the third is truncated.
    stranger.send(&[&frame("t", 1, 2, b"\x01\x02\xcd")]);
    for event in [message("t", 1), message("t", 2), gap("t", 1)] {
        assert_eq!(subscriber.recv().unwrap(), event);
    }
    let stats = subscriber.stats();
    assert_eq!(
        (stats.received, stats.wrong_type, stats.bad_frames),
        (3, 1, 9)
    );
}

#[test]
fn random_frames_never_panic_and_never_stop_the_good_ones() {
    let (subscriber, stranger) = with_stranger();
    let subscriber = RefCell::new(subscriber);
    let publisher = Cell::new(1_000);
    let strategy = proptest::collection::vec(any::<u8>(), 0..60);
    proptest!(ProptestConfig::with_cases(200), |(bytes in strategy, ours: bool)| {
        let frame = if ours { [&b"t\0MUT1\x04"[..], &bytes].concat() } else { bytes };
        stranger.send(&[&frame]);
        // Always another publisher, whose first record is never a duplicate.
        publisher.set(publisher.get() + 1);
        let id = u32::to_be_bytes(publisher.get());
        stranger.send(&[&[&b"last\0MUT1\x04\xce"[..], &id, b"\x00\x01\x07"].concat()]);
        until("good record", || {
            let event = subscriber.borrow_mut().recv().unwrap();
            (event == message("last", 7)).then_some(())
        });
    });
}

#[test]
fn what_a_slow_subscriber_missed_is_counted_to_the_last_record() {
    for scheme in ["tcp", "memory"] {
        let mut config = quick_marks();
        config.socket.queue_messages = 1;
        config.batch_bytes = 10_000;
        let publisher = Publisher::<[u8]>::bind(&fresh_endpoint(scheme), config).unwrap();
        let mut config = SubscriberConfig::default();
        config.socket.queue_messages = 1;
        let mut subscriber = Subscriber::<Vec<u8>>::connect(publisher.endpoint(), config).unwrap();
        subscriber.subscribe_prefix("").unwrap();
        publisher.wait_for_subscriber(PATIENCE).unwrap();
        // More than all buffers on the way hold.
        let total = 4_000;
        for _ in 0..total {
            publisher.publish("t", &[1; 5_000]).unwrap();
        }
        publisher.flush(PATIENCE).unwrap();
        let (mut received, mut missed) = (0, 0);
        while received + missed < total {
            match subscriber.recv().unwrap() {
                Event::Message { .. } => received += 1,
                Event::Gap { missed: gap, .. } => missed += gap,
                other => panic!("{other:?}"),
            }
        }
        assert!(
            missed > 0 && received + missed == total,
            "{scheme}: {received} + {missed}"
        );
    }
}

#[test]
fn a_blocking_publisher_loses_nothing_and_waits_for_the_slowest() {
    let config = PublisherConfig {
        slow_subscriber: SlowSubscriber::Block,
        batch_bytes: 1_000,
        queue_bytes: 10_000,
        ..PublisherConfig::default()
    };
    let publisher = Publisher::<[u8]>::bind(&fresh_endpoint("inproc"), config).unwrap();
    let mut subscriber =
        Subscriber::<Vec<u8>>::connect(publisher.endpoint(), SubscriberConfig::default()).unwrap();
    subscriber.subscribe_prefix("").unwrap();
    publisher.wait_for_subscriber(PATIENCE).unwrap();
    let mut published = 0;
    while publisher
        .publish_within("t", &[1; 900], Duration::from_millis(20))
        .is_ok()
    {
        published += 1;
    }
    let bound = 10 + 64 + 256 + 64;
    assert!(
        published <= bound,
        "{published} records although nobody takes them"
    );
    for _ in 0..published {
        assert!(matches!(subscriber.recv().unwrap(), Event::Message { .. }));
    }
    publisher.publish("t", &[1; 900]).unwrap();
    assert!(matches!(subscriber.recv().unwrap(), Event::Message { .. }));
    assert_eq!(subscriber.stats().missed, 0);
}

#[test]
fn whoever_wants_the_latest_gets_the_last_record() {
    let config = PublisherConfig {
        slow_subscriber: SlowSubscriber::LatestOnly,
        ..PublisherConfig::default()
    };
    let publisher = publisher("tcp", config);
    let config = SubscriberConfig {
        keep: Keep::Latest,
        ..SubscriberConfig::default()
    };
    let mut subscriber = subscriber(&publisher, config);
    subscriber.subscribe_prefix("").unwrap();
    assert!(matches!(
        publisher.wait_for_subscriber(PATIENCE),
        Err(WaitError::Unsupported)
    ));
    until("subscription", || {
        publisher.publish("t", &0).unwrap();
        subscriber.recv_within(Duration::from_millis(50)).ok()
    });
    for number in 1..=10_000 {
        publisher.publish("t", &number).unwrap();
    }
    let mut heard = vec![];
    while heard.last() != Some(&10_000) {
        match subscriber.recv().unwrap() {
            Event::Message { value, .. } => heard.push(value),
            other => panic!("{other:?}"),
        }
    }
    assert!(heard.is_sorted());
    let stats = subscriber.stats();
    assert!(stats.received + stats.missed >= 10_000);
}

#[test]
fn waiting_and_stopping_end_every_call() {
    let publisher = publisher("tcp", PublisherConfig::default());
    let short = Duration::from_millis(10);
    assert!(matches!(
        publisher.wait_for_subscriber(short),
        Err(WaitError::TimedOut)
    ));
    let mut subscriber = subscriber(&publisher, SubscriberConfig::default());
    assert!(matches!(
        subscriber.try_recv(),
        Err(SubscriberError::TimedOut)
    ));
    assert!(matches!(
        subscriber.recv_within(short),
        Err(SubscriberError::TimedOut)
    ));

    let (stop_publisher, stop_subscriber) = (publisher.stop_handle(), subscriber.stop_handle());
    let receiving = thread::spawn(move || subscriber.recv_within(Duration::MAX));
    let waiting = thread::spawn(move || {
        (
            publisher.wait_for_subscriber(Duration::MAX),
            publisher.publish("t", &1),
        )
    });
    stop_publisher.stop();
    stop_subscriber.stop();
    assert!(matches!(
        receiving.join().unwrap(),
        Err(SubscriberError::Stopped)
    ));
    let (waited, published) = waiting.join().unwrap();
    assert!(matches!(waited, Err(WaitError::Stopped)));
    assert!(matches!(published, Err(PublishError::Stopped)));
}

#[test]
fn records_over_the_limit_are_refused_and_leave_no_gap() {
    let mut config = PublisherConfig {
        batch_bytes: 100,
        ..PublisherConfig::default()
    };
    config.socket.max_message_bytes = 1_000;
    let publisher = Publisher::<str>::bind(&fresh_endpoint("tcp"), config).unwrap();
    let mut subscriber =
        Subscriber::<String>::connect(publisher.endpoint(), SubscriberConfig::default()).unwrap();
    subscriber.subscribe_prefix("").unwrap();
    publisher.wait_for_subscriber(PATIENCE).unwrap();
    publisher.publish("t", "before").unwrap();
    let refused = publisher.publish("t", &"x".repeat(1_000)).unwrap_err();
    assert!(matches!(
        refused,
        PublishError::TooLarge {
            limit_bytes: 1_000,
            ..
        }
    ));
    publisher.publish("t", "after").unwrap();
    for text in ["before", "after"] {
        let topic = "t".into();
        let value = text.to_string();
        assert_eq!(subscriber.recv().unwrap(), Event::Message { topic, value });
    }
}
