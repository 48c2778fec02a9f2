//! `mutirao run`: a whole job in one process.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use mutirao::pipeline::Limits;
use mutirao::security::Security;
use mutirao::trio::{FinishError, SubmitError, VentilatorHandle};
use mutirao::{Pattern, Sink, SinkConfig, Ventilator, VentilatorConfig, Worker, WorkerConfig};

use super::broker::{self, Way, WayFlag};
use super::collect::{Collector, Target, Until};
use super::feed::{Feed, JobFlags};
use super::progress::{Meter, Watch};
use super::summary::Summary;
use super::task::Task;
use super::work::{Commands, Workshop};
use crate::count::counted;
use crate::exit::{self, Exit};
use crate::flags::{CodecFlag, LimitFlags, SummaryFlag, SummaryFormat, TransportFlags};
use crate::given::Given;
use crate::signals::Caught;

/// How long a job that was interrupted may take to finish what it has begun.
pub(crate) const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// Failures that are printed one by one; the rest is counted.
pub(crate) const SHOWN_FAILURES: u64 = 20;

/// Do a whole job in this process: ventilator, workers and sink together.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mutirao run texts/ --op wordcount --out results\n  \
    seq 10 | mutirao run - --op 'exec:sed s/1/one/' --out -"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    given: Given,

    #[command(flatten)]
    pub(super) job: JobFlags,

    /// Where results go: a folder, or `-` for standard output (only with INPUT `-`)
    #[arg(
        long,
        env = "MUTIRAO_OUT",
        default_value = "results",
        value_name = "DIR"
    )]
    out: PathBuf,

    #[command(flatten)]
    pub(super) pattern: WayFlag,

    /// Tasks that run at once; as many as there are cores by default
    #[arg(long, env = "MUTIRAO_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: Option<u16>,

    #[command(flatten)]
    pub(super) transport: TransportFlags,

    #[command(flatten)]
    pub(super) codec: CodecFlag,

    #[command(flatten)]
    pub(super) limits: LimitFlags,

    #[command(flatten)]
    pub(super) summary: SummaryFlag,
}

pub(crate) fn run(args: RunArgs) -> Result<(), Exit> {
    let feed = Feed::plan(&args.job, args.limits.max_payload_bytes)?;
    let target = target(&args.out, feed.is_stdin())?;
    check_apart(&args.job.input, &target)?;
    let pattern = match args.pattern.way {
        Way::Trio(_) if args.given.has("codec") => {
            return Err(Exit::Usage(
                "--codec goes with --pattern broker: the others have no use for it".into(),
            ));
        }
        Way::Trio(pattern) => pattern,
        Way::Broker => return broker::run(&args, &feed, target),
    };
    let results = Results::of(&target);
    let caught = Caught::begin()?;
    let trio = Trio::start(&args, pattern, &feed, target)?;
    let job = Job::begin(
        trio.ventilator.handle(),
        caught,
        &feed,
        args.summary.summary,
        results,
    );
    let ended = trio.work(&feed, &job);
    job.end(ended)
}

pub(crate) fn target(out: &Path, from_stdin: bool) -> Result<Target, Exit> {
    if out.as_os_str() != "-" {
        return Ok(Target::Folder(out.to_path_buf()));
    }
    if !from_stdin {
        return Err(Exit::Usage(
            "--out - goes only with INPUT `-`: results of files need a folder, as in --out results"
                .into(),
        ));
    }
    Ok(Target::Stdout { from: 0 })
}

/// Results among the inputs would be inputs of the next run, and their results of the one after it.
pub(crate) fn check_apart(inputs: &[PathBuf], target: &Target) -> Result<(), Exit> {
    let Target::Folder(out) = target else {
        return Ok(());
    };
    let results = whole_path(out);
    let inside = |input: &&PathBuf| input.is_dir() && results.starts_with(whole_path(input));
    match inputs.iter().find(inside) {
        None => Ok(()),
        Some(input) => Err(Exit::Usage(format!(
            "the results in {} would be read as inputs by the next run, as it lies in {}: choose an --out elsewhere",
            out.display(),
            input.display()
        ))),
    }
}

