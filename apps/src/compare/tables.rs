//! One table for each question.

use super::plan::Question;
use super::results::{Outcome, Results, Status, Values};
use super::show::{NONE, count, digits, microseconds, or_none, per_cent, size, spread, whole};
use crate::report::table::{Cells, Line, Table};

/// The head of a column with the range over the rounds.
const RANGE: &str = "min–max";

/// All tables that have something to say.
pub(super) fn tables(results: &Results) -> Vec<Table> {
    let tables = [
        throughput(results),
        round_trip(results),
        cost(results),
        delivery(results),
        throughput_over_path(results),
        round_trip_over_path(results),
        coming_and_going(results),
    ];
    tables
        .into_iter()
        .filter(|table| !table.lines.is_empty())
        .map(without_empty_ranges)
        .collect()
}

fn throughput(results: &Results) -> Table {
    Table {
        title: "Throughput".into(),
        note: "Messages a second that arrived, PUSH to PULL, sent as fast as the socket takes them; what was offered, and what of it never arrived.".into(),
        heads: vec!["size", "transport", "delivered/s", RANGE, "MB/s", "offered/s", "lost"],
        names: 2,
        lines: results.of(Question::Throughput, false).map(|o| by_size(o, rates)).collect(),
    }
}

/// What arrived of what was offered.
fn rates(outcome: &Outcome) -> Vec<String> {
    let [median, range] = spread(outcome.spread(|v| v.delivered_per_second), count);
    let lost = outcome.percent(|v| v.lost, |v| v.sent);
    let bytes = outcome.median(|v| v.delivered_bytes_per_second);
    vec![
        median,
        range,
        or_none(bytes, |bytes| digits(bytes / 1e6)),
        or_none(outcome.median(|v| v.offered_per_second), count),
        or_none(lost, per_cent),
    ]
}

fn round_trip(results: &Results) -> Table {
    let values = |outcome: &Outcome| {
        let [p50, range] = spread(outcome.spread(|v| v.p50_us), microseconds);
        vec![
            p50,
            range,
            or_none(outcome.median(|v| v.p90_us), microseconds),
            or_none(outcome.median(|v| v.p99_us), microseconds),
            or_none(outcome.median(|v| v.p999_us), microseconds),
        ]
    };
    Table {
        title: "Round trip".into(),
        note: "A question and its answer of the same size, DEALER and ROUTER, one at a time."
            .into(),
        heads: vec!["size", "transport", "p50", RANGE, "p90", "p99", "p99.9"],
        names: 2,
        lines: results
            .of(Question::RoundTrip, false)
            .map(|o| by_size(o, values))
            .collect(),
    }
}

fn cost(results: &Results) -> Table {
    let values = |outcome: &Outcome| {
        let [cpu, range] = spread(outcome.spread(|v| v.cpu_seconds_per_million), digits);
        let peak = outcome.median(|v| v.memory_peak_bytes.map(|bytes| bytes as f64));
        let growth = outcome.median(|v| v.memory_growth_bytes_per_million);
        let megabytes = |bytes: f64| digits(bytes / 1e6);
        vec![
            cpu,
            range,
            or_none(outcome.median(|v| v.sender_cpu_seconds_per_million), digits),
            or_none(
                outcome.median(|v| v.receiver_cpu_seconds_per_million),
                digits,
            ),
            or_none(peak, megabytes),
            or_none(growth, megabytes),
        ]
    };
    Table {
        title: "Cost".into(),
        note: "Processor seconds for a million messages that arrived, at both ends together and each; the most memory of both, and how much they grew, stretched to a million (queues are bounded: it does not go on; – for fewer than 100,000), in MB.".into(),
        heads: vec!["size", "transport", "CPU s/M", RANGE, "sender", "receiver", "peak MB", "MB/M"],
        names: 2,
        lines: results.of(Question::Throughput, false).map(|o| by_size(o, values)).collect(),
    }
}

