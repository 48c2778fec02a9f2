//! Without faults nothing is sent twice and nothing runs twice, however long a task or the sink takes.

use std::time::Duration;

use mutirao::pipeline::Dispatch;
use mutirao::sim::{Link, Node, Rng, run_seeds};

use super::nodes::VENTILATOR;
use super::work::Pace;
use super::world::{DISPATCHES, Setup, World};

fn check(setup: Setup) -> (World, Duration) {
    let mut world = World::new(setup);
    let took = check_world(&mut world);
    (world, took)
}

fn check_world(world: &mut World) -> Duration {
    let took = world.finish_within(Duration::from_secs(4000));
    world.check_results();
    let progress = world.progress();
    assert_eq!(
        (
            progress.retried,
            progress.duplicates,
            world.ventilator().lost
        ),
        (0, 0, 0),
        "retried, duplicates, workers lost: {:?}",
        world.setup
    );
    let runs = world.runs.borrow();
    assert!(runs.values().all(|&runs| runs == 1), "a task ran twice");
    took
}

#[test]
fn no_needless_repeats() {
    run_seeds(0..900, |seed| {
        let mut rng = Rng::new(seed);
        let mut setup = Setup::random(seed);
        setup.dispatch = DISPATCHES[(seed % 3) as usize];
        setup.work.failing = 0.0;
        setup.work.pace = *rng
            .pick(&[Pace::Short, Pace::Mixed, Pace::Long, Pace::SlowStart])
            .unwrap();
        setup.storage.defer = 0.0;
        setup.storage.delay = Duration::from_millis(1 + rng.below(20_000));
        setup.link = match rng.below(3) {
            0 => Link::default(),
            1 => Link {
                delay: Duration::from_millis(1)..Duration::from_millis(50),
                ..Link::tcp()
            },
            _ => Link::tcp(),
        };
        check(setup);
    });
}

#[test]
fn a_first_task_of_a_minute_and_a_sink_that_confirms_in_order() {
    run_seeds(0..60, |seed| {
        let mut setup = Setup::calm(seed);
        setup.work.pace = Pace::SlowStart;
        setup.storage.in_order = true;
        let (_, took) = check(setup);
        assert!(took < Duration::from_secs(63), "{took:?}");
    });
}

/// The sink reads results far slower than the workers make them: they pile up on the way, for up to
/// 40 seconds. (Its first word must come within the patience of two.)
#[test]
fn a_sink_that_reads_slowly() {
    run_seeds(0..90, |seed| {
        let mut setup = Setup::calm(seed);
        setup.limits.batch_tasks = 1;
        setup.limits.window_tasks = 150;
        setup.storage.read = Duration::from_millis(10 + seed * 2);
        check(setup);
    });
}

/// A ventilator that stood still does not take the others for dead, nor their words for lost.
#[test]
fn a_ventilator_that_was_stopped() {
    run_seeds(0..90, |seed| {
        let mut setup = Setup::calm(seed);
        setup.work.pace = Pace::Exactly(Duration::from_millis(200));
        let mut world = World::new(setup);
        world.run_for(Duration::from_millis(1000 + seed * 17));
        world.sim.pause(VENTILATOR);
        world.run_for(Duration::from_secs(3 + seed % 20));
        world.sim.with(VENTILATOR, |program, now| program.wake(now));
        world.sim.resume(VENTILATOR);
        check_world(&mut world);
    });
}

#[test]
fn long_tasks_do_not_sit_behind_others() {
    for dispatch in [Dispatch::Asked, Dispatch::Addressed] {
        run_seeds(0..50, |seed| {
            let mut setup = Setup::calm(seed);
            setup.dispatch = dispatch;
            setup.slots = 1;
            setup.work.tasks = 6;
            setup.work.pace = Pace::Exactly(Duration::from_secs(1));
            let (_, took) = check(setup);
            assert!(took < Duration::from_millis(2100), "{took:?}");
        });
    }
}

/// Whoever has a longer heartbeat than the others is not taken for dead by them. Tasks are long, so
/// that heartbeats are all there is to hear.
#[test]
fn heartbeats_that_differ() {
    run_seeds(0..90, |seed| {
        let mut setup = Setup::calm(seed);
        setup.heartbeats[seed as usize / 3 % 3] = 5;
        setup.work.tasks = 20;
        setup.work.pace = Pace::Exactly(Duration::from_secs(10));
        let mut world = World::new(setup);
        world.run_for(Duration::from_secs(3));
        for _ in 0..20 {
            world.run_for(Duration::from_secs(1));
            let now = world.sim.now();
            assert!(world.ventilator().machine.sink_is_alive(now));
        }
        check_world(&mut world);
        assert!(world.workers().all(|worker| worker.lost == 0));
    });
}
