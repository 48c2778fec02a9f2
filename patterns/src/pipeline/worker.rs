//! The worker's machine: takes batches, runs as many at once as it has slots, hands on results.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::machine::{Machine, Time};

use super::lag::Lag;
use super::{
    Dispatch, Incarnation, JobId, Limits, Span, TaskId, VentilatorSays, WorkerId, WorkerSays,
};

/// Bytes of tasks that may wait here; a ventilator that keeps to the rules never sends so many.
const MAX_WAITING_BYTES: usize = 256 << 20;

/// What keeping a batch or its results costs beside their bytes.
const OVERHEAD_BYTES: usize = 256;

/// Waits for an acknowledgement double with each repetition, this many times at most.
const MAX_DOUBLINGS: u32 = 2;

/// Bytes of results that may wait for the sink's acknowledgement before no new task is begun.
const MAX_UNACKNOWLEDGED_BYTES: usize = 32 << 20;

/// A batch among those that a worker holds.
type Key = (JobId, Span, u32);

/// Results of consecutive tasks, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// Which tasks.
    pub span: Span,
    /// Their results, as a frame.
    pub frame: std::sync::Arc<[u8]>,
}

impl Results {
    fn cost(&self) -> usize {
        self.frame.len().saturating_add(OVERHEAD_BYTES)
    }
}

/// A batch of tasks as the worker holds it; `B` is whatever carries the bytes.
#[derive(Clone, Debug)]
pub struct Batch<B> {
    /// Whose tasks.
    pub job: JobId,
    /// Which.
    pub span: Span,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// How many attempts there are.
    pub attempts: u32,
    /// The encoded tasks.
    pub body: B,
    /// How many bytes they take.
    pub bytes: usize,
}

impl<B> Batch<B> {
    fn key(&self) -> Key {
        (self.job, self.span, self.attempt)
    }

    fn cost(&self) -> usize {
        self.bytes.saturating_add(OVERHEAD_BYTES)
    }
}

/// What happens to a worker.
#[derive(Debug)]
pub enum WorkerInput<B> {
    /// Tasks arrive.
    Tasks(Batch<B>),
    /// A slot has worked a batch off.
    Worked {
        /// Whose tasks.
        job: JobId,
        /// Which.
        span: Span,
        /// Which attempt.
        attempt: u32,
        /// Time spent.
        busy: Duration,
        /// What came of it.
        results: Vec<Results>,
        /// Tasks to be tried again, with the reason.
        failed: Vec<(TaskId, String)>,
    },
    /// The ventilator speaks.
    Ventilator(VentilatorSays),
    /// The sink can be reached; until then the worker does not say hello.
    SinkReady,
    /// The queue to the sink is full (`true`) or has room again: no new task is begun meanwhile.
    SinkBlocked(bool),
    /// The sink has the results; only where results are requests.
    Acknowledged(JobId, Span),
    /// The application wants to leave.
    Leave,
}

/// What a worker wants done.
#[derive(Debug)]
pub enum WorkerOutput<B> {
    /// Run these tasks in a free slot.
    Run(Batch<B>),
    /// Say something to the ventilator.
    ToVentilator(WorkerSays),
    /// Send results to the sink.
    ToSink(Results),
    /// The ventilator is there.
    VentilatorFound(Incarnation),
    /// The ventilator has been silent for too long.
    VentilatorLost,
    /// The job is finished.
    Finished(JobId),
    /// All that was begun is worked off and handed on: the worker may go.
    Left,
}

#[derive(Debug)]
struct Unacknowledged {
    results: Results,
    first_sent: Time,
    sent: Time,
    repeats: u32,
}

/// The worker as a machine.
#[derive(Debug)]
pub struct WorkerMachine<B> {
    id: WorkerId,
    slots: u32,
    dispatch: Dispatch,
    limits: Limits,
    outbox: VecDeque<WorkerOutput<B>>,
    waiting: VecDeque<Batch<B>>,
    waiting_bytes: usize,
    running: BTreeSet<Key>,
    /// Those that wait and those that run.
    held: BTreeSet<Key>,
    unacknowledged: BTreeMap<(JobId, Span), Unacknowledged>,
    unacknowledged_bytes: usize,
    /// How long the sink takes to acknowledge results, queues on the way included.
    lag: Lag,
    ventilator: Option<(JobId, Incarnation)>,
    seen: Time,
    /// How often the ventilator says that it beats.
    ventilator_beat: Duration,
    sink_ready: bool,
    sink_blocked: bool,
    leaving: bool,
    left: bool,
    next_beat: Time,
}

impl<B> WorkerMachine<B> {
    /// A worker that runs `slots` batches at once; `id` differs at every start.
    pub fn new(id: WorkerId, slots: u32, dispatch: Dispatch, limits: Limits) -> WorkerMachine<B> {
        WorkerMachine {
            id,
            slots: slots.max(1),
            dispatch,
            limits,
            outbox: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            running: BTreeSet::new(),
            held: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            unacknowledged_bytes: 0,
            lag: Lag::default(),
            ventilator: None,
            seen: Time::START,
            ventilator_beat: Duration::ZERO,
            sink_ready: false,
            sink_blocked: false,
            leaving: false,
            left: false,
            next_beat: Time::START,
        }
    }

