//! `mutirao ventilator`: hands out the tasks of a job.

use clap::Args;
use mutirao::broker::JobSettings;
use mutirao::pipeline::Limits;
use mutirao::{Endpoint, Pattern, Ventilator, VentilatorConfig};

use super::broker::{self, BrokerVentilator, OneWay, Route, WayFlag};
use super::feed::{Feed, JobFlags};
use super::run::{Job, Results, ended, environment};
use super::task::Task;
use crate::exit::Exit;
use crate::flags::{
    self, CodecFlag, GuardFlags, KeyFlag, LimitFlags, ServerFlag, SummaryFlag, TransportFlags,
};
use crate::given::Given;
use crate::ops;
use crate::signals::Caught;

/// Hand out the tasks of a job to workers.
///
/// Ends when every result is safe at the sink. Started again with the same inputs after a crash, it
/// goes on where it stopped.
///
/// At a broker it hands the job in, and waits until a sink has the results.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mutirao ventilator texts/ --op wordcount --sink tcp://127.0.0.1:5559\n  \
    mutirao ventilator texts/ --op wordcount --broker tcp://127.0.0.1:5555"
)]
pub(crate) struct VentilatorArgs {
    #[command(flatten)]
    given: Given,

    #[command(flatten)]
    job: JobFlags,

    #[command(flatten)]
    pattern: WayFlag,

    /// Where the broker listens [default where the pattern is broker: tcp://127.0.0.1:5555]
    #[arg(long, env = "MUTIRAO_BROKER", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    broker: Option<Endpoint>,

    /// Where workers connect; the next port carries control messages
    #[arg(long, env = "MUTIRAO_BIND", default_value = "tcp://127.0.0.1:5557", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    bind: Endpoint,

    /// Where the sink listens
    #[arg(long, env = "MUTIRAO_SINK", default_value = "tcp://127.0.0.1:5559", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    sink: Endpoint,

    #[command(flatten)]
    transport: TransportFlags,

    #[command(flatten)]
    codec: CodecFlag,

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

const ONE_WAY: OneWay = OneWay {
    trio: &["bind", "sink", "curve_allow", "insecure"],
    broker: &["codec"],
};

pub(crate) fn run(args: VentilatorArgs) -> Result<(), Exit> {
    match ONE_WAY.route(&args.given, &args.pattern, args.broker.as_ref())? {
        Route::Trio(pattern) => hand_out(args, pattern),
        Route::Broker(broker) => hand_in(&args, args.transport.apply(&broker)?),
    }
}

fn hand_out(args: VentilatorArgs, pattern: Pattern) -> Result<(), Exit> {
    let security = flags::security(&args.key, Some(&args.server), Some(&args.guard))?;
    let (bind, sink) = (
        args.transport.apply(&args.bind)?,
        args.transport.apply(&args.sink)?,
    );
    let feed = Feed::plan(&args.job, args.limits.max_payload_bytes)?;
    let caught = Caught::begin()?;
    let mut ventilator = Ventilator::<Task>::start(VentilatorConfig {
        pattern,
        job: feed.job,
        limits: Limits {
            attempts: args.job.attempts,
            ..args.limits.limits()
        },
        socket: args.limits.socket(security),
        ..VentilatorConfig::new(bind, sink)
    })?;
    log::info!(
        "job {}: tasks at {}, by {pattern}",
        feed.job,
        ventilator.endpoint()
    );
    let job = Job::begin(
        ventilator.handle(),
        caught,
        &feed,
        args.summary.summary,
        Results::Written,
    );
    let fed = feed.submit_all(&mut ventilator, &job.meter);
    let finished = fed
        .map_err(ended)
        .and_then(|()| ventilator.finish(None))
        .map_err(environment);
    job.end(finished)
}

fn hand_in(args: &VentilatorArgs, at: Endpoint) -> Result<(), Exit> {
    let security = flags::security(&args.key, Some(&args.server), None)?;
    let feed = Feed::plan(&args.job, args.limits.max_payload_bytes)?;
    let inputs = args.job.input.iter().map(|path| path.display().to_string());
    let settings = JobSettings {
        label: ops::printable(&inputs.collect::<Vec<_>>().join(" "), 60),
        attempts: args.job.attempts,
        ..JobSettings::new(feed.operation())
    };
    broker::run_ventilator(BrokerVentilator {
        config: args.limits.client(at, &args.codec, security)?,
        feed,
        settings,
        format: args.summary.summary,
    })
}
