//! How far the comparison is: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::{Cell, Question};
use super::show::{per_cent, size};
use crate::terminal;

/// How often a line is written where there is no terminal.
const PAUSE: Duration = Duration::from_secs(15);

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    done: u64,
    all: u64,
    said: Instant,
}

impl Progress {
    /// Says how long `all` measurements take, about.
    pub(super) fn start(all: usize, estimate: Duration) -> Progress {
        let about = about(estimate);
        let _ = writeln!(
            std::io::stderr(),
            "{all} measurements, which take about {about}; Ctrl-C ends with what is there."
        );
        let terminal = std::io::stderr().is_terminal();
        Progress {
            bar: terminal.then(|| bar(all as u64)),
            done: 0,
            all: all as u64,
            said: Instant::now(),
        }
    }

    /// The next measurement begins.
    pub(super) fn begin(&mut self, round: usize, cell: &Cell) {
        let what = format!("round {round}, {}", describe(cell));
        match &self.bar {
            Some(bar) => bar.set_message(what),
            None if self.said.elapsed() >= PAUSE => {
                self.said = Instant::now();
                let _ = writeln!(std::io::stderr(), "{} of {}: {what}", self.done, self.all);
            }
            None => {}
        }
    }

    /// It is done.
    pub(super) fn end(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// How many are done.
    pub(super) fn done(&self) -> u64 {
        self.done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(all: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:16} {pos}/{len} {elapsed} {wide_msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(all), terminal::target()).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Minutes and seconds, as a person says them.
fn about(time: Duration) -> String {
    let seconds = time.as_secs().max(1);
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {} s", seconds / 10 * 10),
    }
}

/// What a cell asks, in a few words.
fn describe(cell: &Cell) -> String {
    let question = match cell.question {
        Question::Throughput => "throughput",
        Question::RoundTrip => "round trip",
        Question::Delivery => "delivery",
        Question::Connect => return format!("{}: connecting", cell.transport.name()),
        Question::Recover => return format!("{}: recovering", cell.transport.name()),
    };
    let path = cell
        .path
        .map(|path| format!(" at {} loss", per_cent(path.loss_percent)));
    let (name, size) = (cell.transport.name(), size(cell.size_bytes));
    format!("{name}: {question}, {size}{}", path.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_roughly() {
        assert_eq!(about(Duration::from_millis(20)), "1 s");
        assert_eq!(about(Duration::from_secs(59)), "59 s");
        assert_eq!(about(Duration::from_secs(154)), "2 min 30 s");
    }
}
