//! A worker that is late gets nothing while another has room, and one that is gone is gone in time; both by
//! fixed times and by φ accrual.

use std::time::Duration;

use mutirao::broker::majordomo::Version;
use mutirao::broker::{BrokerInput, BrokerLimits, ClientSays, Deed, Detection, WorkerTells};
use mutirao::machine::Machine;
use mutirao::pipeline::PeerId;
use mutirao::sim::Rng;

use super::hand_fed::{HandFed, JOB};

const HEARTBEAT: Duration = Duration::from_millis(500);

fn broker(detection: Detection) -> HandFed {
    HandFed::with(BrokerLimits {
        detection,
        ..BrokerLimits::default()
    })
}

impl HandFed {
    fn beat(&mut self, peer: PeerId) {
        let (seen, held) = (0, Vec::new());
        self.worker(peer, WorkerTells::Beat { seen, held });
        let (submitting, fetching) = (vec![JOB], vec![JOB]);
        self.client(ClientSays::Beat {
            submitting,
            fetching,
        });
    }

    /// Lets time pass, and the broker be woken whenever it wants to.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.machine.deadline().filter(|&due| due <= end) {
            self.pass(due.since(self.now));
        }
        self.pass(end.since(self.now));
    }

    /// Who is there, and who of them is late.
    fn there(&self) -> Vec<bool> {
        let workers = self.machine.status(self.now).workers;
        workers.iter().map(|worker| worker.suspect).collect()
    }

    /// How long the broker believes in its only worker.
    fn outlive(&mut self) -> (Duration, Duration) {
        let since = self.now;
        let mut late = None;
        loop {
            self.wait(Duration::from_millis(1));
            match self.there()[..] {
                [false] => {}
                [true] => late = late.or(Some(self.now)),
                _ => break,
            }
        }
        let late = late.expect("late before it is gone");
        (late.since(since), self.now.since(since))
    }
}

#[test]
fn a_late_worker_gets_nothing_while_another_has_room_and_is_served_again_when_it_is_heard() {
    for detection in [Detection::Fixed, Detection::PhiAccrual] {
        let mut broker = broker(detection);
        broker.ready(1);
        broker.ready(2);
        for _ in 0..20 {
            broker.wait(HEARTBEAT);
            broker.beat(1);
            broker.beat(2);
        }
        assert_eq!(broker.there(), [false, false]);
        broker.wait(HEARTBEAT);
        broker.beat(2);
        broker.wait(HEARTBEAT * 9 / 10);
        assert_eq!(broker.there(), [true, false], "{detection:?}");
        let served = |broker: &mut HandFed, first| {
            broker.submit(first, 1);
            broker.granted().remove(0)
        };
        // One that it works on and one ahead; what nobody else has room for it gets all the same.
        let first = served(&mut broker, 0);
        let peers = [
            first.peer,
            served(&mut broker, 1).peer,
            served(&mut broker, 2).peer,
        ];
        assert_eq!(peers, [2, 2, 1]);
        // It is as good as any other as soon as it is heard.
        broker.worker(1, WorkerTells::Returned { leases: Vec::new() });
        assert_eq!(broker.there(), [false, false]);
        broker.work(&first);
        assert_eq!(served(&mut broker, 3).peer, 1, "{detection:?}");
    }
}

#[test]
fn a_result_proves_that_a_late_worker_is_there() {
    let mut broker = broker(Detection::Fixed);
    broker.ready(1);
    broker.submit(0, 1);
    let grant = broker.granted().remove(0);
    // At its own start a broker blames nobody yet.
    broker.wait(HEARTBEAT * 3);
    assert_eq!(broker.there(), [true]);
    broker.work(&grant);
    assert_eq!(broker.there(), [false]);
    let (late, gone) = broker.outlive();
    assert_eq!((late, gone), (HEARTBEAT * 7 / 4, HEARTBEAT * 4));
}

/// What a fixed time is stays what it was: interval × liveness, to the millisecond.
#[test]
fn by_fixed_times_it_does_not_matter_how_regularly_a_worker_was_heard() {
    for late_ms in [0, 150] {
        let mut broker = broker(Detection::Fixed);
        broker.ready(1);
        hear(&mut broker, late_ms);
        assert_eq!(broker.outlive(), (HEARTBEAT * 7 / 4, HEARTBEAT * 4));
    }
}

