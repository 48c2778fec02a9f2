//! The broker as a machine: what it knows, and what it does as time passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::detector::{Heard, Rules, Trust};
use crate::machine::{Machine, Time};
use crate::pipeline::{Incarnation, JobId, PeerId, RangeSet, Span, WorkerId};

use super::hands::Deed;
use super::job::Job;
use super::majordomo::Version;
use super::patience::{Detection, Patience};
use super::piece::{Piece, Slice};
use super::protocol::{
    BrokerSays, BrokerTells, ClientSays, JobSettings, JobView, LeaseId, Takes, WorkerTells,
};
use super::requests::{Asker, Pledge};
use super::run::Run;
use super::service::{Place, Room, Service};
use super::store::Write;
use super::throughput::Throughput;

/// Views of jobs that are over, kept for those who ask.
const REMEMBERED_JOBS: usize = 1_000;

/// How a broker serves its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Asynchronously: a client hands in tasks and may go; results are kept until they are fetched.
    #[default]
    LoadBalancing,
    /// Synchronously: a client waits for its results, which go straight back. Nothing is kept: a job
    /// ends with the client that opened it.
    RequestReply,
}

/// Mode, bounds and times of a broker.
#[derive(Clone, Debug)]
pub struct BrokerLimits {
    /// How clients are served.
    pub mode: Mode,
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Heartbeats that a worker may miss before its tasks go to others; at least 2.
    pub liveness: u32,
    /// How it is told from the heartbeats who is late and who is gone.
    pub detection: Detection,
    /// Pause before a failed task is tried again; it doubles with every further attempt.
    pub retry_delay: Duration,
    /// Tasks that may wait in one service; beyond it submitting is refused until there is room.
    pub queue_tasks: u64,
    /// Bytes of tasks that may wait in one service, as they were sent. In memory they take a little
    /// more where tasks of a job follow one another, and up to 200 bytes each where they do not.
    pub queue_bytes: usize,
    /// Bytes of results that may wait for being fetched, over all jobs. The first half is for whoever
    /// comes first; of the other half each job may have an equal share, and no tasks of a job that
    /// has more are given out before some of its results are fetched.
    pub kept_bytes: usize,
    /// Jobs that are not over, requests of Majordomo clients among them; beyond it more are refused.
    pub jobs: usize,
    /// Bytes of tasks or results that fit into one message. [`Broker::start`](super::Broker::start)
    /// lowers it to what the socket takes.
    pub message_bytes: usize,
    /// Most tasks in one lease.
    pub batch_tasks: u32,
    /// Most bytes in one lease, unless a single task is larger.
    pub batch_bytes: usize,
    /// How long a worker should be busy with one lease.
    pub batch_time: Duration,
}

impl Default for BrokerLimits {
    fn default() -> BrokerLimits {
        BrokerLimits {
            mode: Mode::default(),
            heartbeat: Duration::from_millis(500),
            liveness: 4,
            detection: Detection::default(),
            retry_delay: Duration::from_millis(100),
            queue_tasks: 20_000_000,
            queue_bytes: 4 << 30,
            kept_bytes: 4 << 30,
            jobs: 100_000,
            message_bytes: usize::MAX,
            batch_tasks: 4096,
            batch_bytes: 256 << 10,
            batch_time: Duration::from_millis(5),
        }
    }
}

impl BrokerLimits {
    /// How long a silent worker is believed alive, with [`Detection::Fixed`].
    pub fn patience(&self) -> Duration {
        self.heartbeat.saturating_mul(self.liveness)
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.heartbeat < Duration::from_millis(10) {
            return Err("heartbeat is shorter than 10 ms: give at least that".into());
        }
        if self.liveness < 2 {
            return Err("liveness is below 2: one late heartbeat would count as a death".into());
        }
        if self.queue_tasks == 0 || self.batch_tasks == 0 || self.jobs == 0 {
            return Err("queue_tasks, batch_tasks or jobs is 0: give at least 1".into());
        }
        Ok(())
    }
}

