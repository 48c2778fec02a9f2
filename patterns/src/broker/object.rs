//! The broker as an object: a thread with a socket, and a store.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::driver::{Port, spawn};
use crate::endpoint::Endpoint;
use crate::machine::Time;
use crate::pipeline::Incarnation;
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::{self, Role, Side, SocketOptions};
use crate::wait::Sleeper;
use crate::watched::Watched;

use super::BROKER;
use super::inbox::Inbox;
use super::json::Codec;
use super::keeper::Keeper;
use super::machine::{BrokerLimits, BrokerMachine, Mode};
use super::node::BrokerNode;
use super::recovery::Recovery;
use super::store::{Store, StoreError};

/// Messages that may wait for one peer. What travels is bounded by leases and windows; this bounds
/// the answers to a peer that asks and does not listen.
const QUEUE_MESSAGES: i32 = 100_000;

/// What stands before the tasks or results of a message, at most.
const HEADER_BYTES: usize = 512;

/// Lease names that one start may use up in each millisecond that it lasts.
const LEASES_PER_MS: u64 = 1 << 20;

/// Settings of a [`Broker`].
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where clients and workers connect.
    pub bind: Endpoint,
    /// What its peers may speak: with [`Codec::MessagePack`] whatever it understands, which is that, JSON and
    /// Majordomo; with [`Codec::Json`] nothing else.
    pub codec: Codec,
    /// Bounds and times.
    pub limits: BrokerLimits,
    /// Socket and security.
    pub socket: SocketOptions,
}

impl BrokerConfig {
    /// Settings with defaults for all but the endpoint.
    pub fn new(bind: Endpoint) -> BrokerConfig {
        BrokerConfig {
            bind,
            codec: Codec::default(),
            limits: BrokerLimits::default(),
            socket: SocketOptions::default(),
        }
    }
}

/// Why a broker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Its socket, a thread, or the configuration.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes in tasks from clients, gives them to workers, keeps the results until they are fetched.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stop: StopHandle,
    end: Watched<Option<Result<(), String>>>,
}

impl Shared {
    pub(super) fn end(&self, error: Option<String>) {
        let end = error.map_or(Ok(()), Err);
        self.end.lock().get_or_insert(end);
        self.end.notify();
    }
}

impl Broker {
    /// Opens the socket, reads what the store has kept, and starts.
    ///
    /// With `None` everything is kept in memory, and a restart begins with nothing.
    ///
    /// # Errors
    ///
    /// The endpoint is in use, unusable or exposed without encryption; a limit makes no sense; the
    /// store cannot be read, or makes no sense in [`Mode::RequestReply`].
    pub fn start(
        config: BrokerConfig,
        store: Option<Box<dyn Store>>,
    ) -> Result<Broker, BrokerError> {
        let mut limits = config.limits;
        let most = config.socket.max_message_bytes;
        limits.message_bytes = limits.message_bytes.min(most.saturating_sub(HEADER_BYTES));
        limits.validate().map_err(OpenError::Config)?;
        if limits.mode == Mode::RequestReply && store.is_some() {
            let reason =
                "a broker that works by request and reply keeps nothing: leave out the store";
            return Err(OpenError::Config(reason.into()).into());
        }
        let (sleeper, waker) = Sleeper::new().map_err(OpenError::System)?;
        let options = SocketOptions {
            queue_messages: QUEUE_MESSAGES,
            // What is said in JSON takes more than the same in MessagePack.
            max_message_bytes: Codec::Json.frame_bytes(most),
            ..config.socket
        };
        let mut machine = BrokerMachine::new(
            limits,
            Incarnation(rand::random()),
            first_lease(),
            store.is_some(),
        );
        let keeper = match store {
            Some(mut store) => {
                recover(&mut *store, &mut machine)?;
                Some(Keeper::start(store, waker.clone()).map_err(OpenError::System)?)
            }
            None => None,
        };
        let socket =
            transport::open_complete(BROKER, Role::Router, Side::Bind, &config.bind, &options);
        let socket = socket.map_err(OpenError::Transport)?;
        let endpoint = socket.endpoint().clone();
        let shared = Arc::new(Shared {
            stop: StopHandle::new(waker),
            end: Watched::default(),
        });
        let inbox = Inbox::new(config.codec, most);
        let node = BrokerNode::new(machine, Port::new(socket), inbox, keeper, shared.clone());
        let thread = spawn("broker", node, sleeper).map_err(OpenError::System)?;
        Ok(Broker {
            shared,
            endpoint,
            thread: Some(thread),
        })
    }

    /// Where it listens, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A handle that stops the broker from any thread. Workers go on with what they have and say so
    /// when the broker is back.
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }

    /// Waits until the broker has ended.
    ///
    /// # Errors
    ///
    /// A sentence, when its socket failed.
    pub fn wait(&self) -> Result<(), String> {
        let mut end = self.shared.end.lock();
        while end.is_none() {
            end = self.shared.end.wait(end, None).ok_or("no end")?;
        }
        end.clone().unwrap_or(Ok(()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn recover(store: &mut dyn Store, machine: &mut BrokerMachine) -> Result<(), StoreError> {
    let mut recovery = Recovery::default();
    store.load(&mut |write| recovery.take(machine, Time::START, write))?;
    match recovery.finish(machine, Time::START) {
        0 => {}
        unreadable => log::error!(
            "the store holds {unreadable} entries that make no sense to this version; they are left out"
        ),
    }
    Ok(())
}

/// Names of leases grow from one start to the next, as the clock does.
fn first_lease() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| now.as_millis() as u64);
    now_ms.saturating_mul(LEASES_PER_MS)
}
