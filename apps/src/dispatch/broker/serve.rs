//! `mutirao broker`: takes in tasks, gives them to workers, keeps the results.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mutirao::Endpoint;
use mutirao::broker::store::DiskStore;
use mutirao::broker::{Broker, BrokerConfig, BrokerError, BrokerLimits, Detection, Mode};

use crate::exit::Exit;
use crate::flags::{self, CodecFlag, GuardFlags, KeyFlag, LimitFlags, TransportFlags};
use crate::signals::{Caught, Signal};

/// Take in tasks, give them to whoever has room, keep the results until they are fetched.
///
/// Clients hand in work and may go; workers come and go. Stopped with Ctrl-C or SIGTERM; with --store
/// DIR it goes on where it stopped, also after a crash, else what it holds ends with it.
///
/// With --mode request-reply clients wait for their results, which go straight back, and nothing is
/// kept: a job ends with the client that handed it in.
#[derive(Debug, Args)]
#[command(after_help = "Example: a broker, a worker and a job\n  \
    mutirao broker &\n  \
    mutirao worker --broker tcp://127.0.0.1:5555 &\n  \
    mutirao submit texts/ --op wordcount --wait")]
pub(crate) struct BrokerArgs {
    /// Where clients and workers connect
    #[arg(long, env = "MUTIRAO_BIND", default_value = "tcp://127.0.0.1:5555", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    bind: Endpoint,

    /// Where tasks and results are kept over a restart: a folder, or none
    #[arg(long, env = "MUTIRAO_STORE", default_value = "none", value_name = "DIR", value_parser = store)]
    store: Store,

    /// Whether clients may leave: load-balancing keeps their tasks and results, request-reply does
    /// not
    #[arg(
        long,
        env = "MUTIRAO_MODE",
        default_value = "load-balancing",
        value_name = "MODE"
    )]
    mode: ModeName,

    /// How it is told from the heartbeats which worker is late (it gets nothing new while others have
    /// room) and which is gone
    #[arg(
        long,
        env = "MUTIRAO_DETECTOR",
        default_value = "fixed",
        value_name = "DETECTOR"
    )]
    detector: DetectorName,

    #[command(flatten)]
    transport: TransportFlags,

    #[command(flatten)]
    codec: CodecFlag,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    guard: GuardFlags,
}

/// How clients are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeName {
    /// Tasks and results are kept
    LoadBalancing,
    /// Results go straight back
    RequestReply,
}

/// How the broker goes by heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DetectorName {
    /// Late after 1.75 heartbeats, gone after 4
    Fixed,
    /// φ accrual: adapts to how regularly each worker is heard
    Phi,
}

impl DetectorName {
    fn detection(self) -> Detection {
        match self {
            DetectorName::Fixed => Detection::Fixed,
            DetectorName::Phi => Detection::PhiAccrual,
        }
    }
}

/// Where a broker keeps what it has.
#[derive(Debug, Clone)]
enum Store {
    Memory,
    Folder(PathBuf),
}

impl Store {
    fn open(&self) -> Result<Option<Box<dyn mutirao::broker::store::Store>>, Exit> {
        match self {
            Store::Memory => Ok(None),
            Store::Folder(folder) => {
                let store = DiskStore::open(folder);
                let store = store.map_err(|error| Exit::Environment(error.to_string()))?;
                Ok(Some(Box::new(store)))
            }
        }
    }
}

impl BrokerArgs {
    fn mode(&self) -> Result<Mode, Exit> {
        match (self.mode, &self.store) {
            (ModeName::LoadBalancing, _) => Ok(Mode::LoadBalancing),
            (ModeName::RequestReply, Store::Memory) => Ok(Mode::RequestReply),
            (ModeName::RequestReply, Store::Folder(_)) => Err(Exit::Usage(
                "--store contradicts --mode request-reply, which keeps nothing: leave one of them out".into(),
            )),
        }
    }

    /// What is kept, for people.
    fn keeps(&self) -> String {
        match (self.mode, &self.store) {
            (ModeName::RequestReply, _) => {
                "results go straight back, and nothing is kept for clients that leave".into()
            }
            (_, Store::Memory) => {
                "everything is kept in memory and ends with it (--store DIR keeps it on disk)"
                    .into()
            }
            (_, Store::Folder(folder)) => format!("everything is kept in {}", folder.display()),
        }
    }

    /// What becomes of it when the broker stops.
    fn farewell(&self) -> String {
        match &self.store {
            Store::Memory => "stopped; what it held is gone, as it was kept in memory".into(),
            Store::Folder(folder) => {
                format!(
                    "stopped; the same command goes on with what is in {}",
                    folder.display()
                )
            }
        }
    }
}

fn store(text: &str) -> Result<Store, String> {
    match text {
        "" => Err("no folder is named: give one, or none to keep everything in memory".into()),
        "none" => Ok(Store::Memory),
        folder => Ok(Store::Folder(folder.into())),
    }
}

pub(crate) fn run(args: BrokerArgs) -> Result<(), Exit> {
    let security = flags::security(&args.key, None, Some(&args.guard))?;
    let mode = args.mode()?;
    let bind = args.transport.apply(&args.bind)?;
    let store = args.store.open()?;
    let caught = Caught::begin()?;
    let config = BrokerConfig {
        codec: args.codec.codec(),
        limits: BrokerLimits {
            mode,
            heartbeat: args.limits.limits().heartbeat,
            detection: args.detector.detection(),
            ..BrokerLimits::default()
        },
        socket: args.limits.socket(security),
        ..BrokerConfig::new(bind)
    };
    let broker = Broker::start(config, store).map_err(cannot_start)?;
    log::info!("broker at {}: {}", broker.endpoint(), args.keeps());
    let stop = broker.stop_handle();
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        let _ = tell.send(signal);
        stop.stop();
    });
    broker.wait().map_err(Exit::Environment)?;
    match told.try_recv() {
        Ok(Signal::Interrupt) => Err(Exit::Interrupted(args.farewell())),
        _ => {
            log::info!("{}", args.farewell());
            Ok(())
        }
    }
}

pub(super) fn cannot_start(error: BrokerError) -> Exit {
    match error {
        BrokerError::Open(error) => error.into(),
        BrokerError::Store(error) => Exit::Environment(error.to_string()),
    }
}
