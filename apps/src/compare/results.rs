//! What was measured: one row each time, and what the rounds come to together.

use serde::Serialize;

use super::contender::Contender;
use super::plan::{Cell, Passed, Question};
use super::statistics::Spread;

/// What became of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    Measured,
    TooLarge,
    DoesNotApply,
    Failed,
}

/// One measurement; what the question does not ask for is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// Counted from 1.
    pub(super) round: usize,
    pub(super) question: Question,
    pub(super) transport: Contender,
    pub(super) size_bytes: usize,
    /// The bad path in between; `None` where there was none.
    pub(super) loss_percent: Option<f64>,
    pub(super) reorder_percent: Option<f64>,
    pub(super) duplicate_percent: Option<f64>,
    pub(super) delay_ms: Option<f64>,
    pub(super) status: Status,
    /// Why it was not measured.
    pub(super) reason: Option<String>,
    #[serde(skip)]
    pub(super) values: Values,
}

/// Everything that may be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Values {
    /// Messages that the sender's socket took, a second.
    pub(super) offered_per_second: Option<f64>,
    /// Messages that arrived, a second.
    pub(super) delivered_per_second: Option<f64>,
    pub(super) delivered_bytes_per_second: Option<f64>,
    pub(super) sent: Option<u64>,
    /// Messages that arrived, each counted once.
    pub(super) received: Option<u64>,
    /// `None` also where the path was so slow that the rest was still on its way at the end.
    pub(super) lost: Option<u64>,
    pub(super) duplicated: Option<u64>,
    pub(super) reordered: Option<u64>,
    /// Processor time for a million messages that arrived.
    pub(super) sender_cpu_seconds_per_million: Option<f64>,
    pub(super) receiver_cpu_seconds_per_million: Option<f64>,
    pub(super) cpu_seconds_per_million: Option<f64>,
    /// The most memory that both ends had together.
    pub(super) memory_peak_bytes: Option<u64>,
    /// How much that was more than before, for a million messages.
    pub(super) memory_growth_bytes_per_million: Option<f64>,
    pub(super) round_trips: Option<u64>,
    /// Questions without an answer in time.
    pub(super) unanswered: Option<u64>,
    pub(super) p50_us: Option<f64>,
    pub(super) p90_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) p999_us: Option<f64>,
    pub(super) max_us: Option<f64>,
    /// From opening a socket to the first answer; the median of some.
    pub(super) connect_ms: Option<f64>,
    /// From the death of the peer to the first answer of the next.
    pub(super) recover_ms: Option<f64>,
    /// What the path did: datagrams, or segments of a stream.
    pub(super) path_arrived: Option<u64>,
    pub(super) path_lost: Option<u64>,
    pub(super) path_held_back: Option<u64>,
    pub(super) path_duplicated: Option<u64>,
    pub(super) path_stalls: Option<u64>,
    /// What the path had no room for.
    pub(super) path_overrun: Option<u64>,
}

impl Values {
    /// Messages that had not arrived when it was over, but may have come later.
    pub(super) fn open(&self) -> Option<u64> {
        match self.lost {
            Some(_) => None,
            None => Some(self.sent?.saturating_sub(self.received?)),
        }
    }
}

impl Row {
    /// What was measured.
    pub(super) fn measured(round: usize, cell: &Cell, values: Values) -> Row {
        Row {
            round,
            question: cell.question,
            transport: cell.transport,
            size_bytes: cell.size_bytes,
            loss_percent: cell.path.map(|path| path.loss_percent),
            reorder_percent: cell.path.map(|path| path.reorder_percent),
            duplicate_percent: cell.path.map(|path| path.duplicate_percent),
            delay_ms: cell.path.map(|path| path.delay_ms),
            status: Status::Measured,
            reason: None,
            values,
        }
    }

    /// What could not be.
    pub(super) fn failed(round: usize, cell: &Cell, reason: String) -> Row {
        Row {
            status: Status::Failed,
            reason: Some(reason),
            ..Row::measured(round, cell, Values::default())
        }
    }

    /// What makes no sense.
    pub(super) fn passed(round: usize, cell: &Cell, passed: Passed) -> Row {
        let (status, reason) = match passed {
            Passed::TooLarge(reason) => (Status::TooLarge, reason),
            Passed::DoesNotApply(reason) => (Status::DoesNotApply, reason),
        };
        Row {
            status,
            ..Row::failed(round, cell, reason)
        }
    }
}

/// All rounds of one cell.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) cell: Cell,
    pub(super) rows: Vec<Row>,
}

