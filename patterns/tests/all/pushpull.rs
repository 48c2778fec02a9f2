//! Pushers and pullers over every transport, with strangers, and under pressure.

use std::cell::RefCell;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mutirao::pushpull::{Batching, PullError, PullerConfig, PushError, PusherConfig};
use mutirao::transport::{Heartbeat, SocketOptions};
use mutirao::{Endpoint, Puller, Pusher};
use proptest::prelude::*;

use crate::bare::{Bare, SCHEMES, until};
use crate::support::{PATIENCE, fresh_endpoint};

type Item = (u32, String);

fn item(number: u32) -> Item {
    (number, format!("item {number}"))
}

fn puller_config() -> PullerConfig {
    PullerConfig {
        timeout: PATIENCE,
        ..PullerConfig::default()
    }
}

fn puller<T: serde::de::DeserializeOwned>(scheme: &str) -> Puller<T> {
    Puller::bind(&fresh_endpoint(scheme), puller_config()).expect("a puller")
}

fn pusher<T: serde::Serialize + ?Sized>(to: &Endpoint, config: PusherConfig) -> Pusher<T> {
    Pusher::connect(to, config).expect("a pusher")
}

fn batching_modes() -> [PusherConfig; 3] {
    let tiny = Batching::On { batch_bytes: 50 };
    [
        PusherConfig::default(),
        PusherConfig {
            batching: tiny,
            ..PusherConfig::default()
        },
        PusherConfig::unbatched(),
    ]
}

#[test]
fn records_arrive_in_order_over_every_transport_with_and_without_batches() {
    for scheme in SCHEMES {
        for config in batching_modes() {
            let mut puller = puller::<Item>(scheme);
            let pusher = pusher::<Item>(puller.endpoint(), config);
            let sending = thread::spawn(move || {
                let items: Vec<_> = (0..5_000).map(item).collect();
                assert_eq!(pusher.send_all(&items).unwrap(), 5_000);
                pusher.flush(PATIENCE).unwrap();
                // Not dropped yet: over ipc, libzmq loses what the other end has not read.
                pusher
            });
            for number in 0..5_000 {
                assert_eq!(puller.recv().unwrap(), item(number), "{scheme}");
            }
            sending.join().unwrap();
            assert_eq!(puller.stats().received, 5_000);
        }
    }
}

#[test]
fn a_lone_record_needs_no_second_one_to_leave() {
    for config in batching_modes() {
        let mut puller = puller::<u32>("tcp");
        let pusher = pusher::<u32>(puller.endpoint(), config);
        for number in 0..20 {
            pusher.send(&number).unwrap();
            assert_eq!(puller.recv().unwrap(), number);
        }
    }
}

#[test]
fn a_pusher_that_is_dropped_delivers_what_it_took() {
    let mut puller = puller::<Item>("tcp");
    let pusher = pusher::<Item>(puller.endpoint(), PusherConfig::default());
    (0..10_000).for_each(|number| pusher.send(&item(number)).unwrap());
    drop(pusher);
    assert_eq!(puller.iter().take(10_000).last(), Some(item(9_999)));
}

/// Pings between the two would make the system throw away what it holds for the slow one.
#[test]
fn a_slow_puller_gets_everything_of_a_pusher_that_is_gone() {
    let heartbeat = Heartbeat::Ping(Duration::from_millis(20));
    let config = |socket| SocketOptions {
        heartbeat,
        queue_messages: 1,
        linger: PATIENCE,
        ..socket
    };
    let mut receiving = puller_config();
    receiving.socket = config(receiving.socket);
    let mut puller = Puller::<Vec<u8>>::bind(&fresh_endpoint("tcp"), receiving).unwrap();
    let mut sending = PusherConfig::unbatched();
    sending.socket = config(sending.socket);
    let pusher = pusher::<[u8]>(puller.endpoint(), sending);
    let records = 300;
    let sender = thread::spawn(move || {
        for _ in 0..records {
            pusher.send(&[7; 10_000]).unwrap();
        }
    });
    for _ in 0..records {
        assert_eq!(puller.recv().unwrap().len(), 10_000);
        thread::sleep(Duration::from_millis(1));
    }
    sender.join().unwrap();
}

