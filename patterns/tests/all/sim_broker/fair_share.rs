//! Services share the workers that both have, and no job starves.

use std::time::Duration;

use mutirao::pipeline::JobId;
use mutirao::sim::run_seeds;

use super::work::Pace;
use super::world::{Setup, World, errand};

fn busy_after(setup: Setup, time: Duration) -> [f64; 2] {
    let mut world = World::new(setup);
    world.run_for(time);
    let log = world.log.borrow();
    [1, 2].map(|job| {
        let busy = log.busy.get(&JobId(job)).copied().unwrap_or_default();
        busy.as_secs_f64()
    })
}

fn two_jobs(seed: u64, operations: [&str; 2]) -> Setup {
    let mut setup = Setup::calm(seed);
    setup.workers = vec![(1 + seed as usize % 3, vec!["a".into(), "b".into()]); 2];
    setup.clients = vec![
        errand(1, operations[0], 100_000),
        errand(2, operations[1], 100_000),
    ];
    for client in &mut setup.clients {
        client.chunk = 500;
    }
    setup
}

#[test]
fn two_services_get_about_equal_time_of_the_workers_that_both_have() {
    run_seeds(0..5, |seed| {
        let mut setup = two_jobs(seed, ["a", "b"]);
        // One has tasks a hundred times as long.
        setup.work.pace = Pace::OfJobs(Duration::from_millis(1), Duration::from_millis(100));
        let [one, other] = busy_after(setup, Duration::from_secs(30));
        let share = one / (one + other);
        assert!((0.4..0.6).contains(&share), "{one} s and {other} s");
    });
}

#[test]
fn a_job_of_low_priority_gets_a_share_and_one_of_high_priority_most() {
    run_seeds(0..5, |seed| {
        let mut setup = two_jobs(seed, ["a", "a"]);
        setup.work.pace = Pace::Exactly(Duration::from_millis(5));
        setup.clients[0].settings.priority = 9;
        let [high, low] = busy_after(setup, Duration::from_secs(20));
        let share = low / (high + low);
        assert!((0.05..0.3).contains(&share), "{high} s and {low} s");
    });
}
