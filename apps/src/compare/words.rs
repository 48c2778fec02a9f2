//! What the numbers say, in sentences that a person may quote.

use super::contender::Contender;
use super::plan::Question;
use super::results::{Outcome, Results, Status, Values};
use super::show::{count, digits, microseconds, per_cent, size};

/// The sentences, the most important ones first; computed, not judged.
pub(super) fn sentences(results: &Results) -> Vec<String> {
    let mut sentences = Vec::new();
    sentences.extend(fastest(results));
    sentences.extend(most_bytes(results));
    sentences.extend(quickest(results));
    sentences.extend(drowned(results));
    sentences.extend(deliveries(results));
    sentences.extend(late(results));
    sentences.extend(waits(results));
    sentences.extend(recoveries(results));
    sentences.extend(missing(results));
    sentences
}

type Ranked = Vec<(Contender, f64)>;

/// Those that have the value, the largest first.
fn ranked<'a>(
    outcomes: impl Iterator<Item = &'a Outcome>,
    value: impl Fn(&Outcome) -> Option<f64>,
) -> Ranked {
    let pairs = outcomes.filter_map(|outcome| Some((outcome.cell.transport, value(outcome)?)));
    let mut ranked: Ranked = pairs.collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

fn list(ranked: &[(Contender, f64)], show: impl Fn(f64) -> String) -> String {
    let words = ranked
        .iter()
        .map(|(contender, value)| format!("{} {}", contender.title(), show(*value)));
    words.collect::<Vec<_>>().join(", ")
}

/// The sizes that were measured, in order.
fn sizes(results: &Results) -> Vec<usize> {
    let mut sizes: Vec<usize> = results
        .of(Question::Throughput, false)
        .map(|outcome| outcome.cell.size_bytes)
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn of_size(results: &Results, question: Question, bytes: usize) -> impl Iterator<Item = &Outcome> {
    results
        .of(question, false)
        .filter(move |outcome| outcome.cell.size_bytes == bytes)
}

fn fastest(results: &Results) -> Option<String> {
    let bytes = *sizes(results).first()?;
    let outcomes = of_size(results, Question::Throughput, bytes);
    let ranked = ranked(outcomes, |outcome| {
        outcome.median(|v| v.delivered_per_second)
    });
    (!ranked.is_empty()).then(|| {
        let list = list(&ranked, |rate| format!("{}/s", count(rate)));
        format!("Messages of {}, one way: {list}.", size(bytes))
    })
}

fn most_bytes(results: &Results) -> Option<String> {
    let sizes = sizes(results);
    let bytes = *sizes.last().filter(|_| sizes.len() > 1)?;
    let outcomes = of_size(results, Question::Throughput, bytes);
    let ranked = ranked(outcomes, |outcome| {
        outcome.median(|v| v.delivered_bytes_per_second)
    });
    (!ranked.is_empty()).then(|| {
        let list = list(&ranked, |rate| format!("{} MB/s", digits(rate / 1e6)));
        format!("Messages of {}, one way: {list}.", size(bytes))
    })
}

fn quickest(results: &Results) -> Option<String> {
    let bytes = *sizes(results).first()?;
    let outcomes = of_size(results, Question::RoundTrip, bytes);
    let mut ranked = ranked(outcomes, |outcome| outcome.median(|v| v.p50_us));
    ranked.reverse();
    (!ranked.is_empty()).then(|| {
        format!(
            "Round trip of {}, p50: {}.",
            size(bytes),
            list(&ranked, microseconds)
        )
    })
}

/// What was lost although nothing on the path lost it.
fn drowned(results: &Results) -> Option<String> {
    let loss = |outcome: &Outcome| outcome.percent(|v| v.lost, |v| v.sent);
    let worst = results
        .of(Question::Throughput, false)
        .filter_map(|outcome| Some((outcome, loss(outcome)?)));
    let (outcome, lost) = worst.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (lost > 0.0).then(|| {
        let (name, size) = (capital(outcome.cell.transport.title()), size(outcome.cell.size_bytes));
        let lost = per_cent(lost);
        format!("Sent as fast as it goes, on this machine, without a bad path: {name} lost {lost} of the messages of {size}.")
    })
}

fn losses(results: &Results) -> Vec<f64> {
    let paths = results
        .of(Question::Delivery, true)
        .filter_map(|outcome| outcome.cell.path);
    let mut losses: Vec<f64> = paths.map(|path| path.loss_percent).collect();
    losses.sort_by(f64::total_cmp);
    losses.dedup();
    losses
}

fn at_loss(results: &Results, question: Question, percent: f64) -> impl Iterator<Item = &Outcome> {
    results.of(question, true).filter(move |outcome| {
        outcome
            .cell
            .path
            .is_some_and(|path| path.loss_percent == percent)
    })
}

/// One sentence for each loss.
fn deliveries(results: &Results) -> Vec<String> {
    let losses = losses(results).into_iter().filter(|loss| *loss > 0.0);
    losses.filter_map(|loss| delivery(results, loss)).collect()
}

fn delivery(results: &Results, loss: f64) -> Option<String> {
    let outcomes = at_loss(results, Question::Delivery, loss);
    let lost = ranked(outcomes, |outcome| outcome.percent(|v| v.lost, |v| v.sent));
    let (some, none): (Ranked, Ranked) = lost.into_iter().partition(|(_, lost)| *lost > 0.0);
    let some = some.iter().map(|(contender, lost)| {
        format!(
            "{} lost {} of the messages",
            contender.title(),
            per_cent(*lost)
        )
    });
    let none: Vec<&str> = none
        .iter()
        .map(|(contender, _)| contender.title())
        .collect();
    let none = (!none.is_empty()).then(|| format!("{} lost none", and(&none)));
    let parts: Vec<String> = some.chain(none).collect();
    (!parts.is_empty()).then(|| format!("At {} loss {}.", per_cent(loss), parts.join("; ")))
}

/// What neither arrived in time nor is known to be lost.
fn late(results: &Results) -> Vec<String> {
    let open = |outcome: &Outcome| {
        outcome
            .percent(Values::open, |v| v.sent)
            .filter(|open| *open > 0.0)
    };
    let late = results
        .of(Question::Delivery, true)
        .filter_map(|outcome| Some((outcome, open(outcome)?)));
    let sentence = |(outcome, open): (&Outcome, f64)| {
        let loss = outcome.cell.path.map_or(0.0, |path| path.loss_percent);
        format!(
            "At {} loss {} had not delivered {} of the messages some seconds after the last; they may still have come.",
            per_cent(loss),
            outcome.cell.transport.title(),
            per_cent(open)
        )
    };
    late.map(sentence).collect()
}

/// What nothing lost costs: the time of the slowest round trips.
fn waits(results: &Results) -> Option<String> {
    let loss = losses(results).into_iter().rfind(|loss| *loss > 0.0)?;
    let outcomes = at_loss(results, Question::RoundTrip, loss);
    let mut ranked = ranked(outcomes, |outcome| outcome.median(|v| v.p99_us));
    ranked.reverse();
    (!ranked.is_empty()).then(|| {
        let list = list(&ranked, microseconds);
        format!(
            "At {} loss one round trip in a hundred took longer than: {list}.",
            per_cent(loss)
        )
    })
}

fn recoveries(results: &Results) -> Option<String> {
    let mut ranked = ranked(results.of(Question::Recover, false), |outcome| {
        outcome.median(|v| v.recover_ms)
    });
    ranked.reverse();
    (!ranked.is_empty()).then(|| {
        let list = list(&ranked, |ms| microseconds(ms * 1e3));
        format!("From kill -9 of the peer to the first message to the new one: {list}.")
    })
}

/// What failed altogether, each reason once.
fn missing(results: &Results) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for outcome in &results.outcomes {
        let Some((Status::Failed, reason)) = outcome.excuse() else {
            continue;
        };
        let name = outcome.cell.transport.title();
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => reasons.push((reason.to_string(), vec![name])),
        }
    }
    let sentence = |(reason, names): (String, Vec<&str>)| {
        format!(
            "Not measured, at least in part: {} ({reason}).",
            and(&names)
        )
    };
    reasons.into_iter().map(sentence).collect()
}

