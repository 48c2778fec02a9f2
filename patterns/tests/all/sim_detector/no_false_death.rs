//! In a million heartbeats nobody dies who lives at 1 % loss, and at most once at 5 %.

use std::cell::Cell;

use mutirao::detector::{DetectorConfig, State, Strategy};
use mutirao::sim::run_seeds;

use super::{SECOND, configs, noticed, run_for, world};

const RUNS: u64 = 10;
const HEARTBEATS_EACH: u32 = 100_000;

/// False suspicions and false deaths in a million heartbeats.
fn mistakes(config: &DetectorConfig, loss: f64) -> (usize, usize) {
    let (suspicions, deaths) = (Cell::new(0), Cell::new(0));
    run_seeds(0..RUNS, |seed| {
        let mut sim = world(config.clone(), loss, seed);
        for _ in 0..HEARTBEATS_EACH / 1000 {
            run_for(&mut sim, SECOND * 1000);
            for (_, change) in noticed(&mut sim) {
                match change.state {
                    State::Suspect => suspicions.set(suspicions.get() + 1),
                    State::Dead => deaths.set(deaths.get() + 1),
                    State::Alive => {}
                }
            }
        }
    });
    (suspicions.get(), deaths.get())
}

#[test]
fn no_false_death() {
    for (name, config) in configs() {
        for (loss, allowed) in [(0.01, 0), (0.05, 1)] {
            let (suspicions, deaths) = mistakes(&config, loss);
            println!("{name} at {loss} loss: {suspicions} false suspicions, {deaths} false deaths");
            assert!(deaths <= allowed, "{deaths} at {loss} loss");
        }
    }
}

/// With less patience they do die, so that the count counts.
#[test]
fn an_impatient_detector_buries_the_living() {
    let config = DetectorConfig {
        strategy: Strategy::Fixed {
            suspect: 1.75,
            liveness: 2,
        },
        ..DetectorConfig::fixed(SECOND)
    };
    let (_, deaths) = mistakes(&config, 0.01);
    assert!(deaths > 1_000, "{deaths}");
}
