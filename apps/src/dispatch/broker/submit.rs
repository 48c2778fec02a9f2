//! `mutirao submit`: hands a job to the broker, and waits for its results if asked to.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use mutirao::Endpoint;
use mutirao::broker::{ClientConfig, JobSettings, Keeps};
use mutirao::pipeline::JobId;
use sha2::{Digest as _, Sha256};

use super::super::feed::{Feed, JobFlags};
use super::super::progress::Meter;
use super::super::run::{
    DRAIN_PATIENCE, Report, check_apart, say, show_failures, target, whole_path,
};
use super::accept::Handing;
use super::connection::{Connection, ended, need_keeping};
use super::stay::{Awaited, Stay};
use super::tally::Tally;
use super::wait::Ending;
use super::watch;
use crate::count::counted;
use crate::exit::{self, Exit};
use crate::flags::{self, CodecFlag, LimitFlags, SummaryFlag};
use crate::given::Given;
use crate::ops;
use crate::signals::Caught;

/// Where results go unless something else is said.
const RESULTS: &str = "results";

/// Hand a job to a broker, or every file that appears in a folder.
///
/// Prints the job's id once the broker has all of it, and leaves; `mutirao results` fetches the
/// results later, from anywhere. With --wait or --out it stays and collects them. With --watch it
/// works on every file that appears in a folder, once, until it is stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    mutirao submit texts/ --op wordcount --wait --out results\n  \
    mutirao submit texts/ --op wordcount\n  \
    mutirao submit --watch entrada/ --out resultados/ --op lowercase")]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    given: Given,

    /// Files or folders, or `-` for standard input: each line a task
    #[arg(value_name = "INPUT", env = "MUTIRAO_INPUT")]
    input: Vec<PathBuf>,

    /// Work on every file that appears in this folder, until stopped
    #[arg(long, env = "MUTIRAO_WATCH", value_name = "DIR")]
    watch: Option<PathBuf>,

    /// Stay and collect the results
    #[arg(long, env = "MUTIRAO_WAIT", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    wait: bool,

    /// Where results go: a folder, or `-` for standard output (only with INPUT `-`); implies --wait
    #[arg(long, env = "MUTIRAO_OUT", value_name = "DIR")]
    out: Option<PathBuf>,

    /// Leave once the broker has everything, whatever the environment says
    #[arg(long, env = "MUTIRAO_DETACH", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    detach: bool,

    #[command(flatten)]
    what: WhatFlags,

    #[command(flatten)]
    connection: Connection,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    summary: SummaryFlag,
}

/// What is to be done, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhatFlags {
    /// The operation, as NAME or NAME:ARGUMENT; `mutirao ops` lists them
    #[arg(long, env = "MUTIRAO_OP", value_name = "OP")]
    pub(crate) op: String,

    /// Files larger than this are split at line ends, where the operation allows
    #[arg(long, env = "MUTIRAO_CHUNK_BYTES", default_value = "1MiB", value_name = "BYTES", value_parser = flags::bytes)]
    pub(crate) chunk_bytes: usize,

    /// How often a failing task is tried in all
    #[arg(long, env = "MUTIRAO_ATTEMPTS", default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) attempts: u32,

    /// How long a task may take, 0s for ever; a command that takes longer is killed, and the attempt
    /// has failed
    #[arg(long, env = "MUTIRAO_TIME_LIMIT", value_name = "TIME", value_parser = flags::duration)]
    time_limit: Option<Duration>,

    /// Jobs of a higher priority go first, from 0 to 255
    #[arg(long, env = "MUTIRAO_PRIORITY", default_value_t = 0, value_name = "N")]
    priority: u8,

    /// How long results wait for being fetched once the job is done; 0s for ever
    #[arg(long, env = "MUTIRAO_KEEP", default_value = "7d", value_name = "TIME", value_parser = flags::duration)]
    keep: Duration,

    /// A name for people; the inputs by default
    #[arg(long, env = "MUTIRAO_LABEL", value_name = "TEXT")]
    label: Option<String>,
}

