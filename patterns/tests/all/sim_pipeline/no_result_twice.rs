//! The application of a sink is handed no result twice, and none that is safe.
//!
//! The sink's node itself panics when that happens; here the network repeats and reorders, the
//! sink turns results away, and nothing is restarted that would excuse a repetition.

use std::time::Duration;

use mutirao::sim::{Link, run_seeds};

use super::world::{Setup, World};

#[test]
fn no_result_twice() {
    run_seeds(0..1000, |seed| {
        let mut setup = Setup::random(seed);
        setup.storage.defer = if seed % 2 == 0 { 0.0 } else { 0.3 };
        setup.link = Link {
            delay: Duration::from_micros(50)..Duration::from_millis(1 + seed % 4000),
            loss: 0.1,
            duplication: 0.3,
            fifo: false,
        };
        let mut world = World::new(setup);
        world.run_for(Duration::from_secs(15));
        world.calm();
        world.finish_within(Duration::from_secs(1200));
        world.check_results();
    });
}
