//! Records are stored soon after the last fault.

use std::time::Duration;

use mutirao::sim::{NodeId, run_seeds};

use super::world::{Setup, World};

#[test]
fn all_records_are_stored_soon_after_the_last_fault() {
    run_seeds(0..100, |seed| {
        let mut world = World::new(Setup::random(seed));
        world.trouble(Duration::from_secs(20));
        let took = world.finish_within(Duration::from_secs(300));
        // Twelve records, each with a pause of up to 0.6 s behind it.
        assert!(took < Duration::from_secs(60), "{took:?}");
    });
}

#[test]
fn another_head_takes_over_within_five_seconds() {
    run_seeds(0..50, |seed| {
        let mut setup = Setup::calm(seed);
        setup.heads = 3;
        setup.records = 200;
        let mut world = World::new(setup);
        world.run_for(Duration::from_secs(10));
        world.crash(NodeId(0));
        let before = world.confirmed().len();
        world.elect(NodeId(1));
        world.run_until(Duration::from_secs(5), "storing again", |world| {
            world.confirmed().len() > before + 1
        });
    });
}

#[test]
fn a_full_disk_is_said_and_passes() {
    run_seeds(0..20, |seed| {
        let mut world = World::new(Setup::calm(seed));
        for id in world.data_ids() {
            world.set_capacity(id, 300);
        }
        world.run_for(Duration::from_secs(20));
        let stored = world.confirmed().len();
        assert!(
            stored < 12,
            "{stored} records do not fit into 900 bytes twice"
        );
        for id in world.data_ids() {
            world.set_capacity(id, 1 << 20);
        }
        world.finish_within(Duration::from_secs(40));
        world.read_all();
    });
}
