//! A worker of a broker: which operations it offers, and how it does them.

use mutirao::broker::Codec;
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Failure, TaskInfo, Worker};

use super::super::task::{Piece, Task};
use super::super::work::{Commands, Workshop};
use super::payload::OrBytes;
use crate::exit::Exit;
use crate::flags::LimitFlags;
use crate::ops;
use mutirao::transport::SocketOptions;

/// What a worker of a broker is told.
pub(crate) struct BrokerWork {
    pub(crate) broker: Endpoint,
    pub(crate) codec: Codec,
    pub(crate) slots: Option<usize>,
    /// What it was asked to offer; everything that it may do when that is empty.
    pub(crate) ops: Vec<String>,
    pub(crate) workshop: Workshop,
    pub(crate) limits: LimitFlags,
    pub(crate) socket: SocketOptions,
}

/// Starts the worker; says what it offers.
pub(crate) fn start(work: BrokerWork) -> Result<(Worker, String), Exit> {
    let operations = offered(&work.ops, work.workshop.commands)?;
    let defaults = BrokerWorkerConfig::new(work.broker, operations);
    let config = BrokerWorkerConfig {
        codec: work.codec,
        slots: work.slots.unwrap_or(defaults.slots),
        heartbeat: work.limits.limits().heartbeat,
        socket: work.socket,
        ..defaults
    };
    let hello = format!(
        "{} slots, from the broker at {}, for {}",
        config.slots,
        config.broker,
        config.operations.join(", ")
    );
    let workshop = work.workshop;
    let worker = Worker::start_at_broker(config, move |task, info| handle(workshop, task, info))?;
    Ok((worker, hello))
}

pub(super) fn handle(
    workshop: Workshop,
    task: OrBytes<Task>,
    info: &TaskInfo,
) -> Result<OrBytes<Piece>, Failure> {
    match task {
        OrBytes::Value(task) => workshop.work(task, info).map(OrBytes::Value),
        OrBytes::Bytes(data) => workshop.work_raw(&data, info).map(OrBytes::Bytes),
    }
}

/// The operations to register for.
fn offered(asked: &[String], commands: Commands) -> Result<Vec<String>, Exit> {
    let known: Vec<&str> = ops::catalogue().map(|op| op.name).collect();
    let refused = |name: &str| ops::needs_permission(name) && commands == Commands::Refused;
    if asked.is_empty() {
        let offered = known.into_iter().filter(|name| !refused(name));
        return Ok(offered.map(str::to_owned).collect());
    }
    for name in asked {
        if !known.contains(&name.as_str()) {
            return Err(Exit::Usage(format!(
                "--ops: unknown operation “{}”; `mutirao ops` lists the ones there are",
                ops::printable(name, 60)
            )));
        }
        if refused(name) {
            return Err(Exit::Usage(format!(
                "--ops {name} needs --allow-exec: the worker would run any command that tasks bring along"
            )));
        }
    }
    Ok(asked.to_vec())
}
