//! When everything is fetched nothing is held any more, and queues keep to their bounds before.

use std::time::Duration;

use mutirao::sim::run_seeds;

use super::world::{Setup, World};

#[test]
fn a_broker_whose_jobs_were_fetched_and_whose_peers_are_gone_holds_nothing() {
    run_seeds(0..200, |seed| {
        let mut setup = Setup::random(seed);
        // Two that are one job's may leave a job that nobody fetches.
        setup
            .clients
            .retain(|client| client.submits && client.fetches);
        let mut world = World::new(setup);
        world.trouble(Duration::from_secs(10));
        world.finish_within(Duration::from_secs(1200));
        for id in world.sim.ids().skip(1) {
            world.crash(id);
        }
        // Tasks that failed may wait for two minutes.
        world.run_for(Duration::from_secs(200));
        let broker = world.broker();
        let services = broker.machine.status(world.sim.now()).services.len();
        assert!(
            broker.machine.footprint() <= services,
            "{:?}",
            broker.machine
        );
        assert!(broker.is_clean(), "the disk");
        assert_eq!(broker.peers(), 0);
    });
}

#[test]
fn a_queue_that_is_full_refuses_tasks_and_takes_them_later() {
    run_seeds(0..100, |seed| {
        let mut setup = Setup::calm(seed);
        match seed % 2 {
            0 => setup.limits.queue_tasks = 1 + seed % 30,
            _ => setup.limits.queue_bytes = 1 + seed as usize % 100,
        }
        let chunk = setup.clients[0].chunk;
        let most = (
            setup.limits.queue_tasks.max(chunk),
            setup.limits.queue_bytes.max(50),
        );
        let mut world = World::new(setup);
        world.run_for(Duration::ZERO);
        while !world.is_done() {
            world.run_for(Duration::from_millis(5));
            assert!(world.sim.now().since(Default::default()) < Duration::from_secs(60));
            let status = world.broker().machine.status(world.sim.now());
            if let Some(service) = status.services.get("a") {
                assert!(service.queued <= most.0, "{service:?}");
            }
        }
        world.check_results();
    });
}

#[test]
fn results_that_nobody_makes_safe_hold_up_the_tasks_behind_them() {
    run_seeds(0..50, |seed| {
        let mut setup = Setup::calm(seed);
        setup.limits.kept_bytes = 1000;
        setup.clients[0].safe_delay = Duration::from_secs(1);
        let mut world = World::new(setup);
        world.run_for(Duration::ZERO);
        while !world.is_done() {
            world.run_for(Duration::from_millis(20));
            assert!(world.sim.now().since(Default::default()) < Duration::from_secs(300));
            let status = world.broker().machine.status(world.sim.now());
            // What was given out before may come on top.
            assert!(status.kept_bytes < 1000 + 8 * 2000, "{}", status.kept_bytes);
        }
        world.check_results();
    });
}
