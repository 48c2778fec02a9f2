//! Every role over every transport.

use mutirao::transport::{
    Frame, LinkEvent, Message, Role, SendError, Side, SocketOptions, TransportError, WhenFull, open,
};

use crate::support::*;

/// Scenarios that every transport plays alike.
mod matrix {
    use super::*;

    pub(super) fn push_spreads_and_pull_gathers(scheme: &str) {
        let options = SocketOptions::default();
        let mut ventilator = bound(Role::Push, scheme, &options);
        let mut workers = [0, 1].map(|_| connected(Role::Pull, &*ventilator, &options));
        // A worker that is not there yet gets nothing: wait until each has had something.
        let mut heard = [0, 0];
        while heard.contains(&0) {
            send_texts(&mut *ventilator, &["task", "payload"]);
            for (worker, heard) in workers.iter_mut().zip(&mut heard) {
                while let Some(message) = worker.receive().unwrap() {
                    assert_eq!(texts(&message), ["task", "payload"]);
                    *heard += 1;
                }
            }
        }
    }

    pub(super) fn pull_hears_everyone(scheme: &str) {
        let options = SocketOptions::default();
        let mut sink = bound(Role::Pull, scheme, &options);
        let mut workers = [0, 1].map(|_| connected(Role::Push, &*sink, &options));
        for (worker, text) in workers.iter_mut().zip(["a", "b"]) {
            send_texts(&mut **worker, &[text]);
        }
        let mut heard = [receive_texts(&mut *sink), receive_texts(&mut *sink)];
        heard.sort();
        assert_eq!(heard, [["a"], ["b"]]);
    }

    pub(super) fn subscribers_get_their_topics(scheme: &str) {
        let options = SocketOptions::default();
        let mut publisher = bound(Role::Publish, scheme, &options);
        let mut subscriber = connected(Role::Subscribe, &*publisher, &options);
        subscriber.subscribe(b"a").unwrap();
        assert_eq!(receive_texts(&mut *publisher), ["\u{1}a"]);
        send_texts(&mut *publisher, &["b1", "no"]);
        send_texts(&mut *publisher, &["a1", "yes"]);
        assert_eq!(receive_texts(&mut *subscriber), ["a1", "yes"]);
        subscriber.unsubscribe(b"a").unwrap();
        assert_eq!(receive_texts(&mut *publisher), ["\0a"]);
    }

    pub(super) fn router_answers_dealers(scheme: &str) {
        let options = SocketOptions::default();
        let mut router = bound(Role::Router, scheme, &options);
        let mut dealers = [0, 1].map(|_| connected(Role::Dealer, &*router, &options));
        for (dealer, text) in dealers.iter_mut().zip(["a", "b"]) {
            send_texts(&mut **dealer, &[text]);
        }
        for _ in 0..2 {
            let request = receive(&mut *router);
            send(&mut *router, &request);
        }
        for (dealer, text) in dealers.iter_mut().zip(["a", "b"]) {
            assert_eq!(receive_texts(&mut **dealer), [text]);
        }
    }

    pub(super) fn router_knows_nobody(scheme: &str) {
        let mut router = bound(Role::Router, scheme, &SocketOptions::default());
        let refused = router.send(&frames(&["nobody", "hello"]));
        assert!(matches!(refused, Err(SendError::Unroutable)), "{refused:?}");
    }

    pub(super) fn a_full_queue_refuses_until_there_is_room(scheme: &str) {
        // More than the buffers of the system between two processes hold.
        let load = Frame::from(vec![7; 1 << 20]);
        let mut pull = bound(Role::Pull, scheme, &few(2));
        let mut push = connected(Role::Push, &*pull, &few(2));
        let mut sent = 0;
        while push.send(std::slice::from_ref(&load)).is_ok() {
            sent += 1;
            assert!(sent < 1000, "never full");
        }
        for _ in 0..sent {
            receive_from(&mut *pull, &mut *push);
        }
        send(&mut *push, &[load]);
        assert_eq!(receive(&mut *pull)[0].len(), 1 << 20);
    }