#[test]
fn threads_share_a_pusher() {
    let mut puller = puller::<(u32, u32)>("inproc");
    let pusher = pusher::<(u32, u32)>(puller.endpoint(), PusherConfig::default());
    thread::scope(|scope| {
        for thread in 0..4 {
            let pusher = &pusher;
            scope.spawn(move || (0..1_000).for_each(|n| pusher.send(&(thread, n)).unwrap()));
        }
        let mut next = [0; 4];
        for (thread, number) in puller.iter().take(4_000) {
            assert_eq!(number, next[thread as usize]);
            next[thread as usize] += 1;
        }
        assert_eq!(next, [1_000; 4]);
    });
}

#[test]
fn without_a_puller_the_queue_fills_up_to_its_bound_and_then_sending_times_out() {
    let batch_bytes = 1_000;
    let mut config = PusherConfig {
        batching: Batching::On { batch_bytes },
        queue_bytes: 10_000,
        ..PusherConfig::default()
    };
    config.socket.linger = Duration::ZERO;
    // A socket that listens and has no peer takes nothing.
    let pusher = Pusher::<[u8]>::bind(&fresh_endpoint("tcp"), config).unwrap();
    let mut taken = 0;
    while pusher.try_send(&[7; 90]).is_ok() {
        taken += 1;
    }
    assert!(
        (100..130).contains(&taken),
        "{taken} records of 93 bytes in 10,000 bytes"
    );
    let short = Duration::from_millis(20);
    assert!(matches!(
        pusher.send_within(&[7; 90], short),
        Err(PushError::TimedOut)
    ));
    assert!(matches!(pusher.flush(short), Err(PushError::TimedOut)));
}

#[test]
fn a_puller_that_comes_late_gets_what_waited_and_blocked_senders_go_on() {
    let mut config = PusherConfig {
        queue_bytes: 1_000,
        timeout: PATIENCE,
        ..PusherConfig::default()
    };
    config.batching = Batching::On { batch_bytes: 100 };
    let pusher = Pusher::<Item>::bind(&fresh_endpoint("tcp"), config).unwrap();
    let endpoint = pusher.endpoint().clone();
    let (full, is_full) = mpsc::channel();
    let sending = thread::spawn(move || {
        let mut number = 0;
        while pusher.try_send(&item(number)).is_ok() {
            number += 1;
        }
        full.send(()).unwrap();
        (number..2_000).for_each(|number| pusher.send(&item(number)).unwrap());
    });
    is_full.recv().unwrap();
    let mut puller = Puller::<Item>::connect(&endpoint, puller_config()).unwrap();
    for number in 0..2_000 {
        assert_eq!(puller.recv().unwrap(), item(number));
    }
    sending.join().unwrap();
}

#[test]
fn stopping_ends_blocked_calls_at_once() {
    let mut puller = puller::<Item>("tcp");
    let stop = puller.stop_handle();
    let receiving = thread::spawn(move || (puller.recv_within(Duration::MAX), puller.recv()));
    stop.stop();
    let (first, second) = receiving.join().unwrap();
    assert!(matches!(first, Err(PullError::Stopped)));
    assert!(matches!(second, Err(PullError::Stopped)));

    for mut config in batching_modes() {
        config.socket.linger = Duration::ZERO;
        config.queue_bytes = 1_000;
        let pusher = Pusher::<Item>::bind(&fresh_endpoint("tcp"), config).unwrap();
        let stop = pusher.stop_handle();
        let sending = thread::spawn(move || {
            loop {
                if let Err(error) = pusher.send_within(&item(0), Duration::MAX) {
                    return error;
                }
            }
        });
        stop.stop();
        assert!(matches!(sending.join().unwrap(), PushError::Stopped));
    }
}

#[test]
fn waiting_ends_in_time() {
    let mut puller = puller::<Item>("tcp");
    assert!(matches!(puller.try_recv(), Err(PullError::TimedOut)));
    let short = Duration::from_millis(10);
    assert!(matches!(
        puller.recv_within(short),
        Err(PullError::TimedOut)
    ));
}

