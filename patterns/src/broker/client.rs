//! The client's machine: hands in tasks until they are accepted, takes results until they are safe.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Machine, Time};
use crate::pipeline::{Incarnation, JobId, RangeSet, Span, TaskId};

use super::piece::Slice;
use super::protocol::{BrokerSays, ClientSays, JobCounts, JobSettings, Keeps};
use super::pulse::Pulse;

/// What a batch of tasks costs beside its bytes.
const OVERHEAD_BYTES: usize = 160;

const LOST_TASKS: &str =
    "the broker has lost tasks of the job, or let go of it: hand it in again, from the start";
const NO_SUCH_JOB: &str = "the broker has no such job: it was fetched, cancelled or never there, or the broker keeps nothing on disk and has lost it";
const CANCELLED: &str = "the job was cancelled";

/// Times of a client.
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Heartbeats that the broker may miss before it counts as lost; at least 2.
    pub liveness: u32,
    /// Bytes of results that may be on their way, or with the program and not safe.
    pub window_bytes: u64,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            heartbeat: Duration::from_millis(500),
            liveness: 4,
            window_bytes: 16 << 20,
        }
    }
}

/// What happens to a client.
#[derive(Debug)]
pub enum ClientInput {
    /// The program begins a job, or goes on with one.
    Open {
        /// Which.
        job: JobId,
        /// What it is about; `None` to fetch only.
        settings: Option<JobSettings>,
        /// Whether its results are wanted.
        fetch: bool,
        /// Results that the program has safe from before.
        safe: Vec<Range<TaskId>>,
    },
    /// The program hands in tasks.
    Submit {
        /// Of which job.
        job: JobId,
        /// Which.
        span: Span,
        /// As a frame.
        frame: Arc<[u8]>,
    },
    /// The job has so many tasks.
    Close(JobId, u64),
    /// The program has made these results safe.
    Safe(JobId, Vec<Range<TaskId>>),
    /// The program wants no more of the job.
    Cancel(JobId),
    /// The program lets go of the job, which goes on at the broker.
    Leave(JobId),
    /// The broker speaks.
    Broker(BrokerSays),
    /// Results arrive.
    Results {
        /// Of which job.
        job: JobId,
        /// Of which tasks.
        span: Span,
        /// The results.
        records: Slice,
    },
}

/// What a client wants done.
#[derive(Debug, PartialEq)]
pub enum ClientOutput {
    /// Say something to the broker.
    Say(ClientSays),
    /// Send a frame of tasks to the broker.
    Submit(Arc<[u8]>),
    /// Hand results to the program: those of the frame that are in `fresh`.
    Deliver {
        /// Of which job.
        job: JobId,
        /// Of which tasks.
        span: Span,
        /// Which of them are new.
        fresh: Vec<Range<TaskId>>,
        /// The results.
        records: Slice,
    },
    /// The broker knows the job, and keeps it so long.
    Opened(JobId, Keeps),
    /// Everything that was handed in up to now is accepted.
    Accepted(JobId),
    /// Everything is accepted, and the broker knows that it is all: the program may leave.
    Closed(JobId),
    /// The job is done and all results are safe. A broker that has forgotten the job does not know
    /// any more how many of its tasks failed.
    Complete(JobId, JobCounts),
    /// The job cannot go on; the reason is a sentence.
    Refused(JobId, String),
    /// The broker takes nothing for now, for this reason.
    Full(JobId, String),
    /// The broker answers; a new one, or after silence.
    Found(Incarnation),
    /// The broker has been silent for too long.
    Lost,
}

#[derive(Debug)]
struct Batch {
    span: Span,
    frame: Arc<[u8]>,
    sent: bool,
}

#[derive(Debug)]
struct Job {
    settings: Option<JobSettings>,
    fetch: bool,
    /// Whether the broker knows of us and the job.
    opened: bool,
    /// How long the broker that knew it keeps what it accepted.
    keeps: Keeps,
    unaccepted: BTreeMap<TaskId, Batch>,
    unaccepted_bytes: usize,
    /// What the broker has promised to have.
    accepted: RangeSet,
    total: Option<u64>,
    /// The broker has promised to know the total.
    closed: bool,
    /// The program wants no more of it.
    cancelled: bool,
    /// The broker has no room.
    full: bool,
    received: RangeSet,
    safe: RangeSet,
}

impl Job {
    fn is_submitting(&self) -> bool {
        self.settings.is_some() && (!self.closed || !self.unaccepted.is_empty())
    }