/// The path without links and `..`, as far as it exists.
pub(crate) fn whole_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let known = path
        .ancestors()
        .find_map(|above| Some((above, above.canonicalize().ok()?)));
    match known {
        // Not joined with nothing, which would add a slash to one that exists.
        Some((above, whole)) if above == path => whole,
        Some((above, whole)) => whole.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
        None => path,
    }
}

/// Ventilator, workers and sink of one process.
struct Trio {
    ventilator: Ventilator<Task>,
    workers: Vec<Worker>,
    collector: JoinHandle<()>,
}

impl Trio {
    fn start(args: &RunArgs, pattern: Pattern, feed: &Feed, target: Target) -> Result<Trio, Exit> {
        let limits = Limits {
            attempts: args.job.attempts,
            ..args.limits.limits()
        };
        let socket = args.limits.socket(Security::None);
        let sink = Sink::start(SinkConfig {
            pattern,
            limits: limits.clone(),
            socket: socket.clone(),
            ..SinkConfig::new(args.transport.at_home("results")?)
        })?;
        let results = sink.endpoint().clone();
        let ventilator = Ventilator::start(VentilatorConfig {
            pattern,
            job: feed.job,
            limits: limits.clone(),
            socket: socket.clone(),
            ..VentilatorConfig::new(args.transport.at_home("tasks")?, results.clone())
        })?;
        let tasks = ventilator.endpoint().clone();
        let workshop = Workshop {
            commands: Commands::Allowed,
            limit_bytes: args.limits.max_payload_bytes,
        };
        let worker = || {
            let config = WorkerConfig {
                pattern,
                slots: 1,
                limits: limits.clone(),
                socket: socket.clone(),
                ..WorkerConfig::new(tasks.clone(), results.clone())
            };
            Worker::start(config, move |task, info| workshop.work(task, info))
        };
        let workers = (0..worker_count(args.workers))
            .map(|_| worker())
            .collect::<Result<Vec<_>, _>>()?;
        let collector = std::thread::spawn(move || {
            let collect = || Collector::new(sink, target).collect(Until::OneJob);
            let bug = || Exit::Environment("collecting results panicked: this is a bug".into());
            let collected = catch_unwind(AssertUnwindSafe(collect));
            if let Err(exit) = collected.unwrap_or_else(|_| Err(bug())) {
                // From here, as whoever feeds the job may be waiting for standard input, and no
                // worker can get rid of its results any more.
                exit::leave(&exit);
            }
        });
        Ok(Trio {
            ventilator,
            workers,
            collector,
        })
    }

    /// Feeds the job and waits for its end.
    fn work(mut self, feed: &Feed, job: &Job) -> Result<mutirao::trio::Summary, Exit> {
        let fed = feed.submit_all(&mut self.ventilator, &job.meter);
        let finished = fed
            .map_err(ended)
            .and_then(|()| self.ventilator.finish(None));
        job.wait_if_interrupted();
        let finished = finished.map_err(environment)?;
        drop(self.ventilator);
        drop(self.workers);
        // It does not panic: what may is caught there.
        let _ = self.collector.join();
        Ok(finished)
    }
}

pub(crate) fn worker_count(asked: Option<u16>) -> usize {
    asked.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    )
}

/// Why handing in ended, where it is not a task's fault.
pub(crate) fn ended(error: SubmitError) -> FinishError {
    match error {
        SubmitError::Ended(error) => error,
        other => FinishError::Failed(other.to_string()),
    }
}

pub(crate) fn environment(error: FinishError) -> Exit {
    Exit::Environment(error.to_string())
}

/// A job as the person at the terminal sees it: progress, Ctrl-C, summary.
pub(crate) struct Job {
    pub(crate) meter: Arc<Meter>,
    interrupted: Arc<AtomicBool>,
    watch: Watch,
    report: Report,
}