impl WhatFlags {
    /// What the broker is told about a job over these inputs.
    pub(crate) fn settings(&self, inputs: &str) -> JobSettings {
        let time_limit = self.time_limit.unwrap_or_default();
        JobSettings {
            label: ops::printable(self.label.as_deref().unwrap_or(inputs), 60),
            attempts: self.attempts,
            time_limit_ms: time_limit.as_millis() as u64,
            priority: self.priority,
            keep_seconds: self.keep.as_millis().div_ceil(1000) as u64,
            ..JobSettings::new(ops::name(&self.op))
        }
    }
}

impl SubmitArgs {
    /// Whether it runs until somebody stops it.
    pub(crate) fn stays_for_long(&self) -> bool {
        self.watch.is_some()
    }
}

pub(crate) fn run(args: SubmitArgs) -> Result<(), Exit> {
    check(&args)?;
    let config = args.connection.client(&args.limits)?;
    if let Some(folder) = &args.watch {
        let out = args.out.clone().unwrap_or_else(|| RESULTS.into());
        return watch::run(watch::Plan {
            folder: folder.clone(),
            out,
            what: args.what,
            limit_bytes: args.limits.max_payload_bytes,
            timeout: args.connection.timeout,
            config,
        });
    }
    let job = JobFlags {
        input: args.input.clone(),
        op: args.what.op.clone(),
        chunk_bytes: args.what.chunk_bytes,
        attempts: args.what.attempts,
    };
    let mut feed = Feed::plan(&job, args.limits.max_payload_bytes)?;
    if !(args.wait || args.out.is_some()) || args.detach {
        return hand_over(&args, config, &feed);
    }
    let out = args.out.clone().unwrap_or_else(|| RESULTS.into());
    // Two who wait for the same work, each in a folder of its own, would take the results from
    // each other if it were one job.
    feed.job = job_into(feed.job, &out);
    stay(&args, config, &feed)
}

/// The job of somebody who wants its results in this folder: the same after a restart.
fn job_into(job: JobId, out: &Path) -> JobId {
    let mut sha = Sha256::new();
    sha.update(job.0.to_le_bytes());
    sha.update(whole_path(out).as_os_str().as_encoded_bytes());
    let digest = sha.finalize();
    JobId(u64::from_le_bytes(std::array::from_fn(|i| digest[i])))
}

/// What contradicts itself on the command line.
fn check(args: &SubmitArgs) -> Result<(), Exit> {
    let given = &args.given;
    let wrong = if args.watch.is_some() && !args.input.is_empty() {
        "--watch takes its files from the folder: leave the INPUT out"
    } else if args.watch.is_none() && args.input.is_empty() {
        "nothing to submit: name an INPUT, or a folder with --watch"
    } else if given.has("detach") && (given.has("wait") || given.has("out")) {
        "--detach contradicts --wait and --out: leave at once, or wait for the results"
    } else if args.watch.is_some() && given.has("detach") {
        "--detach contradicts --watch, which stays until it is stopped: leave one out"
    } else {
        return Ok(());
    };
    Err(Exit::Usage(wrong.into()))
}

fn begin(
    args: &SubmitArgs,
    config: &ClientConfig,
    feed: &Feed,
    tally: &Arc<Tally>,
) -> Result<Handing, Exit> {
    let inputs = args.input.iter().map(|path| path.display().to_string());
    let settings = args.what.settings(&inputs.collect::<Vec<_>>().join(" "));
    let timeout = Some(args.connection.timeout);
    Handing::begin(config.clone(), feed.job, settings, timeout, tally.clone()).map_err(ended)
}

/// Hands the job in and leaves.
fn hand_over(args: &SubmitArgs, config: ClientConfig, feed: &Feed) -> Result<(), Exit> {
    let caught = Caught::begin()?;
    let mut console = args.connection.console()?;
    need_keeping(&console.status().map_err(ended)?, &config.broker)?;
    let tally = Arc::new(Tally::default());
    let mut handing = begin(args, &config, feed, &tally)?;
    let job = feed.job;
    caught.then(move |_| {
        exit::leave(&Exit::Interrupted(format!(
            "interrupted before the broker had all of job {job}: the same command goes on with it, `mutirao cancel {job}` ends it"
        )))
    });
    feed.submit_all(&mut handing, &Meter::new(feed.bytes()))
        .map_err(ended)?;
    let tasks = handing.finish(None).map_err(ended)?;
    say(&format!("job {job} accepted: {}", counted(tasks, "task")));
    let operation = feed.operation();
    let status = console.status().map_err(ended)?;
    let service = status.services.get(operation);
    if tasks > 0 && service.is_some_and(|service| service.workers == 0) {
        say(&format!(
            "no worker offers {operation} now: the job waits until one comes, as with `mutirao worker --broker {}{}`",
            config.broker,
            match ops::needs_permission(operation) {
                true => " --allow-exec",
                false => "",
            }
        ));
    }
    // Whoever reads it may be gone; the line above told it as well.
    let _ = writeln!(std::io::stdout(), "{job}");
    Ok(())
}

