//! When faults stop the job finishes, and every task is safe with its right outcome.

use std::time::Duration;

use mutirao::sim::run_seeds;

use super::world::{Setup, World};

#[test]
fn no_task_lost() {
    run_seeds(0..1500, |seed| {
        let mut world = World::new(Setup::random(seed));
        world.trouble(Duration::from_secs(20));
        world.finish_within(Duration::from_secs(1200));
        world.check_results();
    });
}

#[test]
fn no_task_lost_without_faults() {
    run_seeds(0..300, |seed| {
        let mut world = World::new(Setup::calm(seed));
        world.finish_within(Duration::from_secs(10));
        world.check_results();
    });
}
