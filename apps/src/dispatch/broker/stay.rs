//! A job whose results are waited for: collected, counted, shown, and summed up at the end.

use std::sync::Arc;
use std::time::Instant;

use mutirao::broker::ClientConfig;
use mutirao::pipeline::JobId;

use super::super::collect::Target;
use super::super::progress::{Meter, Watch};
use super::super::run::{Report, Results, show_failures};
use super::tally::Tally;
use super::wait::{Ending, Scene, Waiting};
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::SummaryFormat;

/// What is waited for.
pub(crate) struct Awaited<'a> {
    pub(crate) config: ClientConfig,
    pub(crate) job: JobId,
    pub(crate) operation: &'a str,
    /// The name of its input, if there is but one.
    pub(crate) only: Option<&'a str>,
    /// The bytes of its inputs, where they are known.
    pub(crate) bytes: Option<u64>,
    pub(crate) target: Target,
    pub(crate) format: SummaryFormat,
}

/// Waits for the results of a job.
pub(crate) struct Stay {
    pub(crate) tally: Arc<Tally>,
    pub(crate) report: Report,
    waiting: Waiting,
    bar: Watch,
}

impl Stay {
    pub(crate) fn begin(awaited: Awaited<'_>, tally: Arc<Tally>) -> Result<Stay, Exit> {
        let meter = Arc::new(Meter::new(awaited.bytes));
        let report = Report {
            begun: Instant::now(),
            format: awaited.format,
            results: Results::of(&awaited.target),
            meter: meter.clone(),
        };
        let scene = Scene::new(tally.clone(), &awaited.config, awaited.operation);
        let Awaited {
            config,
            job,
            only,
            target,
            ..
        } = awaited;
        Ok(Stay {
            waiting: Waiting::begin(config, job, only, target, tally.clone())?,
            bar: Watch::start(scene, meter, awaited.bytes),
            tally,
            report,
        })
    }

    /// For whoever ends it early.
    pub(crate) fn ending(&self) -> Ending {
        self.waiting.ending()
    }

    /// Waits for the last result, prints the summary and turns failed tasks into an exit code.
    pub(crate) fn end(self) -> Result<(), Exit> {
        self.waiting.end();
        drop(self.bar);
        let summary = self.tally.summary();
        show_failures(&summary);
        self.report.print(&summary);
        match summary.progress.failed {
            0 => Ok(()),
            failed => Err(Exit::SomeFailed(format!(
                "{failed} of {} failed; the other results stand",
                counted(summary.progress.submitted, "task")
            ))),
        }
    }
}