/// `a`, `a and b`, `a, b and c`.
fn and(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => one.to_string(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::plan::Cell;
    use crate::compare::proxy::Conditions;
    use crate::compare::results::Row;

    fn outcome(
        question: Question,
        transport: Contender,
        loss: Option<f64>,
        values: Values,
    ) -> Outcome {
        let path = loss.map(|loss_percent| Conditions {
            loss_percent,
            ..Conditions::default()
        });
        let cell = Cell {
            question,
            transport,
            size_bytes: 16,
            path,
        };
        let rows = vec![Row::measured(1, &cell, values)];
        Outcome { cell, rows }
    }

    fn delivered(transport: Contender, lost: u64) -> Outcome {
        let values = Values {
            sent: Some(1000),
            lost: Some(lost),
            ..Values::default()
        };
        outcome(Question::Delivery, transport, Some(1.0), values)
    }

    fn said(outcomes: Vec<Outcome>) -> Vec<String> {
        sentences(&Results { outcomes })
    }

    #[test]
    fn who_lost_something_is_told_apart_from_who_lost_nothing() {
        let outcomes = vec![
            delivered(Contender::Tcp, 0),
            delivered(Contender::Udp, 10),
            delivered(Contender::UdpReliable, 0),
        ];
        let expected =
            "At 1 % loss plain UDP lost 1 % of the messages; bare TCP and reliable UDP lost none.";
        assert_eq!(said(outcomes), [expected]);
        let lossless = said(vec![delivered(Contender::Tcp, 0)]);
        assert_eq!(lossless, ["At 1 % loss bare TCP lost none."]);
    }

    #[test]
    fn what_should_lose_nothing_and_does_is_said_as_well() {
        let sentences = said(vec![delivered(Contender::Tcp, 1)]);
        assert_eq!(
            sentences,
            ["At 1 % loss bare TCP lost 0.1 % of the messages."]
        );
    }

    #[test]
    fn what_is_still_on_its_way_is_not_called_lost() {
        let values = Values {
            sent: Some(1000),
            received: Some(750),
            ..Values::default()
        };
        let sentences = said(vec![outcome(
            Question::Delivery,
            Contender::UdpReliable,
            Some(50.0),
            values,
        )]);
        let expected = "At 50 % loss reliable UDP had not delivered 25 % of the messages some seconds after the last; \
                        they may still have come.";
        assert_eq!(sentences, [expected]);
    }

    #[test]
    fn rates_come_largest_first_and_times_smallest_first() {
        let rate = |rate| Values {
            delivered_per_second: Some(rate),
            ..Values::default()
        };
        let time = |us| Values {
            p50_us: Some(us),
            ..Values::default()
        };
        let sentences = said(vec![
            outcome(Question::Throughput, Contender::ZmqTcp, None, rate(2e6)),
            outcome(Question::Throughput, Contender::Tcp, None, rate(3e6)),
            outcome(Question::RoundTrip, Contender::ZmqTcp, None, time(60.0)),
            outcome(Question::RoundTrip, Contender::Tcp, None, time(30.0)),
        ]);
        let expected = [
            "Messages of 16 B, one way: bare TCP 3.00 M/s, ZeroMQ over TCP 2.00 M/s.",
            "Round trip of 16 B, p50: bare TCP 30.0 µs, ZeroMQ over TCP 60.0 µs.",
        ];
        assert_eq!(sentences, expected);
    }

    #[test]
    fn what_failed_is_said_once_with_its_reason() {
        let failed = |question| {
            let mut outcome = outcome(question, Contender::Udp, None, Values::default());
            outcome.rows = vec![Row::failed(1, &outcome.cell, "no socket".into())];
            outcome
        };
        let sentences = said(vec![
            failed(Question::Throughput),
            failed(Question::Connect),
        ]);
        assert_eq!(
            sentences,
            ["Not measured, at least in part: plain UDP (no socket)."]
        );
    }
}