/// What happens to a broker.
#[derive(Debug)]
pub enum BrokerInput {
    /// A client speaks.
    Client(PeerId, ClientSays),
    /// A client submits tasks of a job that it opened.
    Submit {
        /// Who.
        peer: PeerId,
        /// Whose tasks.
        job: JobId,
        /// Which.
        span: Span,
        /// The tasks, encoded.
        records: Slice,
    },
    /// A worker speaks.
    Worker(PeerId, WorkerTells),
    /// A worker has done tasks.
    Worked {
        /// Who.
        peer: PeerId,
        /// Under which lease.
        lease: LeaseId,
        /// Which tasks.
        span: Span,
        /// Time spent on them.
        busy: Duration,
        /// For each `true` and the result, or `false` and the failure.
        records: Slice,
    },
    /// A Majordomo client asks a service.
    Request {
        /// Who.
        peer: PeerId,
        /// In which version.
        version: Version,
        /// Which.
        service: String,
        /// The body as a record.
        record: Slice,
    },
    /// A client asks an operation, and waits for the reply.
    Ask {
        /// Who.
        peer: PeerId,
        /// Under which name.
        job: JobId,
        /// What, how often and for how long.
        settings: Box<JobSettings>,
        /// The task.
        record: Slice,
    },
    /// A Majordomo worker speaks.
    Hand(PeerId, Version, Deed),
    /// The peer is not connected any more.
    Unreachable(PeerId),
    /// The writes up to this number are safe.
    Stored(u64),
    /// The store takes nothing, for this reason, or works again.
    StoreTrouble(Option<String>),
    /// What others say is not read for now, or is again.
    Deaf(bool),
}

/// Tasks on their way to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub peer: PeerId,
    /// Under which name.
    pub lease: LeaseId,
    /// Whose tasks.
    pub job: JobId,
    /// Which.
    pub span: Span,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// How many there are.
    pub attempts: u32,
    /// How long a task may take, in milliseconds; 0 for ever.
    pub time_limit_ms: u64,
    /// What to do.
    pub operation: Arc<str>,
    /// The tasks, encoded.
    pub records: Slice,
    /// The worker speaks Majordomo.
    pub majordomo: Option<Version>,
}

/// What a broker wants done.
#[derive(Debug, PartialEq)]
pub enum BrokerOutput {
    /// Say something to a client.
    ToClient(PeerId, BrokerSays),
    /// Say something to a worker.
    ToWorker(PeerId, BrokerTells),
    /// Give tasks to a worker.
    Grant(Grant),
    /// Send results to a client.
    Results {
        /// To whom.
        peer: PeerId,
        /// Of which job.
        job: JobId,
        /// Of which tasks.
        span: Span,
        /// The results.
        records: Slice,
    },
    /// Send a Majordomo client the reply to its request.
    Reply {
        /// To whom.
        peer: PeerId,
        /// In which version.
        version: Version,
        /// Of which service.
        service: Arc<str>,
        /// The body as a record.
        body: Slice,
    },
    /// Send a Majordomo client a part of the reply; only version 0.2 knows parts.
    Part {
        /// To whom.
        peer: PeerId,
        /// Of which service.
        service: Arc<str>,
        /// The body as a record.
        body: Slice,
    },
    /// Tell a Majordomo worker that the broker lives.
    HandBeat(PeerId, Version),
    /// Tell a Majordomo worker to begin anew.
    Dismiss(PeerId, Version),
    /// Make this safe, in the order in which they come, and say so with [`BrokerInput::Stored`]; the
    /// first one is number 1.
    Keep(Write),
    /// Forget the peer's number.
    Gone(PeerId),
}

/// Tasks that a worker holds.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) peer: PeerId,
    pub(super) job: JobId,
    pub(super) piece: Piece,
    /// What of it is neither done nor failed.
    pub(super) left: Vec<Span>,
    pub(super) sent: Time,
    pub(super) recalled: bool,
}

