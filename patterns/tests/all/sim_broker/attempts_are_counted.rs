//! A failing task is tried as often as its job says; one that kills its workers ends as failed, alone.

use std::time::Duration;

use mutirao::broker::{BrokerLimits, Grant, Held, Takes, WorkerTells};
use mutirao::pipeline::{JobId, WorkerId};
use mutirao::sim::{Rng, run_seeds};

use super::hand_fed::{HandFed, JOB};
use super::work::Outcome;
use super::world::{Setup, World};

#[test]
fn a_task_that_fails_is_tried_as_often_as_its_job_says() {
    run_seeds(0..200, |seed| {
        let mut setup = Setup::calm(seed);
        setup.work.failing = 0.5;
        setup.clients[0].settings.attempts = 1 + seed as u32 % 5;
        let attempts = setup.clients[0].settings.attempts;
        let mut world = World::new(setup);
        world.finish_within(Duration::from_secs(60));
        world.check_results();
        let log = world.log.borrow();
        for task in 0..100 {
            let fails = world.setup.work.failures(JobId(1), task);
            let expected = fails.saturating_add(1).min(attempts);
            let runs = log.runs.range((JobId(1), task, 0)..(JobId(1), task + 1, 0));
            let runs: Vec<_> = runs
                .map(|(&(_, _, attempt), &runs)| (attempt, runs))
                .collect();
            let once_each: Vec<_> = (1..=expected).map(|attempt| (attempt, 1)).collect();
            assert_eq!(runs, once_each, "task {task}");
        }
    });
}

#[test]
fn a_task_that_kills_its_workers_fails_and_takes_no_other_with_it() {
    run_seeds(0..200, |seed| {
        let mut rng = Rng::new(seed);
        let mut setup = Setup::calm(seed);
        let poison = rng.below(100);
        setup.work.poison = Some(poison);
        setup.workers.truncate(1 + seed as usize % 2);
        setup.workers[0].0 = 1 + rng.below(4) as usize;
        let attempts = 1 + rng.below(4) as u32;
        setup.clients[0].settings.attempts = attempts;
        let mut world = World::new(setup);
        world.finish_within(Duration::from_secs(300));
        let client = world.clients().next().expect("a client");
        for (&task, outcome) in &client.memory.safe {
            match outcome {
                Outcome::Failed(reason) => {
                    assert_eq!(task, poison, "{reason}");
                    assert!(reason.contains("workers died"), "{reason}");
                }
                Outcome::Result(_) => assert_ne!(task, poison),
            }
        }
        assert_eq!(client.memory.safe.len(), 100);
        let deaths = world.log.borrow().deaths[&(JobId(1), poison)];
        // The first deaths may be those of a batch that is split twice.
        assert!(
            (attempts.max(2)..=attempts.max(2) + 3).contains(&deaths),
            "{deaths} deaths"
        );
    });
}

/// One that was taken for dead has a task that has failed at another since: that is over, so that a
/// failure of the first attempt does not count as one of the second.
#[test]
fn a_worker_that_comes_back_keeps_no_attempt_that_others_have_made() {
    let mut broker = HandFed::new();
    broker.ready(1);
    broker.submit(0, 1);
    let late = broker.granted().remove(0);
    broker.ready(2);
    for _ in 0..6 {
        broker.pass(BrokerLimits::default().heartbeat);
        let (seen, held) = (0, Vec::new());
        broker.worker(2, WorkerTells::Beat { seen, held });
    }
    let second = broker.granted().remove(0);
    assert_eq!((second.peer, second.attempt), (2, 1));
    let (lease, task, reason) = (second.lease, 0, "no".into());
    broker.worker(2, WorkerTells::Leaving {});
    broker.worker(
        2,
        WorkerTells::Failed {
            lease,
            task,
            reason,
        },
    );
    broker.pass(Duration::from_secs(1));
    let held = Held {
        lease: late.lease,
        job: JOB,
        span: late.span,
    };
    let ready = WorkerTells::Ready {
        worker: WorkerId(1),
        slots: 1,
        operations: vec!["a".into()],
        held: vec![held],
        takes: Takes::default(),
        name: None,
    };
    broker.worker(3, ready);
    let again = broker.granted().remove(0);
    assert_eq!((again.peer, again.attempt), (3, 2));
}