impl Outcome {
    /// The spread of a value over the rounds that have it.
    pub(super) fn spread(&self, value: impl Fn(&Values) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rows.iter().filter_map(|row| value(&row.values)))
    }

    /// The median of a value; `None` unless every round that was measured has it, since the rounds that have
    /// enough answers for a high percentile are not like those that have not.
    pub(super) fn median(&self, value: impl Fn(&Values) -> Option<f64>) -> Option<f64> {
        let measured = self
            .rows
            .iter()
            .filter(|row| row.status == Status::Measured);
        let values: Option<Vec<f64>> = measured.map(|row| value(&row.values)).collect();
        Spread::of(values?).map(|spread| spread.median)
    }

    /// The sum of a count over the rounds; `None` if none has it.
    pub(super) fn sum(&self, value: impl Fn(&Values) -> Option<u64>) -> Option<u64> {
        let values = self.rows.iter().filter_map(|row| value(&row.values));
        values.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
    }

    /// One count as a share of another, over all rounds that have both, in per cent.
    pub(super) fn percent(
        &self,
        part: impl Fn(&Values) -> Option<u64>,
        whole: impl Fn(&Values) -> Option<u64>,
    ) -> Option<f64> {
        let pairs = self.rows.iter().map(|row| &row.values);
        let pairs = pairs.filter_map(|values| Some((part(values)?, whole(values)?)));
        let (part, whole) = pairs.fold((0, 0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        (whole > 0).then(|| part as f64 / whole as f64 * 100.0)
    }

    /// Why nothing was measured in any round.
    pub(super) fn excuse(&self) -> Option<(Status, &str)> {
        let measured = self.rows.iter().any(|row| row.status == Status::Measured);
        let row = self.rows.first().filter(|_| !measured)?;
        Some((row.status, row.reason.as_deref().unwrap_or_default()))
    }

    /// Rounds that failed.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.status == Status::Failed)
    }
}

/// Everything that was measured, in the order of the plan.
#[derive(Clone, Debug)]
pub(super) struct Results {
    pub(super) outcomes: Vec<Outcome>,
}

impl Results {
    pub(super) fn new(cells: &[Cell]) -> Results {
        let empty = |&cell: &Cell| Outcome {
            cell,
            rows: Vec::new(),
        };
        Results {
            outcomes: cells.iter().map(empty).collect(),
        }
    }

    /// The outcomes of one question, over a bad path or not, of which there is anything.
    pub(super) fn of(&self, question: Question, over_path: bool) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |outcome| {
            let Cell {
                question: asked,
                path,
                ..
            } = outcome.cell;
            asked == question && path.is_some() == over_path && !outcome.rows.is_empty()
        })
    }

    /// All rows, round by round.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self
            .outcomes
            .iter()
            .flat_map(|outcome| &outcome.rows)
            .collect();
        rows.sort_by_key(|row| row.round);
        rows
    }

    /// How many measurements failed.
    pub(super) fn failed(&self) -> usize {
        self.outcomes
            .iter()
            .map(|outcome| outcome.failures().count())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell {
        question: Question::Delivery,
        transport: Contender::Tcp,
        size_bytes: 16,
        path: None,
    };

    fn outcome(lost: &[u64]) -> Outcome {
        let row = |(round, &lost): (usize, &u64)| {
            let values = Values {
                lost: Some(lost),
                sent: Some(100),
                ..Values::default()
            };
            Row::measured(round + 1, &CELL, values)
        };
        Outcome {
            cell: CELL,
            rows: lost.iter().enumerate().map(row).collect(),
        }
    }

    #[test]
    fn rounds_come_together_as_median_spread_and_share() {
        let outcome = outcome(&[1, 5, 3]);
        let lost = |values: &Values| values.lost;
        let spread = outcome
            .spread(|values| values.lost.map(|lost| lost as f64))
            .unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 5.0));
        assert_eq!(outcome.percent(lost, |values| values.sent), Some(3.0));
        assert_eq!(outcome.percent(|values| values.received, lost), None);
        assert_eq!(outcome.excuse(), None);
    }

    #[test]
    fn a_median_needs_the_value_of_every_round_that_was_measured() {
        let mut outcome = outcome(&[1, 5, 3]);
        let lost = |values: &Values| values.lost.map(|lost| lost as f64);
        outcome.rows.push(Row::failed(4, &CELL, "it hangs".into()));
        assert_eq!(outcome.median(lost), Some(3.0));
        outcome.rows[0].values.lost = None;
        assert_eq!(outcome.median(lost), None);
    }

    #[test]
    fn a_failed_round_does_not_hide_the_others_and_all_failed_say_why() {
        let mut outcome = outcome(&[4]);
        outcome
            .rows
            .insert(0, Row::failed(1, &CELL, "it hangs".into()));
        assert_eq!(outcome.excuse(), None);
        assert_eq!(outcome.sum(|values| values.lost), Some(4));
        assert_eq!(outcome.failures().count(), 1);
        outcome.rows.truncate(1);
        assert_eq!(outcome.excuse(), Some((Status::Failed, "it hangs")));
    }
}