impl Lease {
    pub(super) fn tasks_left(&self) -> u64 {
        self.left.iter().map(|span| u64::from(span.count)).sum()
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slots: usize,
    pub(super) operations: Vec<Arc<str>>,
    pub(super) leases: BTreeSet<LeaseId>,
    /// The one of them that may have killed others.
    pub(super) suspect: Option<LeaseId>,
    pub(super) heard: Heard,
    pub(super) trust: Trust,
    /// It has been silent for longer than is usual, or has died too often to be trusted yet.
    pub(super) late: bool,
    pub(super) leaving: bool,
    /// Its connection broke; it may come back, as another peer, with what it holds.
    pub(super) unreachable: bool,
    /// Where it stands among the workers with room.
    pub(super) place: Option<Place>,
    pub(super) done: u64,
    /// It speaks Majordomo.
    pub(super) majordomo: Option<Version>,
    pub(super) takes: Takes,
    /// What people call it.
    pub(super) name: Option<String>,
}

impl Worker {
    /// It is heard at its heartbeat.
    pub(super) fn beat(&mut self, now: Time, rules: &Rules) {
        let is_late = !self.trust.is_full() && now >= self.heard.suspect_at(rules);
        self.trust.beat(now, is_late, rules);
        self.heard.beat(now);
    }

    /// Whether it gets one task at a time for each slot, and nothing ahead.
    pub(super) fn takes_one(&self) -> bool {
        self.takes == Takes::One
    }
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) heard: Heard,
    /// It speaks our protocol, and wants to hear that we live.
    pub(super) beats: bool,
    /// Majordomo requests that it waits for, without a sign of life.
    pub(super) asking: u64,
}

/// What is promised to a client as soon as a write is safe.
#[derive(Debug)]
pub(super) struct Acceptance {
    pub(super) write: u64,
    pub(super) peer: PeerId,
    pub(super) job: JobId,
    pub(super) promise: Promise,
}

#[derive(Debug)]
pub(super) enum Promise {
    /// To have these tasks.
    Tasks(Span),
    /// To know the job.
    Opened,
    /// Whatever this says.
    Say(BrokerSays),
}

impl Promise {
    /// Takes up another that continues it, if it does.
    pub(super) fn join(&mut self, next: &Promise) -> bool {
        let (Promise::Tasks(span), Promise::Tasks(next)) = (self, next) else {
            return false;
        };
        let count = span.count.checked_add(next.count);
        let count = count.filter(|_| span.end() == next.first);
        span.count = count.unwrap_or(span.count);
        count.is_some()
    }
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerCounts {
    /// Tasks done.
    pub done: u64,
    /// Those of them that failed for good.
    pub failed: u64,
    /// Attempts after the first.
    pub retried: u64,
    /// Results that came under a lease that had ended.
    pub stale: u64,
    /// Messages that made no sense.
    pub malformed: u64,
    /// Requests that were dropped because their queue was full.
    pub refused: u64,
}

/// The broker as a machine.
#[derive(Debug)]
pub struct BrokerMachine {
    pub(super) limits: BrokerLimits,
    pub(super) patience: Patience,
    pub(super) incarnation: Incarnation,
    /// Whether there is a store.
    pub(super) durable: bool,
    pub(super) jobs: BTreeMap<JobId, Job>,
    /// Jobs that are over, the newest last, each with the write that forgets it.
    pub(super) over: VecDeque<(JobView, u64)>,
    pub(super) services: BTreeMap<Arc<str>, Service>,
    pub(super) workers: BTreeMap<PeerId, Worker>,
    pub(super) worker_peers: BTreeMap<WorkerId, PeerId>,
    pub(super) clients: BTreeMap<PeerId, Client>,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) next_lease: LeaseId,
    pub(super) turns: u64,
    /// How much time the service had spent that was served last.
    pub(super) spent_ns: u64,
    pub(super) kept_bytes: usize,
    /// Jobs of which nothing is given out before some of their results are fetched.
    pub(super) held_back: BTreeSet<JobId>,
    pub(super) counts: BrokerCounts,
    pub(super) throughput: Throughput,
    pub(super) outbox: VecDeque<BrokerOutput>,
    pub(super) writes: u64,
    pub(super) stored: u64,
    pub(super) acceptances: VecDeque<Acceptance>,
    /// Tasks on their way to the store; see `intake`.
    pub(super) gathered: BTreeMap<JobId, Run>,
    pub(super) gathered_bytes: usize,
    /// The last write of those that were gathered before.
    pub(super) gathered_until: u64,
    pub(super) pledges: VecDeque<Pledge>,
    pub(super) rng: StdRng,
    pub(super) trouble: Option<String>,
    /// When somebody may have been silent for too long.
    pub(super) silence: BTreeSet<(Time, PeerId)>,
    /// Who is in it, and when: every worker, every client, and who has just spoken.
    pub(super) watched: BTreeMap<PeerId, Time>,
    /// When tasks of a job may be given out that could not before.
    pub(super) releases: BTreeSet<(Time, JobId)>,
    /// When results that nobody fetched are let go.
    pub(super) forgets: BTreeSet<(Time, JobId)>,
    pub(super) next_beat: Time,
    /// Workers that have died and may come back, and how far they are to be trusted then.
    pub(super) fallen: BTreeMap<WorkerId, Trust>,
    /// The last time that it was woken.
    pub(super) woken: Time,
    pub(super) next_steal: Option<Time>,
    /// Nothing is read for now.
    pub(super) deaf: bool,
    /// When that was over.
    pub(super) heard_again: Time,
}

