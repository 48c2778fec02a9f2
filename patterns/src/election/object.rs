//! A member of an election as an object: a thread with its sockets, another for the callbacks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::complaints::Complaints;
use crate::driver::{Port, spawn_on};
use crate::endpoint::Endpoint;
use crate::machine::{Clock, Time};
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::{self, Role, Side, SocketOptions};
use crate::wait::{Sleeper, Waker};
use crate::watched::Watched;

use super::node::ElectionNode;
use super::twins::Twins;
use super::words::{MAX_FRAME_BYTES, fingerprint};
use super::{
    Algorithm, Ballot, BallotError, BallotFile, ElectionMachine, Epoch, MemberId, Members,
    Standing, Tenure, Timing, View,
};

/// How long a member that is stopped waits at most, for each of the others, to have said that it leads no more.
const FAREWELL: Duration = Duration::from_millis(500);

/// Messages that may wait for one peer; what is older than a timeout is of no use.
const QUEUE_MESSAGES: i32 = 64;

/// Room for the messages by which CURVE begins, to which the limit applies as well (the longest has 257 bytes and
/// a few properties); longer words are refused when they are read.
const HANDSHAKE_BYTES: usize = 1024;

/// Settings of a member. All members need the same peers, algorithm and timing, and refuse to talk else.
#[derive(Clone, Debug)]
pub struct ElectionSetup {
    /// Which of the members this is.
    pub id: MemberId,
    /// All members, this one included, and where each listens.
    pub peers: BTreeMap<MemberId, Endpoint>,
    /// Where this one listens, if that is not where the others reach it, as behind a service's name.
    pub bind: Option<Endpoint>,
    /// How the leader is found.
    pub algorithm: Algorithm,
    /// The times of the election.
    pub timing: Timing,
    /// The file with this member's vote. With `None` the vote is forgotten when the process ends: two
    /// leaders in one epoch are possible then, so that this is for tests and for [`Algorithm::Bully`].
    pub ballot: Option<PathBuf>,
    /// The socket that listens, and its security.
    pub listen: SocketOptions,
    /// The sockets that connect to the others, and their security.
    pub connect: SocketOptions,
}

impl ElectionSetup {
    /// Settings with defaults for all but the members and the ballot.
    pub fn new(
        id: MemberId,
        peers: BTreeMap<MemberId, Endpoint>,
        ballot: Option<PathBuf>,
    ) -> ElectionSetup {
        ElectionSetup {
            id,
            peers,
            bind: None,
            algorithm: Algorithm::default(),
            timing: Timing::default(),
            ballot,
            listen: SocketOptions::default(),
            connect: SocketOptions::default(),
        }
    }
}

/// Why a member could not be started; nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// Its sockets, a thread, or the configuration.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its ballot.
    #[error(transparent)]
    Ballot(#[from] BallotError),
}

/// How things stood after the last turn of the driver.
#[derive(Clone, Copy, Debug)]
struct Status {
    view: View,
    tenure: Option<Tenure>,
}

impl Status {
    fn tenure_at(&self, now: Time) -> Option<Tenure> {
        self.tenure
            .filter(|tenure| tenure.until.is_none_or(|until| now < until))
    }
}

#[derive(Debug)]
struct State {
    status: Status,
    end: Option<Result<(), String>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stop: StopHandle,
    /// The highest epoch that the program has seen in the world.
    pub(super) seen: AtomicU64,
    waker: Waker,
    clock: Clock,
    state: Watched<State>,
}

impl Shared {
    pub(super) fn publish(&self, view: View, tenure: Option<Tenure>) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.status, Status { view, tenure });
        let epoch = |status: &Status| status.tenure.map(|tenure| tenure.epoch);
        // Nobody waits for a lease to be renewed.
        if before.view != view || epoch(&before) != epoch(&state.status) {
            drop(state);
            self.state.notify();
        }
    }

    pub(super) fn end(&self, error: Option<String>) {
        let mut state = self.state.lock();
        state.status.tenure = None;
        state.status.view.standing = Standing::Follower;
        state.end.get_or_insert(error.map_or(Ok(()), Err));
        drop(state);
        self.state.notify();
    }

    fn tenure(&self) -> Option<Tenure> {
        let state = self.state.lock();
        // Read under the lock, and so not before the lease that it is compared with.
        state.status.tenure_at(self.clock.now())
    }
}

