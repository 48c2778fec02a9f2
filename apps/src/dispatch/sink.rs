//! `mutirao sink`: collects results into a folder until stopped.

use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;
use mutirao::{Endpoint, Sink, SinkConfig};

use super::collect::{Collector, Target, Until};
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::{self, GuardFlags, KeyFlag, LimitFlags, PatternFlag};
use crate::signals::{Caught, Signal};

/// Collect results into a folder until stopped.
///
/// Every result is written once, whole. Killed at any moment and started again with the same --out,
/// it goes on where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao sink --bind tcp://127.0.0.1:5559 --out results")]
pub(crate) struct SinkArgs {
    /// Where workers connect; the next port is for ventilators
    #[arg(long, env = "MUTIRAO_BIND", default_value = "tcp://127.0.0.1:5559", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    bind: Endpoint,

    /// The folder for results
    #[arg(long, env = "MUTIRAO_OUT", value_name = "DIR")]
    out: PathBuf,

    #[command(flatten)]
    pattern: PatternFlag,

    /// Leave when a job is complete
    #[arg(long, env = "MUTIRAO_ONCE", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    once: bool,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    guard: GuardFlags,
}

pub(crate) fn run(args: SinkArgs) -> Result<(), Exit> {
    let security = flags::security(&args.key, None, Some(&args.guard))?;
    check_folder(&args.out)?;
    let caught = Caught::begin()?;
    let sink = Sink::start(SinkConfig {
        pattern: args.pattern.pattern,
        limits: args.limits.limits(),
        socket: args.limits.socket(security),
        ..SinkConfig::new(args.bind)
    })?;
    log::info!(
        "results at {}, by {}, into {}",
        sink.endpoint(),
        args.pattern.pattern,
        args.out.display()
    );
    let stop = sink.stop_handle();
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        let _ = tell.send(signal);
        stop.stop();
    });
    let mut collector = Collector::new(sink, Target::Folder(args.out));
    collector.collect(if args.once {
        Until::OneJob
    } else {
        Until::Stopped
    })?;
    let (jobs, totals) = (collector.finished_jobs, collector.totals);
    log::info!(
        "{} complete, {} written, {} without one",
        counted(jobs, "job"),
        counted(totals.written, "result"),
        counted(totals.failed, "input")
    );
    match told.try_recv() {
        Ok(Signal::Interrupt) => Err(Exit::Interrupted(format!(
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