impl BrokerMachine {
    /// A broker that knows nothing; `incarnation` differs at every start, and so must `first_lease`
    /// by more than a start ever hands out. With [`Mode::RequestReply`] there is nothing to be durable.
    pub fn new(
        limits: BrokerLimits,
        incarnation: Incarnation,
        first_lease: LeaseId,
        durable: bool,
    ) -> BrokerMachine {
        BrokerMachine {
            durable: durable && limits.mode == Mode::LoadBalancing,
            patience: Patience::of(&limits),
            limits,
            incarnation,
            jobs: BTreeMap::new(),
            over: VecDeque::new(),
            services: BTreeMap::new(),
            workers: BTreeMap::new(),
            worker_peers: BTreeMap::new(),
            clients: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: first_lease,
            turns: 0,
            spent_ns: 0,
            kept_bytes: 0,
            held_back: BTreeSet::new(),
            counts: BrokerCounts::default(),
            throughput: Throughput::default(),
            outbox: VecDeque::new(),
            writes: 0,
            stored: 0,
            acceptances: VecDeque::new(),
            gathered: BTreeMap::new(),
            gathered_bytes: 0,
            gathered_until: 0,
            pledges: VecDeque::new(),
            // Differs at every start, as the incarnation does.
            rng: StdRng::seed_from_u64(incarnation.0),
            trouble: None,
            silence: BTreeSet::new(),
            watched: BTreeMap::new(),
            releases: BTreeSet::new(),
            forgets: BTreeSet::new(),
            next_beat: Time::START,
            fallen: BTreeMap::new(),
            woken: Time::START,
            next_steal: None,
            deaf: false,
            heard_again: Time::START,
        }
    }

    /// What was counted since the start.
    pub fn counts(&self) -> BrokerCounts {
        self.counts
    }

    /// Counts a message that the driver could not read.
    pub fn note_malformed(&mut self) {
        self.counts.malformed += 1;
    }

    pub(super) fn say(&mut self, peer: PeerId, says: BrokerSays) {
        self.outbox.push_back(BrokerOutput::ToClient(peer, says));
    }

    pub(super) fn tell(&mut self, peer: PeerId, tells: BrokerTells) {
        self.outbox.push_back(BrokerOutput::ToWorker(peer, tells));
    }

    pub(super) fn write(&mut self, write: Write) {
        if self.durable {
            self.writes += 1;
            self.outbox.push_back(BrokerOutput::Keep(write));
        }
    }

