//! What a client was told is stored is there when the faults are over, and is what the client sent; at
//! every moment before, whoever reads it gets that or nothing.

use std::time::Duration;

use mutirao::sim::{NodeId, run_seeds};

use super::world::{Setup, World};

#[test]
fn without_faults_all_is_stored_and_read() {
    run_seeds(0..20, |seed| {
        let mut world = World::new(Setup::calm(seed));
        world.finish_within(Duration::from_secs(30));
        assert_eq!(world.confirmed().len(), 12);
        world.read_all();
    });
}

/// Crashes at any step with what was synced only, loss, duplication, reordering, partitions, pauses,
/// lost disks, flipped bits, full disks, heads that each believe that they lead.
#[test]
fn no_confirmed_record_is_lost() {
    run_seeds(0..150, |seed| {
        let mut world = World::new(Setup::random(seed));
        world.trouble(Duration::from_secs(40));
        world.finish_within(Duration::from_secs(300));
        world.read_all();
    });
}

/// The files of the data nodes are enough.
#[test]
fn a_head_that_has_lost_its_register_finds_every_record_again() {
    run_seeds(0..20, |seed| {
        let mut world = World::new(Setup::calm(seed));
        world.finish_within(Duration::from_secs(30));
        world.lose_register(NodeId(0));
        world.run_for(Duration::from_secs(30));
        world.read_all();
        world.converge_within(Duration::from_secs(60));
    });
}
