//! When faults stop every job completes, and each of its tasks has exactly one outcome, the right one.

use std::time::Duration;

use mutirao::sim::run_seeds;

use super::nodes::BROKER;
use super::world::{Setup, World, errand};

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
    // Seed 1001 hears over a new connection that there was no room, and never that there is.
    run_seeds(0..1100, |seed| {
        let mut world = World::new(Setup::random(seed));
        world.trouble(Duration::from_secs(20));
        world.finish_within(Duration::from_secs(1200));
        world.check_results();
    });
}

/// What one client was told another may rely on: the job is there, also after a restart.
#[test]
fn a_job_that_was_opened_is_known_after_the_broker_has_died() {
    run_seeds(0..200, |seed| {
        let mut setup = Setup::calm(seed);
        let mut submits = errand(1, "a", 50);
        let mut fetches = submits.clone();
        (submits.fetches, fetches.submits) = (false, false);
        setup.clients = vec![submits, fetches];
        let mut world = World::new(setup);
        let fetcher = world.client_id(1);
        world.crash(fetcher);
        let is_opened = |world: &World| world.clients().any(|client| client.memory.opened);
        while !is_opened(&world) {
            world.run_for(Duration::from_micros(200));
        }
        world.restart(fetcher);
        for most_us in [20_000, 500_000, 500_000] {
            let time = Duration::from_micros(world.sim.rng().below(most_us));
            world.run_for(time);
            world.crash(BROKER);
            let time = Duration::from_micros(world.sim.rng().below(3_000_000));
            world.run_for(time);
            world.restart(BROKER);
        }
        world.finish_within(Duration::from_secs(60));
        world.check_results();
        let refusals: u64 = world.clients().map(|client| client.refusals).sum();
        assert_eq!(refusals, 0, "of a job that was opened");
    });
}