    /// A number that grows with every call.
    pub(super) fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    pub(super) fn remember(&mut self, view: JobView) {
        // Of one whose end is not safe more has to be known than that it is not there.
        let is_safe = |(_, write): &(JobView, u64)| !self.durable || *write <= self.stored;
        if self.over.len() >= REMEMBERED_JOBS && self.over.front().is_some_and(is_safe) {
            self.over.pop_front();
        }
        self.over.push_back((view, self.writes));
    }

    fn beat(&mut self, now: Time) {
        if now < self.next_beat {
            return;
        }
        self.next_beat = now + self.limits.heartbeat;
        self.forgive(now);
        let incarnation = self.incarnation;
        for (&peer, worker) in &self.workers {
            let tells = BrokerTells::Beat { incarnation };
            self.outbox.push_back(match worker.majordomo {
                Some(version) => BrokerOutput::HandBeat(peer, version),
                None => BrokerOutput::ToWorker(peer, tells),
            });
        }
        let ours = self.clients.iter().filter(|(_, client)| client.beats);
        for (&peer, _) in ours {
            let beat = BrokerSays::Beat { incarnation };
            self.outbox.push_back(BrokerOutput::ToClient(peer, beat));
        }
    }

    fn stored(&mut self, writes: u64) {
        self.stored = writes;
        self.write_gathered_in_time();
        self.keep_promises();
    }

    /// Says what is safe by now.
    pub(super) fn keep_promises(&mut self) {
        let writes = self.stored;
        let mut accepted: BTreeMap<(PeerId, JobId), RangeSet> = BTreeMap::new();
        let mut others = Vec::new();
        let safe = self
            .acceptances
            .partition_point(|next| next.write <= writes);
        for next in self.acceptances.drain(..safe) {
            match next.promise {
                Promise::Tasks(span) => {
                    let tasks = accepted.entry((next.peer, next.job)).or_default();
                    tasks.insert(span.range());
                }
                other => others.push((next.peer, next.job, other)),
            }
        }
        self.keep_pledges();
        for ((peer, job), tasks) in accepted {
            self.accept(peer, job, &tasks);
        }
        for (peer, job, promise) in others {
            match promise {
                Promise::Opened => self.say_opened(peer, job),
                Promise::Say(says) => self.say(peer, says),
                Promise::Tasks(_) => {}
            }
        }
    }

    /// Promises tasks to a client.
    pub(super) fn accept(&mut self, peer: PeerId, id: JobId, tasks: &RangeSet) {
        if let Some(job) = self.jobs.get_mut(&id) {
            for range in tasks.iter() {
                job.promised.insert(range);
            }
        }
        let tasks = tasks.iter().collect();
        self.say(peer, BrokerSays::Accepted { job: id, tasks });
    }

    /// For tests: how many things of all kinds it remembers, but for views of jobs that are over and
    /// for workers that died.
    #[doc(hidden)]
    pub fn footprint(&self) -> usize {
        let lined = self.services.values().map(Service::footprint);
        let peers = self.workers.len() + self.worker_peers.len() + self.clients.len();
        let due = self.silence.len() + self.watched.len() + self.releases.len();
        let kept = self.jobs.values().map(Job::footprint);
        let rest = self.leases.len() + self.acceptances.len() + self.forgets.len();
        let rest = rest + self.gathered.len() + self.held_back.len();
        lined.chain(kept).sum::<usize>() + peers + due + rest + self.outbox.len()
    }