    pub(super) fn a_router_waits_for_a_slow_peer(scheme: &str) {
        let load = || Frame::from(vec![7; 1 << 20]);
        let mut router = bound(Role::Router, scheme, &few(2));
        let mut dealer = connected(Role::Dealer, &*router, &few(2));
        send_texts(&mut *dealer, &["hello"]);
        let id = receive(&mut *router).swap_remove(0);
        let mut sent = 0;
        let refused = loop {
            match router.send(&[id.clone(), load()]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 1000, "never full");
        };
        assert!(matches!(refused, SendError::Full), "{refused:?}");
        let thread = std::thread::spawn(move || {
            for _ in 0..=sent {
                receive(&mut *dealer);
            }
        });
        send(&mut *router, &[id, load()]);
        // What waits is sent by whoever uses the socket, where no thread of its own does it.
        while !thread.is_finished() {
            router.flush();
            std::thread::yield_now();
        }
        thread.join().unwrap();
    }

    pub(super) fn a_publisher_refuses_or_drops_for_the_slow(scheme: &str) {
        let load = || vec![Frame::from(&b"topic"[..]), Frame::from(vec![7; 1 << 20])];
        for when_full in [WhenFull::Refuse, WhenFull::Drop] {
            let options = SocketOptions {
                when_full,
                ..few(2)
            };
            let mut publisher = bound(Role::Publish, scheme, &options);
            let mut subscriber = connected(Role::Subscribe, &*publisher, &options);
            subscriber.subscribe(b"topic").unwrap();
            receive(&mut *publisher);
            let sent = (0..100).filter(|_| publisher.send(&load()).is_ok()).count();
            match when_full {
                WhenFull::Refuse => assert!(sent < 100),
                _ => assert_eq!(sent, 100),
            }
            receive(&mut *subscriber);
        }
    }