/// The right to lead in an epoch, for as long as it lasts: the driver renews it, or does not.
///
/// Ask it before each deed of a leader. Between the question and the deed a process may stand still, so that
/// what is done in the world should carry the [epoch](Lease::epoch) and be refused there when a higher one
/// was seen.
#[derive(Clone, Debug)]
pub struct Lease {
    epoch: Epoch,
    shared: Arc<Shared>,
}

impl Lease {
    /// The epoch: a fencing token, higher than that of every leader before.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether this member leads, still or again, in this epoch.
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// How long it leads if nothing more is heard of the others, and nobody stops the [`Election`]; 0 when it is
    /// over, [`Duration::MAX`] with [`Algorithm::Bully`], which knows no leases.
    pub fn remaining(&self) -> Duration {
        let tenure = self.shared.tenure();
        let tenure = tenure.filter(|tenure| tenure.epoch == self.epoch);
        tenure.map_or(Duration::ZERO, |tenure| match tenure.until {
            Some(until) => until.since(self.shared.clock.now()),
            None => Duration::MAX,
        })
    }
}

/// What is called when this member begins to lead, and when it ceases to.
///
/// They are called one after the other, in a thread of their own, so that they may take their time; each
/// `lost` follows its `gained`. A leadership that has come and gone while one was running is passed over. When
/// `lost` is called somebody else may lead already: ask the [`Lease`] before each deed.
pub struct Callbacks {
    /// It leads.
    pub on_gained: Box<dyn FnMut(Lease) + Send>,
    /// It leads no more; the epoch is that of the lease before.
    pub on_lost: Box<dyn FnMut(Epoch) + Send>,
}

