//! The plots: one panel for each question, lines for the transports.

use super::contender::Contender;
use super::plan::Question;
use super::results::{Outcome, Results};
use super::show::{count, microseconds, per_cent, size};
use super::tables::in_words;
use crate::report::chart::{OKABE_ITO, Panel, Plot, Series, Stroke, draw};

/// A transport as a line.
fn series(contender: Contender) -> Series {
    let rank = contender as usize;
    Series {
        rank,
        name: contender.name(),
        colour: OKABE_ITO[rank],
    }
}

/// The plots of the report; those without any point are left out.
pub(super) fn plots(results: &Results) -> Vec<Plot> {
    let panels = [
        throughput(results),
        round_trip(results),
        losses(results),
        throughput_over_path(results),
        waits(results),
    ];
    let drawn = panels
        .into_iter()
        .flatten()
        .map(|panel| draw(&panel.title.clone(), &[panel]));
    drawn.flatten().collect()
}

/// Throughput, and round trips below.
pub(super) fn summary(results: &Results) -> Option<Plot> {
    let panels: Vec<Panel> = [throughput(results), round_trip(results)]
        .into_iter()
        .flatten()
        .collect();
    draw(
        "Throughput and round trip by transport and size of message",
        &panels,
    )
}

fn throughput(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::Throughput, false).collect();
    let value = |outcome: &Outcome| outcome.median(|v| v.delivered_per_second);
    let (places, lines) = over_sizes(&outcomes, value, false);
    let panel = Panel::new("Messages a second, by size", places, lines, count, true)?;
    Some(panel.without(absences(&outcomes, by_size)))
}

fn round_trip(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::RoundTrip, false).collect();
    let (places, mut lines) = over_sizes(&outcomes, |outcome| outcome.median(|v| v.p50_us), false);
    let p99 = over_sizes(&outcomes, |outcome| outcome.median(|v| v.p99_us), true).1;
    let title = match p99.is_empty() {
        true => "Round trip by size: p50",
        false => "Round trip by size: p50 (p99 faint)",
    };
    lines.extend(p99);
    let panel = Panel::new(title, places, lines, microseconds, true)?;
    Some(panel.without(absences(&outcomes, by_size)))
}

fn losses(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::Delivery, true).collect();
    let value = |outcome: &Outcome| outcome.percent(|v| v.lost, |v| v.sent);
    let (places, lines) = over_losses(&outcomes, value, false);
    let panel = Panel::new(
        "Messages lost, by what the path loses",
        places,
        lines,
        per_cent,
        false,
    )?;
    // Nothing lost is the same for several.
    Some(panel.apart().without(absences(&outcomes, by_loss)))
}

fn throughput_over_path(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::Throughput, true).collect();
    let value = |outcome: &Outcome| outcome.median(|v| v.delivered_per_second);
    let (places, lines) = over_losses(&outcomes, value, false);
    let panel = Panel::new(
        "Messages a second over a bad path",
        places,
        lines,
        count,
        true,
    )?;
    Some(panel.without(absences(&outcomes, by_loss)))
}

fn waits(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::RoundTrip, true).collect();
    let p99 = over_losses(&outcomes, |outcome| outcome.median(|v| v.p99_us), false).1;
    // Too few round trips for it leave the median alone.
    let title = match p99.is_empty() {
        true => "Round trip over a bad path: p50",
        false => "Round trip, bad path: p99 (p50 faint)",
    };
    let p50 = |outcome: &Outcome| outcome.median(|v| v.p50_us);
    let (places, mut lines) = over_losses(&outcomes, p50, !p99.is_empty());
    lines.extend(p99);
    let panel = Panel::new(title, places, lines, microseconds, true)?;
    Some(panel.without(absences(&outcomes, by_loss)))
}

/// The place of an outcome where sizes are compared.
fn by_size(outcome: &Outcome) -> String {
    size(outcome.cell.size_bytes)
}

/// The same for losses.
fn by_loss(outcome: &Outcome) -> String {
    per_cent(outcome.cell.path.map_or(0.0, |path| path.loss_percent))
}

fn over_sizes(
    outcomes: &[&Outcome],
    value: impl Fn(&Outcome) -> Option<f64>,
    faint: bool,
) -> (Vec<String>, Vec<Stroke>) {
    strokes(outcomes, by_size, value, faint)
}

