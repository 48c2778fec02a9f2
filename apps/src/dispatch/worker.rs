//! `mutirao worker`: works on tasks until stopped.

use clap::Args;
use clap::builder::FalseyValueParser;
use mutirao::{Endpoint, Worker, WorkerConfig, WorkerExit};

use super::work::{Commands, Workshop};
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::{self, KeyFlag, LimitFlags, PatternFlag, ServerFlag};
use crate::signals::{Caught, Signal};

/// Work on tasks until stopped.
///
/// Ctrl-C or SIGTERM: finishes what it has begun, gives back the rest, leaves.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mutirao worker --ventilator tcp://10.0.0.1:5557 --sink tcp://10.0.0.2:5559 --slots 4"
)]
pub(crate) struct WorkerArgs {
    /// Where the ventilator listens
    #[arg(long, env = "MUTIRAO_VENTILATOR", default_value = "tcp://127.0.0.1:5557", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    ventilator: Endpoint,

    /// Where the sink listens
    #[arg(long, env = "MUTIRAO_SINK", default_value = "tcp://127.0.0.1:5559", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    sink: Endpoint,

    #[command(flatten)]
    pattern: PatternFlag,

    /// Tasks that run at once; as many as there are cores by default
    #[arg(long, env = "MUTIRAO_SLOTS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,

    /// Run the commands that `exec` tasks bring along
    #[arg(long, env = "MUTIRAO_ALLOW_EXEC", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    allow_exec: bool,

    /// Leave when the job is finished
    #[arg(long, env = "MUTIRAO_ONCE", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    once: bool,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server: ServerFlag,
}

pub(crate) fn run(args: WorkerArgs) -> Result<(), Exit> {
    let security = flags::security(&args.key, Some(&args.server), None)?;
    let defaults = WorkerConfig::new(args.ventilator, args.sink);
    let config = WorkerConfig {
        pattern: args.pattern.pattern,
        slots: args.slots.map_or(defaults.slots, usize::from),
        once: args.once,
        limits: args.limits.limits(),
        socket: args.limits.socket(security),
        ..defaults
    };
    let commands = if args.allow_exec {
        Commands::Allowed
    } else {
        Commands::Refused
    };
    let workshop = Workshop {
        commands,
        limit_bytes: args.limits.max_payload_bytes,
    };
    let caught = Caught::begin()?;
    let hello = format!(
        "{}, by {}, from {} to {}",
        counted(config.slots as u64, "slot"),
        config.pattern,
        config.ventilator,
        config.sink
    );
    let worker = Worker::start(config, move |task, info| workshop.work(task, info))?;
    log::info!("{hello}");
    let stop = worker.stop_handle();
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        log::info!("leaving: finishing what has begun, giving back the rest");
        let _ = tell.send(signal);
        stop.stop();
    });
    let exit = worker.wait(None);
    let left = || match told.try_recv() {
        Ok(Signal::Interrupt) => Err(Exit::Interrupted("left on request; nothing is lost".into())),
        _ => Ok(()),
    };
    match exit {
        Some(WorkerExit::Finished) | None => Ok(()),
        Some(WorkerExit::Left) => left(),
        Some(exit) => Err(Exit::Environment(exit.to_string())),
    }
}
