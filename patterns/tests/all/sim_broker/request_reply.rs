//! By request and reply a job lives as long as the client that opened it, and nothing stays behind.

use std::time::Duration;

use mutirao::broker::Mode;
use mutirao::sim::{NodeId, run_seeds};

use super::world::{Setup, World, errand};

/// Workers may fail; clients and the broker do not, unless the test says so.
fn setup(seed: u64) -> Setup {
    let mut setup = Setup::calm(seed);
    setup.limits.mode = Mode::RequestReply;
    setup.store_delay = None;
    setup.clients = vec![errand(1, "a", 100), errand(2, "a", 300)];
    for client in &mut setup.clients {
        client.settings.attempts = 10;
    }
    setup
}

/// No tasks, results or leases are left, and nobody is remembered but the workers.
fn check_empty(world: &World) {
    let status = world.broker().machine.status(world.sim.now());
    assert_eq!((status.jobs, status.kept_bytes), (0, 0), "{status:?}");
    assert!(status.workers.iter().all(|worker| worker.leased == 0));
}

#[test]
fn a_client_that_waits_gets_its_results_though_workers_die() {
    run_seeds(0..200, |seed| {
        let mut world = World::new(setup(seed));
        for _ in 0..4 {
            let pause = Duration::from_millis(world.sim.rng().below(200));
            let worker = NodeId(1 + world.sim.rng().below(2) as usize);
            world.run_for(pause);
            world.crash(worker);
            world.run_for(pause);
            world.restart(worker);
        }
        world.finish_within(Duration::from_secs(600));
        world.check_results();
        world.run_for(Duration::from_secs(5));
        check_empty(&world);
    });
}

#[test]
fn what_a_client_wanted_that_is_gone_is_dropped() {
    run_seeds(0..200, |seed| {
        let mut setup = setup(seed);
        setup.clients[1].tasks = 2_000;
        let mut world = World::new(setup);
        let (stays, goes) = (world.client_id(0), world.client_id(1));
        let pause = Duration::from_millis(1 + world.sim.rng().below(300));
        world.run_for(pause);
        // It leaves with a broken connection, or in silence.
        match seed % 2 {
            0 => world.crash(goes),
            _ => world.sim.pause(goes),
        }
        world.run_for(Duration::from_secs(600));
        assert!(world.clients().any(|client| client.is_done()), "{stays:?}");
        check_empty(&world);
    });
}

#[test]
fn results_go_to_nobody_but_the_client_that_opened_the_job() {
    run_seeds(0..200, |seed| {
        let mut setup = setup(seed);
        let mut other = setup.clients[1].clone();
        (other.submits, other.limits.window_bytes) = (false, 1 << 20);
        setup.clients.push(other);
        let mut world = World::new(setup);
        let own = [world.client_id(0), world.client_id(1)];
        let done = world.run_until(world.sim.now() + Duration::from_secs(600), |sim| {
            own.iter().all(|&id| is_done(sim, id))
        });
        assert!(done, "the client that opened the job waits");
        let curious = world.clients().last().expect("three clients");
        assert!(curious.memory.safe.is_empty(), "it got somebody's results");
    });
}

fn is_done(sim: &mutirao::sim::Sim<super::nodes::Program>, id: NodeId) -> bool {
    matches!(sim.node(id), Some(super::nodes::Program::Client(client)) if client.is_done())
}