fn over_losses(
    outcomes: &[&Outcome],
    value: impl Fn(&Outcome) -> Option<f64>,
    faint: bool,
) -> (Vec<String>, Vec<Stroke>) {
    strokes(outcomes, by_loss, value, faint)
}

/// The places in the order of the plan, and a line for each transport.
fn strokes(
    outcomes: &[&Outcome],
    place: impl Fn(&Outcome) -> String,
    value: impl Fn(&Outcome) -> Option<f64>,
    faint: bool,
) -> (Vec<String>, Vec<Stroke>) {
    let (mut places, mut strokes) = (Vec::<String>::new(), Vec::<Stroke>::new());
    for outcome in outcomes {
        let name = place(outcome);
        let at = places
            .iter()
            .position(|known| *known == name)
            .unwrap_or_else(|| {
                places.push(name);
                places.len() - 1
            });
        let Some(value) = value(outcome) else {
            continue;
        };
        let contender = outcome.cell.transport;
        match strokes
            .iter_mut()
            .find(|stroke| stroke.series == series(contender))
        {
            Some(stroke) => stroke.points.push((at, value)),
            None => strokes.push(Stroke {
                series: series(contender),
                points: vec![(at, value)],
                faint,
            }),
        }
    }
    (places, strokes)
}

/// Who has no value somewhere, and why; without places where it has none at all.
fn absences(outcomes: &[&Outcome], place: impl Fn(&Outcome) -> String) -> Vec<String> {
    let mut absences: Vec<(Contender, &str, Vec<String>)> = Vec::new();
    for outcome in outcomes {
        let Some((status, _)) = outcome.excuse() else {
            continue;
        };
        let (contender, why) = (outcome.cell.transport, in_words(status));
        let mut known = absences.iter_mut();
        match known.find(|known| (known.0, known.1) == (contender, why)) {
            Some((.., places)) => places.push(place(outcome)),
            None => absences.push((contender, why, vec![place(outcome)])),
        }
    }
    let asked = |contender| {
        let of = outcomes.iter();
        of.filter(|outcome| outcome.cell.transport == contender)
            .count()
    };
    let words = |(contender, why, places): (Contender, &str, Vec<String>)| {
        let name = contender.name();
        match places.len() == asked(contender) {
            true => format!("{name} ({why})"),
            false => format!("{name} at {} ({why})", places.join(", ")),
        }
    };
    absences.into_iter().map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Cell, Passed};
    use super::super::results::{Row, Values};
    use super::*;

    #[test]
    fn nothing_makes_no_plot() {
        let results = Results::new(&[]);
        assert!(plots(&results).is_empty() && summary(&results).is_none());
    }

    #[test]
    fn whoever_is_missing_is_named_with_the_reason() {
        let cell = |transport, size_bytes| Cell {
            question: Question::Throughput,
            transport,
            size_bytes,
            path: None,
        };
        let outcome = |cell: Cell, row: fn(&Cell) -> Row| Outcome {
            rows: vec![row(&cell)],
            cell,
        };
        let measured = |cell: &Cell| {
            let values = Values {
                delivered_per_second: Some(1000.0),
                ..Values::default()
            };
            Row::measured(1, cell, values)
        };
        let failed = |cell: &Cell| Row::failed(1, cell, "no room".into());
        let too_large = |cell: &Cell| Row::passed(1, cell, Passed::TooLarge("so it is".into()));
        let results = Results {
            outcomes: vec![
                outcome(cell(Contender::Tcp, 16), measured),
                outcome(cell(Contender::Udp, 16), measured),
                outcome(cell(Contender::ZmqIpc, 16), failed),
                outcome(cell(Contender::Tcp, 65_536), measured),
                outcome(cell(Contender::Udp, 65_536), too_large),
                outcome(cell(Contender::ZmqIpc, 65_536), failed),
            ],
        };
        let plot = plots(&results).remove(0);
        // In two lines.
        for words in ["not shown: zmq-ipc (failed), udp at 64 KiB", "(too large)"] {
            assert!(plot.svg.contains(words), "{}", plot.svg);
        }
    }
}
