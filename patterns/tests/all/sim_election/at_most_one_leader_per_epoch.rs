//! In no epoch two members lead, and a leader's epoch is higher than all before it.

use mutirao::election::Algorithm;
use mutirao::election::experiment::{Experiment, Report};
use mutirao::sim::run_seeds;

use super::{random, run};

#[test]
fn at_most_one_leader_per_epoch() {
    run_seeds(0..300, |seed| {
        let report = run(&random(seed), seed);
        assert_eq!((report.shared_epochs, report.epochs_backwards), (0, 0));
    });
}

/// The invariant is one that can be broken: a vote that is forgotten is given twice.
#[test]
fn without_durable_votes_epochs_are_used_again() {
    let mut total = Report::default();
    for seed in 0..200 {
        let experiment = Experiment {
            crashes: 20.0,
            durable: false,
            ..random(seed)
        };
        total.add(&run(&experiment, seed));
    }
    assert!(
        total.shared_epochs + total.epochs_backwards > 0,
        "{} elections",
        total.elections
    );
}

#[test]
fn bully_claims_nothing_of_the_kind() {
    let experiment = Experiment {
        algorithm: Algorithm::Bully,
        ..random(1)
    };
    let report = run(&experiment, 1);
    assert_eq!((report.shared_epochs, report.epochs_backwards), (0, 0));
}
