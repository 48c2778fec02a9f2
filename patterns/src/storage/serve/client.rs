//! A client: asks the heads, and writes down what was confirmed.

mod notebook;

use std::path::PathBuf;
use std::time::Duration;

use crate::driver::Port;
use crate::endpoint::Endpoint;
use crate::machine::{Clock, Machine as _};
use crate::station::OpenError;
use crate::stop::{StopHandle, Stopped};
use crate::transport::{self, Message, Role, Side, SocketOptions, TransportError};
use crate::wait::{Sleeper, Waker, wait};

use super::super::{
    ClientConfig, ClientInput, ClientLine, ClientMachine, ClientOutput, Done, HeadId, HeadTells,
    Payload, RecordId, Refusal, Request, StatusView, TextLine as _, Verification, read_frame,
    write_frame,
};
use super::data::check_heads;
use super::envelope::ToHead;
use super::{StorageError, clock, connecting};
use notebook::Notebook;

/// Messages taken from a head at once.
const MESSAGES_PER_TURN: usize = 64;

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// The heads, with their numbers where they are known: a head that does not lead says who does by its
    /// number.
    pub heads: Vec<(Option<HeadId>, Endpoint)>,
    /// The file in which confirmed records are noted; none notes nothing.
    pub register: Option<PathBuf>,
    /// After how long a question is asked again.
    pub resend: Duration,
    /// After how long it is given up.
    pub patience: Duration,
    /// The longest record, in bytes; the same for all programs of the cluster.
    pub record_bytes: u64,
    /// The sockets, and their security.
    pub connect: SocketOptions,
}

