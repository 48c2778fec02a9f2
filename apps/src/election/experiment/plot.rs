//! The plots: one panel for each question, a line for each algorithm.

use mutirao::election::Algorithm;

use super::results::{Axis, Cell, Outcome};
use crate::compare::show::{count, microseconds, per_cent};
use crate::report::chart::{OKABE_ITO, Panel, Plot, Series, Stroke, draw};

/// What may be plotted along.
const AXES: [Axis; 3] = [
    ("loss", |cell| per_cent(cell.loss_percent)),
    ("nodes", |cell| cell.nodes.to_string()),
    ("partitions", |cell| cell.partitions.to_string()),
];

/// The plots, by everything that has several values; by loss where nothing has.
pub(super) fn plots(outcomes: &[Outcome]) -> Vec<Plot> {
    let mut axes: Vec<Axis> = AXES
        .into_iter()
        .filter(|(_, place)| places(outcomes, *place).len() > 1)
        .collect();
    if axes.is_empty() {
        axes.push(AXES[0]);
    }
    let panels = axes.into_iter().flat_map(|axis| {
        let along = along(outcomes, axis);
        [
            elect(&along, axis),
            two(&along, axis),
            messages(&along, axis),
        ]
    });
    let panels = panels.flatten();
    panels
        .filter_map(|panel| draw(&panel.title.clone(), &[panel]))
        .collect()
}

/// What the plots along one thing take of the others, where several have several values.
pub(super) fn taken(outcomes: &[Outcome]) -> Option<String> {
    let several = AXES
        .into_iter()
        .filter(|(_, place)| places(outcomes, *place).len() > 1);
    let several: Vec<Axis> = several.collect();
    let first = &outcomes.first()?.cell;
    let values = several
        .iter()
        .map(|(name, place)| format!("{name} {}", place(first)));
    let values: Vec<String> = values.collect();
    (several.len() > 1).then(|| {
        format!(
            "each goes along one thing, with the first value of the others ({})",
            values.join(", ")
        )
    })
}

fn places(outcomes: &[Outcome], place: fn(&Cell) -> String) -> Vec<String> {
    let mut places = Vec::new();
    for outcome in outcomes {
        let name = place(&outcome.cell);
        if !places.contains(&name) {
            places.push(name);
        }
    }
    places
}

/// The outcomes that differ from the first in nothing but the axis and the algorithm.
fn along(outcomes: &[Outcome], (axis, _): Axis) -> Vec<Outcome> {
    let others: Vec<Axis> = AXES.into_iter().filter(|(name, _)| *name != axis).collect();
    let Some(first) = outcomes.first() else {
        return Vec::new();
    };
    let same = |outcome: &&Outcome| {
        let mut others = others.iter();
        others.all(|(_, place)| place(&outcome.cell) == place(&first.cell))
    };
    outcomes.iter().filter(same).cloned().collect()
}

fn elect(outcomes: &[Outcome], axis: Axis) -> Option<Panel> {
    let mut lines = strokes(outcomes, axis, |outcome| outcome.elect_us(0.5), false);
    lines.extend(strokes(
        outcomes,
        axis,
        |outcome| outcome.elect_us(0.99),
        true,
    ));
    let title = format!("Time to elect by {}: p50 (p99 faint)", axis.0);
    // Not logarithmic: where bully's highest member leads at once the time is zero.
    Panel::new(&title, places(outcomes, axis.1), lines, microseconds, false)
}

fn two(outcomes: &[Outcome], axis: Axis) -> Option<Panel> {
    let value = |outcome: &Outcome| Some(outcome.double_percent());
    let lines = strokes(outcomes, axis, value, false);
    let title = format!("Time with two leaders, by {}", axis.0);
    let panel = Panel::new(&title, places(outcomes, axis.1), lines, per_cent, false)?;
    // Never is the same for both.
    Some(panel.apart())
}

fn messages(outcomes: &[Outcome], axis: Axis) -> Option<Panel> {
    let value = |outcome: &Outcome| Some(outcome.messages_per_second());
    let lines = strokes(outcomes, axis, value, false);
    let title = format!("Messages a second, by {}", axis.0);
    Panel::new(&title, places(outcomes, axis.1), lines, count, false)
}

fn strokes(
    outcomes: &[Outcome],
    (_, place): Axis,
    value: impl Fn(&Outcome) -> Option<f64>,
    faint: bool,
) -> Vec<Stroke> {
    let places = places(outcomes, place);
    let at = |outcome: &Outcome| places.iter().position(|name| *name == place(&outcome.cell));
    let point = |outcome: &Outcome| Some((at(outcome)?, value(outcome)?));
    let line = |algorithm: Algorithm| Stroke {
        series: series(algorithm),
        points: outcomes
            .iter()
            .filter(|outcome| outcome.cell.algorithm == algorithm)
            .filter_map(point)
            .collect(),
        faint,
    };
    let lines = [Algorithm::Bully, Algorithm::Quorum].map(line);
    lines
        .into_iter()
        .filter(|line| !line.points.is_empty())
        .collect()
}

fn series(algorithm: Algorithm) -> Series {
    let (rank, name, colour) = match algorithm {
        Algorithm::Bully => (0, "bully", OKABE_ITO[1]),
        Algorithm::Quorum => (1, "quorum", OKABE_ITO[0]),
    };
    Series { rank, name, colour }
}

#[cfg(test)]
mod tests {
    use mutirao::election::experiment::Report;
    use std::time::Duration;

    use super::*;

    fn outcome(algorithm: Algorithm, nodes: usize, loss_percent: f64) -> Outcome {
        let mut outcome = Outcome::new(Cell {
            algorithm,
            nodes,
            partitions: 2.0,
            loss_percent,
        });
        let report = Report {
            runs: 1,
            messages: 10,
            time: Duration::from_secs(1),
            times_to_elect: vec![Duration::from_millis(200)],
            ..Report::default()
        };
        outcome.add(1, Some(report));
        outcome
    }

    #[test]
    fn there_are_three_plots_for_everything_that_has_several_values() {
        let of = |cells: &[(usize, f64)]| {
            let outcomes: Vec<Outcome> = cells
                .iter()
                .map(|&(nodes, loss)| outcome(Algorithm::Quorum, nodes, loss))
                .collect();
            let titles = plots(&outcomes).into_iter().map(|plot| plot.title);
            titles
                .filter(|title| title.starts_with("Messages"))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&[(5, 0.0)]), ["Messages a second, by loss"]);
        assert_eq!(of(&[(3, 0.0), (5, 0.0)]), ["Messages a second, by nodes"]);
        assert_eq!(of(&[(3, 0.0), (3, 1.0), (5, 0.0), (5, 1.0)]).len(), 2);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn of_what_else_varies_the_first_value_is_named() {
        let of = |cells: &[(usize, f64)]| {
            let cells = cells.iter();
            let outcomes: Vec<Outcome> = cells
                .map(|&(nodes, loss)| outcome(Algorithm::Quorum, nodes, loss))
                .collect();
            taken(&outcomes)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(3, 0.0), (5, 0.0)]), None);
        let taken = of(&[(3, 0.0), (3, 1.0), (5, 0.0), (5, 1.0)]).unwrap();
        assert!(taken.contains("(loss 0 %, nodes 3)"), "{taken}");
    }
}
