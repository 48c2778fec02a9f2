//! `mutirao broker`: takes in tasks, gives them to workers, keeps the results.

use std::path::PathBuf;

use clap::Args;
use mutirao::Endpoint;
use mutirao::broker::{Broker, BrokerConfig, BrokerError, BrokerLimits};

use crate::exit::Exit;
use crate::flags::{self, LimitFlags, Needs, SecurityFlags};
use crate::signals::{Caught, Signal};

/// Take in tasks, give them to whoever has room, keep the results until they are fetched.
///
/// Clients hand in work and may go; workers come and go. Stopped with Ctrl-C or SIGTERM; what it
/// holds is in memory and ends with it.
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
    security: SecurityFlags,
}

/// Where a broker keeps what it has.
#[derive(Debug, Clone)]
enum Store {
    Memory,
    Folder(PathBuf),
}

fn store(text: &str) -> Result<Store, String> {
    match text {
        "" => Err("no folder is named: give one, or none to keep everything in memory".into()),
        "none" => Ok(Store::Memory),
        folder => Ok(Store::Folder(folder.into())),
    }
}

pub(crate) fn run(args: BrokerArgs) -> Result<(), Exit> {
    let security = args.security.security(Needs {
        server: false,
        allow: true,
    })?;
    if let Store::Folder(folder) = &args.store {
        return Err(Exit::Usage(format!(
            "--store {} is not there yet: this version keeps everything in memory, so give --store none",
            folder.display()
        )));
    }
    let caught = Caught::begin()?;
    let config = BrokerConfig {
        limits: BrokerLimits {
            heartbeat: args.limits.limits().heartbeat,
            ..BrokerLimits::default()
        },
        socket: args.limits.socket(security),
        ..BrokerConfig::new(args.bind)
    };
    let broker = Broker::start(config, None).map_err(cannot_start)?;
    log::info!(
        "broker at {}, keeping everything in memory",
        broker.endpoint()
    );
    let stop = broker.stop_handle();
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        log::info!("stopping");
        let _ = tell.send(signal);
        stop.stop();
    });
    broker.wait().map_err(Exit::Environment)?;
    match told.try_recv() {
        Ok(Signal::Interrupt) => Err(Exit::Interrupted(
            "stopped; what was in memory is gone, and clients hand it in again".into(),
        )),
        _ => Ok(()),
    }
}

pub(super) fn cannot_start(error: BrokerError) -> Exit {
    match error {
        BrokerError::Open(error) => error.into(),
        BrokerError::Store(error) => Exit::Environment(error.to_string()),
    }
}