#[test]
fn records_over_the_limit_are_refused_and_the_others_go_on() {
    for mut config in batching_modes() {
        config.socket.max_message_bytes = 1_000;
        config.batching = match config.batching {
            Batching::On { .. } => Batching::On { batch_bytes: 500 },
            Batching::Off => Batching::Off,
        };
        let mut puller = puller::<String>("tcp");
        let pusher = pusher::<str>(puller.endpoint(), config);
        pusher.send("before").unwrap();
        let refused = pusher.send(&"x".repeat(1_000)).unwrap_err();
        assert!(matches!(
            refused,
            PushError::TooLarge {
                limit_bytes: 1_000,
                ..
            }
        ));
        // Larger than a batch, yet within the limit: it travels alone.
        pusher.send(&"y".repeat(900)).unwrap();
        pusher.send("after").unwrap();
        assert_eq!(puller.recv().unwrap(), "before");
        assert_eq!(puller.recv().unwrap().len(), 900);
        assert_eq!(puller.recv().unwrap(), "after");
    }
}

#[test]
fn bad_configurations_are_refused_with_the_name_of_the_field() {
    let endpoint = fresh_endpoint("inproc");
    let config = PusherConfig {
        queue_bytes: 0,
        ..PusherConfig::default()
    };
    let refused = Pusher::<u8>::bind(&endpoint, config)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("queue_bytes"), "{refused}");
    let config = PullerConfig {
        timeout: Duration::ZERO,
        ..PullerConfig::default()
    };
    let refused = Puller::<u8>::bind(&endpoint, config)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("timeout"), "{refused}");
}

#[test]
fn strangers_are_counted_and_skipped() {
    let mut puller = puller::<Item>("tcp");
    let stranger = Bare::connect(zmq::PUSH, puller.endpoint());
    let good = b"MUT1\x00\x01\x92\x07\xa1a";
    let bad: [&[&[u8]]; 8] = [
        &[b"GET / HTTP/1.1"],
        &[b""],
        &[b"MUT"],
        &[b"MUT2\x00\x01\x92\x07\xa1a"],
        &[b"MUT1\x04\x01\x92\x07\xa1a"],
        &[good, good],
        &[b"MUT1\x00\x01\x92\x07\xa5a"],
        &[b"MUT1\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff"],
    ];
    for frames in bad {
        stranger.send(frames);
    }
    // Two records, the first of another type.
    stranger.send(&[b"MUT1\x00\x02\xa1x\x92\x07\xa1a"]);
    assert_eq!(puller.recv().unwrap(), (7, "a".to_string()));
    let stats = puller.stats();
    assert_eq!(
        (stats.received, stats.wrong_type, stats.bad_frames),
        (1, 1, 8)
    );
}

#[test]
fn a_flood_of_rubbish_does_not_keep_a_call_beyond_its_time() {
    let mut puller = puller::<Item>("tcp");
    let stranger = Bare::connect(zmq::PUSH, puller.endpoint());
    for _ in 0..500 {
        stranger.send(&[b"rubbish"]);
    }
    until("rubbish", || {
        let result = puller.recv_within(Duration::from_millis(5));
        assert!(matches!(result, Err(PullError::TimedOut)));
        (puller.stats().bad_frames == 500).then_some(())
    });
}

#[test]
fn random_frames_never_panic_and_never_stop_the_good_ones() {
    let puller = puller::<Item>("tcp");
    let stranger = Bare::connect(zmq::PUSH, puller.endpoint());
    let puller = RefCell::new(puller);
    let strategy = proptest::collection::vec(any::<u8>(), 0..80);
    proptest!(ProptestConfig::with_cases(200), |(bytes in strategy, ours: bool)| {
        let frame = if ours { [&b"MUT1\x00"[..], &bytes].concat() } else { bytes };
        stranger.send(&[&frame]);
        stranger.send(&[b"MUT1\x00\x01\x92\x07\xa3end"]);
        until("good record", || {
            puller.borrow_mut().recv_within(PATIENCE).ok().filter(|item| item.1 == "end")
        });
    });
}
