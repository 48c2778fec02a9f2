//! A head: its door, its beats, its register, and the election among several.

mod node;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::detector::{Detector, DetectorConfig, Strategy};
use crate::driver::{Port, spawn_on};
use crate::election::{Callbacks, Election, ElectionSetup, MemberId, Timing};
use crate::endpoint::Endpoint;
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::{self, Role, Side, SocketOptions};
use crate::wait::{Sleeper, Waker};

use super::super::{BeatLine, HeadConfig, HeadId, HeadMachine};
use super::disk::DiskThread;
use super::envelope::BeatsAt;
use super::lock::Lock;
use super::register_file::RegisterFile;
use super::{
    Shared, StorageError, beats_endpoint, check_scheme, clock, connecting, election_endpoint, join,
    socket,
};
use node::HeadNode;

/// How data nodes are asked whether they are up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beats {
    /// Over PUB/SUB, encrypted as everything else is; two ports after the head's own.
    Publish,
    /// By UDP multicast to this group, such as `raw+udp://239.255.77.1:5592`; in the clear.
    Multicast(Endpoint),
}

/// Several heads that elect the one that leads.
#[derive(Clone, Debug)]
pub struct HeadPeers {
    /// Which of them this is.
    pub id: HeadId,
    /// All of them, and where each is reached. Their elections take the port after that.
    pub endpoints: BTreeMap<HeadId, Endpoint>,
    /// The file with this head's vote.
    pub ballot: PathBuf,
    /// The times of the election, the same for all.
    pub timing: Timing,
}

/// Is told of each round of beats.
pub type OnRound = Box<dyn FnMut(&BeatLine) + Send>;

/// Settings of a head.
pub struct HeadSetup {
    /// Its bounds and times; who it is and who the others are is taken from `peers`, and without them it has a
    /// number of its own by chance.
    pub config: HeadConfig,
    /// Where clients, data nodes and other heads reach it.
    pub bind: Endpoint,
    /// The heads, when there are several.
    pub peers: Option<HeadPeers>,
    /// How data nodes are asked whether they are up.
    pub beats: Beats,
    /// The file of the register.
    pub register: PathBuf,
    /// The sockets that listen, and their security.
    pub listen: SocketOptions,
    /// The sockets that connect to other heads, and their security.
    pub connect: SocketOptions,
    /// Is told of each round of beats, in the thread that serves everybody: it should be quick.
    pub on_round: OnRound,
}

impl std::fmt::Debug for HeadSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadSetup")
            .field("bind", &self.bind)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl HeadSetup {
    /// A head that is alone, with defaults for all but where it is and what it keeps.
    pub fn new(bind: Endpoint, register: PathBuf) -> HeadSetup {
        HeadSetup {
            config: HeadConfig::alone(),
            bind,
            peers: None,
            beats: Beats::Publish,
            register,
            listen: SocketOptions::default(),
            connect: SocketOptions::default(),
            on_round: Box::new(|_| {}),
        }
    }

    /// The machine's settings.
    fn config(&self) -> Result<HeadConfig, OpenError> {
        // Of two that know nothing of each other and obey the same second's epoch, only one is obeyed.
        let mut config = HeadConfig {
            head: HeadId(rand::random()),
            ..self.config.clone()
        };
        if let Some(peers) = &self.peers {
            if !peers.endpoints.contains_key(&peers.id) {
                let id = peers.id.0;
                return Err(OpenError::Config(format!(
                    "head {id} is not among the peers"
                )));
            }
            config.head = peers.id;
            let ids = peers.endpoints.keys().copied();
            config.peers = ids.filter(|id| *id != peers.id).collect();
        }
        config.validate().map_err(OpenError::Config)?;
        Ok(config)
    }
}

/// A head that serves until it is dropped or stopped.
#[derive(Debug)]
pub struct StorageHead {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    threads: Vec<JoinHandle<()>>,
}

