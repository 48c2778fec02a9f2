//! Jobs complete soon after the last fault, and no long task waits while a worker idles.

use std::time::Duration;

use mutirao::broker::{BrokerInput, BrokerLimits, BrokerMachine, Takes, WorkerTells};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{Incarnation, WorkerId};
use mutirao::sim::run_seeds;

use super::hand_fed::HandFed;
use super::nodes::BROKER;
use super::work::Pace;
use super::world::{Setup, World};

#[test]
fn a_job_of_short_tasks_completes_soon_after_the_last_fault() {
    run_seeds(0..300, |seed| {
        let mut setup = Setup::random(seed);
        setup.work.pace = Pace::Short;
        setup.work.failing = 0.0;
        for client in &mut setup.clients {
            client.limits.window_bytes = 1 << 20;
            client.safe_delay = Duration::from_millis(100);
        }
        setup.limits.kept_bytes = 1 << 20;
        setup.limits.queue_tasks = 1 << 20;
        setup.store_delay = Some(Duration::from_millis(20));
        let mut world = World::new(setup);
        world.trouble(Duration::from_secs(15));
        let took = world.finish_within(Duration::from_secs(1200));
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}

#[test]
fn a_long_task_does_not_wait_behind_another_while_a_worker_idles() {
    run_seeds(0..200, |seed| {
        let mut setup = Setup::calm(seed);
        setup.work.pace = Pace::Long;
        setup.workers = vec![(1, vec!["a".into()]); 2 + seed as usize % 4];
        setup.clients[0].tasks = 40;
        let mut world = World::new(setup);
        let mut idle_since = None;
        while !world.is_done() {
            world.run_for(Duration::from_millis(5));
            let now = world.sim.now();
            let waiting = world
                .workers()
                .any(|worker| worker.machine.held() > worker.running());
            let idle = world.workers().any(|worker| worker.machine.held() == 0);
            idle_since = (waiting && idle).then(|| idle_since.unwrap_or(now));
            let time = idle_since.map_or(Duration::ZERO, |since| now.since(since));
            assert!(time <= Duration::from_millis(60), "for {time:?} at {now:?}");
        }
    });
}

/// A driver wakes its machine before it reads what came while it stood still.
#[test]
fn a_broker_that_stood_still_buries_nobody_before_it_has_listened() {
    let limits = BrokerLimits::default();
    let mut broker = BrokerMachine::new(limits, Incarnation(1), 0, false);
    let ready = WorkerTells::Ready {
        worker: WorkerId(1),
        slots: 1,
        operations: vec!["a".into()],
        held: Vec::new(),
        takes: Takes::default(),
        name: None,
    };
    broker.handle(Time::START, BrokerInput::Worker(1, ready));
    broker.wake(Time::START);
    let workers_at = |broker: &mut BrokerMachine, ms| {
        let now = Time::START + Duration::from_millis(ms);
        broker.wake(now);
        assert!(broker.deadline().is_none_or(|deadline| deadline > now));
        broker.status(now).workers.len()
    };
    assert_eq!(workers_at(&mut broker, 60_000), 1);
    let (seen, held) = (0, Vec::new());
    let beat = BrokerInput::Worker(1, WorkerTells::Beat { seen, held });
    broker.handle(Time::START + Duration::from_secs(60), beat);
    for tenths in 601..=619 {
        assert_eq!(workers_at(&mut broker, 100 * tenths), 1);
    }
    assert_eq!(workers_at(&mut broker, 62_000), 0, "silence counts again");
}

#[test]
fn a_worker_that_stood_still_gives_no_result_twice() {
    run_seeds(0..100, |seed| {
        let mut setup = Setup::calm(seed);
        setup.work.pace = Pace::Mixed;
        let mut world = World::new(setup);
        for id in [1, 2, 1] {
            let id = mutirao::sim::NodeId(id);
            world.run_for(Duration::from_millis(300));
            world.sim.pause(id);
            world.run_for(Duration::from_secs(4));
            world.sim.resume(id);
        }
        // The broker as well.
        world.sim.pause(BROKER);
        world.run_for(Duration::from_secs(4));
        world.sim.resume(BROKER);
        world.finish_within(Duration::from_secs(300));
        let counts = world
            .clients()
            .next()
            .and_then(|client| client.memory.complete);
        assert_eq!(counts.expect("complete").fetched, 100);
    });
}

/// Where a message got lost and the connection did not.
#[test]
fn a_lease_that_its_worker_does_not_hold_goes_out_again() {
    let mut broker = HandFed::new();
    broker.ready(1);
    broker.submit(0, 1);
    let first = broker.granted().remove(0);
    let beat = |seen| WorkerTells::Beat {
        seen,
        held: Vec::new(),
    };
    // It may be on its way.
    broker.worker(1, beat(first.lease - 1));
    assert_eq!(broker.granted(), []);
    broker.worker(1, beat(first.lease));
    let second = broker.granted().remove(0);
    assert_eq!((second.span, second.attempt), (first.span, 1));
    // But not for ever.
    broker.pass(BrokerLimits::default().patience());
    broker.worker(1, beat(first.lease));
    let third = broker.granted().remove(0);
    broker.work(&second);
    assert_eq!(broker.machine.counts().stale, 1);
    broker.work(&third);
    assert_eq!(broker.save(), 1);
}
