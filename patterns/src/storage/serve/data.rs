//! A data node: the heads that it obeys, and its records on disk.

mod keeper;
mod link;
mod node;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::driver::spawn_on;
use crate::endpoint::Endpoint;
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::SocketOptions;
use crate::wait::Sleeper;

use super::super::{DataConfig, DataMachine, InstanceId, RecordFile, check_name};
use super::disk::DiskThread;
use super::lock::{Lock, take_alone};
use super::{Shared, StorageError, check_scheme, clock, connecting, join};
use keeper::Keeper;
use link::Link;
use node::DriverNode;

/// Most heads that a data node or a client speaks to.
pub(super) const MAX_HEADS: usize = 64;

/// Settings of a data node.
#[derive(Clone, Debug)]
pub struct DataSetup {
    /// Its name, for people; unique in the cluster.
    pub name: String,
    /// Where the heads are.
    pub heads: Vec<Endpoint>,
    /// The file of the records.
    pub file: PathBuf,
    /// The longest record, in bytes; the same for all programs of the cluster.
    pub record_bytes: u64,
    /// Bytes that the file may have; without it, as many as the disk has room for.
    pub capacity_bytes: Option<u64>,
    /// Bytes that must stay free.
    pub reserve_bytes: u64,
    /// The sockets, and their security.
    pub connect: SocketOptions,
}

impl DataSetup {
    /// A data node with records of up to 16 MiB that leaves 64 MiB free on its disk.
    pub fn new(name: &str, heads: Vec<Endpoint>, file: PathBuf) -> DataSetup {
        DataSetup {
            name: name.into(),
            heads,
            file,
            record_bytes: 16 << 20,
            capacity_bytes: None,
            reserve_bytes: 64 << 20,
            connect: SocketOptions::default(),
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        check_name(&self.name).map_err(OpenError::Config)?;
        check_heads(&self.heads)
    }
}

pub(super) fn check_heads(heads: &[Endpoint]) -> Result<(), OpenError> {
    if heads.is_empty() || heads.len() > MAX_HEADS {
        return Err(OpenError::Config(format!(
            "{} heads are given: name 1 to {MAX_HEADS}",
            heads.len()
        )));
    }
    heads.iter().try_for_each(check_scheme)
}

/// A data node that serves until it is dropped or stopped.
#[derive(Debug)]
pub struct DataNode {
    shared: Arc<Shared>,
    instance: InstanceId,
    damaged: u64,
    copies: usize,
    threads: Vec<JoinHandle<()>>,
}

impl DataNode {
    /// Opens the records and the sockets, and serves; a head that is away is waited for.
    ///
    /// # Errors
    ///
    /// The settings make no sense; the file is in use or not one of a data node; an endpoint is unusable;
    /// the system refuses.
    pub fn start(setup: DataSetup) -> Result<DataNode, StorageError> {
        setup.check()?;
        let (sleeper, waker) = Sleeper::new().map_err(OpenError::System)?;
        let lock = Lock::take(&setup.file)?;
        let config = DataConfig {
            name: setup.name.clone(),
            start: lock.start,
            reserve_bytes: setup.reserve_bytes,
        };
        let mut machine = DataMachine::new(config, InstanceId(0), []);
        let fresh = (InstanceId(rand::random()), &setup.name[..]);
        let replay = |line| machine.replay(line);
        let opened = RecordFile::open(&setup.file, fresh, setup.record_bytes, replay);
        let (file, instance) = opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => StorageError::Busy {
                path: setup.file.clone(),
            },
            _ => StorageError::file(&setup.file)(error),
        })?;
        // What was written before a kill and never synced counts from now on.
        let synced = take_alone(file.file(), &setup.file)?.sync_all();
        synced.map_err(StorageError::file(&setup.file))?;
        machine.belong_to(instance);
        let (damaged, copies) = (file.damaged(), machine.copies().count());
        let options = connecting(&setup.connect, setup.record_bytes);
        let links = setup.heads.iter();
        let links: Result<_, OpenError> = links
            .map(|head| Link::open(head, options.clone()))
            .collect();
        let keeper = Keeper::new(file, &setup.file, setup.capacity_bytes);
        let mut disk = DiskThread::start("storage-records", keeper, waker.clone())
            .map_err(OpenError::System)?;
        disk.ask(keeper::Job::Look);
        let shared = Arc::new(Shared::new(StopHandle::new(waker)));
        let clock = clock();
        let links = links.inspect_err(|_| disk.finish())?;
        let node = DriverNode::new(
            machine,
            instance,
            links,
            (disk, lock),
            shared.clone(),
            clock,
        );
        let driver = spawn_on(clock, "storage-data", node, sleeper).map_err(OpenError::System)?;
        Ok(DataNode {
            shared,
            instance,
            damaged,
            copies,
            threads: vec![driver],
        })
    }

    /// Whose file it is.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Records that were in the file, and damaged lines that were passed over.
    pub fn found(&self) -> (usize, u64) {
        (self.copies, self.damaged)
    }

    /// A handle that stops it from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// A sentence, when it could not go on, as when another node has its name.
    pub fn wait(&self) -> Result<(), String> {
        self.shared.wait()
    }
}

impl Drop for DataNode {
    fn drop(&mut self) {
        self.shared.stop.stop();
        join(&mut self.threads);
    }
}
