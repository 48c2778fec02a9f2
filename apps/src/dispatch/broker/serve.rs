//! `mutirao broker`: takes in tasks, gives them to workers, keeps the results.

use std::path::PathBuf;

use clap::Args;
use mutirao::Endpoint;
use mutirao::broker::store::DiskStore;
use mutirao::broker::{Broker, BrokerConfig, BrokerError, BrokerLimits};

use crate::exit::Exit;
use crate::flags::{self, GuardFlags, KeyFlag, LimitFlags};
use crate::signals::{Caught, Signal};

/// Take in tasks, give them to whoever has room, keep the results until they are fetched.
///
/// Clients hand in work and may go; workers come and go. Stopped with Ctrl-C or SIGTERM; with --store
/// DIR it goes on where it stopped, also after a crash, else what it holds ends with it.
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

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    guard: GuardFlags,
}

/// Where a broker keeps what it has.
#[derive(Debug, Clone)]
enum Store {
    Memory,
    Folder(PathBuf),
}

impl Store {
    /// The store, and where that is, for people.
    fn open(&self) -> Result<(Option<Box<dyn mutirao::broker::store::Store>>, String), Exit> {
        match self {
            Store::Memory => Ok((None, "in memory".into())),
            Store::Folder(folder) => {
                let store = DiskStore::open(folder);
                let store = store.map_err(|error| Exit::Environment(error.to_string()))?;
                Ok((Some(Box::new(store)), format!("in {}", folder.display())))
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
    let (store, kept) = args.store.open()?;
    let caught = Caught::begin()?;
    let config = BrokerConfig {
        limits: BrokerLimits {
            heartbeat: args.limits.limits().heartbeat,
            ..BrokerLimits::default()
        },
        socket: args.limits.socket(security),
        ..BrokerConfig::new(args.bind)
    };
    let broker = Broker::start(config, store).map_err(cannot_start)?;
    log::info!("broker at {}, keeping everything {kept}", broker.endpoint());
    let stop = broker.stop_handle();
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        log::info!("stopping");
        let _ = tell.send(signal);
        stop.stop();
    });
    broker.wait().map_err(Exit::Environment)?;
    match told.try_recv() {
        Ok(Signal::Interrupt) => Err(Exit::Interrupted(format!(
            "stopped; what it held was kept {kept}"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn cannot_start(error: BrokerError) -> Exit {
    match error {
        BrokerError::Open(error) => error.into(),
        BrokerError::Store(error) => Exit::Environment(error.to_string()),
    }
}
