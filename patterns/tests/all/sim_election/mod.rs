//! Elections in the simulator: one invariant per file.

mod a_lease_never_overlaps;
mod at_most_one_leader_per_epoch;
mod progress_when_faults_stop;

use std::time::Duration;

use mutirao::election::Timing;
use mutirao::election::experiment::Experiment;
use mutirao::sim::Rng;

/// Members, network and faults drawn from the seed: everything that may go wrong, to the stated bound.
fn random(seed: u64) -> Experiment {
    let mut rng = Rng::new(!seed);
    let micros = |rng: &mut Rng, most| Duration::from_micros(1 + rng.below(most));
    let most_delay = *rng.pick(&[1_000, 20_000, 100_000]).unwrap();
    let most_disk = *rng.pick(&[1_000, 20_000, 200_000]).unwrap();
    let mut average = || *rng.pick(&[0.0, 1.0, 3.0]).unwrap();
    Experiment {
        crashes: average(),
        partitions: average(),
        one_way_cuts: average(),
        pauses: average(),
        nodes: 1 + rng.below(7) as usize,
        time: Duration::from_secs(1 + rng.below(6)),
        loss: *rng.pick(&[0.0, 0.01, 0.1, 0.4]).unwrap(),
        duplication: *rng.pick(&[0.0, 0.1, 0.5]).unwrap(),
        delay: Duration::ZERO..micros(&mut rng, most_delay),
        disk: Duration::ZERO..micros(&mut rng, most_disk),
        drift_ppm: Timing::default().drift_ppm,
        // Drawn last, as it came last: the seeds find what they found before.
        stops: *rng.pick(&[0.0, 1.0, 3.0]).unwrap(),
        ..Experiment::default()
    }
}

fn run(experiment: &Experiment, seed: u64) -> mutirao::election::experiment::Report {
    experiment
        .run(seed)
        .unwrap_or_else(|livelock| panic!("{livelock}"))
}
