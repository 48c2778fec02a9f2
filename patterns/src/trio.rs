//! Ventilator, workers and sink: work spread over threads, processes or machines, none of it lost.
//!
//! Each object starts a thread that owns its sockets and drives its [machine](crate::pipeline); the
//! program talks to that thread through bounded queues.
//!
//! Ventilator and sink listen at two endpoints each: tasks and results at the one they are given,
//! control messages at the [next](crate::endpoint::Endpoint::control).

mod doors;
mod sink;
mod ventilator;
mod worker;

use std::fmt;
use std::str::FromStr;

use crate::endpoint::Endpoint;
use crate::pipeline::{Dispatch, Limits};
use crate::station::OpenError;
use crate::transport::{self, Role, Side, Socket, SocketOptions, TransportError};

pub(crate) use sink::read_outcomes;
pub use sink::{Sink, SinkConfig, SinkError, SinkEvent};
pub use ventilator::{
    FinishError, SubmitError, Summary, Ventilator, VentilatorConfig, VentilatorHandle,
};
pub use worker::{BrokerWorkerConfig, Failure, TaskInfo, Worker, WorkerConfig, WorkerExit};

/// How tasks reach the workers and results the sink; all three roles must be given the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// PUSH/PULL: the sockets spread the work, in turn.
    #[default]
    PushPull,
    /// REQ/REP: a worker asks for work when it has room, and the sink answers every result. The
    /// sockets are DEALER and ROUTER, so that no lost reply leaves one stuck.
    ReqRep,
    /// PUB/SUB: every worker subscribes to a partition of its own, and batches are published to
    /// them.
    PubSub,
}

impl Pattern {
    /// All patterns.
    pub const ALL: [Pattern; 3] = [Pattern::PushPull, Pattern::ReqRep, Pattern::PubSub];

    /// The name as it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Pattern::PushPull => "push-pull",
            Pattern::ReqRep => "req-rep",
            Pattern::PubSub => "pub-sub",
        }
    }

    fn dispatch(self) -> Dispatch {
        match self {
            Pattern::PushPull => Dispatch::Anyone,
            Pattern::ReqRep => Dispatch::Asked,
            Pattern::PubSub => Dispatch::Addressed,
        }
    }

    /// The sending and the receiving role of a data link.
    fn roles(self) -> (Role, Role) {
        match self {
            Pattern::PushPull => (Role::Push, Role::Pull),
            Pattern::ReqRep => (Role::Dealer, Role::Router),
            Pattern::PubSub => (Role::Publish, Role::Subscribe),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        Pattern::ALL
            .into_iter()
            .find(|pattern| pattern.name() == text)
            .ok_or_else(|| {
                format!("{text:?} is not a pattern: choose push-pull, req-rep or pub-sub")
            })
    }
}

/// The topic to which a worker subscribes for its tasks.
fn partition(worker: crate::pipeline::WorkerId) -> String {
    format!("tasks/{worker}")
}

/// The topic to which the sink subscribes for results.
const RESULTS_TOPIC: &[u8] = b"results";

/// What sockets are opened for, as it is called where their transport does not do.
const TRIO: &str = "a ventilator, worker or sink";

/// How often a free pair of neighbouring ports is looked for when the system may pick.
const PORT_TRIES: usize = 32;

/// A data socket and the control socket next to it.
type Pair = (Box<dyn Socket>, Box<dyn Socket>);

/// Opens the data and the control socket of a ventilator or a sink; both tell who does not get in.
fn listen(role: Role, endpoint: &Endpoint, options: &SocketOptions) -> Result<Pair, OpenError> {
    let watched = SocketOptions {
        watch_links: true,
        ..options.clone()
    };
    let system_picks = endpoint.host().is_some() && matches!(endpoint.port(), None | Some(0));
    let mut tries = if system_picks { PORT_TRIES } else { 1 };
    loop {
        let socket = transport::open_complete(TRIO, role, Side::Bind, endpoint, &watched)?;
        let neighbour = socket.endpoint().control();
        tries -= 1;
        match neighbour.map(|at| transport::open(Role::Router, Side::Bind, &at, &watched)) {
            Ok(Ok(control)) => return Ok((socket, control)),
            Ok(Err(TransportError::InUse { .. })) | Err(_) if tries > 0 => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn check(limits: &Limits) -> Result<(), OpenError> {
    limits.validate().map_err(OpenError::Config)
}
