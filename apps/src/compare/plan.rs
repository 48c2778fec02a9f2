//! What is measured, in which order, and how long that takes.

use std::time::Duration;

use serde::Serialize;

use super::contender::{Between, Contender};
use super::measure::{QUIET_IF_LOSSY, way};
use super::proxy::stream::{LEAST_ROUND_TRIP, SEGMENT_BYTES};
use super::proxy::{Conditions, HELD_BACK};

/// Over the path that is made bad, so many messages a second are sent where losses are counted, or as
/// many as make [`STEADY_BYTES`]: few enough that nothing is lost but what the path loses.
const STEADY_MESSAGES: f64 = 5_000.0;

/// See [`STEADY_MESSAGES`].
const STEADY_BYTES: f64 = 10e6;

/// Questions a second over a bad path, so that each is as likely to meet a loss as any other.
const STEADY_QUESTIONS: f64 = 500.0;

/// Over a bad path it is measured for so many round trips at least: less is all beginning.
const LEAST_ROUND_TRIPS: u32 = 20;

/// About how long it takes to start the parts of a measurement.
const START: Duration = Duration::from_millis(50);

/// About how many round trips it takes until two ends have greeted each other.
const GREETINGS: u32 = 4;

/// About how much may wait at both ends when a sender stops that never waited for anybody.
const BUFFERED_BYTES: f64 = 6e6;

/// The size of messages over a bad path, as near as the sizes that were asked for come.
const PATH_BYTES: usize = 1024;

/// What is asked about a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Question {
    /// How many messages a second go through.
    Throughput,
    /// How long a question and its answer take.
    RoundTrip,
    /// What becomes of messages at a steady pace.
    Delivery,
    /// How long it takes until a new socket has its first message through.
    Connect,
    /// How long it takes until messages go through again after the peer was killed and started again.
    Recover,
}

/// One thing that is measured in every round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Cell {
    pub(super) question: Question,
    pub(super) transport: Contender,
    pub(super) size_bytes: usize,
    /// The bad path, where there is one in between.
    pub(super) path: Option<Conditions>,
}

/// Why a cell is not measured although it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    TooLarge(String),
    DoesNotApply(String),
}

impl Cell {
    /// Why it cannot be measured, if so.
    pub(super) fn passed(&self) -> Option<Passed> {
        if self.transport.is_too_large(self.size_bytes) {
            let most = self
                .transport
                .scheme()
                .promises()
                .message_bytes
                .unwrap_or(0);
            return Some(Passed::TooLarge(format!(
                "a datagram carries at most {most} bytes"
            )));
        }
        if self.path.is_some() && self.transport.between() == Between::Nothing {
            let reason = "no network lies between its ends";
            return Some(Passed::DoesNotApply(reason.into()));
        }
        if self.question == Question::Recover && self.transport.is_one_process() {
            let reason = "both ends are one process and die together";
            return Some(Passed::DoesNotApply(reason.into()));
        }
        None
    }

    /// Messages a second, where they are not sent as fast as they go.
    pub(super) fn pace(&self) -> Option<f64> {
        let by_bytes = STEADY_BYTES / self.size_bytes as f64;
        match (self.question, self.path) {
            (Question::Delivery, _) => Some(STEADY_MESSAGES.min(by_bytes)),
            (Question::RoundTrip, Some(_)) => Some(STEADY_QUESTIONS.min(by_bytes)),
            _ => None,
        }
    }

    /// For how long it is measured where so long was asked for.
    pub(super) fn window(&self, asked: Duration) -> Duration {
        asked.max(self.round_trip() * LEAST_ROUND_TRIPS)
    }

    /// About how long it takes to measure it once.
    fn cost(&self, asked: Duration) -> Duration {
        if self.passed().is_some() {
            return Duration::ZERO;
        }
        let window = self.window(asked);
        let begin = START + self.round_trip() * GREETINGS;
        match self.question {
            Question::Throughput | Question::Delivery => begin + window + self.end(),
            Question::RoundTrip => begin + window + self.round_trip(),
            Question::Connect => START * 2,
            Question::Recover => START * 4,
        }
    }

    /// What the path adds to a round trip.
    fn round_trip(&self) -> Duration {
        self.path.map_or(Duration::ZERO, |path| path.delay() * 2)
    }

    /// About how long is waited for what still comes when all has been sent.
    fn end(&self) -> Duration {
        if !self.transport.is_complete() {
            return QUIET_IF_LOSSY + HELD_BACK + self.round_trip();
        }
        let Some(path) = self.path.filter(|_| self.pace().is_none()) else {
            return self.round_trip();
        };
        // What waits in queues and buffers goes at the rate that losses leave (Mathis, Semke, Mahdavi, Ott 1997).
        let round_trip = self.round_trip().max(LEAST_ROUND_TRIP);
        let packets = 1.22 / (path.loss_percent / 100.0).max(1e-6).sqrt();
        let bytes_per_second = packets * SEGMENT_BYTES as f64 / round_trip.as_secs_f64();
        let emptied = Duration::from_secs_f64(BUFFERED_BYTES / bytes_per_second);
        (self.round_trip() + emptied).min(way(self.path).drain())
    }
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) transports: Vec<Contender>,
    pub(super) sizes_bytes: Vec<usize>,
    pub(super) paths: Vec<Conditions>,
}