/// Two hundred heartbeats, of which every other comes so late, and results all the time.
fn hear(broker: &mut HandFed, late_ms: u64) {
    let mut rng = Rng::new(late_ms);
    for round in 0..200 {
        let shift = Duration::from_millis(late_ms);
        let gap = match round % 2 {
            0 => HEARTBEAT + shift,
            _ => HEARTBEAT - shift,
        };
        // Not at the beat: it says nothing of how regular that is.
        let between = Duration::from_millis(rng.below(gap.as_millis() as u64));
        broker.wait(between);
        broker.worker(1, WorkerTells::Returned { leases: Vec::new() });
        broker.wait(gap - between);
        broker.beat(1);
        assert_eq!(broker.there(), [false]);
    }
}

#[test]
fn by_phi_accrual_a_worker_that_is_heard_irregularly_is_given_more_time() {
    let [regular, irregular] = [0, 150].map(|late_ms| {
        let mut broker = broker(Detection::PhiAccrual);
        broker.ready(1);
        hear(&mut broker, late_ms);
        broker.outlive()
    });
    let within = |(late, gone): (Duration, Duration), from: u64, to: u64| {
        let [from, to] = [from, to].map(Duration::from_millis);
        assert!((from..to).contains(&late), "late after {late:?}");
        // Two intervals later.
        assert_eq!(gone - late, HEARTBEAT * 2);
    };
    // 1 + 5.6 × 0.1 intervals, and 1 + 5.6 × 0.3.
    within(regular, 775, 785);
    within(irregular, 1335, 1350);
}

#[test]
fn a_majordomo_worker_has_the_patience_of_its_own_heartbeats() {
    for (detection, late_ms, gone_ms) in [
        (Detection::Fixed, 4_375, 7_500),
        (Detection::PhiAccrual, 3_903, 6_403),
    ] {
        let mut broker = broker(detection);
        let hand = |deed| BrokerInput::Hand(1, Version::V1, deed);
        broker.input(hand(Deed::Ready("a".into())));
        for _ in 0..300 {
            broker.wait(Duration::from_millis(2_500));
            broker.input(hand(Deed::Heartbeat));
            assert_eq!(broker.there(), [false]);
        }
        let (late, gone) = broker.outlive();
        let found = [late, gone].map(|time| time.as_millis() as u64);
        assert!(
            found[0].abs_diff(late_ms) <= 2 && found[1].abs_diff(gone_ms) <= 2,
            "{found:?}"
        );
    }
}

#[test]
fn a_worker_that_keeps_dying_is_late_until_it_has_been_heard_ever_more_often() {
    for detection in [Detection::Fixed, Detection::PhiAccrual] {
        let mut broker = broker(detection);
        let mut needed = Vec::new();
        for _ in 0..7 {
            broker.ready(1);
            let mut heard = 1;
            while broker.there() == [true] {
                broker.wait(HEARTBEAT);
                broker.beat(1);
                heard += 1;
            }
            needed.push(heard);
            broker.wait(HEARTBEAT * 5);
            assert!(broker.there().is_empty());
        }
        // The first time it came without a past.
        assert_eq!(needed, [1, 1, 2, 4, 8, 16, 16]);
        // Of the last a row was broken off.
        broker.ready(1);
        broker.wait(HEARTBEAT);
        broker.beat(1);
        broker.wait(HEARTBEAT * 5);
        assert!(broker.there().is_empty());
        // It stays away for long enough to be forgotten.
        broker.ready(2);
        for _ in 0..70 {
            broker.wait(HEARTBEAT);
            broker.beat(2);
        }
        broker.ready(1);
        assert_eq!(broker.there(), [false, false]);
    }
}

#[test]
fn a_broker_that_stood_still_calls_nobody_late() {
    let mut broker = broker(Detection::Fixed);
    broker.ready(1);
    broker.wait(HEARTBEAT);
    broker.beat(1);
    broker.pass(HEARTBEAT * 3);
    assert_eq!(broker.there(), [false]);
    broker.pass(HEARTBEAT / 2);
    broker.beat(1);
    broker.wait(HEARTBEAT * 2);
    assert_eq!(broker.there(), [true], "but then it does");
}
