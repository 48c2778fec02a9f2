//! φ accrual learns how irregularly a network delays, and suspects nobody for what is usual there; a fixed time
//! does not learn.

use std::cell::Cell;
use std::time::Duration;

use mutirao::detector::{DetectorConfig, State};
use mutirao::sim::{Link, run_seeds};

use super::{SECOND, noticed, run_for, world_over};

const RUNS: u64 = 4;
const HEARTBEATS_EACH: u32 = 5_000;

/// False suspicions where a heartbeat takes up to a second, after the first hundred.
fn suspicions(config: &DetectorConfig) -> u32 {
    let suspicions = Cell::new(0);
    run_seeds(0..RUNS, |seed| {
        let link = Link {
            delay: Duration::from_millis(1)..SECOND,
            ..Link::default()
        };
        let mut sim = world_over(link, config.clone(), seed);
        run_for(&mut sim, SECOND * 100);
        noticed(&mut sim);
        run_for(&mut sim, SECOND * HEARTBEATS_EACH);
        for (_, change) in noticed(&mut sim) {
            assert_ne!(change.state, State::Dead);
            suspicions.set(suspicions.get() + u32::from(change.state == State::Suspect));
        }
    });
    suspicions.get()
}

#[test]
fn what_is_usual_is_not_suspicious() {
    let fixed = suspicions(&DetectorConfig::fixed(SECOND));
    let adapts = suspicions(&DetectorConfig::phi_accrual(SECOND));
    println!("delays of up to an interval: {fixed} false suspicions by fixed times, {adapts} by φ");
    // A gap of two uniform delays is over 1.75 intervals once in 32 times.
    let heartbeats = RUNS as u32 * HEARTBEATS_EACH;
    assert!(fixed > heartbeats / 64, "{fixed}");
    assert_eq!(adapts, 0);
}