    /// Whether all tasks were accepted at some time.
    fn is_handed_in(&self) -> bool {
        self.total.is_some() && self.unaccepted.is_empty()
    }

    /// Whether a broker that has these tasks lacks some that it had promised.
    fn misses(&self, tasks: &RangeSet) -> bool {
        !self.accepted.iter().all(|range| tasks.contains_all(range))
    }
}

/// The client as a machine. It holds what the program hands in until it is accepted: bound that by
/// [`unaccepted_bytes`](ClientMachine::unaccepted_bytes).
#[derive(Debug)]
pub struct ClientMachine {
    limits: ClientLimits,
    jobs: BTreeMap<JobId, Job>,
    broker: Option<Incarnation>,
    heard: Time,
    next_beat: Time,
    pulse: Pulse,
    outbox: VecDeque<ClientOutput>,
    duplicates: u64,
}

impl ClientMachine {
    /// A client without a job.
    pub fn new(limits: ClientLimits) -> ClientMachine {
        ClientMachine {
            limits,
            jobs: BTreeMap::new(),
            broker: None,
            heard: Time::START,
            next_beat: Time::START,
            pulse: Pulse::default(),
            outbox: VecDeque::new(),
            duplicates: 0,
        }
    }

    /// Bytes of tasks that the broker has not accepted.
    pub fn unaccepted_bytes(&self) -> usize {
        self.jobs.values().map(|job| job.unaccepted_bytes).sum()
    }

    /// Results that came again and were dropped.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Whether the broker answers.
    pub fn is_connected(&self) -> bool {
        self.broker.is_some()
    }

    fn say(&mut self, says: ClientSays) {
        self.outbox.push_back(ClientOutput::Say(says));
    }

    fn open(
        &mut self,
        id: JobId,
        settings: Option<JobSettings>,
        fetch: bool,
        safe: Vec<Range<TaskId>>,
    ) {
        let mut received = RangeSet::default();
        for range in safe {
            received.insert(range);
        }
        let job = Job {
            settings,
            fetch,
            opened: false,
            keeps: Keeps::Memory,
            unaccepted: BTreeMap::new(),
            unaccepted_bytes: 0,
            accepted: RangeSet::default(),
            total: None,
            closed: false,
            cancelled: false,
            full: false,
            safe: received.clone(),
            received,
        };
        self.jobs.insert(id, job);
        self.begin(id);
    }

    /// Says what we want of a job, as if for the first time.
    fn begin(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.opened = false;
        job.full = false;
        if job.cancelled {
            return self.say(ClientSays::Cancel { job: id });
        }
        if job.is_handed_in() && !job.fetch {
            // Not to be opened as if new when it is over.
            job.opened = true;
            return self.close_if_done(id);
        }
        match job.settings.clone() {
            Some(settings) => self.say(ClientSays::Open { job: id, settings }),
            None => self.begin_fetch(id),
        }
    }

    fn begin_fetch(&mut self, id: JobId) {
        let window_bytes = self.limits.window_bytes;
        let Some(job) = self.jobs.get(&id).filter(|job| job.fetch) else {
            return;
        };
        let safe = job.safe.iter().collect();
        self.say(ClientSays::Fetch {
            job: id,
            window_bytes,
            safe,
        });
    }

    fn opened(&mut self, id: JobId, keeps: Keeps, accepted: Vec<Range<TaskId>>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.misses(&accepted.iter().cloned().collect()) {
            return self.miss(id);
        }
        (job.opened, job.keeps) = (true, keeps);
        // That there was no room was said over a connection that broke; so was, perhaps, that there is.
        job.full = false;
        for batch in job.unaccepted.values_mut() {
            batch.sent = false;
        }
        self.outbox.push_back(ClientOutput::Opened(id, keeps));
        self.accepted(id, accepted);
        self.begin_fetch(id);
        self.submit_unsent(id);
        self.close_if_done(id);
    }

    /// The broker has opened a job anew that it is through with, or has lost tasks.
    fn miss(&mut self, id: JobId) {
        let job = self.jobs.get(&id).filter(|job| job.is_handed_in());
        let over = job.and_then(|job| job.total.filter(|&tasks| job.safe.len() >= tasks));
        match over {
            Some(tasks) => {
                self.say(ClientSays::Cancel { job: id });
                self.complete(id, tasks);
            }
            None => self.end(id, LOST_TASKS.into()),
        }
    }