fn delivery(results: &Results) -> Table {
    let values = |outcome: &Outcome| {
        let share =
            |part: fn(&Values) -> Option<u64>| or_none(outcome.percent(part, |v| v.sent), per_cent);
        let number = |number: Option<u64>| number.map_or_else(|| NONE.into(), whole);
        vec![
            number(outcome.sum(|v| v.sent)),
            share(|v| v.lost),
            share(|v| v.duplicated),
            share(|v| v.reordered),
            number(outcome.sum(|v| v.path_lost)),
            number(outcome.sum(|v| v.path_stalls)),
        ]
    };
    let mut outcomes = results.of(Question::Delivery, true).peekable();
    let first = outcomes.peek().map(|outcome| outcome.cell);
    let (pace, bytes) = first.map_or((0.0, 0), |cell| {
        (cell.pace().unwrap_or(0.0), cell.size_bytes)
    });
    Table {
        title: "Delivery over a bad path".into(),
        note: format!(
            "{} messages of {} a second: what never arrived, arrived twice, was overtaken. The path loses datagrams, or lets a stream stall as after a lost segment; {}.",
            whole(pace as u64),
            size(bytes),
            path_words(results),
        ),
        heads: vec![
            "loss",
            "transport",
            "sent",
            "lost",
            "twice",
            "late",
            "path lost",
            "stalls",
        ],
        names: 2,
        lines: by_loss(outcomes, values),
    }
}

fn throughput_over_path(results: &Results) -> Table {
    let mut over_path = results.of(Question::Throughput, true);
    let drowned = match over_path.any(|outcome| !outcome.cell.transport.is_complete()) {
        true => {
            " Nothing holds plain UDP back: most of what it loses here is lost before the path, in the full buffer of the socket that leads to it."
        }
        false => "",
    };
    Table {
        title: "Throughput over a bad path".into(),
        note: "The same messages over the same path, as fast as the socket takes them; the proxy itself is a limit, so compare within this table.".to_string() + drowned,
        heads: vec!["loss", "transport", "delivered/s", RANGE, "MB/s", "offered/s", "lost"],
        names: 2,
        lines: by_loss(results.of(Question::Throughput, true), rates),
    }
}

fn round_trip_over_path(results: &Results) -> Table {
    let values = |outcome: &Outcome| {
        let time = |value: fn(&Values) -> Option<f64>| or_none(outcome.median(value), microseconds);
        let unanswered =
            outcome.percent(|v| v.unanswered, |v| Some(v.round_trips? + v.unanswered?));
        let [p50, range] = spread(outcome.spread(|v| v.p50_us), microseconds);
        let unanswered = or_none(unanswered, per_cent);
        vec![
            p50,
            range,
            time(|v| v.p90_us),
            time(|v| v.p99_us),
            time(|v| v.max_us),
            unanswered,
        ]
    };
    let pace = results
        .of(Question::RoundTrip, true)
        .find_map(|outcome| outcome.cell.pace());
    Table {
        title: "Round trip over a bad path".into(),
        note: format!(
            "{} questions a second over the same path, whether the earlier ones are answered or not, timed from when each was due.",
            whole(pace.unwrap_or(0.0) as u64),
        ),
        heads: vec![
            "loss",
            "transport",
            "p50",
            RANGE,
            "p90",
            "p99",
            "max",
            "no answer",
        ],
        names: 2,
        lines: by_loss(results.of(Question::RoundTrip, true), values),
    }
}

fn coming_and_going(results: &Results) -> Table {
    let recoveries: Vec<&Outcome> = results.of(Question::Recover, false).collect();
    let line = |outcome: &Outcome| {
        let ms = |ms: f64| microseconds(ms * 1e3);
        let transport = outcome.cell.transport;
        let recovery = recoveries
            .iter()
            .find(|other| other.cell.transport == transport);
        let connect = spread(outcome.spread(|v| v.connect_ms), ms);
        let recover = match recovery.map(|recovery| recovery.excuse()) {
            Some(Some((Status::DoesNotApply, _))) => ["no restart".into(), String::new()],
            Some(Some(_)) => ["failed".into(), String::new()],
            _ => spread(
                recovery.and_then(|recovery| recovery.spread(|v| v.recover_ms)),
                ms,
            ),
        };
        let values = connect.into_iter().chain(recover).collect();
        let name = transport.name().to_string();
        line_of(outcome, vec![name], values)
    };
    Table {
        title: "Connecting and recovering".into(),
        note: "From opening a socket to its first answer; from kill -9 of the peer, which is started again at once, to the first answer of the new one.".into(),
        heads: vec!["transport", "connect", RANGE, "recover", RANGE],
        names: 1,
        lines: results.of(Question::Connect, false).map(line).collect(),
    }
}

