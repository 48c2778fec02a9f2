//! `mutirao storage head`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mutirao::Endpoint;
use mutirao::election::Timing;
use mutirao::endpoint::Scheme;
use mutirao::security::Security;
use mutirao::storage::{Beats, HeadConfig, HeadId, HeadPeers, HeadSetup, StorageHead};

use super::cluster::{HEAD, Head, RecordFlag, cannot_start, head, socket};
use super::rounds::RoundLog;
use super::stay::{make_folder, stay};
use crate::exit::Exit;
use crate::flags::{self, GuardFlags, KeyFlag, ServerFlag, TransportFlags};
use crate::signals::Caught;

/// Be the head of a storage cluster: know where every record is, and keep it so.
///
/// With --peers several heads elect the one that leads, and keep the register together; each needs an --id. Besides
/// its own port a head uses the next one for elections, and the one after that for heartbeats over PUB/SUB. With keys all
/// heads share one, as --curve-server names it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: the second of three heads\n  mutirao storage head --id 2 \\\n    \
    --peers 1=tcp://127.0.0.1:5590,2=tcp://127.0.0.1:5600,3=tcp://127.0.0.1:5610"
)]
pub(crate) struct HeadArgs {
    /// Where it listens; by default at its own endpoint in --peers, or at tcp://127.0.0.1:5590
    #[arg(long, env = "MUTIRAO_BIND", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    bind: Option<Endpoint>,

    /// Which of the heads this is
    #[arg(long, env = "MUTIRAO_ID", value_name = "N", requires = "peers")]
    id: Option<u32>,

    /// All heads and where each is reached, such as 1=tcp://HOST:PORT,2=tcp://HOST:PORT; the same list for every one
    #[arg(long, env = "MUTIRAO_PEERS", value_name = "ID=ENDPOINT,…", value_delimiter = ',', value_parser = head, requires = "id")]
    peers: Vec<Head>,

    #[command(flatten)]
    transport: TransportFlags,

    /// How data nodes are asked whether they are up: multicast or pub-sub
    #[arg(
        long,
        env = "MUTIRAO_HEARTBEAT_BY",
        default_value = "pub-sub",
        value_name = "WAY",
        hide_possible_values = true
    )]
    heartbeat: Way,

    /// The group of the multicast
    #[arg(long, env = "MUTIRAO_GROUP", default_value = "raw+udp://239.255.55.90:5592", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    group: Endpoint,

    /// How often they are asked; a data node that misses 3 gets no new records, one that misses 10 is replaced
    #[arg(long, env = "MUTIRAO_INTERVAL", default_value = "5s", value_name = "TIME", value_parser = flags::duration)]
    interval: Duration,

    /// Data nodes that must have a record on disk before it is confirmed
    #[arg(long, env = "MUTIRAO_REPLICAS", default_value_t = 2, value_name = "N")]
    replicas: usize,

    /// Bytes a second that are copied again after a data node has died
    #[arg(long, env = "MUTIRAO_REPAIR_BYTES", default_value = "32MiB", value_name = "BYTES", value_parser = flags::bytes)]
    repair_bytes: usize,

    #[command(flatten)]
    record: RecordFlag,

    /// How long a leading head may be silent before the others elect another; the same for all heads, and longer than
    /// they may stand still on a busy machine
    #[arg(long, env = "MUTIRAO_ELECTION_TIMEOUT", default_value = "600ms", value_name = "TIME", value_parser = flags::duration)]
    election_timeout: Duration,

    /// The folder of registro_server.txt, hearbeat_server.txt and the vote; by default storage/head or storage/head-ID
    #[arg(long, env = "MUTIRAO_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// The log of heartbeats; by default hearbeat_server.txt in the folder
    #[arg(long, env = "MUTIRAO_HEARTBEAT_LOG", value_name = "FILE")]
    heartbeat_log: Option<PathBuf>,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server: ServerFlag,

    #[command(flatten)]
    guard: GuardFlags,
}

/// How data nodes are asked whether they are up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// By UDP multicast
    Multicast,
    /// Over PUB/SUB
    PubSub,
}

pub(crate) fn run(args: HeadArgs) -> Result<(), Exit> {
    if args.interval.is_zero() || args.replicas == 0 {
        return Err(Exit::Usage(
            "--interval and --replicas must not be 0: try 5s and 2".into(),
        ));
    }
    let folder = folder(&args);
    make_folder(&folder)?;
    let setup = setup(&args, &folder)?;
    let (who, register) = (who(&args), setup.register.clone());
    let caught = Caught::begin()?;
    let head = StorageHead::start(setup).map_err(cannot_start)?;
    log::info!(
        "{who} at {}: {} copies of each record, a heartbeat every {:?}; its register is {}",
        head.endpoint(),
        args.replicas,
        args.interval,
        register.display()
    );
    stay(&who, caught, head.stop_handle(), || head.wait())
}

fn who(args: &HeadArgs) -> String {
    match args.id {
        Some(id) => format!("head {id}"),
        None => "the head".into(),
    }
}