/// The same worker over a connection of its own, with what it says it holds.
fn back(broker: &mut HandFed, peer: u64, takes: Takes, held: Vec<Held>) {
    let ready = WorkerTells::Ready {
        worker: WorkerId(1),
        slots: 1,
        operations: vec!["a".into()],
        held,
        takes,
        name: None,
    };
    broker.worker(peer, ready);
}

#[test]
fn a_task_that_makes_its_worker_come_back_without_it_fails() {
    let mut broker = HandFed::new();
    broker.submit(0, 1);
    for peer in 1..=3 {
        back(&mut broker, peer, Takes::One, Vec::new());
        assert_eq!(broker.granted().len(), 1, "peer {peer}");
    }
    assert_eq!(broker.machine.counts().retried, 2);
    back(&mut broker, 4, Takes::One, Vec::new());
    assert!(broker.granted().is_empty());
    let counts = broker.machine.counts();
    assert_eq!((counts.done, counts.failed), (1, 1));
    assert_eq!(broker.save(), 1, "the failure is told");
    // The worker is none the worse for it.
    broker.submit(1, 1);
    let next = broker.granted().remove(0);
    broker.work(&next);
    let counts = broker.machine.counts();
    assert_eq!((counts.done, counts.failed), (2, 1));
}

#[test]
fn a_task_that_its_worker_still_holds_or_never_got_is_not_blamed() {
    for takes in [Takes::One, Takes::Batches] {
        let mut broker = HandFed::new();
        broker.submit(0, 1);
        back(&mut broker, 1, takes, Vec::new());
        let mut grant = broker.granted().remove(0);
        for peer in 2..18 {
            let held = Held {
                lease: grant.lease,
                job: JOB,
                span: grant.span,
            };
            // Whoever takes batches names all that has arrived.
            let names_it = takes == Takes::One;
            let held = Vec::from_iter(names_it.then_some(held));
            back(&mut broker, peer, takes, held);
            let mut again = broker.granted();
            assert_eq!(again.is_empty(), names_it);
            grant = again.pop().unwrap_or(grant);
            grant.peer = peer;
        }
        broker.work(&grant);
        let counts = broker.machine.counts();
        assert_eq!((counts.done, counts.failed, counts.retried), (1, 0, 0));
    }
}

/// What makes a worker leave a task behind each time, in whatever way.
fn left_behind(leave: impl Fn(&mut HandFed, u64, &Grant)) {
    let mut broker = HandFed::new();
    broker.submit(0, 1);
    let mut given = 0;
    for peer in 1..100 {
        back(&mut broker, peer, Takes::Batches, Vec::new());
        for grant in broker.granted() {
            given += 1;
            leave(&mut broker, peer, &grant);
        }
    }
    assert_eq!(given, 19, "sixteen by chance, and three attempts");
    let counts = broker.machine.counts();
    assert_eq!((counts.done, counts.failed), (1, 1));
    assert_eq!(broker.save(), 1, "the failure is told");
}

#[test]
fn a_task_that_every_worker_leaves_behind_fails() {
    // It comes back as another peer and names nothing.
    left_behind(|_, _, _| {});
    left_behind(|broker, peer, _| broker.worker(peer, WorkerTells::Gone {}));
    left_behind(|broker, peer, grant| {
        let leases = vec![grant.lease];
        broker.worker(peer, WorkerTells::Leaving {});
        broker.worker(peer, WorkerTells::Returned { leases });
    });
    left_behind(|broker, peer, grant| {
        let (seen, held) = (grant.lease, Vec::new());
        broker.worker(peer, WorkerTells::Beat { seen, held });
    });
}