/// The cells of one round: question by question, in each of them one transport after the other.
pub(super) fn cells(wanted: &Wanted) -> Vec<Cell> {
    let path_bytes = nearest(&wanted.sizes_bytes);
    let mut cells = Vec::new();
    let mut add = |question, size_bytes, path| {
        cells.extend(wanted.transports.iter().map(|&transport| Cell {
            question,
            transport,
            size_bytes,
            path,
        }));
    };
    for &size_bytes in &wanted.sizes_bytes {
        add(Question::Throughput, size_bytes, None);
        add(Question::RoundTrip, size_bytes, None);
    }
    for &path in &wanted.paths {
        for question in [
            Question::Delivery,
            Question::RoundTrip,
            Question::Throughput,
        ] {
            add(question, path_bytes, Some(path));
        }
    }
    add(Question::Connect, super::peer::LEAST_BYTES, None);
    add(Question::Recover, super::peer::LEAST_BYTES, None);
    cells
}

/// The size that is nearest to [`PATH_BYTES`], by ratio.
fn nearest(sizes_bytes: &[usize]) -> usize {
    let distance = |size: usize| (size as f64 / PATH_BYTES as f64).ln().abs();
    let nearest = sizes_bytes
        .iter()
        .copied()
        .min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
    nearest.unwrap_or(PATH_BYTES)
}

/// For how long is measured over the bad path, where that is longer than was asked for.
pub(super) fn longer(cells: &[Cell], asked: Duration) -> Option<Duration> {
    let windows = cells.iter().map(|cell| cell.window(asked));
    windows.max().filter(|window| *window > asked)
}

/// About how long so many rounds take.
pub(super) fn estimate(cells: &[Cell], window: Duration, rounds: usize) -> Duration {
    let round: Duration = cells.iter().map(|cell| cell.cost(window)).sum();
    round * u32::try_from(rounds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(transports: &[Contender], sizes: &[usize]) -> Wanted {
        Wanted {
            transports: transports.to_vec(),
            sizes_bytes: sizes.to_vec(),
            paths: vec![Conditions::default()],
        }
    }

    #[test]
    fn transports_take_turns_within_each_question() {
        let two = [Contender::Tcp, Contender::ZmqTcp];
        let cells = cells(&wanted(&two, &[16, 1000]));
        assert!(cells.chunks(2).all(|pair| {
            let [a, b] = pair else { return false };
            (a.transport, b.transport) == (two[0], two[1])
                && (a.question, a.size_bytes, a.path) == (b.question, b.size_bytes, b.path)
        }));
        // Two sizes by two questions, one path by three, connecting and recovering.
        assert_eq!(cells.len(), 2 * (2 * 2 + 3 + 2));
    }

    #[test]
    fn what_cannot_be_measured_says_why() {
        let all = [Contender::Udp, Contender::ZmqInproc, Contender::Tcp];
        let cells = cells(&wanted(&all, &[65_536]));
        for cell in cells {
            let passed = cell.passed();
            let expected = match (cell.transport, cell.path, cell.question) {
                (Contender::Udp, _, Question::Connect | Question::Recover) => false,
                (Contender::Udp, _, _) => matches!(passed, Some(Passed::TooLarge(_))),
                (Contender::ZmqInproc, Some(_), _)
                | (Contender::ZmqInproc, _, Question::Recover) => {
                    matches!(passed, Some(Passed::DoesNotApply(_)))
                }
                _ => false,
            };
            assert_eq!(passed.is_some(), expected, "{cell:?}: {passed:?}");
        }
    }

    #[test]
    fn bad_paths_carry_messages_of_about_a_kibibyte_at_a_steady_pace() {
        assert_eq!(nearest(&[16, 100, 1024, 65_536]), 1024);
        assert_eq!(nearest(&[16, 100]), 100);
        assert_eq!(nearest(&[65_536]), 65_536);
        let mut cell = Cell {
            question: Question::Delivery,
            transport: Contender::Tcp,
            size_bytes: 1024,
            path: None,
        };
        assert_eq!(cell.pace(), Some(STEADY_MESSAGES));
        cell.size_bytes = 100_000;
        assert_eq!(cell.pace(), Some(100.0));
        cell.question = Question::Throughput;
        assert_eq!(cell.pace(), None);
    }

    #[test]
    fn a_long_way_is_measured_for_longer() {
        let mut cell = Cell {
            question: Question::Delivery,
            transport: Contender::Tcp,
            size_bytes: 1024,
            path: None,
        };
        let asked = Duration::from_millis(300);
        assert_eq!(cell.window(asked), asked);
        let after = |delay_ms| {
            cell.path = Some(Conditions {
                delay_ms,
                ..Conditions::default()
            });
            cell.window(asked).as_millis()
        };
        assert_eq!([5.0, 10.0, 100.0].map(after), [300, 400, 4000]);
    }

    #[test]
    fn the_estimate_grows_with_rounds_and_leaves_out_what_is_not_measured() {
        let cells = cells(&wanted(&[Contender::Tcp], &[16]));
        let second = Duration::from_secs(1);
        assert_eq!(estimate(&cells, second, 6), estimate(&cells, second, 3) * 2);
        let delayed = |delay_ms| {
            let mut wanted = wanted(&[Contender::Tcp], &[16]);
            wanted.paths[0].delay_ms = delay_ms;
            estimate(&super::cells(&wanted), Duration::from_millis(300), 1)
        };
        // Three measurements of twenty round trips of 200 ms, and the others.
        assert!(delayed(100.0) > Duration::from_secs(12) + delayed(0.0) / 2);
        let inproc = super::cells(&wanted(&[Contender::ZmqInproc], &[16]));
        assert!(estimate(&inproc, second, 1) < estimate(&cells, second, 1));
    }
}