/// Where the results of a job end up, as seen from where it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Results {
    /// On a disk, by us or by a sink that tells us how much it is.
    Written,
    /// On standard output, which is theirs then.
    Printed,
    /// With somebody who does not tell us how much it is.
    Elsewhere,
}

impl Results {
    /// Where they are when they go to this target.
    pub(crate) fn of(target: &Target) -> Results {
        match target {
            Target::Stdout { .. } => Results::Printed,
            Target::Folder(_) => Results::Written,
        }
    }
}

/// How the end is reported.
#[derive(Clone)]
pub(crate) struct Report {
    pub(crate) begun: Instant,
    pub(crate) format: SummaryFormat,
    pub(crate) results: Results,
    pub(crate) meter: Arc<Meter>,
}

impl Job {
    pub(crate) fn begin(
        handle: VentilatorHandle,
        caught: Caught,
        feed: &Feed,
        format: SummaryFormat,
        results: Results,
    ) -> Job {
        let meter = Arc::new(Meter::new(feed.bytes()));
        let report = Report {
            begun: Instant::now(),
            format,
            results,
            meter: meter.clone(),
        };
        let interrupted = Arc::new(AtomicBool::new(false));
        let watch = Watch::start(handle.clone(), meter.clone(), feed.bytes());
        let (flag, told, is_stdin) = (interrupted.clone(), report.clone(), feed.is_stdin());
        caught.then(move |_| {
            flag.store(true, Ordering::SeqCst);
            told.interrupted(&handle, is_stdin)
        });
        Job {
            meter,
            interrupted,
            watch,
            report,
        }
    }

    /// After Ctrl-C the signal's thread reports and ends the program; this one only waits for it.
    pub(crate) fn wait_if_interrupted(&self) {
        while self.interrupted.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }

    /// Prints the summary and turns failed tasks into an exit code.
    pub(crate) fn end(self, ended: Result<mutirao::trio::Summary, Exit>) -> Result<(), Exit> {
        self.wait_if_interrupted();
        drop(self.watch);
        let summary = ended?;
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

pub(crate) fn show_failures(summary: &mutirao::trio::Summary) {
    for (_, reason) in summary.failures.iter().take(SHOWN_FAILURES as usize) {
        say(&format!("failed: {reason}"));
    }
    match summary.progress.failed.saturating_sub(SHOWN_FAILURES) {
        0 => {}
        more => say(&format!("failed: and {more} more")),
    }
}

/// Standard error may be closed; nobody is left to tell then.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Report {
    pub(crate) fn print(&self, summary: &mutirao::trio::Summary) {
        let mut summary = Summary::new(&summary.progress, self.meter.bytes(), self.begun.elapsed());
        if self.results == Results::Elsewhere {
            summary.bytes_out = None;
        }
        summary.print(self.format, self.results == Results::Printed);
    }

    /// Lets the job finish what it has begun, says what is done, and ends the program.
    ///
    /// Lines that have been read from standard input cannot be read again, so their job is brought
    /// to its end; files can, so theirs stays open for the next start to go on with.
    fn interrupted(&self, handle: &VentilatorHandle, is_stdin: bool) -> ! {
        say("mutirao: interrupted; finishing what has begun (once more ends at once)");
        let ended = if is_stdin {
            handle.cut_short(DRAIN_PATIENCE)
        } else {
            handle.drain(DRAIN_PATIENCE)
        };
        let summary = ended.unwrap_or_else(|_| mutirao::trio::Summary {
            progress: handle.progress(),
            failures: Vec::new(),
        });
        show_failures(&summary);
        self.print(&summary);
        let safe = counted(summary.progress.safe, "safe result");
        let next = if is_stdin {
            ""
        } else {
            "; the same command goes on from there"
        };
        exit::leave(&Exit::Interrupted(format!("interrupted: {safe}{next}")))
    }
}
