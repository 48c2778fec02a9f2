//! The machines with their sockets and their disks: what a program starts.
//!
//! Each has two threads: one waits for messages and never for the disk, the other writes. What is to be
//! written while the disk is busy is synced together, once.

mod append;
mod client;
mod data;
mod disk;
mod door;
mod envelope;
mod head;
mod lock;
mod register_file;

use std::path::PathBuf;
use std::thread::JoinHandle;

use crate::endpoint::{Endpoint, EndpointError, Scheme};
use crate::machine::Clock;
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::SocketOptions;
use crate::watched::Watched;

pub use client::{AskError, ClientSetup, StorageClient};
pub use data::{DataNode, DataSetup};
pub use head::{Beats, HeadPeers, HeadSetup, OnRound, StorageHead};

/// Why a program of the storage cluster could not be started; nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Its sockets, a thread, or the configuration.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another program has its files.
    #[error("{path} is in use by another program: stop it, or give each a folder of its own")]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// A file is not as it must be.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The election among the heads could not be started.
    #[error(transparent)]
    Election(#[from] crate::election::ElectionError),
}

impl StorageError {
    fn file(path: &std::path::Path) -> impl Fn(std::io::Error) -> StorageError + '_ {
        |error| {
            let reason = error.to_string();
            // Some say where by themselves.
            let named = reason.strip_prefix(&format!("{} ", path.display()));
            StorageError::File {
                path: path.to_path_buf(),
                reason: named.unwrap_or(&reason).to_string(),
            }
        }
    }
}

/// What a program and its driver share: how it ends.
#[derive(Debug)]
struct Shared {
    stop: StopHandle,
    end: Watched<Option<Result<(), String>>>,
}

impl Shared {
    fn new(stop: StopHandle) -> Shared {
        Shared {
            stop,
            end: Watched::new(None),
        }
    }

    fn end(&self, error: Option<String>) {
        self.end.lock().get_or_insert(error.map_or(Ok(()), Err));
        self.end.notify();
    }

    fn wait(&self) -> Result<(), String> {
        let mut end = self.end.lock();
        loop {
            if let Some(end) = &*end {
                return end.clone();
            }
            end = self.end.wait(end, None).ok_or("no end")?;
        }
    }
}

/// Where the election among heads takes place: at the port after a head's own.
fn election_endpoint(head: &Endpoint) -> Result<Endpoint, EndpointError> {
    head.control()
}

/// Where a head publishes its beats: two ports after its own, unless that is the system's choice.
fn beats_endpoint(head: &Endpoint) -> Result<Endpoint, EndpointError> {
    match head.scheme().has_port() {
        true => head.control()?.control(),
        false => format!("{head}.beats").parse(),
    }
}

/// Messages that may wait for one peer: as many as may be on their way at once, since those beyond are dropped and
/// only sent again after a while. How many of the largest there are is bounded before, in bytes.
const QUEUE_MESSAGES: i32 = 1_024;

/// What a message has besides the bytes of a record.
const ENVELOPE_BYTES: usize = 64 << 10;

/// Socket options for messages with records of so many bytes; whatever is lost is sent again.
fn socket(options: &SocketOptions, record_bytes: u64) -> SocketOptions {
    let record_bytes = usize::try_from(record_bytes).unwrap_or(usize::MAX);
    SocketOptions {
        queue_messages: QUEUE_MESSAGES,
        max_message_bytes: record_bytes.saturating_add(ENVELOPE_BYTES).max(1 << 20),
        linger: std::time::Duration::from_millis(200),
        ..options.clone()
    }
}

/// The same for one that connects: what waited for a peer that was away would be out of date.
fn connecting(options: &SocketOptions, record_bytes: u64) -> SocketOptions {
    let options = socket(options, record_bytes);
    SocketOptions {
        only_connected: true,
        reconnect_max: options
            .reconnect_max
            .min(std::time::Duration::from_millis(500)),
        ..options
    }
}

/// Ends the thread with its program.
fn join(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        let _ = thread.join();
    }
}

/// Checks that messages can be lost and repeated but not cut short there.
fn check_scheme(endpoint: &Endpoint) -> Result<(), OpenError> {
    match endpoint.scheme() {
        Scheme::RawUdp => Err(OpenError::Config(format!(
            "{endpoint}: records do not fit into datagrams; use tcp://, raw+tcp:// or reliable+udp://"
        ))),
        _ => Ok(()),
    }
}

/// The clock of a program's machine and driver.
fn clock() -> Clock {
    Clock::start()
}