/// Hands the job in and collects its results.
fn stay(args: &SubmitArgs, config: ClientConfig, feed: &Feed) -> Result<(), Exit> {
    let out = args.out.clone().unwrap_or_else(|| RESULTS.into());
    let target = target(&out, feed.is_stdin())?;
    check_apart(&args.input, &target)?;
    let caught = Caught::begin()?;
    let tally = Arc::new(Tally::default());
    let mut handing = begin(args, &config, feed, &tally)?;
    let at = config.broker.clone();
    let awaited = Awaited {
        config,
        job: feed.job,
        operation: feed.operation(),
        only: feed.only_name(),
        bytes: feed.bytes(),
        target,
        format: args.summary.summary,
    };
    let stay = Stay::begin(awaited, tally)?;
    let fetch = fetch_command(feed.job, &out, &at, &args.connection.codec);
    let lines = feed.is_stdin().then(|| handing.clone());
    let fetch = (handing.keeps != Keeps::Nothing).then_some(fetch);
    Interruption::of(&stay, feed.job, fetch, lines).listen(caught, stay.ending());
    handing.pass_over(stay.tally.safe_before());
    feed.submit_all(&mut handing, &stay.report.meter)
        .and_then(|()| handing.finish(None))
        .map_err(ended)?;
    stay.end()
}

/// The command that fetches what is left of a job.
pub(crate) fn fetch_command(
    job: JobId,
    out: &Path,
    broker: &Endpoint,
    codec: &CodecFlag,
) -> String {
    format!(
        "`mutirao results {job} --out {} --broker {broker}{}`",
        out.display(),
        codec.typed()
    )
}

/// What happens at Ctrl-C to somebody who waits for results.
pub(crate) struct Interruption {
    job: JobId,
    /// The command that fetches the rest, where the broker keeps that.
    fetch: Option<String>,
    /// Lines that were read cannot be read again: what there is of them becomes the job.
    lines: Option<Handing>,
    report: Report,
    tally: Arc<Tally>,
}

impl Interruption {
    pub(crate) fn of(
        stay: &Stay,
        job: JobId,
        fetch: Option<String>,
        lines: Option<Handing>,
    ) -> Interruption {
        Interruption {
            job,
            fetch,
            lines,
            report: stay.report.clone(),
            tally: stay.tally.clone(),
        }
    }

    pub(crate) fn listen(self, caught: Caught, ending: Ending) {
        caught.then(move |_| {
            if let Some(lines) = self.lines.as_ref().filter(|_| !self.tally.is_handed_in()) {
                // Whether it works is told by the sentence below.
                let _ = lines.finish(Some(DRAIN_PATIENCE));
            }
            ending.end(DRAIN_PATIENCE);
            self.leave()
        });
    }

    fn leave(&self) -> ! {
        let summary = self.tally.summary();
        show_failures(&summary);
        self.report.print(&summary);
        let (job, safe) = (self.job, counted(summary.progress.safe, "safe result"));
        exit::leave(&Exit::Interrupted(match &self.fetch {
            None => format!(
                "interrupted: {safe}; the broker drops the rest, as it works by request and reply"
            ),
            Some(fetch) if self.tally.is_handed_in() => format!(
                "interrupted: {safe}; the job goes on at the broker, and {fetch} fetches the rest"
            ),
            Some(_) => format!(
                "interrupted before the broker had all of job {job}: {safe}; the same command goes on with it, `mutirao cancel {job}` ends it"
            ),
        }))
    }
}