    fn accepted(&mut self, id: JobId, tasks: Vec<Range<TaskId>>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        for range in tasks.into_iter().filter(|range| !range.is_empty()) {
            job.accepted.insert(range.clone());
            let within = job.unaccepted.range(range.start..range.end);
            let over: Vec<TaskId> = within
                .filter(|(_, batch)| batch.span.end() <= range.end)
                .map(|(&first, _)| first)
                .collect();
            for first in over {
                if let Some(batch) = job.unaccepted.remove(&first) {
                    job.unaccepted_bytes -= batch.frame.len() + OVERHEAD_BYTES;
                }
            }
        }
        if job.unaccepted.is_empty() {
            self.outbox.push_back(ClientOutput::Accepted(id));
        }
        self.close_if_done(id);
    }

    /// Says how many tasks there are once the broker has them all.
    fn close_if_done(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if let Some(tasks) = job
            .total
            .filter(|_| job.opened && !job.closed && job.unaccepted.is_empty())
        {
            self.say(ClientSays::Close { job: id, tasks });
        }
    }

    fn submit(&mut self, id: JobId, span: Span, frame: Arc<[u8]>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.unaccepted_bytes += frame.len() + OVERHEAD_BYTES;
        let sent = false;
        job.unaccepted
            .insert(span.first, Batch { span, frame, sent });
        if job.opened && !job.full {
            self.submit_from(id, span.first);
        }
    }

    fn submit_unsent(&mut self, id: JobId) {
        self.submit_from(id, 0);
    }

    fn submit_from(&mut self, id: JobId, first: TaskId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        for batch in job.unaccepted.range_mut(first..).map(|(_, batch)| batch) {
            if !batch.sent {
                batch.sent = true;
                self.outbox
                    .push_back(ClientOutput::Submit(batch.frame.clone()));
            }
        }
    }

