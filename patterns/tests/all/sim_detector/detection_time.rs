//! A peer that has crashed is suspect within 1.5 seconds (half of the time) and 3 seconds (99 times in 100).
//!
//! Detection means that the peer becomes *suspect*, from when on nothing new is given to it. With heartbeats
//! every second *dead* cannot be meant: the crash comes on average half an interval after the last
//! heartbeat, so that 1.5 seconds after it is 2 seconds after that heartbeat, when a single lost one would be a
//! death; at 1 % loss that is ten thousand false deaths in a million heartbeats.

use std::cell::RefCell;
use std::time::Duration;

use mutirao::detector::{DetectorConfig, State};
use mutirao::sim::run_seeds;

use super::{PEER, SECOND, configs, noticed, run_for, world};

/// From the crash until the peer is suspect and until it is dead; `None` when it was suspect already,
/// because the heartbeat before the crash was lost.
fn crash(config: &DetectorConfig, loss: f64, seed: u64) -> Option<(Duration, Duration)> {
    let mut sim = world(config.clone(), loss, seed);
    let uptime = SECOND * 60 + Duration::from_nanos(sim.rng().below(60_000_000_000));
    run_for(&mut sim, uptime);
    let before = noticed(&mut sim).last().map(|(_, change)| change.state);
    let crash = sim.now();
    sim.crash(PEER);
    run_for(&mut sim, SECOND * 20);
    let after = noticed(&mut sim);
    let first = |state| {
        let mut found = after.iter().filter(|(_, change)| change.state == state);
        found.next_back().map(|(at, _)| at.since(crash))
    };
    let dead = first(State::Dead).expect("whoever crashes is dead in the end");
    match before {
        None | Some(State::Alive) => Some((first(State::Suspect).expect("suspect before"), dead)),
        _ => None,
    }
}

fn quantiles(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort_unstable();
    [0.5, 0.99, 1.0].map(|share| times[((times.len() - 1) as f64 * share) as usize])
}

#[test]
fn a_crash_is_detected_in_time() {
    for (name, config) in configs() {
        for loss in [0.0, 0.01, 0.05] {
            let times = RefCell::new(Vec::new());
            run_seeds(0..500, |seed| {
                times.borrow_mut().extend(crash(&config, loss, seed))
            });
            let (suspect, dead): (Vec<_>, Vec<_>) = times.into_inner().into_iter().unzip();
            let crashes = suspect.len();
            let (suspect, dead) = (quantiles(suspect), quantiles(dead));
            println!(
                "{name} at {loss} loss, {crashes} crashes: p50, p99 and longest until suspect \
                 {suspect:.2?}, until dead {dead:.2?}"
            );
            assert!(
                suspect[0] <= SECOND.mul_f64(1.5),
                "{name} at {loss}: {suspect:?}"
            );
            assert!(suspect[1] <= SECOND * 3, "{name} at {loss}: {suspect:?}");
            assert!(dead[2] <= SECOND * 8, "{name} at {loss}: {dead:?}");
        }
    }
}
