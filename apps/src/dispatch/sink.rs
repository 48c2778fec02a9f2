//! `mutirao sink`: collects results into a folder until stopped.

use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;
use mutirao::{Endpoint, Pattern, Sink, SinkConfig};

use super::broker::{self, BrokerSink, OneWay, Route, WayFlag};
use super::collect::{Collector, Target, Until};
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::{self, CodecFlag, GuardFlags, KeyFlag, LimitFlags, ServerFlag, TransportFlags};
use crate::given::Given;
use crate::signals::{Caught, Signal};

/// Collect results into a folder until stopped.
///
/// Every result is written once, whole. Killed at any moment and started again with the same --out,
/// it goes on where it stopped.
///
/// At a broker it collects the jobs that ventilators hand in, one after the other, and leaves alone
/// what `mutirao submit` does. Several sinks share the jobs: each goes whole to one of them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mutirao sink --bind tcp://127.0.0.1:5559 --out results\n  \
    mutirao sink --broker tcp://127.0.0.1:5555 --out results"
)]
pub(crate) struct SinkArgs {
    #[command(flatten)]
    given: Given,

    /// Where workers connect; the next port is for ventilators
    #[arg(long, env = "MUTIRAO_BIND", default_value = "tcp://127.0.0.1:5559", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    bind: Endpoint,

    /// Where the broker listens [default where the pattern is broker: tcp://127.0.0.1:5555]
    #[arg(long, env = "MUTIRAO_BROKER", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    broker: Option<Endpoint>,

    /// The folder for results
    #[arg(long, env = "MUTIRAO_OUT", value_name = "DIR")]
    out: PathBuf,

    #[command(flatten)]
    pattern: WayFlag,

    /// Leave when a job is complete
    #[arg(long, env = "MUTIRAO_ONCE", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    once: bool,

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
}

const ONE_WAY: OneWay = OneWay {
    trio: &["bind", "curve_allow", "insecure"],
    broker: &["curve_server", "codec"],
};

pub(crate) fn run(args: SinkArgs) -> Result<(), Exit> {
    let route = ONE_WAY.route(&args.given, &args.pattern, args.broker.as_ref())?;
    let until = match args.once {
        true => Until::OneJob,
        false => Until::Stopped,
    };
    check_folder(&args.out)?;
    match route {
        Route::Trio(pattern) => collect_in_trio(args, pattern, until),
        Route::Broker(at) => {
            let security = flags::security(&args.key, Some(&args.server), None)?;
            broker::run_sink(BrokerSink {
                config: args
                    .limits
                    .client(args.transport.apply(&at)?, &args.codec, security)?,
                out: args.out,
                until,
            })
        }
    }
}

fn collect_in_trio(args: SinkArgs, pattern: Pattern, until: Until) -> Result<(), Exit> {
    let security = flags::security(&args.key, None, Some(&args.guard))?;
    let caught = Caught::begin()?;
    let sink = Sink::start(SinkConfig {
        pattern,
        limits: args.limits.limits(),
        socket: args.limits.socket(security),
        ..SinkConfig::new(args.transport.apply(&args.bind)?)
    })?;
    log::info!(
        "results at {}, by {pattern}, into {}",
        sink.endpoint(),
        args.out.display()
    );
    let stop = sink.stop_handle();
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        let _ = tell.send(signal);
        stop.stop();
    });
    let mut collector = Collector::new(sink, Target::Folder(args.out));
    collector.collect(until)?;
    end(&collector, told.try_recv().ok())
}

/// Says what was collected, and how it ended.
pub(crate) fn end<S>(collector: &Collector<S>, signal: Option<Signal>) -> Result<(), Exit> {
    let (jobs, totals) = (collector.finished_jobs, collector.totals);
    log::info!(
        "{} complete, {} written, {} without one",
        counted(jobs, "job"),
        counted(totals.written, "result"),
        counted(totals.failed, "input")
    );
    match signal {
        Some(Signal::Interrupt) => Err(Exit::Interrupted(format!(
            "stopped after {}; what is confirmed of others is safe",
            counted(jobs, "complete job")
        ))),
        _ => Ok(()),
    }
}

/// Finds out now rather than at the first result whether results can be written.
fn check_folder(out: &std::path::Path) -> Result<(), Exit> {
    std::fs::create_dir_all(out).map_err(|error| {
        Exit::Environment(format!(
            "{} cannot be written ({error}): choose another --out",
            out.display()
        ))
    })
}
