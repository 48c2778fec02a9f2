//! Without faults nothing is sent twice and nothing runs twice, however long a task or the sink takes.

use std::time::Duration;

use mutirao::pipeline::Dispatch;
use mutirao::sim::{Link, Rng, run_seeds};

use super::work::Pace;
use super::world::{DISPATCHES, Setup, World};

fn check(setup: Setup) -> (World, Duration) {
    let mut world = World::new(setup);
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
    drop(runs);
    (world, took)
}

#[test]
fn no_needless_repeats() {
    run_seeds("no_needless_repeats", 0..900, |seed| {
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
    run_seeds("a_first_task_of_a_minute", 0..60, |seed| {
        let mut setup = Setup::calm(seed);
        setup.work.pace = Pace::SlowStart;
        setup.storage.in_order = true;
        let (_, took) = check(setup);
        assert!(took < Duration::from_secs(63), "{took:?}");
    });
}

#[test]
fn long_tasks_do_not_sit_behind_others() {
    for dispatch in [Dispatch::Asked, Dispatch::Addressed] {
        run_seeds("long_tasks_do_not_sit_behind_others", 0..50, |seed| {
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
