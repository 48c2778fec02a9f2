//! `mutirao storage data`.

use std::path::PathBuf;

use clap::Args;
use mutirao::storage::{DataNode, DataSetup, MAX_NAME_BYTES};

use super::cluster::{HeadFlags, RecordFlag, cannot_start};
use super::stay::{make_folder, stay};
use crate::exit::Exit;
use crate::flags;
use crate::signals::Caught;

/// Be a data node of a storage cluster: keep records on this machine's disk.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao storage data --name norte --head tcp://127.0.0.1:5590")]
pub(crate) struct DataArgs {
    #[command(flatten)]
    head: HeadFlags,

    /// Its name, unique in the cluster; by default that of the machine
    #[arg(long, env = "MUTIRAO_NAME", value_name = "NAME")]
    name: Option<String>,

    /// The folder of data.txt; by default storage/NAME
    #[arg(long, env = "MUTIRAO_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// Bytes that data.txt may have; otherwise as many as the disk has room for
    #[arg(long, env = "MUTIRAO_CAPACITY", value_name = "BYTES", value_parser = capacity)]
    capacity: Option<u64>,

    /// Bytes of the disk that stay free for others
    #[arg(long, env = "MUTIRAO_RESERVE", default_value = "64MiB", value_name = "BYTES", value_parser = capacity)]
    reserve: u64,

    #[command(flatten)]
    record: RecordFlag,
}

/// A file that takes a while to be read.
const LONG_BYTES: u64 = 64 << 20;

pub(crate) fn run(args: DataArgs) -> Result<(), Exit> {
    let name = args.name.clone().unwrap_or_else(machine_name);
    let folder = args.data.clone();
    let folder = folder.unwrap_or_else(|| PathBuf::from("storage").join(&name));
    mutirao::storage::check_name(&name).map_err(Exit::Usage)?;
    make_folder(&folder)?;
    let file = folder.join("data.txt");
    let heads = args.head.heads()?;
    let heads: Vec<_> = heads.into_iter().map(|(_, at)| at).collect();
    let setup = DataSetup {
        record_bytes: args.record.max_record_bytes as u64,
        capacity_bytes: args.capacity,
        reserve_bytes: args.reserve,
        connect: args.head.socket()?,
        ..DataSetup::new(&name, heads.clone(), file.clone())
    };
    let caught = Caught::begin()?;
    if file.metadata().is_ok_and(|file| file.len() > LONG_BYTES) {
        log::info!("data node {name} reads {}", file.display());
    }
    let node = DataNode::start(setup).map_err(cannot_start)?;
    let (records, damaged) = node.found();
    log::info!(
        "data node {name} has {records} records in {}, for the head at {}",
        file.display(),
        heads
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" or ")
    );
    if damaged > 0 {
        log::warn!(
            "{damaged} lines of {} are damaged and were passed over: the head has their records copied again",
            file.display()
        );
    }
    let who = format!("data node {name}");
    stay(&who, caught, node.stop_handle(), || node.wait())
}

/// The machine's name, as far as a data node may have it.
fn machine_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let fits = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    name.chars().filter(fits).take(MAX_NAME_BYTES).collect()
}

/// Reads a number of bytes, however large.
fn capacity(text: &str) -> Result<u64, String> {
    match flags::any_bytes(text)? {
        Some(bytes) => Ok(bytes as u64),
        None => Err(format!("{text:?} is more than any disk has")),
    }
}
