//! `mutirao results`: fetches the results of a job.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use mutirao::broker::{Console, Fetched, JobView};
use mutirao::pipeline::JobId;

use super::super::collect::Target;
use super::super::output::JOURNAL_FOLDER;
use super::connection::{self, Connection, ended, need_keeping, no_such_job};
use super::stay::{Awaited, Stay};
use super::submit::{Interruption, fetch_command};
use super::tally::Tally;
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
    let (view, fetched) = find(&args, &mut args.connection.console()?)?;
    let target = target(&args, &view, &fetched)?;
    let tally = Arc::new(Tally::default());
    tally.submitted(view.counts.accepted);
    tally.handed_in();
    let awaited = Awaited {
        config,
        job: args.job,
        operation: &view.settings.operation,
        only: None,
        bytes: None,
        target,
        format: args.summary.summary,
    };
    let stay = Stay::begin(awaited, tally)?;
    let at = args.connection.at()?;
    let fetch = fetch_command(args.job, &args.out, &at, &args.connection.codec);
    Interruption::of(&stay, args.job, Some(fetch), None).listen(caught, stay.ending());
    stay.end()
}

/// The job, if there is something to fetch of it.
fn find(args: &ResultsArgs, console: &mut Console) -> Result<(JobView, Fetched), Exit> {
    let job = args.job;
    need_keeping(&console.status().map_err(ended)?, &args.connection.at()?)?;
    let found = console.job_with_fetched(job).map_err(ended)?;
    let (view, fetched) = found.ok_or_else(|| no_such_job(job))?;
    if view.is_fetched() && !has_journal(args) {
        return Err(Exit::Environment(format!(
            "the results of job {job} were fetched before: the broker does not keep them"
        )));
    }
    if view.over && !view.is_fetched() {
        return Err(Exit::Environment(format!(
            "the results of job {job} are gone: it was cancelled, or nobody fetched them in time"
        )));
    }
    Ok((view, fetched))
}

/// Whether a former start wrote results of the job to the same folder.
fn has_journal(args: &ResultsArgs) -> bool {
    let journal = args.out.join(JOURNAL_FOLDER).join(args.job.to_string());
    journal.exists()
}

/// Where the results go. What was fetched before never comes again, and what is in order can only go
/// on where that ended.
fn target(args: &ResultsArgs, view: &JobView, fetched: &Fetched) -> Result<Target, Exit> {
    let to_stdout = args.out.as_os_str() == "-";
    match &fetched[..] {
        [] if to_stdout => Ok(Target::Stdout { from: 0 }),
        [lines] if to_stdout && lines.start == 0 => Ok(Target::Stdout { from: lines.end }),
        [] => Ok(Target::Folder(args.out.clone())),
        _ if !to_stdout && has_journal(args) => Ok(Target::Folder(args.out.clone())),
        _ => Err(Exit::Environment(format!(
            "{} of {} results of job {} went elsewhere before: fetch the rest to the same --out",
            view.counts.fetched, view.counts.accepted, args.job
        ))),
    }
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
            Some(_) if self.is_fetched() => "fetched",
            _ if self.over => "dropped",
            None => "being handed in",
            Some(tasks) if self.counts.done >= tasks => "done",
            Some(_) if self.counts.leased > 0 => "working",
            Some(_) => "waiting",
        }
    }
}
