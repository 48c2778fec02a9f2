//! A client gets each result once, however often it crashes; see what it checks of each delivery.

use std::time::Duration;

use mutirao::sim::run_seeds;

use super::nodes::BROKER;
use super::world::{Setup, World};

#[test]
fn no_result_is_delivered_twice_to_a_client_that_crashes() {
    run_seeds(0..300, |seed| {
        let mut setup = Setup::random(seed);
        setup.clients.truncate(1);
        setup.clients[0].fetches = true;
        let mut world = World::new(setup);
        let client = world.client_id(0);
        for _ in 0..5 {
            let time = Duration::from_micros(world.sim.rng().below(3_000_000));
            world.run_for(time);
            match world.sim.rng().chance(0.5) {
                true => world.crash(client),
                false => world.sim.cut(BROKER, client, time / 2),
            }
            world.restart(client);
        }
        world.finish_within(Duration::from_secs(1200));
        world.check_results();
    });
}