impl ClientSetup {
    /// A client of one head that asks for up to 30 s and notes nothing.
    pub fn new(head: Endpoint) -> ClientSetup {
        ClientSetup {
            heads: vec![(None, head)],
            register: None,
            resend: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            record_bytes: 16 << 20,
            connect: SocketOptions::default(),
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The head says no, for good.
    #[error("{1}")]
    Refused(Option<RecordId>, Refusal),
    /// No answer in time. A record may be stored all the same; under the same id it can be put again.
    #[error("{0}")]
    TimedOut(String),
    /// Nobody lets us in.
    #[error("{endpoint} does not let us in: {reason}")]
    Shut {
        /// Where.
        endpoint: Endpoint,
        /// What does not fit.
        reason: String,
    },
    /// The record is safe, and the client's own register could not be written.
    #[error("record {0} is stored, but {1}: make room there and note the id")]
    NotNoted(RecordId, String),
    /// It was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A socket failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

struct Way {
    head: HeadId,
    /// Whether that number is the head's own.
    is_known: bool,
    endpoint: Endpoint,
    port: Port,
    /// Why it does not let us in, if it does not.
    shut: Option<String>,
}

/// A client of a storage cluster, used by one thread at a time.
pub struct StorageClient {
    machine: ClientMachine,
    ways: Vec<Way>,
    notebook: Option<Notebook>,
    patience: Duration,
    sleeper: Sleeper,
    waker: Waker,
    stop: StopHandle,
    clock: Clock,
    done: std::collections::VecDeque<Done>,
}

impl std::fmt::Debug for StorageClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageClient")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl StorageClient {
    /// Opens the register and the sockets; the heads may be away.
    ///
    /// # Errors
    ///
    /// The settings make no sense, the register cannot be written, an endpoint is unusable, or the system
    /// refuses.
    pub fn open(setup: ClientSetup) -> Result<StorageClient, StorageError> {
        let endpoints: Vec<Endpoint> = setup.heads.iter().map(|(_, at)| at.clone()).collect();
        check_heads(&endpoints)?;
        let (sleeper, waker) = Sleeper::new().map_err(OpenError::System)?;
        let notebook = setup.register.as_deref().map(Notebook::open).transpose()?;
        let options = SocketOptions {
            watch_links: true,
            ..connecting(&setup.connect, setup.record_bytes)
        };
        let ways: Result<Vec<Way>, OpenError> = (1..)
            .zip(setup.heads)
            .map(|(number, (id, endpoint))| {
                let socket = transport::open(Role::Dealer, Side::Connect, &endpoint, &options)?;
                Ok(Way {
                    head: id.unwrap_or(HeadId(number)),
                    is_known: id.is_some(),
                    endpoint,
                    port: Port::new(socket),
                    shut: None,
                })
            })
            .collect();
        let ways = ways?;
        let config = ClientConfig {
            heads: ways.iter().map(|way| way.head).collect(),
            resend: setup.resend,
            patience: setup.patience,
        };
        Ok(StorageClient {
            machine: ClientMachine::new(config),
            ways,
            notebook,
            patience: setup.patience,
            sleeper,
            stop: StopHandle::new(waker.clone()),
            waker,
            clock: clock(),
            done: std::collections::VecDeque::new(),
        })
    }

    /// Stores bytes under a new id; returns what was noted of them.
    ///
    /// # Errors
    ///
    /// The record is too long, there was no answer in time, or the client was stopped.
    pub fn put(&mut self, bytes: impl Into<Payload>) -> Result<ClientLine, AskError> {
        let id = RecordId(rand::random());
        match self.ask(Request::Put(id, bytes.into()))? {
            Done::Stored(line, Ok(())) => Ok(line),
            Done::Stored(line, Err(reason)) => Err(AskError::NotNoted(line.id, reason)),
            other => Err(self.failure(other)),
        }
    }

    /// Gives back what is stored under an id; `None` when there is no such record.
    ///
    /// # Errors
    ///
    /// There was no answer in time, or the client was stopped.
    pub fn get(&mut self, id: RecordId) -> Result<Option<Payload>, AskError> {
        match self.ask(Request::Get(id))? {
            Done::Found(_, bytes) => Ok(Some(bytes)),
            Done::Unknown(_) => Ok(None),
            other => Err(self.failure(other)),
        }
    }

    /// Names up to 1,000 records with their lengths in the order of their ids, from behind `after`; and
    /// whether there are others behind them.
    ///
    /// # Errors
    ///
    /// There was no answer in time, or the client was stopped.
    pub fn list(
        &mut self,
        after: Option<RecordId>,
    ) -> Result<(Vec<(RecordId, u64)>, bool), AskError> {
        match self.ask(Request::List(after))? {
            Done::Records(records, more) => Ok((records, more)),
            other => Err(self.failure(other)),
        }
    }

    /// How the cluster fares.
    ///
    /// # Errors
    ///
    /// There was no answer in time, or the client was stopped.
    pub fn status(&mut self) -> Result<StatusView, AskError> {
        match self.ask(Request::Status)? {
            Done::Status(status) => Ok(status),
            other => Err(self.failure(other)),
        }
    }

    /// Has every copy read, and damaged ones replaced.
    ///
    /// # Errors
    ///
    /// There was no answer in time, or the client was stopped.
    pub fn verify(&mut self) -> Result<Verification, AskError> {
        match self.ask(Request::Verify)? {
            Done::Verified(found) => Ok(found),
            other => Err(self.failure(other)),
        }
    }

    /// Begins a request; what comes of it is told by [`wait_next`](StorageClient::wait_next). Many records may be on
    /// their way at once, each under an id of its own.
    pub fn start(&mut self, request: Request) {
        self.machine
            .handle(self.clock.now(), ClientInput::Do(request));
    }

    /// Waits for the next request to be done; `None` when none is under way.
    ///
    /// # Errors
    ///
    /// No head lets us in, a socket failed, or the client was stopped.
    pub fn wait_next(&mut self) -> Result<Option<Done>, AskError> {
        while !self.done.is_empty() || !self.machine.is_idle() {
            if let Some(done) = self.wait_or_rung()? {
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    /// Waits until a request is done, the [waker](StorageClient::waker) rings, or there is something else to see
    /// to; for programs that have other things to wait for as well. `None` when no request is done.
    ///
    /// # Errors
    ///
    /// No head lets us in, a socket failed, or the client was stopped.
    pub fn wait_or_rung(&mut self) -> Result<Option<Done>, AskError> {
        if self.done.is_empty() {
            self.stop.check()?;
            self.machine.wake(self.clock.now());
            let more = self.turn()?;
            if !more && self.done.is_empty() {
                self.sleep();
            }
        }
        Ok(self.done.pop_front())
    }

    /// Ends the present or next [wait](StorageClient::wait_or_rung) from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Why a request has failed, as an error.
    pub fn failure(&self, done: Done) -> AskError {
        match done {
            Done::Refused(id, why) => AskError::Refused(Some(id), why),
            Done::TimedOut(request, why) => AskError::TimedOut(self.too_late(&request, why)),
            _ => AskError::TimedOut("the answer fits no question of ours: this is a bug".into()),
        }
    }

    /// A handle that ends all waits from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    fn ask(&mut self, request: Request) -> Result<Done, AskError> {
        self.start(request);
        let done = self.wait_next()?;
        done.ok_or_else(|| AskError::TimedOut("the question was dropped: this is a bug".into()))
    }

    fn turn(&mut self) -> Result<bool, AskError> {
        self.act()?;
        let mut more = false;
        for at in 0..self.ways.len() {
            let mut messages = Vec::new();
            let port = &mut self.ways[at].port;
            more |= port.receive_some(MESSAGES_PER_TURN, |message| messages.push(message))?;
            messages.iter().for_each(|message| self.take(at, message));
        }
        self.look_at_doors()?;
        self.act()?;
        for way in &mut self.ways {
            way.port.flush()?;
        }
        Ok(more)
    }

    /// Asks a head as soon as it is reached. Ends when all of them turn us away for our keys, which waiting does
    /// not mend; one alone may only stand still.
    fn look_at_doors(&mut self) -> Result<(), AskError> {
        let now = self.clock.now();
        for way in &mut self.ways {
            let was_connected = way.port.is_connected();
            if let Some(reason) = way.port.refusal() {
                way.shut = Some(reason);
            }
            if way.port.is_connected() && !was_connected {
                way.shut = None;
                self.machine.handle(now, ClientInput::Reached(way.head));
            }
        }
        match self.shut() {
            Some(error) if self.ways.iter().all(|way| way.shut.is_some()) => Err(error),
            _ => Ok(()),
        }
    }

    /// Which head does not let us in, if one does not.
    fn shut(&self) -> Option<AskError> {
        let shut = |way: &Way| {
            let (endpoint, reason) = (way.endpoint.clone(), way.shut.clone()?);
            Some(AskError::Shut { endpoint, reason })
        };
        self.ways.iter().find_map(shut)
    }

    fn take(&mut self, at: usize, message: &Message) {
        let Some(mut tells) = message
            .first()
            .and_then(|frame| read_frame::<HeadTells>(frame).ok())
        else {
            log::warn!(
                "{} has answered what is no answer: it may be another program",
                self.ways[at].endpoint
            );
            return;
        };
        let Way { head, is_known, .. } = self.ways[at];
        if let HeadTells::NotLeading { leader } = &mut tells
            && !is_known
        {
            // Its numbers are not ours.
            *leader = None;
        }
        self.machine
            .handle(self.clock.now(), ClientInput::Head(head, tells));
    }

    fn act(&mut self) -> Result<(), TransportError> {
        let mut lines = Vec::new();
        while let Some(output) = self.machine.poll() {
            match output {
                ClientOutput::ToHead(head, asks) => {
                    // Our own messages hold nothing that MessagePack cannot express.
                    let frame = write_frame(&ToHead::Client(asks)).unwrap_or_default();
                    let way = self.ways.iter_mut().find(|way| way.head == head);
                    if let Some(way) = way {
                        way.port.post_to(vec![frame.into()])?;
                    }
                }
                ClientOutput::Keep(line) => lines.push(line),
                ClientOutput::Done(done) => self.done.push_back(done),
            }
        }
        if !lines.is_empty() {
            self.note(&lines);
            self.act()?;
        }
        Ok(())
    }

    /// Notes what was confirmed, all at once.
    fn note(&mut self, lines: &[ClientLine]) {
        let text: String = lines.iter().map(|line| line.to_line()).collect();
        let noted = match &mut self.notebook {
            Some(notebook) => notebook.append(&text),
            None => Ok(()),
        };
        let now = self.clock.now();
        for line in lines {
            self.machine
                .handle(now, ClientInput::Kept(line.id, noted.clone()));
        }
    }

    fn sleep(&self) {
        let mut sources = Vec::with_capacity(self.ways.len());
        self.ways
            .iter()
            .for_each(|way| way.port.interests(&mut sources));
        wait(
            &sources,
            &self.sleeper,
            &self.clock,
            self.machine.deadline(),
        );
    }

    fn too_late(&self, request: &Request, why: Option<Refusal>) -> String {
        let seconds = self.patience.as_secs_f64();
        let what = match request {
            Request::Put(id, _) => format!("record {id} was not confirmed within {seconds} s"),
            Request::Get(id) => format!("record {id} was not found within {seconds} s"),
            Request::List(_) | Request::Status | Request::Verify => {
                format!("there was no answer within {seconds} s")
            }
        };
        match (why, self.shut()) {
            (Some(why), _) => format!("{what}: {why}"),
            (None, Some(shut)) => format!("{what}: {shut}"),
            (None, None) => format!("{what}: is a head running at {}?", self.endpoints()),
        }
    }

    fn endpoints(&self) -> String {
        let all: Vec<String> = self
            .ways
            .iter()
            .map(|way| way.endpoint.to_string())
            .collect();
        all.join(", ")
    }
}