fn folder(args: &HeadArgs) -> PathBuf {
    let default = || match args.id {
        Some(id) => format!("storage/head-{id}").into(),
        None => "storage/head".into(),
    };
    args.data.clone().unwrap_or_else(default)
}

fn setup(args: &HeadArgs, folder: &std::path::Path) -> Result<HeadSetup, Exit> {
    let security = security(args)?;
    let peers = peers(args, folder)?;
    let own = peers.as_ref().and_then(|p| p.endpoints.get(&p.id).cloned());
    let bind = match (&args.bind, own) {
        (Some(bind), _) => args.transport.apply(bind)?,
        (None, Some(own)) => own,
        (None, None) => args
            .transport
            .apply(&HEAD.parse().expect("our own endpoint"))?,
    };
    let log = args.heartbeat_log.clone();
    let log = log.unwrap_or_else(|| folder.join("hearbeat_server.txt"));
    let mut rounds = RoundLog::open(&log).map_err(|error| {
        Exit::Environment(format!(
            "{} cannot be written ({error}): choose another file with --heartbeat-log",
            log.display()
        ))
    })?;
    let mut setup = HeadSetup::new(bind, folder.join("registro_server.txt"));
    setup.config = config(args);
    setup.peers = peers;
    setup.beats = beats(args, &security)?;
    setup.listen = socket(security.clone());
    setup.connect = socket(security);
    setup.on_round = Box::new(move |round| rounds.add(round));
    Ok(setup)
}

fn config(args: &HeadArgs) -> HeadConfig {
    let record_bytes = args.record.max_record_bytes as u64;
    let alone = HeadConfig::alone();
    HeadConfig {
        replicas: args.replicas,
        beat: args.interval,
        record_bytes,
        put_bytes: alone.put_bytes.max(record_bytes),
        repair_bytes_per_second: args.repair_bytes as u64,
        ..alone
    }
}

/// A head that is alone connects to nobody.
fn security(args: &HeadArgs) -> Result<Security, Exit> {
    let server = (!args.peers.is_empty()).then_some(&args.server);
    flags::security(&args.key, server, Some(&args.guard))
}

fn beats(args: &HeadArgs, security: &Security) -> Result<Beats, Exit> {
    match (args.heartbeat, security) {
        (Way::PubSub, _) => Ok(Beats::Publish),
        (Way::Multicast, Security::Curve(_)) => Err(Exit::Usage(
            "--heartbeat multicast cannot be encrypted, so anybody could send heartbeats in the head's name: leave it out, or the keys"
                .into(),
        )),
        (Way::Multicast, _) if args.group.scheme() != Scheme::RawUdp => {
            Err(Exit::Usage(format!(
                "{} is no group: write it like raw+udp://239.255.55.90:5592",
                args.group
            )))
        }
        (Way::Multicast, _) => Ok(Beats::Multicast(args.group.clone())),
    }
}

/// The heads, when there are several.
fn peers(args: &HeadArgs, folder: &std::path::Path) -> Result<Option<HeadPeers>, Exit> {
    let Some(id) = args.id.filter(|_| !args.peers.is_empty()) else {
        return Ok(None);
    };
    let mut endpoints = BTreeMap::new();
    for (head, endpoint) in &args.peers {
        let Some(head) = head else {
            return Err(Exit::Usage(format!(
                "{endpoint} has no id in --peers: write it like 1={endpoint}"
            )));
        };
        let at = args.transport.apply(endpoint)?;
        if let Some(other) = endpoints.values().find(|other| overlap(other, &at)) {
            return Err(Exit::Usage(format!(
                "{other} and {at} are too close together: a head uses its own port and the two after it"
            )));
        }
        if endpoints.insert(*head, at).is_some() {
            return Err(Exit::Usage(format!(
                "head {} is named twice in --peers: give each an id of its own",
                head.0
            )));
        }
    }
    if !endpoints.contains_key(&HeadId(id)) {
        return Err(Exit::Usage(format!(
            "head {id} is not in --peers: give its own endpoint there as well"
        )));
    }
    Ok(Some(HeadPeers {
        id: HeadId(id),
        endpoints,
        ballot: folder.join("ballot.txt"),
        timing: timing(args.election_timeout)?,
    }))
}

/// Whether two heads of one host would take each other's ports. The same endpoint twice is another mistake.
fn overlap(one: &Endpoint, other: &Endpoint) -> bool {
    match (one.port(), other.port()) {
        (Some(a), Some(b)) => one.host() == other.host() && (1..3).contains(&a.abs_diff(b)),
        _ => false,
    }
}

/// By default patient enough for heads on busy machines, and done well within five seconds.
fn timing(timeout: Duration) -> Result<Timing, Exit> {
    let timing = Timing {
        beat: timeout / 6,
        timeout_min: timeout,
        timeout_max: 2 * timeout,
        lease: timeout * 11 / 12,
        ..Timing::default()
    };
    let wrong = |_| {
        Exit::Usage(
            "--election-timeout is too short or too long: give some tenths of a second".into(),
        )
    };
    timing.validate().map_err(wrong)?;
    Ok(timing)
}
