//! After the last fault the job ends within a bounded time and a bounded number of messages.

use std::time::Duration;

use mutirao::sim::run_seeds;

use super::work::Pace;
use super::world::{Setup, World};

/// The longest wait for an acknowledgement, doubled as often as it can be, twice over.
const BOUND: Duration = Duration::from_secs(150);

#[test]
fn progress_when_faults_stop() {
    run_seeds(0..1500, |seed| {
        let mut setup = Setup::random(seed);
        if setup.work.pace == Pace::Long {
            setup.work.pace = Pace::Mixed;
        }
        let work: Duration = (0..setup.work.tasks)
            .map(|task| {
                let attempts = setup
                    .limits
                    .attempts
                    .min(1 + setup.work.failures(task).min(9));
                setup.work.duration(task) * attempts
            })
            .sum();
        let groups = (setup.work.tasks / setup.limits.window_tasks as u64 + 1) as u32;
        let storage = setup.storage.delay * (groups + 1) * 4;
        let mut world = World::new(setup);
        world.trouble(Duration::from_secs(20));
        let before = world.sim.stats();
        let took = world.finish_within(BOUND + work * 2 + storage);
        let sent = world.sim.stats().sent - before.sent;
        let beats = (took.as_millis() as u64 / 500 + 2) * 5 * 6 * 2;
        let tasks = world.setup.work.tasks * 40;
        assert!(sent < beats + tasks, "{sent} messages in {took:?}");
        world.check_results();
    });
}
