//! `mutirao jobs`, `job` and `cancel`: what the broker has, and what it shall forget.

use std::io::{self, Write};

use clap::Args;
use mutirao::broker::{JobView, ResultsTo};
use mutirao::pipeline::JobId;
use serde_json::{Value, json};

use super::connection::{self, Connection, ended, no_such_job};
use super::results::Standing as _;
use crate::columns;
use crate::exit::Exit;
use crate::flags::FormatFlag;
use crate::ops::printable;

/// List the jobs that the broker has.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao jobs --broker tcp://127.0.0.1:5555")]
pub(crate) struct JobsArgs {
    #[command(flatten)]
    format: FormatFlag,

    #[command(flatten)]
    connection: Connection,
}

/// Show how a job stands.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao job 0123456789abcdef")]
pub(crate) struct JobArgs {
    /// The job's id, as `mutirao submit` prints it
    #[arg(value_name = "ID", env = "MUTIRAO_JOB", value_parser = connection::job_id)]
    job: JobId,

    #[command(flatten)]
    format: FormatFlag,

    #[command(flatten)]
    connection: Connection,
}

/// Make the broker forget a job: what waits is not done, what is done is dropped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao cancel 0123456789abcdef")]
pub(crate) struct CancelArgs {
    /// The job's id, as `mutirao submit` prints it
    #[arg(value_name = "ID", env = "MUTIRAO_JOB", value_parser = connection::job_id)]
    job: JobId,

    #[command(flatten)]
    format: FormatFlag,

    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn list(args: JobsArgs) -> Result<(), Exit> {
    let jobs = args.connection.console()?.jobs().map_err(ended)?;
    args.format.write(
        |out| match jobs.is_empty() {
            true => writeln!(out, "no jobs"),
            false => write_table(out, &jobs),
        },
        || Value::Array(jobs.iter().map(as_json).collect()),
    )
}

pub(crate) fn show(args: JobArgs) -> Result<(), Exit> {
    let job = args.connection.console()?.job(args.job).map_err(ended)?;
    let job = job.ok_or_else(|| no_such_job(args.job))?;
    args.format
        .write(|out| write_job(out, &job), || as_json(&job))
}

pub(crate) fn cancel(args: CancelArgs) -> Result<(), Exit> {
    let job = args.job;
    match args.connection.console()?.cancel(job).map_err(ended)? {
        true => args.format.write(
            |out| writeln!(out, "job {job} is cancelled"),
            || json!({ "job": job.to_string(), "state": "cancelled" }),
        ),
        false => Err(no_such_job(job)),
    }
}

fn as_json(job: &JobView) -> Value {
    let mut value = json!(job);
    // Numbers of 64 bits are not safe in every reader of JSON.
    value["job"] = json!(job.job.to_string());
    value["state"] = json!(job.word());
    value
}

fn write_table(out: &mut dyn Write, jobs: &[JobView]) -> io::Result<()> {
    let heads = columns::heads([
        "JOB",
        "STATE",
        "OPERATION",
        "TASKS",
        "DONE",
        "FAILED",
        "FETCHED",
        "AGE",
        "LABEL",
    ]);
    let rows = jobs.iter().map(|job| {
        [
            job.job.to_string(),
            job.word().to_owned(),
            printable(&job.settings.operation, 20),
            tasks(job),
            job.counts.done.to_string(),
            job.counts.failed.to_string(),
            job.counts.fetched.to_string(),
            columns::age(job.age_seconds),
            printable(&job.settings.label, 60),
        ]
    });
    let rows: Vec<_> = [heads].into_iter().chain(rows).collect();
    columns::write(out, &rows)
}

/// How many tasks it has; more may come while it is handed in.
fn tasks(job: &JobView) -> String {
    match job.tasks {
        Some(tasks) => tasks.to_string(),
        None => format!("{}…", job.counts.accepted),
    }
}

fn write_job(out: &mut dyn Write, job: &JobView) -> io::Result<()> {
    let counts = &job.counts;
    let settings = &job.settings;
    writeln!(out, "job        {}, {}", job.job, job.word())?;
    writeln!(out, "operation  {}", printable(&settings.operation, 60))?;
    writeln!(out, "label      {}", printable(&settings.label, 60))?;
    writeln!(out, "priority   {}", settings.priority)?;
    writeln!(
        out,
        "tasks      {}: {} waiting, {} at work, {} done",
        tasks(job),
        counts.queued,
        counts.leased,
        counts.done
    )?;
    writeln!(
        out,
        "attempts   {} tasks failed for good, {} attempts were repeated, {} allowed for each",
        counts.failed, counts.retried, settings.attempts
    )?;
    writeln!(out, "results    {}", results(job))?;
    writeln!(out, "opened     {} ago", columns::age(job.age_seconds))
}

/// Where the results are, and for how long.
fn results(job: &JobView) -> String {
    let (counts, settings) = (&job.counts, &job.settings);
    let whom = match settings.results_to {
        ResultsTo::Anyone => "whoever fetches them",
        ResultsTo::Sink => "a sink",
    };
    let taken = match job.fetching {
        true => ", being fetched now",
        false => "",
    };
    let kept = match settings.keep_seconds {
        0 => "for ever".into(),
        seconds => format!("for {} after the last is done", columns::age(seconds)),
    };
    let left = counts.done.saturating_sub(counts.fetched);
    match job.over {
        true => format!(
            "{} fetched; the broker has let go of the job",
            counts.fetched
        ),
        false => format!(
            "{} fetched{taken}, {left} kept for {whom}, {kept}",
            counts.fetched
        ),
    }
}
