//! `mutirao election node`: one member.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mutirao::Endpoint;
use mutirao::election::{
    Algorithm, Callbacks, Election, ElectionError, ElectionSetup, MemberId, Timing,
};
use mutirao::transport::SocketOptions;

use super::AlgorithmName;
use crate::exit::Exit;
use crate::flags::{self, GuardFlags, KeyFlag, PeersFlags, ServerFlag};
use crate::signals::{Caught, Signal};

/// Take part in an election until stopped.
///
/// Every transition is a line of log. Of those that are there the highest id is preferred. With quorum more
/// than half of the members must be there, and each keeps its vote in --data, so that it may be killed and started again
/// at any time. With keys all members share one, as --curve-server names it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: the second of three\n  mutirao election node --id 2 --data ballots \\\n    \
    --peers 1=tcp://127.0.0.1:5581,2=tcp://127.0.0.1:5582,3=tcp://127.0.0.1:5583"
)]
pub(crate) struct NodeArgs {
    /// Which of the members this is
    #[arg(long, env = "MUTIRAO_ID", value_name = "N")]
    id: MemberId,

    #[command(flatten)]
    peers: PeersFlags,

    /// Where it listens, if that is not where the others reach it
    #[arg(long, env = "MUTIRAO_BIND", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    bind: Option<Endpoint>,

    /// How the leader is found: bully or quorum; the same for all members
    #[arg(
        long,
        env = "MUTIRAO_ALGORITHM",
        default_value = "quorum",
        value_name = "ALGORITHM",
        hide_possible_values = true
    )]
    algorithm: AlgorithmName,

    /// The folder of the ballot, with the vote that must not be forgotten
    #[arg(
        long,
        env = "MUTIRAO_DATA",
        default_value = "election",
        value_name = "DIR"
    )]
    data: PathBuf,

    #[command(flatten)]
    times: TimeFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server: ServerFlag,

    #[command(flatten)]
    guard: GuardFlags,
}

/// The times of the election.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Times, the same for all members")]
struct TimeFlags {
    /// Interval of the leader's heartbeats; at most half of --lease
    #[arg(long, env = "MUTIRAO_BEAT", default_value = "30ms", value_name = "TIME", value_parser = flags::duration)]
    beat: Duration,

    /// The shortest silence after which a member looks for a new leader; longer than the slowest round trip
    #[arg(long, env = "MUTIRAO_TIMEOUT_MIN", default_value = "150ms", value_name = "TIME", value_parser = flags::duration)]
    timeout_min: Duration,

    /// The longest such silence; in between the higher ids come first
    #[arg(long, env = "MUTIRAO_TIMEOUT_MAX", default_value = "300ms", value_name = "TIME", value_parser = flags::duration)]
    timeout_max: Duration,

    /// How long a leader leads that is not heard any more; shorter than --timeout-min
    #[arg(long, env = "MUTIRAO_LEASE", default_value = "140ms", value_name = "TIME", value_parser = flags::duration)]
    lease: Duration,
}

impl TimeFlags {
    fn timing(&self) -> Result<Timing, Exit> {
        let timing = Timing {
            beat: self.beat,
            timeout_min: self.timeout_min,
            timeout_max: self.timeout_max,
            lease: self.lease,
            ..Timing::default()
        };
        // The sentence begins with a field, which has the name of its flag.
        let flag = |error: String| Exit::Usage(format!("--{}", error.replace('_', "-")));
        timing.validate().map_err(flag)?;
        Ok(timing)
    }
}

pub(crate) fn run(args: NodeArgs) -> Result<(), Exit> {
    let setup = setup(&args)?;
    let (members, timing, ballot) = (
        setup.peers.len(),
        setup.timing.clone(),
        setup.ballot.clone(),
    );
    let caught = Caught::begin()?;
    let election = Election::start(setup, Callbacks::default()).map_err(cannot_start)?;
    let NodeArgs { id, algorithm, .. } = args;
    log::info!(
        "member {id} of {members} at {}: {}, timeouts of {} to {} ms; {}",
        election.endpoint(),
        algorithm.algorithm(),
        timing.timeout_min.as_millis(),
        timing.timeout_max.as_millis(),
        match ballot {
            Some(path) => format!("its vote is kept in {}", path.display()),
            None => "bully keeps no votes".into(),
        }
    );
    let stop = election.stop_handle();
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        let _ = tell.send(signal);
        stop.stop();
    });
    election.wait().map_err(Exit::Environment)?;
    let farewell = format!("member {id} takes part no more: it was stopped");
    match told.try_recv() {
        Ok(Signal::Interrupt) => Err(Exit::Interrupted(farewell)),
        _ => {
            log::info!("{farewell}");
            Ok(())
        }
    }
}

fn setup(args: &NodeArgs) -> Result<ElectionSetup, Exit> {
    let id = args.id;
    let security = flags::security(&args.key, Some(&args.server), Some(&args.guard))?;
    let peers = args.peers.peers()?;
    if !peers.contains_key(&id) {
        return Err(Exit::Usage(format!(
            "member {id} is not in --peers: give its own endpoint there as well, such as {id}=tcp://HOST:PORT"
        )));
    }
    let timing = args.times.timing()?;
    let bind = args.bind.as_ref();
    let bind = bind.map(|at| args.peers.transport.apply(at)).transpose()?;
    let algorithm = args.algorithm.algorithm();
    let socket = SocketOptions {
        security,
        ..SocketOptions::default()
    };
    Ok(ElectionSetup {
        bind,
        algorithm,
        timing,
        listen: socket.clone(),
        connect: socket,
        ..ElectionSetup::new(id, peers, ballot(args, algorithm)?)
    })
}

/// Where the vote is kept; the folder is made if it is missing.
fn ballot(args: &NodeArgs, algorithm: Algorithm) -> Result<Option<PathBuf>, Exit> {
    let folder = &args.data;
    match algorithm {
        Algorithm::Bully => Ok(None),
        Algorithm::Quorum => {
            fs::create_dir_all(folder).map_err(|error| {
                Exit::Environment(format!(
                    "the folder {} cannot be made ({error}): choose another with --data",
                    folder.display()
                ))
            })?;
            Ok(Some(folder.join(format!("ballot-{}.txt", args.id))))
        }
    }
}

fn cannot_start(error: ElectionError) -> Exit {
    match error {
        ElectionError::Open(error) => error.into(),
        ElectionError::Ballot(error) => Exit::Environment(error.to_string()),
    }
}
