//! `mutirao ventilator`: hands out the tasks of a job.

use clap::Args;
use mutirao::pipeline::Limits;
use mutirao::{Endpoint, Ventilator, VentilatorConfig};

use super::feed::{Feed, JobFlags};
use super::run::{Job, ended, environment};
use super::task::Task;
use crate::exit::Exit;
use crate::flags::{self, GuardFlags, KeyFlag, LimitFlags, PatternFlag, ServerFlag, SummaryFlag};
use crate::signals::Caught;

/// Hand out the tasks of a job to workers.
///
/// Ends when every result is safe at the sink. Started again with the same inputs after a crash, it
/// goes on where it stopped.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mutirao ventilator texts/ --op wordcount --sink tcp://127.0.0.1:5559"
)]
pub(crate) struct VentilatorArgs {
    #[command(flatten)]
    job: JobFlags,

    #[command(flatten)]
    pattern: PatternFlag,

    /// Where workers connect; the next port carries control messages
    #[arg(long, env = "MUTIRAO_BIND", default_value = "tcp://127.0.0.1:5557", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    bind: Endpoint,

    /// Where the sink listens
    #[arg(long, env = "MUTIRAO_SINK", default_value = "tcp://127.0.0.1:5559", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    sink: Endpoint,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server: ServerFlag,

    #[command(flatten)]
    guard: GuardFlags,

    #[command(flatten)]
    summary: SummaryFlag,
}

pub(crate) fn run(args: VentilatorArgs) -> Result<(), Exit> {
    let security = flags::security(&args.key, Some(&args.server), Some(&args.guard))?;
    let feed = Feed::plan(&args.job, args.limits.max_payload_bytes)?;
    let caught = Caught::begin()?;
    let mut ventilator = Ventilator::<Task>::start(VentilatorConfig {
        pattern: args.pattern.pattern,
        job: feed.job,
        limits: Limits {
            attempts: args.job.attempts,
            ..args.limits.limits()
        },
        socket: args.limits.socket(security),
        ..VentilatorConfig::new(args.bind, args.sink)
    })?;
    log::info!(
        "job {}: tasks at {}, by {}",
        feed.job,
        ventilator.endpoint(),
        args.pattern.pattern
    );
    let job = Job::begin(
        ventilator.handle(),
        caught,
        &feed,
        args.summary.summary,
        false,
    );
    let fed = feed.submit_all(&mut ventilator, &job.meter);
    let finished = fed
        .map_err(ended)
        .and_then(|()| ventilator.finish(None))
        .map_err(environment);
    job.end(finished)
}
