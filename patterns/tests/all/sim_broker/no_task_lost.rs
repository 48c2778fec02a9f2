//! When faults stop every job completes, and each of its tasks has exactly one outcome, the right one.

use std::time::Duration;

use mutirao::sim::run_seeds;

use super::world::{Setup, World};

#[test]
fn no_task_of_a_broker_is_lost_without_faults() {
    run_seeds(0..300, |seed| {
        let mut world = World::new(Setup::calm(seed));
        world.finish_within(Duration::from_secs(10));
        world.check_results();
    });
}

#[test]
fn no_task_of_a_broker_is_lost() {
    run_seeds(0..700, |seed| {
        let mut world = World::new(Setup::random(seed));
        world.trouble(Duration::from_secs(20));
        world.finish_within(Duration::from_secs(1200));
        world.check_results();
    });
}