/// What else the bad path does, in words.
fn path_words(results: &Results) -> String {
    let paths = results
        .outcomes
        .iter()
        .filter_map(|outcome| outcome.cell.path);
    let Some(path) = paths.max_by(|a, b| a.loss_percent.total_cmp(&b.loss_percent)) else {
        return String::new();
    };
    let mut words = match path.delay_ms {
        0.0 => "without delay".to_string(),
        ms => format!("{} ms delay each way", digits(ms)),
    };
    if path.reorder_percent > 0.0 {
        let share = match path.reorder_percent == path.loss_percent {
            true => "as many datagrams held back as lost".into(),
            false => format!(
                "{} of the datagrams held back",
                per_cent(path.reorder_percent)
            ),
        };
        words = format!("{words}, {share}");
    }
    words
}

fn by_size(outcome: &Outcome, values: impl Fn(&Outcome) -> Vec<String>) -> Line {
    let names = vec![
        size(outcome.cell.size_bytes),
        outcome.cell.transport.name().into(),
    ];
    line_of(outcome, names, values(outcome))
}

/// A line for each transport and loss; those to which no loss applies come at the end, once each.
fn by_loss<'a>(
    outcomes: impl Iterator<Item = &'a Outcome>,
    values: impl Fn(&Outcome) -> Vec<String>,
) -> Vec<Line> {
    let (mut lines, mut others) = (Vec::new(), Vec::<Line>::new());
    for outcome in outcomes {
        let loss = outcome.cell.path.map_or(0.0, |path| path.loss_percent);
        let name = outcome.cell.transport.name().to_string();
        let applies = !matches!(outcome.excuse(), Some((Status::DoesNotApply, _)));
        if applies {
            lines.push(line_of(
                outcome,
                vec![per_cent(loss), name],
                values(outcome),
            ));
        } else if !others.iter().any(|line| line.names[1] == name) {
            others.push(line_of(outcome, vec!["any".into(), name], Vec::new()));
        }
    }
    lines.append(&mut others);
    lines
}

fn line_of(outcome: &Outcome, names: Vec<String>, values: Vec<String>) -> Line {
    let cells = match outcome.excuse() {
        None => Cells::Values(values),
        Some((status, reason)) => Cells::Excuse(excuse(status, reason)),
    };
    Line { names, cells }
}

fn excuse(status: Status, reason: &str) -> String {
    format!("{}: {reason}", in_words(status))
}

/// Why there are no values, in a word or two.
pub(super) fn in_words(status: Status) -> &'static str {
    match status {
        Status::TooLarge => "too large",
        Status::DoesNotApply => "does not apply",
        Status::Failed | Status::Measured => "failed",
    }
}

/// Without ranges where there was but one round.
fn without_empty_ranges(mut table: Table) -> Table {
    let empty = |column: usize| {
        table.lines.iter().all(|line| match &line.cells {
            Cells::Values(values) => values[column - table.names].is_empty(),
            Cells::Excuse(_) => true,
        })
    };
    let columns = table.names..table.heads.len();
    let idle: Vec<usize> = columns
        .filter(|&column| table.heads[column] == RANGE && empty(column))
        .collect();
    for column in idle.into_iter().rev() {
        table.heads.remove(column);
        for line in &mut table.lines {
            if let Cells::Values(values) = &mut line.cells {
                values.remove(column - table.names);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(names: [&str; 2], cells: Cells) -> Line {
        let names = names.map(String::from).to_vec();
        Line { names, cells }
    }

    #[test]
    fn one_round_has_no_ranges() {
        let table = |range: &str| {
            let table = Table {
                title: "T".into(),
                note: "note".into(),
                heads: vec!["size", "name", "x", RANGE, "y"],
                names: 2,
                lines: vec![
                    line(
                        ["16 B", "a"],
                        Cells::Values(vec!["1".into(), range.into(), "3".into()]),
                    ),
                    line(["16 B", "b"], Cells::Excuse("failed: so".into())),
                ],
            };
            without_empty_ranges(table).text(80)
        };
        let expected = "T\nnote\n\
            size  name  x  y\n\
            16 B  a     1  3\n\
            \u{20}     b     failed: so\n";
        assert_eq!(table(""), expected);
        assert!(table("1–2").contains(RANGE));
    }
}
