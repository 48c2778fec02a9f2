//! What a job came to, for a person or a program.

use std::io::Write as _;
use std::time::Duration;

use mutirao::pipeline::Progress;
use serde::Serialize;

use crate::count::counted;
use crate::flags::SummaryFormat;

/// The counters of a job.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) tasks: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) retried: u64,
    pub(crate) duplicates: u64,
    pub(crate) bytes_in: u64,
    /// `None` when somebody else has them.
    pub(crate) bytes_out: Option<u64>,
    pub(crate) seconds: f64,
    pub(crate) tasks_per_second: f64,
}

impl Summary {
    pub(crate) fn new(progress: &Progress, bytes_in: u64, elapsed: Duration) -> Summary {
        let seconds = elapsed.as_secs_f64();
        Summary {
            tasks: progress.submitted,
            ok: progress.safe.saturating_sub(progress.failed),
            failed: progress.failed,
            retried: progress.retried,
            duplicates: progress.duplicates,
            bytes_in,
            bytes_out: Some(progress.result_bytes),
            seconds: (seconds * 1e6).round() / 1e6,
            tasks_per_second: (progress.safe as f64 / seconds.max(1e-9)).round(),
        }
    }

    /// Prints it; results on standard output keep it off there.
    pub(crate) fn print(&self, format: SummaryFormat, results_on_stdout: bool) {
        // Whoever reads it may be gone; the exit code still tells.
        let _ = match format {
            SummaryFormat::None => Ok(()),
            SummaryFormat::Text => writeln!(std::io::stderr(), "{}", self.text()),
            SummaryFormat::Json if results_on_stdout => {
                writeln!(std::io::stderr(), "{}", self.json())
            }
            SummaryFormat::Json => writeln!(std::io::stdout(), "{}", self.json()),
        };
    }

    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn text(&self) -> String {
        let Summary {
            tasks,
            ok,
            failed,
            retried,
            duplicates,
            ..
        } = self;
        let mut text = format!(
            "{}: {ok} ok, {failed} failed; {} in, {}{:.2} s, {} tasks/s",
            counted(*tasks, "task"),
            human(self.bytes_in),
            self.bytes_out
                .map_or_else(String::new, |bytes| format!("{} out, ", human(bytes))),
            self.seconds,
            self.tasks_per_second
        );
        if retried + duplicates > 0 {
            let duplicates = counted(*duplicates, "duplicate result");
            text += &format!("; {retried} sent again, {duplicates} dropped");
        }
        text
    }
}

fn human(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
