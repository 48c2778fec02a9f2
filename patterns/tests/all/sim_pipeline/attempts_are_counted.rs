//! A task that fails for ever ends as failed after so many attempts, with the last one's reason.

use std::time::Duration;

use mutirao::sim::run_seeds;

use super::work::{Outcome, reason};
use super::world::{Setup, World};

#[test]
fn attempts_are_counted() {
    run_seeds(0..600, |seed| {
        let mut setup = Setup::calm(seed);
        setup.work.failing = 0.3;
        setup.limits.attempts = 1 + (seed / 3 % 5) as u32;
        let mut world = World::new(setup);
        world.finish_within(Duration::from_secs(60));
        world.check_results();
        check_runs(&world);
    });
}

/// Every attempt ran once and none was left out; the reason names the last one.
fn check_runs(world: &World) {
    let (work, attempts) = (world.setup.work, world.setup.limits.attempts);
    let runs = world.runs.borrow();
    for task in 0..work.tasks {
        let last = attempts.min(work.failures(task).saturating_add(1));
        for attempt in 1..=attempts + 1 {
            let expected = u32::from(attempt <= last);
            let ran = runs.get(&(task, attempt)).copied().unwrap_or(0);
            assert_eq!(ran, expected, "runs of attempt {attempt} of task {task}");
        }
        if matches!(work.outcome(task, attempts), Outcome::Failed(_)) {
            assert_eq!(world.ventilator().failed[&task], reason(attempts));
        }
    }
}

#[test]
fn attempts_are_counted_despite_faults() {
    run_seeds(0..500, |seed| {
        let mut setup = Setup::random(seed);
        setup.work.failing = 0.5;
        let attempts = setup.limits.attempts;
        let mut world = World::new(setup);
        world.trouble(Duration::from_secs(10));
        world.finish_within(Duration::from_secs(1200));
        // The outcomes say which attempt failed last.
        world.check_results();
        assert!(
            world.runs.borrow().keys().all(|(_, run)| *run <= attempts),
            "an attempt too many"
        );
    });
}
