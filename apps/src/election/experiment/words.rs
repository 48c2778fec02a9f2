//! What the numbers say, in sentences.

use mutirao::election::Algorithm;
use mutirao::election::experiment::Report;

use super::results::Outcome;
use crate::compare::show::{per_cent, whole};
use crate::count::counted;

/// A sentence or two for each algorithm.
pub(super) fn sentences(outcomes: &[Outcome]) -> Vec<String> {
    [Algorithm::Bully, Algorithm::Quorum]
        .into_iter()
        .flat_map(|algorithm| {
            let of = outcomes.iter();
            let of: Vec<&Outcome> = of
                .filter(|outcome| outcome.cell.algorithm == algorithm)
                .collect();
            about(algorithm, &of)
        })
        .collect()
}

fn about(algorithm: Algorithm, outcomes: &[&Outcome]) -> Vec<String> {
    let mut sum = Report::default();
    outcomes.iter().for_each(|outcome| sum.add(&outcome.report));
    if sum.runs == 0 {
        return Vec::new();
    }
    let hours = sum.time.as_secs_f64() / 3600.0;
    let tried = format!(
        "in {} runs, {} elections and {hours:.1} hours of virtual time",
        whole(sum.runs),
        whole(sum.elections)
    );
    let runs: u64 = outcomes.iter().map(|outcome| outcome.runs_with_two).sum();
    let two = match sum.double_leaders {
        0 => format!("{algorithm}: two never led at once {tried}."),
        times => format!(
            "{algorithm}: two or more led at once {} times {tried}, in {} of the runs and for {} of the time.",
            whole(times),
            whole(runs),
            per_cent(100.0 * sum.double_time.as_secs_f64() / sum.time.as_secs_f64())
        ),
    };
    let unsettled = (sum.unsettled > 0).then(|| {
        let runs = counted(sum.unsettled, "run");
        format!("{algorithm}: {runs} had no leader to whom all agreed ten seconds after the last fault, or changed it without need.")
    });
    [two].into_iter().chain(unsettled).collect()
}
