//! When faults stop, every record has as many good copies as asked for: damaged ones are replaced, lost
//! ones made again, those too many dropped.

use std::time::Duration;

use mutirao::sim::run_seeds;

use super::world::{Setup, World};

#[test]
fn copies_become_as_many_as_asked_for() {
    run_seeds(0..100, |seed| {
        let mut world = World::new(Setup::random(seed));
        world.trouble(Duration::from_secs(40));
        world.finish_within(Duration::from_secs(300));
        world.run_for(Duration::from_secs(15));
        world.verify();
        world.converge_within(Duration::from_secs(120));
    });
}

#[test]
fn a_flipped_bit_is_found_and_the_copy_replaced() {
    run_seeds(0..30, |seed| {
        let mut world = World::new(Setup::calm(seed));
        world.finish_within(Duration::from_secs(30));
        for record in world.confirmed() {
            let at = world.copies(record)[0];
            assert!(world.flip(at, record));
            assert_eq!(world.copies(record).len(), 1);
        }
        let (checked, damaged) = world.verify();
        // A read may have found some of them first.
        assert!(damaged > 0 && checked >= damaged, "{damaged} of {checked}");
        world.converge_within(Duration::from_secs(30));
        assert_eq!(world.verify().1, 0);
    });
}

#[test]
fn a_dead_nodes_records_are_copied_again_and_not_at_the_first_missed_beat() {
    run_seeds(0..30, |seed| {
        let mut world = World::new(Setup::calm(seed));
        world.finish_within(Duration::from_secs(30));
        let dead = world.data_ids().next().expect("three of them");
        world.crash(dead);
        let held = |world: &World| -> usize {
            let ids = world.confirmed();
            ids.into_iter().map(|id| world.copies(id).len()).sum()
        };
        let before = held(&world);
        world.run_for(Duration::from_secs(8));
        assert_eq!(held(&world), before, "stale is not dead");
        world.converge_within(Duration::from_secs(60));
        // What it had is too much when it comes back.
        world.restart(dead);
        world.run_for(Duration::from_secs(2));
        world.converge_within(Duration::from_secs(60));
    });
}

#[test]
fn a_spare_copy_goes_only_when_those_that_stay_are_good() {
    run_seeds(0..30, |seed| {
        let mut world = World::new(Setup::calm(seed));
        world.finish_within(Duration::from_secs(30));
        let away = world.data_ids().next().expect("three of them");
        let mut held = world.confirmed();
        held.retain(|id| world.copies(*id).contains(&away));
        world.crash(away);
        world.run_for(Duration::from_secs(12));
        world.converge_within(Duration::from_secs(60));
        // The only good copies are those of the node that was away, and it has the least room.
        for record in held {
            let copies = world.copies(record);
            assert!(copies.into_iter().all(|at| world.flip(at, record)));
        }
        world.restart(away);
        world.set_capacity(away, 1 << 16);
        world.converge_within(Duration::from_secs(120));
        world.read_all();
    });
}