    /// For tests: what must always be true.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<(), String> {
        for (id, job) in &self.jobs {
            job.audit().map_err(|what| format!("job {id}: {what}"))?;
        }
        let kept: usize = self.jobs.values().map(Job::kept_bytes).sum();
        let gathered: usize = self.gathered.values().map(Run::bytes).sum();
        if gathered != self.gathered_bytes {
            return Err("bytes of gathered tasks are miscounted".into());
        }
        if kept != self.kept_bytes {
            return Err("bytes of kept results are miscounted".into());
        }
        for (name, service) in &self.services {
            let jobs = self.jobs.values().filter(|job| job.operation == *name);
            let (queued, leased) = jobs.fold((0, 0), |(queued, leased), job| {
                (queued + job.queue.tasks(), leased + job.leased)
            });
            let jobs = self.jobs.values().filter(|job| job.operation == *name);
            let workers = self.workers.values();
            let workers = workers.filter(|worker| worker.operations.contains(name));
            let users = (jobs.count() as u64, workers.count() as u64);
            if (queued, leased) != (service.queued, service.leased)
                || users != (service.jobs, service.workers)
            {
                return Err(format!("service {name} is miscounted"));
            }
            if service.can_serve() {
                return Err(format!("service {name} has work and idle workers"));
            }
        }
        let held: usize = self
            .workers
            .values()
            .map(|worker| worker.leases.len())
            .sum();
        if held != self.leases.len() {
            return Err("leases are miscounted".into());
        }
        self.audit_watch()
    }
}

impl BrokerMachine {
    fn audit_watch(&self) -> Result<(), String> {
        let timers = self.watched.iter().map(|(&peer, &due)| (due, peer));
        if timers.collect::<BTreeSet<_>>() != self.silence {
            return Err("timers and those whom they watch do not agree".into());
        }
        let mut peers = self.workers.keys().chain(self.clients.keys());
        if let Some(peer) = peers.find(|peer| !self.watched.contains_key(peer)) {
            return Err(format!("nobody watches whether peer {peer} is there"));
        }
        let is_wrong = |worker: &Worker| {
            let place = worker.place;
            place.is_some_and(|(room, _, _)| (room == Room::Late) != worker.late)
        };
        match self.workers.values().any(is_wrong) {
            true => {
                Err("a worker that is late is served before others, or the other way round".into())
            }
            false => Ok(()),
        }
    }
}

impl Machine for BrokerMachine {
    type Input = BrokerInput;
    type Output = BrokerOutput;

    fn handle(&mut self, now: Time, input: BrokerInput) {
        match input {
            BrokerInput::Client(peer, says) => self.hear_client(now, peer, says),
            BrokerInput::Submit {
                peer,
                job,
                span,
                records,
            } => self.submit(now, peer, job, span, records),
            BrokerInput::Worker(peer, tells) => self.hear_worker(now, peer, tells),
            BrokerInput::Worked {
                peer,
                lease,
                span,
                busy,
                records,
            } => self.worked(now, peer, lease, span, busy, records),
            BrokerInput::Request {
                peer,
                version,
                service,
                record,
            } => {
                let version = Some(version);
                self.request(now, Asker { peer, version }, &service, record);
            }
            BrokerInput::Ask {
                peer,
                job,
                settings,
                record,
            } => self.ask(now, peer, job, *settings, record),
            BrokerInput::Hand(peer, version, deed) => self.hear_hand(now, peer, version, deed),
            BrokerInput::Deaf(deaf) => {
                if self.deaf && !deaf {
                    self.heard_again = now;
                }
                self.deaf = deaf;
            }
            BrokerInput::Unreachable(peer) => self.lose_sight(now, peer),
            BrokerInput::Stored(writes) => self.stored(writes),
            BrokerInput::StoreTrouble(trouble) => self.note_trouble(trouble),
        }
    }

    fn wake(&mut self, now: Time) {
        self.beat(now);
        self.look_after(now);
        self.release(now);
        self.forget_old(now);
        self.steal(now);
        self.woken = now;
    }

    fn poll(&mut self) -> Option<BrokerOutput> {
        self.write_gathered_in_time();
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let beat = (!self.workers.is_empty() || !self.clients.is_empty()).then_some(self.next_beat);
        let silence = self.silence.first().map(|&(due, _)| due);
        let release = self.releases.first().map(|&(due, _)| due);
        let forget = self.forgets.first().map(|&(due, _)| due);
        [beat, silence, release, forget, self.next_steal]
            .into_iter()
            .flatten()
            .min()
    }
}