    fn full(&mut self, id: JobId, first: TaskId, reason: String) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let Some(batch) = job.unaccepted.get_mut(&first) {
            batch.sent = false;
        }
        if !job.full {
            job.full = true;
            self.outbox.push_back(ClientOutput::Full(id, reason));
        }
    }

    fn room(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.full = false;
            self.submit_unsent(id);
        }
    }

    fn results(&mut self, id: JobId, span: Span, records: Slice) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.fetch) else {
            return;
        };
        let fresh = job.received.missing(span.range());
        let new = job.received.insert(span.range());
        self.duplicates += u64::from(span.count) - new;
        if new > 0 {
            self.outbox.push_back(ClientOutput::Deliver {
                job: id,
                span,
                fresh,
                records,
            });
        }
        // What is safe already was not heard of at the broker: say so again.
        let job = self.jobs.get(&id);
        let again: Vec<_> = job
            .map(|job| job.safe.intersection(span.range()).collect())
            .unwrap_or_default();
        if !again.is_empty() {
            self.say(ClientSays::Safe {
                job: id,
                tasks: again,
            });
        }
    }

    fn safe(&mut self, id: JobId, tasks: Vec<Range<TaskId>>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        for range in &tasks {
            job.safe.insert(range.clone());
        }
        self.say(ClientSays::Safe { job: id, tasks });
    }

    fn hear(&mut self, now: Time, says: BrokerSays) {
        self.heard = now;
        match says {
            BrokerSays::Beat { incarnation } => {
                // Answered at once, for a broker that believes in shorter intervals.
                self.next_beat = self.next_beat.min(now);
                self.pulse.beat(now);
                self.meet(incarnation);
            }
            BrokerSays::Resume { job } => self.begin(job),
            BrokerSays::Opened {
                job,
                incarnation,
                keeps,
                accepted,
            } => {
                self.found(incarnation);
                self.opened(job, keeps, accepted);
            }
            BrokerSays::Accepted { job, tasks } => self.accepted(job, tasks),
            BrokerSays::Closed { job, tasks } => self.closed(job, tasks),
            BrokerSays::Full { job, first, reason } => self.full(job, first, reason),
            BrokerSays::Room { job } => self.room(job),
            BrokerSays::Refused { job, reason } => self.end(job, reason),
            BrokerSays::Complete { job, counts } => self.completed(job, counts),
            BrokerSays::Unknown { job } => self.unknown(job),
            BrokerSays::Cancelled { job } => self.end(job, CANCELLED.into()),
            BrokerSays::Jobs { .. } | BrokerSays::Job { .. } | BrokerSays::Status { .. } => {}
        }
    }

    fn closed(&mut self, id: JobId, tasks: u64) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.total == Some(tasks) && !job.closed {
            job.closed = true;
            self.outbox.push_back(ClientOutput::Closed(id));
        }
    }

    fn completed(&mut self, id: JobId, counts: JobCounts) {
        match self.jobs.get(&id).map(|job| (job.fetch, job.total)) {
            Some((false, Some(tasks))) => self.closed(id, tasks),
            Some(_) => {
                self.jobs.remove(&id);
                self.outbox.push_back(ClientOutput::Complete(id, counts));
            }
            None => {}
        }
    }

    /// The broker has lost the job, never had it, or is through with it.
    fn unknown(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        match job.total {
            _ if job.cancelled => self.end(id, CANCELLED.into()),
            _ if job.settings.is_none() => self.end(id, NO_SUCH_JOB.into()),
            // One without a store may have lost it; nothing is lost of nothing.
            Some(tasks)
                if job.is_handed_in() && !job.fetch && (job.keeps == Keeps::Disk || tasks == 0) =>
            {
                self.closed(id, tasks);
            }
            Some(tasks) if job.is_handed_in() && job.safe.len() >= tasks => {
                self.complete(id, tasks);
            }
            _ if job.accepted.is_empty() => self.begin(id),
            _ => self.end(id, LOST_TASKS.into()),
        }
    }

    /// The broker is through with a job and has forgotten how it went.
    fn complete(&mut self, id: JobId, tasks: u64) {
        self.jobs.remove(&id);
        let counts = JobCounts {
            accepted: tasks,
            done: tasks,
            fetched: tasks,
            ..JobCounts::default()
        };
        self.outbox.push_back(ClientOutput::Complete(id, counts));
    }

    fn end(&mut self, job: JobId, reason: String) {
        if self.jobs.remove(&job).is_some() {
            self.outbox.push_back(ClientOutput::Refused(job, reason));
        }
    }

    fn found(&mut self, incarnation: Incarnation) -> bool {
        if self.broker == Some(incarnation) {
            return false;
        }
        self.broker = Some(incarnation);
        self.outbox.push_back(ClientOutput::Found(incarnation));
        true
    }

    fn meet(&mut self, incarnation: Incarnation) {
        if self.found(incarnation) {
            for id in self.jobs.keys().copied().collect::<Vec<_>>() {
                self.begin(id);
            }
        }
    }

    fn beat(&mut self, now: Time) {
        if now < self.next_beat {
            return;
        }
        self.next_beat = now + self.limits.heartbeat;
        let interval = self.pulse.interval(self.limits.heartbeat);
        let patience = interval.saturating_mul(self.limits.liveness);
        if self.broker.is_some() && now.since(self.heard) > patience {
            self.broker = None;
            self.outbox.push_back(ClientOutput::Lost);
        }
        let submitting = self.jobs.iter().filter(|(_, job)| job.is_submitting());
        let submitting = submitting.map(|(&id, _)| id).collect();
        let fetching: BTreeSet<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.fetch)
            .map(|(&id, _)| id)
            .collect();
        self.say(ClientSays::Beat {
            submitting,
            fetching: fetching.into_iter().collect(),
        });
    }
}

impl Machine for ClientMachine {
    type Input = ClientInput;
    type Output = ClientOutput;

    fn handle(&mut self, now: Time, input: ClientInput) {
        match input {
            ClientInput::Open {
                job,
                settings,
                fetch,
                safe,
            } => self.open(job, settings, fetch, safe),
            ClientInput::Submit { job, span, frame } => self.submit(job, span, frame),
            ClientInput::Close(id, tasks) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.closed &= job.total == Some(tasks);
                    job.total = Some(tasks);
                    self.close_if_done(id);
                }
            }
            ClientInput::Safe(job, tasks) => self.safe(job, tasks),
            ClientInput::Cancel(id) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.cancelled = true;
                }
                self.say(ClientSays::Cancel { job: id });
            }
            ClientInput::Leave(job) => {
                self.jobs.remove(&job);
            }
            ClientInput::Broker(says) => self.hear(now, says),
            ClientInput::Results { job, span, records } => {
                self.heard = now;
                self.results(job, span, records);
            }
        }
    }

    fn wake(&mut self, now: Time) {
        self.beat(now);
    }

    fn poll(&mut self) -> Option<ClientOutput> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next_beat)
    }
}
