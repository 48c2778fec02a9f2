//! What the three keep follows the window, never the length of the job.
//!
//! Besides, each node checks the bounds that hold at every moment whenever its machine has acted:
//! the ventilator that no more than a window is unconfirmed, the worker that no more runs than it
//! has slots.

use std::time::Duration;

use mutirao::pipeline::Dispatch;
use mutirao::sim::{NodeId, run_seeds};

use super::work::Pace;
use super::world::{Setup, World};

/// What each may keep at this moment.
fn check(world: &World, most_starts: usize) {
    let window = world.setup.limits.window_tasks + world.setup.chunk as usize;
    if let Some(ventilator) = world.try_ventilator() {
        let kept = ventilator.machine.audit().expect("right counts");
        // Batches, pending collections, ranges that are safe or received, workers.
        assert!(
            kept <= 4 * window + most_starts + 4,
            "the ventilator keeps {kept}"
        );
    }
    if let Some(sink) = world.try_sink() {
        let kept = sink.machine.audit();
        assert!(kept <= 3 * (window + 2), "the sink keeps {kept} ranges");
        assert!(sink.most_in_memory <= window, "{}", sink.most_in_memory);
    }
    for worker in world.workers() {
        let kept = worker.machine.audit().expect("right counts");
        // Any number of batches can sit in the queue of a worker that was stopped, but each once,
        // in each of its attempts and as the batches were cut.
        assert!(kept <= 4 * window, "a worker keeps {kept}");
    }
}

#[test]
fn bounded_memory() {
    run_seeds(0..100, |seed| {
        let mut setup = Setup::random(seed);
        setup.work.pace = Pace::Mixed;
        setup.work.tasks = 1000;
        setup.limits.window_tasks = 10 + (seed % 60) as usize;
        let mut world = World::new(setup);
        for _ in 0..10 {
            world.trouble(Duration::from_secs(2));
            check(&world, 100);
            for _ in 0..10 {
                world.run_for(Duration::from_millis(300));
                check(&world, 100);
            }
        }
        world.finish_within(Duration::from_secs(3000));
        check(&world, 100);
        let ventilator = world.try_ventilator().unwrap();
        let kept = ventilator.machine.audit().unwrap();
        assert!(kept <= 2 + 100, "{kept} kept after the end");
    });
}

/// Where work is asked for or addressed, a worker holds what it has slots for, and as much again.
#[test]
fn a_worker_holds_two_batches_for_each_slot() {
    run_seeds(0..200, |seed| {
        let mut setup = Setup::calm(seed);
        setup.work.pace = Pace::Mixed;
        setup.dispatch = [Dispatch::Asked, Dispatch::Addressed][(seed % 2) as usize];
        let mut world = World::new(setup);
        while !world.ventilator().finished {
            world.run_for(Duration::from_micros(500 + seed));
            for worker in world.workers() {
                let held = worker.machine.held();
                assert!(held <= 2 * world.setup.slots as usize, "{held} batches");
            }
        }
        assert!(world.sim.node(NodeId(2)).is_some());
    });
}
