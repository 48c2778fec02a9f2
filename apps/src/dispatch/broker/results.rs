//! `mutirao results`: fetches the results of a job.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use mutirao::broker::{Console, JobView};
use mutirao::pipeline::JobId;

use super::super::collect::Target;
use super::super::output::JOURNAL_FOLDER;
use super::super::progress::{Meter, Watch};
use super::super::run::Report;
use super::connection::{self, Connection, ended, no_such_job};
use super::submit::{Interruption, conclude, fetch_command};
use super::tally::Tally;
use super::wait::{Scene, Waiting};
use crate::exit::Exit;
use crate::flags::{LimitFlags, SummaryFlag};
use crate::signals::Caught;

/// Fetch the results of a job, waiting for those that are not there yet.
///
/// The broker forgets what is safe in the folder. Killed at any moment and started again with the
/// same --out, it goes on where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao results 0123456789abcdef --out results")]
pub(crate) struct ResultsArgs {
    /// The job's id, as `mutirao submit` prints it
    #[arg(value_name = "ID", env = "MUTIRAO_JOB", value_parser = connection::job_id)]
    job: JobId,

    /// Where results go: a folder, or `-` for standard output (only for lines)
    #[arg(
        long,
        env = "MUTIRAO_OUT",
        default_value = "results",
        value_name = "DIR"
    )]
    out: PathBuf,

    #[command(flatten)]
    connection: Connection,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    summary: SummaryFlag,
}

pub(crate) fn run(args: ResultsArgs) -> Result<(), Exit> {
    let config = args.connection.client(&args.limits)?;
    let caught = Caught::begin()?;
    let view = find(&args, &mut args.connection.console()?)?;
    let target = match args.out.as_os_str() == "-" {
        true => Target::Stdout,
        false => Target::Folder(args.out.clone()),
    };
    let tally = Arc::new(Tally::default());
    tally.submitted(view.counts.accepted);
    tally.handed_in();
    let meter = Arc::new(Meter::new(None));
    let report = Report {
        begun: Instant::now(),
        format: args.summary.summary,
        results_on_stdout: matches!(target, Target::Stdout),
        meter: meter.clone(),
    };
    let scene = Scene::new(tally.clone(), &config, &view.settings.operation);
    let bar = Watch::start(scene, meter, None);
    let waiting = Waiting::begin(config, args.job, None, target, tally.clone())?;
    let interruption = Interruption {
        job: args.job,
        lines: None,
        fetch: fetch_command(args.job, &args.out, &args.connection),
        report: report.clone(),
        tally: tally.clone(),
    };
    interruption.listen(caught, &waiting);
    waiting.end();
    drop(bar);
    conclude(&report, &tally)
}

/// The job, if there is something to fetch of it.
fn find(args: &ResultsArgs, console: &mut Console) -> Result<JobView, Exit> {
    let job = args.job;
    let view = console.job(job).map_err(ended)?;
    let view = view.ok_or_else(|| no_such_job(job))?;
    let journal = args.out.join(JOURNAL_FOLDER).join(job.to_string());
    if view.is_fetched() && !journal.exists() {
        return Err(Exit::Environment(format!(
            "the results of job {job} were fetched before: the broker does not keep them"
        )));
    }
    Ok(view)
}

/// Where a job stands.
pub(crate) trait Standing {
    /// Whether every result was fetched, so that the broker has none left.
    fn is_fetched(&self) -> bool;

    /// A word for it.
    fn word(&self) -> &'static str;
}

impl Standing for JobView {
    fn is_fetched(&self) -> bool {
        self.counts.accepted > 0 && self.tasks == Some(self.counts.fetched)
    }

    fn word(&self) -> &'static str {
        match self.tasks {
            None => "being handed in",
            Some(_) if self.is_fetched() => "fetched",
            Some(tasks) if self.counts.done >= tasks => "done",
            Some(_) if self.counts.leased > 0 => "working",
            Some(_) => "waiting",
        }
    }
}
