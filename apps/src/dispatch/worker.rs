//! `mutirao worker`: works on tasks until stopped.

use clap::Args;
use clap::builder::FalseyValueParser;
use mutirao::security::Security;
use mutirao::{Endpoint, Pattern, Worker, WorkerConfig, WorkerExit};

use super::broker::{BrokerWork, OneWay, Route, WayFlag, start_worker};
use super::work::{Commands, Workshop};
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::{self, CodecFlag, KeyFlag, LimitFlags, ServerFlag, TransportFlags};
use crate::given::Given;
use crate::signals::{Caught, Signal};

/// Work on tasks until stopped, for a ventilator and a sink or for a broker.
///
/// Ctrl-C or SIGTERM: finishes what it has begun, gives back the rest, leaves.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mutirao worker --ventilator tcp://10.0.0.1:5557 --sink tcp://10.0.0.2:5559 --slots 4\n  \
    mutirao worker --broker tcp://10.0.0.1:5555 --ops wordcount,sha256"
)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    given: Given,

    /// Where the ventilator listens [default: tcp://127.0.0.1:5557]
    #[arg(long, env = "MUTIRAO_VENTILATOR", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    ventilator: Option<Endpoint>,

    /// Where the sink listens [default: tcp://127.0.0.1:5559]
    #[arg(long, env = "MUTIRAO_SINK", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    sink: Option<Endpoint>,

    /// Where the broker listens [default where the pattern is broker: tcp://127.0.0.1:5555]
    #[arg(long, env = "MUTIRAO_BROKER", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    broker: Option<Endpoint>,

    /// What to offer a broker, as names with commas between them; everything by default, `exec` only
    /// with --allow-exec
    #[arg(long, env = "MUTIRAO_OPS", value_name = "OPS", value_delimiter = ',')]
    ops: Vec<String>,

    #[command(flatten)]
    pattern: WayFlag,

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
    transport: TransportFlags,

    #[command(flatten)]
    codec: CodecFlag,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server: ServerFlag,
}

pub(crate) fn run(args: WorkerArgs) -> Result<(), Exit> {
    let security = flags::security(&args.key, Some(&args.server), None)?;
    let caught = Caught::begin()?;
    let route = ONE_WAY.route(&args.given, &args.pattern, args.broker.as_ref())?;
    let (worker, hello) = match route {
        Route::Trio(pattern) => start_in_trio(args, pattern, security)?,
        Route::Broker(broker) => start_worker(BrokerWork {
            broker: args.transport.apply(&broker)?,
            codec: args.codec.codec(),
            slots: args.slots.map(usize::from),
            workshop: args.workshop(),
            socket: args.limits.socket(security),
            ops: args.ops,
            limits: args.limits,
        })?,
    };
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

const ONE_WAY: OneWay = OneWay {
    trio: &["ventilator", "sink", "once"],
    broker: &["ops", "codec"],
};

fn start_in_trio(
    args: WorkerArgs,
    pattern: Pattern,
    security: Security,
) -> Result<(Worker, String), Exit> {
    let workshop = args.workshop();
    let or = |endpoint: &Option<Endpoint>, default: &str| match endpoint {
        Some(endpoint) => args.transport.apply(endpoint),
        None => args
            .transport
            .apply(&default.parse().expect("our own endpoint")),
    };
    let defaults = WorkerConfig::new(
        or(&args.ventilator, "tcp://127.0.0.1:5557")?,
        or(&args.sink, "tcp://127.0.0.1:5559")?,
    );
    let config = WorkerConfig {
        pattern,
        slots: args.slots.map_or(defaults.slots, usize::from),
        once: args.once,
        limits: args.limits.limits(),
        socket: args.limits.socket(security),
        ..defaults
    };
    let hello = format!(
        "{}, by {}, from {} to {}",
        counted(config.slots as u64, "slot"),
        config.pattern,
        config.ventilator,
        config.sink
    );
    let worker = Worker::start(config, move |task, info| workshop.work(task, info))?;
    Ok((worker, hello))
}

impl WorkerArgs {
    fn workshop(&self) -> Workshop {
        Workshop {
            commands: match self.allow_exec {
                true => Commands::Allowed,
                false => Commands::Refused,
            },
            limit_bytes: self.limits.max_payload_bytes,
        }
    }
}