    /// The worker's id.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// How many batches it holds, waiting and running.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// For tests: how many batches and results are kept.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<usize, String> {
        let waiting_bytes: usize = self.waiting.iter().map(Batch::cost).sum();
        let kept = self.unacknowledged.values();
        let unacknowledged_bytes: usize = kept.map(|kept| kept.results.cost()).sum();
        if (waiting_bytes, unacknowledged_bytes) != (self.waiting_bytes, self.unacknowledged_bytes)
        {
            return Err("bytes are miscounted".into());
        }
        if self.held.len() != self.waiting.len() + self.running.len() {
            return Err("the batches that are held are miscounted".into());
        }
        Ok(self.held.len() + self.unacknowledged.len())
    }

    fn take(&mut self, batch: Batch<B>) {
        if self.held.contains(&batch.key()) {
            // Sent again because the word that it arrived was lost.
            self.say_held(&batch);
            return;
        }
        if self.waiting_bytes.saturating_add(batch.cost()) > MAX_WAITING_BYTES {
            return;
        }
        if self.leaving {
            self.say(WorkerSays::Bye {
                worker: self.id,
                job: batch.job,
                unbegun: vec![batch.span],
            });
            return;
        }
        self.say_held(&batch);
        self.waiting_bytes += batch.cost();
        self.held.insert(batch.key());
        self.waiting.push_back(batch);
    }

    fn say_held(&mut self, batch: &Batch<B>) {
        self.say(WorkerSays::Held {
            worker: self.id,
            job: batch.job,
            span: batch.span,
        });
    }

    /// Begins what the slots have room for.
    fn begin(&mut self) {
        let stuck = self.sink_blocked || self.unacknowledged_bytes > MAX_UNACKNOWLEDGED_BYTES;
        while !stuck && self.running.len() < self.slots as usize {
            let Some(batch) = self.waiting.pop_front() else {
                break;
            };
            self.waiting_bytes -= batch.cost();
            self.running.insert(batch.key());
            self.outbox.push_back(WorkerOutput::Run(batch));
        }
    }

    fn worked(
        &mut self,
        now: Time,
        key: Key,
        busy: Duration,
        results: Vec<Results>,
        failed: Vec<(TaskId, String)>,
    ) {
        let (job, span, attempt) = key;
        if !self.running.remove(&key) {
            return;
        }
        self.held.remove(&key);
        for results in results {
            self.hand_on(now, job, results);
        }
        let worker = self.id;
        for (task, reason) in failed {
            self.say(WorkerSays::Failed {
                worker,
                job,
                task,
                attempt,
                reason,
            });
        }
        let busy_us = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
        self.say(WorkerSays::Done {
            worker,
            job,
            span,
            busy_us,
        });
        if self.dispatch == Dispatch::Asked && !self.leaving {
            self.say(WorkerSays::Ask { worker, batches: 1 });
        }
    }

    fn hand_on(&mut self, now: Time, job: JobId, results: Results) {
        if self.dispatch == Dispatch::Asked {
            self.unacknowledged_bytes += results.cost();
            let kept = Unacknowledged {
                results: results.clone(),
                first_sent: now,
                sent: now,
                repeats: 0,
            };
            if let Some(before) = self.unacknowledged.insert((job, results.span), kept) {
                self.unacknowledged_bytes -= before.results.cost();
            }
        }
        self.outbox.push_back(WorkerOutput::ToSink(results));
    }

    fn acknowledged(&mut self, now: Time, job: JobId, span: Span) {
        if let Some(kept) = self.unacknowledged.remove(&(job, span)) {
            self.unacknowledged_bytes -= kept.results.cost();
            // Counted from the first time even if it was repeated: waiting too long costs less than
            // never learning how slow the sink is.
            self.lag.note(now.since(kept.first_sent));
        }
    }

    fn hear(&mut self, now: Time, message: VentilatorSays) {
        self.seen = now;
        match message {
            VentilatorSays::WhoAreYou => self.hello(),
            VentilatorSays::Beat {
                job,
                incarnation,
                heartbeat,
            } => {
                self.ventilator_beat = heartbeat;
                self.meet(job, incarnation);
            }
            VentilatorSays::Finished { job } => {
                self.ventilator = None;
                self.forget_other_jobs(None);
                self.outbox.push_back(WorkerOutput::Finished(job));
            }
        }
    }

    fn meet(&mut self, job: JobId, incarnation: Incarnation) {
        if self.ventilator == Some((job, incarnation)) {
            return;
        }
        self.ventilator = Some((job, incarnation));
        self.forget_other_jobs(Some(job));
        self.outbox
            .push_back(WorkerOutput::VentilatorFound(incarnation));
        self.hello();
    }

    /// Drops what waits for a job that is over, and results that nobody will acknowledge.
    fn forget_other_jobs(&mut self, job: Option<JobId>) {
        self.waiting.retain(|batch| Some(batch.job) == job);
        self.waiting_bytes = self.waiting.iter().map(Batch::cost).sum();
        self.held = self.waiting.iter().map(Batch::key).collect();
        self.held.extend(&self.running);
        self.unacknowledged.retain(|(of, _), _| Some(*of) == job);
        self.unacknowledged_bytes = self
            .unacknowledged
            .values()
            .map(|kept| kept.results.cost())
            .sum();
    }

    fn hello(&mut self) {
        if !self.sink_ready || self.leaving {
            return;
        }
        self.say(WorkerSays::Hello {
            worker: self.id,
            slots: self.slots,
            heartbeat: self.limits.heartbeat,
        });
        self.ask_for_all();
    }

    /// Asks for all there is room for; repeated with each heartbeat while idle, as asking may be lost.
    fn ask_for_all(&mut self) {
        if self.dispatch == Dispatch::Asked {
            let room = self
                .slots
                .saturating_mul(2)
                .saturating_sub((self.waiting.len() + self.running.len()) as u32);
            self.say(WorkerSays::Ask {
                worker: self.id,
                batches: room,
            });
        }
    }

    fn beat(&mut self, now: Time) {
        let patience = self.limits.patience_with(self.ventilator_beat);
        if self.ventilator.is_some() && now.since(self.seen) >= patience {
            self.ventilator = None;
            self.outbox.push_back(WorkerOutput::VentilatorLost);
        }
        match self.ventilator {
            None => self.hello(),
            Some((job, _)) => {
                let held = self.held.iter().filter(|(of, ..)| *of == job);
                let held = held.map(|(_, span, _)| *span).collect();
                self.say(WorkerSays::Beat {
                    worker: self.id,
                    job,
                    held,
                });
                if self.waiting.is_empty() && !self.leaving {
                    self.ask_for_all();
                }
            }
        }
        self.repeat_results(now);
    }

    fn repeat_results(&mut self, now: Time) {
        let (patience, lag) = (self.limits.patience(), self.lag.wait());
        for kept in self.unacknowledged.values_mut() {
            let wait = patience.saturating_mul(1 << kept.repeats.min(MAX_DOUBLINGS));
            if now.since(kept.sent) >= wait.max(lag) {
                (kept.sent, kept.repeats) = (now, kept.repeats.saturating_add(1));
                self.outbox
                    .push_back(WorkerOutput::ToSink(kept.results.clone()));
            }
        }
    }

    fn leave(&mut self) {
        self.leaving = true;
        let mut unbegun: BTreeMap<JobId, Vec<Span>> = BTreeMap::new();
        if let Some((job, _)) = self.ventilator {
            unbegun.insert(job, Vec::new());
        }
        for batch in self.waiting.drain(..) {
            self.held.remove(&batch.key());
            unbegun.entry(batch.job).or_default().push(batch.span);
        }
        self.waiting_bytes = 0;
        for (job, unbegun) in unbegun {
            self.say(WorkerSays::Bye {
                worker: self.id,
                job,
                unbegun,
            });
        }
    }

    fn say(&mut self, message: WorkerSays) {
        self.outbox.push_back(WorkerOutput::ToVentilator(message));
    }
}