    pub(super) fn only_the_latest_is_kept(scheme: &str) {
        let options = SocketOptions {
            when_full: WhenFull::KeepLatest,
            ..Default::default()
        };
        let mut publisher = bound(Role::Publish, scheme, &options);
        let mut subscriber = connected(Role::Subscribe, &*publisher, &options);
        subscriber.subscribe(b"").unwrap();
        assert!(subscriber.subscribe(b"a").is_err());
        // A publisher that keeps only the latest message hears of no subscriptions.
        let begun = std::time::Instant::now();
        while subscriber.receive().unwrap().is_none() {
            send_texts(&mut *publisher, &["first"]);
            let _ = publisher.receive().unwrap();
            std::thread::yield_now();
            assert!(begun.elapsed() < PATIENCE, "the first one did not come");
        }
        for i in 0..1000 {
            send_texts(&mut *publisher, &[&i.to_string()]);
        }
        send_texts(&mut *publisher, &["last"]);
        let (mut heard, begun) = (0, std::time::Instant::now());
        loop {
            // As a driver does when it has nothing to send.
            let _ = publisher.receive().unwrap();
            match subscriber.receive().unwrap() {
                Some(message) if texts(&message) == ["last"] => break,
                Some(_) => heard += 1,
                None => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
            assert!(begun.elapsed() < PATIENCE, "the last one did not come");
        }
        assert!(heard < 1000, "everything was kept");
        assert!(publisher.send(&frames(&["two", "frames"])).is_err());
    }

    pub(super) fn links_are_reported(scheme: &str) {
        let mut pull = bound(Role::Pull, scheme, &watching());
        let mut push = connected(Role::Push, &*pull, &watching());
        assert_eq!(link_event(&mut *pull), LinkEvent::Connected);
        assert_eq!(link_event(&mut *push), LinkEvent::Connected);
        let endpoint = pull.endpoint().clone();
        drop(pull);
        assert_eq!(link_event(&mut *push), LinkEvent::Disconnected);
        let mut pull = rebound(Role::Pull, &endpoint, &watching());
        let again = link_event_while(&mut *push, Some(&mut *pull));
        assert_eq!(again, LinkEvent::Connected);
        drop(push);
        assert_eq!(link_event(&mut *pull), LinkEvent::Connected);
        assert_eq!(link_event(&mut *pull), LinkEvent::Disconnected);
    }

    pub(super) fn a_connection_may_come_first(scheme: &str) {
        let options = SocketOptions::default();
        let endpoint = free_endpoint(scheme);
        let mut push = open(Role::Push, Side::Connect, &endpoint, &options).unwrap();
        // Raw sockets take nothing while nobody is there.
        let early = push.send(&frames(&["early"]));
        assert_eq!(early.is_err(), scheme.starts_with("raw"), "{early:?}");
        let mut pull = rebound(Role::Pull, &endpoint, &options);
        if early.is_err() {
            send_texts(&mut *push, &["early"]);
        }
        assert_eq!(receive_texts(&mut *pull), ["early"]);
    }

    pub(super) fn a_place_is_free_when_its_socket_is_dropped(scheme: &str) {
        let options = SocketOptions::default();
        let mut pull = bound(Role::Pull, scheme, &options);
        for _ in 0..20 {
            let endpoint = pull.endpoint().clone();
            drop(pull);
            let again = open(Role::Pull, Side::Bind, &endpoint, &options);
            pull = again.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    pub(super) fn what_was_sent_arrives_after_the_sender_is_gone(scheme: &str) {
        let options = SocketOptions::default();
        let mut pull = bound(Role::Pull, scheme, &options);
        let mut push = connected(Role::Push, &*pull, &options);
        let load = Frame::from(vec![7; 1 << 20]);
        let gone = std::thread::spawn(move || {
            for _ in 0..20 {
                send(&mut *push, std::slice::from_ref(&load));
            }
        });
        // A raw socket has nobody else who would take in what comes.
        let gone = match scheme.starts_with("raw") {
            true => Some(gone),
            false => gone.join().map(|()| None).unwrap(),
        };
        for _ in 0..20 {
            assert_eq!(receive(&mut *pull)[0].len(), 1 << 20);
        }
        gone.into_iter().for_each(|gone| gone.join().unwrap());
    }

    pub(super) fn two_cannot_listen_at_one_place(scheme: &str) {
        let first = bound(Role::Pull, scheme, &SocketOptions::default());
        let second = open(
            Role::Pull,
            Side::Bind,
            first.endpoint(),
            &SocketOptions::default(),
        );
        let error = second.err().expect("an error");
        assert!(matches!(error, TransportError::InUse { .. }), "{error}");
        assert!(
            error.to_string().contains(&first.endpoint().to_string()),
            "{error}"
        );
    }

    pub(super) fn every_kind_of_frame_arrives(scheme: &str) {
        let options = SocketOptions::default();
        let mut pull = bound(Role::Pull, scheme, &options);
        let mut push = connected(Role::Push, &*pull, &options);
        let sizes = [0, 1, 33, 34, 1023, 1024, 70_000];
        let bytes = |size: usize| (0..size).map(|i| i as u8).collect::<Vec<_>>();
        let shared = |size| Frame::from(std::sync::Arc::<[u8]>::from(bytes(size)));
        let owned: Message = sizes.iter().map(|size| Frame::from(bytes(*size))).collect();
        let shared: Message = sizes.iter().map(|size| shared(*size)).collect();
        for message in [owned, shared] {
            send(&mut *push, &message);
            let received = receive(&mut *pull);
            // Sent on as it came.
            send(&mut *push, &received);
            for message in [received, receive(&mut *pull)] {
                let received: Vec<_> = message.iter().map(|frame| frame.to_vec()).collect();
                assert_eq!(received, sizes.map(bytes));
            }
        }
    }

    pub(super) fn misuse_is_an_error(scheme: &str) {
        let options = SocketOptions {
            max_message_bytes: 10,
            ..Default::default()
        };
        let mut pull = bound(Role::Pull, scheme, &options);
        let mut push = connected(Role::Push, &*pull, &options);
        assert!(pull.send(&frames(&["a"])).is_err());
        assert!(pull.subscribe(b"").is_err());
        assert!(push.receive().unwrap().is_none());
        assert!(push.send(&[]).is_err());
        assert!(push.send(&frames(&["a"; 65])).is_err());
        let error = push.send(&frames(&["more than ten"])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("13 bytes in a message are over the limit of 10"),
            "{error}"
        );
        let mut router = bound(Role::Router, scheme, &options);
        assert!(router.send(&frames(&["a"])).is_err());
    }
}

macro_rules! matrix {
    ($($scheme:ident: $($scenario:ident)*;)*) => { $(
        mod $scheme {
            $(
                #[test]
                fn $scenario() {
                    super::matrix::$scenario(stringify!($scheme));
                }
            )*
        }
    )* };
}

matrix! {
    tcp: push_spreads_and_pull_gathers pull_hears_everyone subscribers_get_their_topics
        router_answers_dealers router_knows_nobody a_full_queue_refuses_until_there_is_room
        a_router_waits_for_a_slow_peer a_publisher_refuses_or_drops_for_the_slow
        only_the_latest_is_kept links_are_reported a_connection_may_come_first
        what_was_sent_arrives_after_the_sender_is_gone two_cannot_listen_at_one_place a_place_is_free_when_its_socket_is_dropped
        every_kind_of_frame_arrives misuse_is_an_error;
    ipc: push_spreads_and_pull_gathers pull_hears_everyone subscribers_get_their_topics
        router_answers_dealers router_knows_nobody a_full_queue_refuses_until_there_is_room
        a_router_waits_for_a_slow_peer a_publisher_refuses_or_drops_for_the_slow
        only_the_latest_is_kept links_are_reported a_connection_may_come_first
        what_was_sent_arrives_after_the_sender_is_gone two_cannot_listen_at_one_place a_place_is_free_when_its_socket_is_dropped
        every_kind_of_frame_arrives misuse_is_an_error;
    // ZeroMQ does not watch links within the process.
    inproc: push_spreads_and_pull_gathers pull_hears_everyone subscribers_get_their_topics
        router_answers_dealers router_knows_nobody a_full_queue_refuses_until_there_is_room
        a_router_waits_for_a_slow_peer a_publisher_refuses_or_drops_for_the_slow
        only_the_latest_is_kept a_connection_may_come_first
        what_was_sent_arrives_after_the_sender_is_gone two_cannot_listen_at_one_place a_place_is_free_when_its_socket_is_dropped
        every_kind_of_frame_arrives misuse_is_an_error;
    raw_tcp: push_spreads_and_pull_gathers pull_hears_everyone subscribers_get_their_topics
        router_answers_dealers router_knows_nobody a_full_queue_refuses_until_there_is_room
        a_router_waits_for_a_slow_peer a_publisher_refuses_or_drops_for_the_slow
        only_the_latest_is_kept links_are_reported a_connection_may_come_first
        what_was_sent_arrives_after_the_sender_is_gone two_cannot_listen_at_one_place a_place_is_free_when_its_socket_is_dropped
        every_kind_of_frame_arrives misuse_is_an_error;
    // The others need both ends driven, even to connect: see udp.rs.
    reliable_udp: router_knows_nobody two_cannot_listen_at_one_place
        a_place_is_free_when_its_socket_is_dropped misuse_is_an_error;
    memory: push_spreads_and_pull_gathers pull_hears_everyone subscribers_get_their_topics
        router_answers_dealers router_knows_nobody a_full_queue_refuses_until_there_is_room
        a_router_waits_for_a_slow_peer a_publisher_refuses_or_drops_for_the_slow
        only_the_latest_is_kept links_are_reported a_connection_may_come_first
        what_was_sent_arrives_after_the_sender_is_gone two_cannot_listen_at_one_place a_place_is_free_when_its_socket_is_dropped
        every_kind_of_frame_arrives misuse_is_an_error;
}
