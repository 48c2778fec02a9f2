//! The status tells how many tasks are done in a second, of all services and of each.

use std::time::Duration;

use mutirao::broker::StatusView;

use super::world::{Setup, World, errand};

fn status(world: &World) -> StatusView {
    world.broker().machine.status(world.sim.now())
}

#[test]
fn the_throughput_is_told_while_tasks_are_done_and_fades_when_they_are_not() {
    let mut setup = Setup::calm(7);
    setup.workers = vec![(2, vec!["a".into(), "b".into()])];
    setup.clients = vec![errand(1, "a", 300), errand(2, "b", 100)];
    let mut world = World::new(setup);
    assert_eq!(status(&world).done_per_second, 0);
    let time = world.finish_within(Duration::from_secs(60));
    let now = status(&world);
    let (a, b) = (&now.services["a"], &now.services["b"]);
    assert!(a.done_per_second > b.done_per_second && b.done_per_second > 0);
    let sum = a.done_per_second + b.done_per_second;
    assert!(now.done_per_second.abs_diff(sum) <= 2, "{now:?}");
    let whole = 400.0 / time.as_secs_f64().max(1.0);
    assert!(
        now.done_per_second as f64 >= whole * 0.9,
        "{time:?} {now:?}"
    );
    world.run_for(Duration::from_secs(6));
    let later = status(&world);
    assert_eq!((later.done, later.done_per_second), (400, 0));
    assert_eq!(later.services["a"].done_per_second, 0);
}
