//! At no moment two members believe that they lead.

use std::time::Duration;

use mutirao::election::experiment::{Cluster, Experiment, Fault, Report};
use mutirao::election::{Algorithm, Timing};
use mutirao::sim::{NodeId, run_seeds};

use super::{random, run};

#[test]
fn a_lease_never_overlaps() {
    run_seeds(0..300, |seed| {
        let report = run(&random(seed), seed);
        assert_eq!(report.double_leaders, 0, "for {:?}", report.double_time);
    });
}

/// The same runs do catch an algorithm that splits.
#[test]
fn bully_splits() {
    let mut total = Report::default();
    for seed in 0..50 {
        let experiment = Experiment {
            algorithm: Algorithm::Bully,
            ..random(seed)
        };
        total.add(&run(&experiment, seed));
    }
    assert!(
        total.double_leaders > 10,
        "only {} times",
        total.double_leaders
    );
}

/// And a lease that outlasts the promises on which it rests.
#[test]
fn a_lease_that_is_too_long_overlaps() {
    let mut total = Report::default();
    for seed in 0..200 {
        let mut experiment = random(seed);
        experiment.timing.lease = experiment.timing.timeout_max;
        assert!(experiment.timing.validate().is_err());
        total.add(&run(&experiment, seed));
    }
    assert!(total.double_leaders > 0, "{} elections", total.elections);
}

/// And clocks that are worse than was said.
#[test]
fn clocks_that_drift_beyond_the_bound_break_it() {
    let mut total = Report::default();
    for seed in 0..200 {
        let experiment = Experiment {
            drift_ppm: 500_000,
            ..random(seed)
        };
        total.add(&run(&experiment, seed));
    }
    assert!(total.double_leaders > 0, "{} elections", total.elections);
}

/// Under SIGSTOP nobody hears that it was deposed; its own clock tells it all the same.
#[test]
fn a_leader_that_stood_still_knows_that_it_leads_no_more() {
    run_seeds(0..50, |seed| {
        let mut cluster = Cluster::new(&Experiment::default().calm(), seed);
        cluster.settle(Duration::from_secs(5)).unwrap();
        let old = cluster.agreed().expect("a leader");
        let pause = Fault::Pause(NodeId(old.0 as usize - 1));
        cluster.begin(&pause);
        cluster.run_for(Timing::default().lease).unwrap();
        assert_eq!(
            cluster.leader(),
            None,
            "it has not been woken, and looks at its clock"
        );
        cluster.run_for(Duration::from_secs(2)).unwrap();
        let new = cluster.leader().expect("another");
        assert_ne!(new, old);
        cluster.end(&pause);
        cluster.run_for(Duration::from_secs(2)).unwrap();
        assert_eq!(
            cluster.agreed(),
            Some(new),
            "it does not take the lead back"
        );
        assert_eq!(cluster.report().double_leaders, 0);
    });
}
