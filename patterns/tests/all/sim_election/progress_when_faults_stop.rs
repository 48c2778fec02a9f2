//! When faults stop there is soon a leader whom all follow, and no other without need.

use std::time::Duration;

use mutirao::election::experiment::{Cluster, Experiment, Fault, Report};
use mutirao::election::{Algorithm, MemberId};
use mutirao::sim::{NodeId, run_seeds};

use super::{random, run};

/// Timeouts must be longer than round trips, if there is to be progress.
fn swift(mut experiment: Experiment) -> Experiment {
    experiment.delay.end = experiment.delay.end.min(Duration::from_millis(30));
    experiment
}

#[test]
fn the_members_agree_soon_after_the_last_fault() {
    run_seeds(0..300, |seed| {
        assert_eq!(run(&swift(random(seed)), seed).unsettled, 0);
    });
}

#[test]
fn bully_agrees_too_once_nothing_fails() {
    run_seeds(0..100, |seed| {
        let experiment = Experiment {
            algorithm: Algorithm::Bully,
            ..random(seed)
        };
        assert_eq!(run(&swift(experiment), seed).unsettled, 0);
    });
}

fn elected_after_crashes(loss: f64, seeds: u64) -> Report {
    let mut total = Report::default();
    for seed in 0..seeds {
        let experiment = Experiment {
            loss,
            crashes: 6.0,
            partitions: 0.0,
            one_way_cuts: 0.0,
            pauses: 0.0,
            ..Experiment::default()
        };
        total.add(&run(&experiment, seed));
    }
    total
}

#[test]
fn a_leader_is_elected_within_a_second() {
    for loss in [0.0, 0.05] {
        let total = elected_after_crashes(loss, 100);
        let times = [0.5, 0.9, 0.99, 1.0].map(|share| total.time_to_elect(share).unwrap());
        println!(
            "time to elect at {loss} loss: p50, p90, p99 and longest {times:?} of {}",
            total.times_to_elect.len()
        );
        assert!(total.times_to_elect.len() > 300);
        assert!(times[2] <= Duration::from_secs(1), "{times:?}");
    }
}

#[test]
fn in_peace_messages_grow_with_the_number_of_members_and_no_faster() {
    let per_second = |nodes| {
        let experiment = Experiment {
            nodes,
            ..Experiment::default()
        };
        run(&experiment.calm(), 1).calm_messages_per_second()
    };
    // A heartbeat to each of the others every 30 ms, and its answer.
    for nodes in [2, 3, 5, 9, 21] {
        let expected = (nodes - 1) as f64 * 2.0 / 0.030;
        let messages = per_second(nodes);
        println!("{nodes} members: {messages} messages a second");
        assert!(
            (messages / expected - 1.0).abs() < 0.05,
            "{messages}, not {expected}"
        );
    }
}

#[test]
fn the_highest_id_leads_first_and_does_not_depose_when_it_comes_back() {
    run_seeds(0..50, |seed| {
        let mut cluster = Cluster::new(&Experiment::default().calm(), seed);
        cluster.settle(Duration::from_secs(5)).unwrap();
        assert_eq!(cluster.agreed(), Some(MemberId(5)));
        let crash = Fault::Crash(NodeId(4));
        cluster.begin(&crash);
        cluster.settle(Duration::from_secs(5)).unwrap();
        assert_eq!(cluster.agreed(), Some(MemberId(4)));
        cluster.end(&crash);
        cluster.run_for(Duration::from_secs(5)).unwrap();
        assert_eq!(cluster.agreed(), Some(MemberId(4)));
    });
}

/// How long after this has befallen the leader another leads: at p50, and at most.
fn replaced_after(fault: impl Fn(NodeId) -> Fault) -> (Duration, Duration) {
    let mut times = Vec::new();
    for seed in 0..200 {
        let mut cluster = Cluster::new(&Experiment::default().calm(), seed);
        cluster.settle(Duration::from_secs(5)).unwrap();
        let old = cluster.agreed().expect("a leader");
        cluster.begin(&fault(NodeId(old.0 as usize - 1)));
        let since = cluster.now();
        while cluster.leader().is_none() {
            cluster.run_for(Duration::from_millis(1)).unwrap();
        }
        assert_ne!(cluster.leader(), Some(old), "seed {seed}");
        times.push(cluster.now().since(since));
    }
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

/// It says so, and nobody waits until its lease is over.
#[test]
fn a_leader_that_is_stopped_is_replaced_sooner_than_one_that_is_killed() {
    let (stopped, killed) = (replaced_after(Fault::Stop), replaced_after(Fault::Crash));
    println!("replaced after it was stopped: p50 and longest {stopped:?}; killed: {killed:?}");
    assert!(stopped.0 * 3 < killed.0 * 2, "{stopped:?}, {killed:?}");
    assert!(stopped.1 < killed.1, "{stopped:?}, {killed:?}");
}

/// A member that hears nobody, though everybody hears it, must not depose a leader again and again.
#[test]
fn a_deaf_member_disturbs_nobody() {
    run_seeds(0..50, |seed| {
        let mut cluster = Cluster::new(&Experiment::default().calm(), seed);
        cluster.settle(Duration::from_secs(5)).unwrap();
        let elections = cluster.report().elections;
        let deaf = |to| move |from| (NodeId(from), NodeId(to));
        cluster.begin(&Fault::OneWay((1..5).map(deaf(0)).collect()));
        cluster.run_for(Duration::from_secs(10)).unwrap();
        assert_eq!(cluster.report().elections, elections);
        cluster.end_all();
        cluster.settle(Duration::from_secs(5)).unwrap();
        assert_eq!(
            cluster.report().elections,
            elections,
            "nor when it hears again"
        );
    });
}

/// A leader whom nobody hears any more makes way, although it hears all the others.
#[test]
fn a_mute_leader_is_replaced() {
    run_seeds(0..50, |seed| {
        let mut cluster = Cluster::new(&Experiment::default().calm(), seed);
        cluster.settle(Duration::from_secs(5)).unwrap();
        cluster.begin(&Fault::OneWay(
            (0..4).map(|to| (NodeId(4), NodeId(to))).collect(),
        ));
        cluster.run_for(Duration::from_secs(2)).unwrap();
        assert_eq!(cluster.leader(), Some(MemberId(4)));
    });
}

#[test]
fn a_minority_elects_nobody() {
    run_seeds(0..50, |seed| {
        let mut cluster = Cluster::new(&Experiment::default().calm(), seed);
        for node in 0..3 {
            cluster.begin(&Fault::Crash(NodeId(node)));
        }
        cluster.run_for(Duration::from_secs(10)).unwrap();
        assert_eq!(cluster.report().elections, 0);
    });
}