impl Default for Callbacks {
    /// For programs that ask.
    fn default() -> Callbacks {
        Callbacks {
            on_gained: Box::new(|_| {}),
            on_lost: Box::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

/// A member of an election, which takes part until it is dropped or stopped.
///
/// One that leads gives up its lease then and says so, so that the others elect at once. One that is killed they
/// miss when its lease is over.
#[derive(Debug)]
pub struct Election {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    threads: Vec<JoinHandle<()>>,
}

impl Election {
    /// Opens the ballot and the sockets, and takes part.
    ///
    /// # Errors
    ///
    /// The settings make no sense; the ballot is in use, damaged or another's; an endpoint is in use,
    /// unusable, or exposed without encryption; the system refuses.
    pub fn start(setup: ElectionSetup, callbacks: Callbacks) -> Result<Election, ElectionError> {
        let members = Members::new(setup.id, setup.peers.keys().copied());
        let members = members.map_err(OpenError::Config)?;
        setup.timing.validate().map_err(OpenError::Config)?;
        let (sleeper, waker) = Sleeper::new().map_err(OpenError::System)?;
        let (file, ballot) = match &setup.ballot {
            Some(path) => {
                let (file, ballot) = BallotFile::open(path, setup.id)?;
                (Some(file), ballot)
            }
            None => (None, Ballot::default()),
        };
        let door = open_door(&setup)?;
        let endpoint = door.endpoint().clone();
        let others = open_ways(&setup)?;
        let clock = Clock::start();
        let cluster = fingerprint(&members, setup.algorithm, &setup.timing);
        let machine = ElectionMachine::new(
            setup.algorithm,
            members,
            setup.timing,
            ballot,
            clock.now(),
            rand::random(),
        );
        let status = Status {
            view: machine.view(),
            tenure: None,
        };
        let shared = Arc::new(Shared {
            stop: StopHandle::new(waker.clone()),
            seen: AtomicU64::new(0),
            waker,
            clock,
            state: Watched::new(State { status, end: None }),
        });
        let node = ElectionNode {
            me: setup.id,
            cluster,
            instance: rand::random(),
            machine,
            door: Port::new(door),
            others,
            ballot: file,
            shared: shared.clone(),
            clock,
            malformed: Complaints::default(),
            misdirected: Complaints::default(),
            unwritten: Complaints::default(),
            twins: Twins::default(),
            twinned: Complaints::default(),
        };
        let mut election = Election {
            shared: shared.clone(),
            endpoint,
            threads: Vec::new(),
        };
        let driver = spawn_on(clock, "election", node, sleeper).map_err(OpenError::System)?;
        election.threads.push(driver);
        let teller = std::thread::Builder::new()
            .name("election-tells".into())
            .spawn(move || tell(&shared, callbacks));
        election.threads.push(teller.map_err(OpenError::System)?);
        Ok(election)
    }

    /// Where it listens, with the port that the system picked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The leader as far as this member knows, which may be behind the times.
    pub fn leader(&self) -> Option<MemberId> {
        self.view().leader
    }

    /// How this member sees the election.
    pub fn view(&self) -> View {
        self.shared.state.lock().status.view
    }

    /// The right to lead, if this member has it now.
    pub fn lease(&self) -> Option<Lease> {
        self.shared.tenure().map(|tenure| Lease {
            epoch: tenure.epoch,
            shared: self.shared.clone(),
        })
    }

    /// Waits until this member sees the election otherwise than in `before`, but for at most `within`; how
    /// it sees it then.
    pub fn wait_for_change(&self, before: View, within: Duration) -> View {
        let deadline = Instant::now().checked_add(within);
        let mut state = self.shared.state.lock();
        while state.status.view == before && state.end.is_none() {
            match self.shared.state.wait(state, deadline) {
                Some(waited) => state = waited,
                None => return self.view(),
            }
        }
        state.status.view
    }

    /// Says that what is led obeys `epoch` already: this member leads in none up to it, and if it does,
    /// steps down. So leaders go on where they were when all ballots are lost. Has no effect with
    /// [`Algorithm::Bully`].
    pub fn outdated(&self, epoch: Epoch) {
        self.shared.seen.fetch_max(epoch.0, Ordering::SeqCst);
        self.shared.waker.wake();
    }

    /// A handle that stops it from any thread. A leader that is stopped gives up its lease at once: end what
    /// it does as leader before.
    pub fn stop_handle(&self) -> StopHandle {
        self.shared.stop.clone()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// A sentence, when its sockets failed.
    pub fn wait(&self) -> Result<(), String> {
        let mut state = self.shared.state.lock();
        while state.end.is_none() {
            state = self.shared.state.wait(state, None).ok_or("no end")?;
        }
        state.end.clone().unwrap_or(Ok(()))
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.shared.stop.stop();
        for thread in self.threads.drain(..) {
            // A callback that drops the election must not wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Calls back, until the driver has ended.
fn tell(shared: &Arc<Shared>, mut callbacks: Callbacks) {
    let mut told: Option<Epoch> = None;
    loop {
        let mut state = shared.state.lock();
        let leads = |state: &State| state.status.tenure.map(|tenure| tenure.epoch);
        while leads(&state) == told && state.end.is_none() {
            match shared.state.wait(state, None) {
                Some(waited) => state = waited,
                None => return,
            }
        }
        let (epoch, is_over) = (leads(&state), state.end.is_some());
        drop(state);
        if told != epoch {
            if let Some(lost) = told {
                (callbacks.on_lost)(lost);
            }
            if let Some(epoch) = epoch {
                let shared = shared.clone();
                (callbacks.on_gained)(Lease { epoch, shared });
            }
            told = epoch;
        }
        if is_over {
            return;
        }
    }
}

fn open_door(setup: &ElectionSetup) -> Result<Box<dyn transport::Socket>, OpenError> {
    let own = setup.bind.as_ref().or_else(|| setup.peers.get(&setup.id));
    let endpoint =
        own.ok_or_else(|| OpenError::Config("there is no endpoint to listen at".into()))?;
    let options = bounded(&setup.listen);
    Ok(transport::open(
        Role::Router,
        Side::Bind,
        endpoint,
        &options,
    )?)
}

/// A socket to each of the others.
fn open_ways(setup: &ElectionSetup) -> Result<BTreeMap<MemberId, Port>, OpenError> {
    let options = SocketOptions {
        // What waited for a peer that was away would be out of date.
        only_connected: true,
        linger: FAREWELL,
        ..bounded(&setup.connect)
    };
    let others = setup.peers.iter().filter(|(id, _)| **id != setup.id);
    others
        .map(|(&id, endpoint)| {
            let socket = transport::open(Role::Dealer, Side::Connect, endpoint, &options)?;
            Ok((id, Port::new(socket)))
        })
        .collect()
}

/// Small messages, few of them, and none that outlasts the object.
pub(super) fn bounded(options: &SocketOptions) -> SocketOptions {
    SocketOptions {
        queue_messages: QUEUE_MESSAGES,
        max_message_bytes: MAX_FRAME_BYTES + HANDSHAKE_BYTES,
        linger: Duration::ZERO,
        reconnect_max: options.reconnect_max.min(Duration::from_millis(200)),
        ..options.clone()
    }
}