impl StorageHead {
    /// Opens the register and the sockets, and serves.
    ///
    /// # Errors
    ///
    /// The settings make no sense; the register is in use or damaged; an endpoint is in use, unusable, or
    /// exposed without encryption; the system refuses.
    pub fn start(setup: HeadSetup) -> Result<StorageHead, StorageError> {
        let config = setup.config()?;
        check_scheme(&setup.bind)?;
        let (sleeper, waker) = Sleeper::new().map_err(OpenError::System)?;
        let lock = Lock::take(&setup.register)?;
        let (file, register) = RegisterFile::open(&setup.register, setup.peers.is_none())?;
        let door = open_door(&setup, &config)?;
        let endpoint = door.endpoint().clone();
        let (beats, beats_at) = open_beats(&setup, &endpoint)?;
        let others = open_ways(&setup, &config)?;
        let election = start_election(&setup, &waker)?;
        let disk = DiskThread::start("storage-register", file, waker.clone());
        let disk = disk.map_err(OpenError::System)?;
        let shared = Arc::new(Shared::new(StopHandle::new(waker)));
        let clock = clock();
        let detector = detector(&config);
        let machine = HeadMachine::new(config, register, StdRng::seed_from_u64(rand::random()));
        let node = HeadNode {
            machine,
            detector,
            door: Port::new(door),
            beats,
            beats_at,
            token: rand::random(),
            others,
            election,
            disk,
            lock: Some(lock),
            on_round: setup.on_round,
            shared: shared.clone(),
            clock,
            state: node::State::default(),
        };
        let driver = spawn_on(clock, "storage-head", node, sleeper).map_err(OpenError::System)?;
        Ok(StorageHead {
            shared,
            endpoint,
            threads: vec![driver],
        })
    }

    /// Where it listens, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A handle that stops it from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// A sentence, when it could not go on.
    pub fn wait(&self) -> Result<(), String> {
        self.shared.wait()
    }
}

impl Drop for StorageHead {
    fn drop(&mut self) {
        self.shared.stop.stop();
        join(&mut self.threads);
    }
}

/// Stale after three missed beats, dead after ten; each half a beat late at least.
fn detector(config: &HeadConfig) -> Detector<super::super::InstanceId> {
    Detector::new(DetectorConfig {
        strategy: Strategy::Fixed {
            suspect: 3.5,
            liveness: 11,
        },
        peers: 4_096,
        ..DetectorConfig::fixed(config.beat)
    })
}

fn open_door(
    setup: &HeadSetup,
    config: &HeadConfig,
) -> Result<Box<dyn transport::Socket>, OpenError> {
    let options = socket(&setup.listen, config.record_bytes);
    Ok(transport::open(
        Role::Router,
        Side::Bind,
        &setup.bind,
        &options,
    )?)
}

fn open_beats(setup: &HeadSetup, door: &Endpoint) -> Result<(Port, BeatsAt), OpenError> {
    let (side, endpoint) = match &setup.beats {
        // A port that the system picked has neighbours that may be in use.
        Beats::Publish if setup.bind.port().is_none() && door.scheme().has_port() => {
            (Side::Bind, setup.bind.clone())
        }
        Beats::Publish => (Side::Bind, beats_endpoint(&setup.bind)?),
        Beats::Multicast(group) => (Side::Connect, group.clone()),
    };
    let options = SocketOptions {
        max_message_bytes: super::ENVELOPE_BYTES,
        ..setup.listen.clone()
    };
    let socket = transport::open(Role::Publish, side, &endpoint, &options)?;
    let at = match (&setup.beats, socket.endpoint().port()) {
        (Beats::Multicast(group), _) => BeatsAt::Group(group.to_string()),
        (Beats::Publish, Some(port)) => BeatsAt::Port(port),
        (Beats::Publish, None) => BeatsAt::Beside,
    };
    Ok((Port::new(socket), at))
}

/// A socket to each of the other heads.
fn open_ways(setup: &HeadSetup, config: &HeadConfig) -> Result<BTreeMap<HeadId, Port>, OpenError> {
    let options = connecting(&setup.connect, config.record_bytes);
    let peers = setup.peers.iter().flat_map(|peers| &peers.endpoints);
    peers
        .filter(|(id, _)| **id != config.head)
        .map(|(&id, endpoint)| {
            let socket = transport::open(Role::Dealer, Side::Connect, endpoint, &options)?;
            Ok((id, Port::new(socket)))
        })
        .collect()
}

fn start_election(setup: &HeadSetup, waker: &Waker) -> Result<Option<Election>, StorageError> {
    let Some(peers) = &setup.peers else {
        return Ok(None);
    };
    let endpoints = peers.endpoints.iter();
    let endpoints: Result<_, OpenError> = endpoints
        .map(|(id, endpoint)| Ok((member(*id), election_endpoint(endpoint)?)))
        .collect();
    let mut election = ElectionSetup::new(member(peers.id), endpoints?, Some(peers.ballot.clone()));
    election.bind = Some(election_endpoint(&setup.bind).map_err(OpenError::from)?);
    election.timing = peers.timing.clone();
    election.listen = setup.listen.clone();
    election.connect = setup.connect.clone();
    let (gained, lost) = (waker.clone(), waker.clone());
    let callbacks = Callbacks {
        on_gained: Box::new(move |_| gained.wake()),
        on_lost: Box::new(move |_| lost.wake()),
    };
    Ok(Some(Election::start(election, callbacks)?))
}

fn member(head: HeadId) -> MemberId {
    MemberId(u64::from(head.0))
}