impl<B> Machine for WorkerMachine<B> {
    type Input = WorkerInput<B>;
    type Output = WorkerOutput<B>;

    fn handle(&mut self, now: Time, input: WorkerInput<B>) {
        match input {
            WorkerInput::Tasks(batch) => self.take(batch),
            WorkerInput::Worked {
                job,
                span,
                attempt,
                busy,
                results,
                failed,
            } => {
                self.worked(now, (job, span, attempt), busy, results, failed);
            }
            WorkerInput::Ventilator(message) => self.hear(now, message),
            WorkerInput::SinkReady => {
                self.sink_ready = true;
                self.hello();
            }
            WorkerInput::SinkBlocked(blocked) => self.sink_blocked = blocked,
            WorkerInput::Acknowledged(job, span) => {
                self.acknowledged(now, job, span);
            }
            WorkerInput::Leave if !self.leaving => self.leave(),
            WorkerInput::Leave => {}
        }
        self.begin();
        if self.leaving && !self.left && self.running.is_empty() && self.unacknowledged.is_empty() {
            self.left = true;
            self.outbox.push_back(WorkerOutput::Left);
        }
    }

    fn wake(&mut self, now: Time) {
        if now >= self.next_beat {
            self.next_beat = now + self.limits.heartbeat;
            self.beat(now);
        }
    }

    fn poll(&mut self) -> Option<WorkerOutput<B>> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        (!self.left).then_some(self.next_beat)
    }
}
