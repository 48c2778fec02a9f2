//! The ventilator's machine: keeps every task until the sink confirms it.
//!
//! A task's way through the machine:
//!
//! ```text
//!   pending ──▶ out ──▶ done ──▶ received ──▶ safe (forgotten)
//!      ▲         │        │          │
//!      └─────────┴────────┴──────────┘  worker dead or gone, result lost, sink restarted
//! ```

mod flights;
mod workers;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Machine, Time};
use crate::wire::{Kind, Records, Writer};

use super::lag::Lag;
use super::{
    Incarnation, JobId, Limits, RangeSet, SinkSays, Span, TaskId, VentilatorSays, VentilatorTells,
    WorkerId, WorkerSays,
};
use flights::{Flight, Flights, Stage};
use workers::Workers;

/// Separate ranges of tasks still to be sent that a sink may name as safe; further ones are sent.
const MAX_RANGES: usize = 1 << 17;

/// The part of the batch time below which work is not spread over more workers.
const SMALLEST_SHARE: u128 = 8;

/// Repetitions of a batch after which the application is told that something is wrong with it.
const SUSPICIOUS_REPEATS: u32 = 3;

/// Who decides which worker gets the next tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// The socket, in turn (PUSH/PULL).
    Anyone,
    /// The workers: each asks when it has room (REQ/REP).
    Asked,
    /// The ventilator: each batch is published to one worker's partition (PUB/SUB).
    Addressed,
}

/// What happens to a ventilator.
#[derive(Debug)]
pub enum VentilatorInput {
    /// The application hands in tasks; their numbers follow on the last one's.
    Submit(Records),
    /// The application has no more tasks.
    Finish,
    /// The application takes back the tasks that have not been sent yet; their numbers are free
    /// again.
    Cut,
    /// A worker speaks.
    Worker(WorkerSays),
    /// A batch could not be sent to its worker, whose connection is gone; it may have another soon.
    Undelivered(WorkerId, Span),
    /// The worker's subscription has arrived; only where tasks are addressed.
    Subscribed(WorkerId),
    /// The worker's subscription is gone.
    Unsubscribed(WorkerId),
    /// The sink speaks.
    Sink(SinkSays),
}

/// What a ventilator wants done.
#[derive(Debug)]
pub enum VentilatorOutput {
    /// Send tasks, to the worker or to whichever the socket picks.
    Tasks(Option<WorkerId>, Tasks),
    /// Say something to a worker.
    ToWorker(WorkerId, VentilatorSays),
    /// Say something to the sink.
    ToSink(VentilatorTells),
    /// A worker has come.
    WorkerJoined(WorkerId),
    /// A worker has been silent for too long; its tasks go to others.
    WorkerLost(WorkerId),
    /// These tasks were sent several times and nothing came of it.
    Stubborn(Span),
    /// The sink is ready; so many tasks were safe with it already.
    SinkOpened(u64),
    /// The sink takes the job not; the reason is a sentence.
    SinkRefused(String),
    /// A task failed for good.
    TaskFailed(TaskId, String),
    /// Everything is safe and the sink has put the job away.
    Finished,
}

/// A batch of tasks on its way to a worker.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// Which tasks.
    pub span: Span,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// How many attempts there are.
    pub attempts: u32,
    records: Arc<Records>,
    from: usize,
}

impl Tasks {
    /// The encoded tasks, end to end.
    pub fn bytes(&self) -> &[u8] {
        self.records
            .slice(self.from, self.from + self.span.count as usize)
    }

    /// The batch as a frame.
    pub fn frame(&self, job: JobId) -> Vec<u8> {
        let bytes = self.bytes();
        Writer::with_buffer(Vec::with_capacity(bytes.len() + 40), Kind::Tasks)
            .uint(job.0)
            .uint(self.span.first)
            .uint(u64::from(self.span.count))
            .uint(u64::from(self.attempt))
            .uint(u64::from(self.attempts))
            .records(bytes)
            .finish()
    }
}

/// Ranges that are sorted and do not overlap, so that no message costs more than its length.
fn in_order(ranges: Vec<Range<TaskId>>) -> RangeSet {
    ranges.into_iter().collect()
}

fn spans(spans: Vec<Span>) -> RangeSet {
    spans.into_iter().map(Span::range).collect()
}

/// Counters of a ventilator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tasks handed in by the application.
    pub submitted: u64,
    /// Tasks whose results are safe, failures included.
    pub safe: u64,
    /// Tasks that failed for good.
    pub failed: u64,
    /// Tasks sent again, after a failure or a loss.
    pub retried: u64,
    /// Results that the sink received again and dropped.
    pub duplicates: u64,
    /// Bytes of results, as the sink's application counts them; known at the end.
    pub result_bytes: u64,
    /// Workers that are alive.
    pub workers: usize,
}

impl Progress {
    /// Whether every task that was handed in is safe.
    pub fn is_quiet(&self) -> bool {
        self.safe == self.submitted
    }
}

/// The ventilator as a machine.
#[derive(Debug)]
pub struct VentilatorMachine {
    job: JobId,
    incarnation: Incarnation,
    dispatch: Dispatch,
    limits: Limits,
    outbox: VecDeque<VentilatorOutput>,
    /// Handed in and not sent yet: the collections in order, with the next record of the first.
    pending: VecDeque<Arc<Records>>,
    pending_from: usize,
    pending_tasks: u64,
    pending_bytes: usize,
    /// The number of the first pending task.
    next: TaskId,
    flights: Flights,
    workers: Workers,
    safe: RangeSet,
    /// At the sink, though not safe yet.
    received: RangeSet,
    sink: Sink,
    progress: Progress,
    finishing: bool,
    close_asked: bool,
    finished: bool,
    /// Running mean of the time a task takes.
    task_time: Option<Duration>,
    next_beat: Time,
}

#[derive(Debug, Default)]
struct Sink {
    /// The incarnation that opened the job; `None` until then.
    open: Option<Incarnation>,
    seen: Time,
    /// When it opened the job.
    opened: Time,
    /// How often it says that it beats.
    heartbeat: Duration,
    /// When it last said that it does not keep up; results wait on their way to it then.
    busy: Option<Time>,
    /// When it was last asked what it has.
    asked: Time,
    /// How long results take from the worker into the sink, queues on the way included.
    lag: Lag,
}

impl VentilatorMachine {
    /// A ventilator of `job`; `incarnation` differs at every start of the program.
    pub fn new(
        job: JobId,
        incarnation: Incarnation,
        dispatch: Dispatch,
        limits: Limits,
    ) -> VentilatorMachine {
        VentilatorMachine {
            job,
            incarnation,
            dispatch,
            limits,
            outbox: VecDeque::new(),
            pending: Default::default(),
            pending_from: 0,
            pending_tasks: 0,
            pending_bytes: 0,
            next: 0,
            flights: Flights::default(),
            workers: Workers::default(),
            safe: RangeSet::default(),
            received: RangeSet::default(),
            sink: Sink::default(),
            progress: Progress::default(),
            finishing: false,
            close_asked: false,
            finished: false,
            task_time: None,
            next_beat: Time::START,
        }
    }

    /// The job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// How far the job is.
    pub fn progress(&self) -> Progress {
        Progress {
            workers: self.workers.len(),
            ..self.progress
        }
    }

    /// Whether the window has room for more tasks; hand in no more while it has not.
    pub fn has_room(&self) -> bool {
        self.pending_tasks + self.flights.tasks() < self.limits.window_tasks as u64
            && self.pending_bytes + self.flights.bytes() < self.limits.window_bytes
    }

    /// Whether the sink has opened the job and been heard of lately.
    pub fn sink_is_alive(&self, now: Time) -> bool {
        self.sink.open.is_some() && now.since(self.sink.seen) < self.sink_patience()
    }

    /// How long the sink may be silent.
    fn sink_patience(&self) -> Duration {
        self.limits.patience_with(self.sink.heartbeat)
    }

    /// For tests: checks every count, and returns how many entries of any kind are kept.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<usize, String> {
        self.flights.audit(&self.workers)?;
        let ranges = self.safe.ranges() + self.received.ranges();
        Ok(self.flights.len() + self.pending.len() + self.workers.len() + ranges)
    }

    fn submit(&mut self, records: Records) {
        self.progress.submitted += records.len() as u64;
        self.pending_tasks += records.len() as u64;
        self.pending_bytes += records.bytes().len();
        if !records.is_empty() {
            self.pending.push_back(Arc::new(records));
        }
    }

    fn cut(&mut self) {
        // Without the tasks taken back, those that are left are not the whole job.
        self.finishing &= self.pending_tasks == 0;
        self.progress.submitted -= self.pending_tasks;
        self.count_safe();
        self.pending.clear();
        (self.pending_from, self.pending_tasks, self.pending_bytes) = (0, 0, 0);
    }

    fn hear_worker(&mut self, now: Time, message: WorkerSays) {
        let (worker, own) = (message.worker(), self.job);
        let known = self.workers.seen(worker, now);
        let greets = matches!(message, WorkerSays::Hello { .. });
        match message {
            WorkerSays::Hello {
                slots, heartbeat, ..
            } => {
                if self.workers.join(worker, slots, heartbeat, now) {
                    self.outbox
                        .push_back(VentilatorOutput::WorkerJoined(worker));
                }
                self.beat_worker(worker);
            }
            WorkerSays::Ask { batches, .. } if known => self.workers.ask(worker, batches),
            WorkerSays::Held { job, span, .. } if job == self.job => {
                self.held(now, worker, span.range());
            }
            WorkerSays::Done {
                job, span, busy_us, ..
            } if job == self.job => {
                self.done(now, worker, span, Duration::from_micros(busy_us));
            }
            WorkerSays::Failed {
                job, task, attempt, ..
            } if job == self.job => self.retry(now, task, attempt),
            WorkerSays::Beat { job, held, .. } if job == self.job => {
                self.reconcile(now, worker, spans(held));
            }
            WorkerSays::Bye { job, unbegun, .. } => {
                self.workers.leave(worker);
                if job == own {
                    self.give_back(now, worker, &spans(unbegun));
                }
            }
            _ => {}
        }
        // Not to who has just said hello and found no place, or it would go on saying so.
        if !known && !greets && !self.workers.contains(worker) {
            self.outbox.push_back(VentilatorOutput::ToWorker(
                worker,
                VentilatorSays::WhoAreYou,
            ));
        }
    }

    fn held(&mut self, now: Time, worker: WorkerId, tasks: Range<TaskId>) {
        if !self.workers.contains(worker) {
            return;
        }
        for first in self.flights.overlapping(tasks) {
            if self.flights.stage(first) == Stage::Out && self.flights.holder(first).is_none() {
                self.flights.occupy(first, worker, now, &mut self.workers);
            }
        }
    }

    fn done(&mut self, now: Time, worker: WorkerId, span: Span, busy: Duration) {
        let sample = busy / span.count.max(1);
        self.task_time = Some(match self.task_time {
            None => sample,
            Some(mean) => (mean * 7 + sample * 3) / 10,
        });
        for first in self.flights.overlapping(span.range()) {
            let by_it = self
                .flights
                .holder(first)
                .is_none_or(|holder| holder == worker);
            if self.flights.stage(first) == Stage::Out && by_it {
                self.flights
                    .advance(first, Stage::Done, now, &mut self.workers);
            }
        }
    }

    /// Gives a failed task its next attempt; the rest of its batch stays where it is.
    fn retry(&mut self, now: Time, task: TaskId, attempt: u32) {
        let Some(first) = self.flights.covering(task) else {
            return;
        };
        let current = self.flights.attempt(first) == attempt && attempt < self.limits.attempts;
        if !current || matches!(self.flights.stage(first), Stage::Waiting | Stage::Received) {
            return;
        }
        let span = self.flights.span(first);
        let pause = self
            .limits
            .retry_delay
            .saturating_mul(1 << attempt.saturating_sub(1).min(10));
        self.flights
            .next_attempt(first, task, now + pause, &mut self.workers);
        self.progress.retried += 1;
        for part in self.flights.overlapping(span.range()) {
            // The sink's word may have covered the rest of the batch before it was split.
            self.settle(now, part);
        }
    }

    /// Takes note of what the sink has of a flight.
    fn settle(&mut self, now: Time, first: TaskId) {
        let span = self.flights.span(first);
        if let Some(age) = self
            .flights
            .age_of_result(first, now)
            .filter(|_| self.at_sink(span))
            // What was on its way while the sink was down says nothing about this one's pace.
            .filter(|age| *age <= now.since(self.sink.opened))
        {
            self.sink.lag.note(age);
        }
        if self.safe.contains_all(span.range()) {
            self.flights.remove(first, &mut self.workers);
        } else if self.at_sink(span) {
            self.flights
                .advance(first, Stage::Received, now, &mut self.workers);
        }
    }

    /// A worker tells all it holds; what it should hold and does not is on the way, or lost.
    fn reconcile(&mut self, now: Time, worker: WorkerId, held: RangeSet) {
        for tasks in held.iter() {
            // The word that they arrived may have been lost.
            self.held(now, worker, tasks);
        }
        for first in self.flights.held_by(worker) {
            let span = self.flights.span(first);
            let settled = now.since(self.flights.since(first)) > self.limits.patience();
            if settled && held.intersection(span.range()).next().is_none() {
                self.flights
                    .advance(first, Stage::Done, now, &mut self.workers);
            }
        }
    }

    fn give_back(&mut self, now: Time, worker: WorkerId, unbegun: &RangeSet) {
        let flights = unbegun
            .iter()
            .flat_map(|tasks| self.flights.overlapping(tasks));
        for first in flights.collect::<Vec<_>>() {
            let by_it = self
                .flights
                .holder(first)
                .is_none_or(|holder| holder == worker);
            if self.flights.stage(first) == Stage::Out && by_it {
                self.send_again(now, first);
            }
        }
    }

    fn send_again(&mut self, now: Time, first: TaskId) {
        let span = self.flights.span(first);
        self.progress.retried += u64::from(span.count);
        self.flights.requeue(first, now, &mut self.workers);
        if self.flights.repeats(first) == SUSPICIOUS_REPEATS {
            self.outbox.push_back(VentilatorOutput::Stubborn(span));
        }
    }

    fn hear_sink(&mut self, now: Time, message: SinkSays) {
        match message {
            SinkSays::Opened {
                job,
                incarnation,
                heartbeat,
                safe,
                received,
                failed,
            } if job == self.job => {
                (self.sink.seen, self.sink.heartbeat) = (now, heartbeat);
                let before = self.safe.len();
                self.confirm(now, safe, failed);
                if self.sink_opened(now, incarnation, received) {
                    self.outbox
                        .push_back(VentilatorOutput::SinkOpened(self.safe.len() - before));
                }
            }
            SinkSays::Received { job, tasks } if job == self.job => {
                self.sink.seen = now;
                self.receive(now, tasks);
            }
            SinkSays::Deferred { job, tasks } if job == self.job => self.defer(now, tasks),
            SinkSays::Confirmed { job, safe, failed } if job == self.job => {
                self.sink.seen = now;
                self.confirm(now, safe, failed);
            }
            SinkSays::Beat {
                job,
                incarnation,
                safe_below,
                duplicates,
                busy,
            } if job == self.job => {
                self.sink.seen = now;
                if busy {
                    self.sink.busy = Some(now);
                }
                if self.sink.open.is_some_and(|open| open != incarnation) {
                    // The sink has started anew and does not know the job.
                    self.sink.open = None;
                    self.open_sink(now);
                } else if self.sink.open.is_some() {
                    self.progress.duplicates = duplicates;
                    if safe_below > self.safe.prefix() {
                        // A confirmation was lost, and with it perhaps the reason of a failure.
                        self.open_sink(now);
                    }
                }
            }
            SinkSays::Closed {
                job,
                duplicates,
                bytes,
            } if job == self.job && self.all_safe() => {
                self.progress.duplicates = duplicates;
                self.progress.result_bytes = bytes;
                self.finish();
            }
            SinkSays::Refused { job, reason } if job == self.job => {
                self.outbox.push_back(VentilatorOutput::SinkRefused(reason));
            }
            _ => {}
        }
    }

    /// Takes note of all that the sink has received; whether it is a new sink.
    fn sink_opened(
        &mut self,
        now: Time,
        incarnation: Incarnation,
        received: Vec<Range<TaskId>>,
    ) -> bool {
        let new = self.sink.open.replace(incarnation) != Some(incarnation);
        if new {
            (self.sink.opened, self.sink.lag) = (now, Lag::default());
        }
        let before = std::mem::take(&mut self.received);
        self.receive(now, received);
        for first in self.flights.in_stage(Stage::Received) {
            let span = self.flights.span(first);
            if self.at_sink(span) {
                continue;
            }
            if !new && self.flights.since(first) >= self.sink.asked {
                // Received after the sink was asked: its answer may not know of it yet.
                before.intersection(span.range()).for_each(|range| {
                    self.received.insert(range);
                });
                continue;
            }
            if new {
                // It died with the former sink.
                self.send_again(now, first);
                continue;
            }
            // Dropped by the sink, and the word of it lost.
            self.flights
                .advance(first, Stage::Done, now, &mut self.workers);
        }
        new
    }

    /// Whether every result of the span is at the sink, safe or not.
    fn at_sink(&self, span: Span) -> bool {
        let missing = self.safe.missing(span.range());
        missing
            .into_iter()
            .all(|gap| self.received.contains_all(gap))
    }

    fn receive(&mut self, now: Time, tasks: Vec<Range<TaskId>>) {
        for range in in_order(tasks).iter() {
            for gap in self.safe.missing(range.start..range.end.min(self.next)) {
                self.received.insert(gap);
            }
            for first in self.flights.overlapping(range.clone()) {
                self.settle(now, first);
            }
        }
    }

    fn defer(&mut self, now: Time, tasks: Vec<Range<TaskId>>) {
        for range in in_order(tasks).iter() {
            self.received.remove(range.clone());
            for first in self.flights.overlapping(range.clone()) {
                if self.flights.stage(first) != Stage::Waiting {
                    self.progress.retried += u64::from(self.flights.span(first).count);
                    self.flights
                        .postpone(first, now + self.limits.patience(), &mut self.workers);
                }
            }
        }
    }

    fn confirm(&mut self, now: Time, safe: Vec<Range<TaskId>>, failed: Vec<(TaskId, String)>) {
        self.note_failures(&safe, failed);
        for range in in_order(safe).iter() {
            let scattered = range.start > self.next && self.safe.ranges() >= MAX_RANGES;
            if scattered || self.safe.contains_all(range.clone()) {
                continue;
            }
            self.safe.insert(range.clone());
            self.received.remove(range.clone());
            for first in self.flights.overlapping(range.clone()) {
                self.settle(now, first);
            }
        }
        self.count_safe();
    }

    /// Reports the failures among tasks that become safe, each once.
    fn note_failures(&mut self, safe: &[Range<TaskId>], failed: Vec<(TaskId, String)>) {
        if failed.is_empty() {
            return;
        }
        let mut news: RangeSet = safe.iter().cloned().collect();
        for (task, reason) in failed {
            if news.contains(task) && !self.safe.contains(task) {
                news.remove(task..task.saturating_add(1));
                self.progress.failed += 1;
                self.outbox
                    .push_back(VentilatorOutput::TaskFailed(task, reason));
            }
        }
    }

    /// Sends what credit and window allow, then asks the sink to close when all is safe.
    fn advance(&mut self, now: Time) {
        if self.finished {
            return;
        }
        if self.sink.open.is_some() {
            while self.has_work() {
                let Some(to) = self.workers.pick(self.dispatch) else {
                    break;
                };
                let Some(first) = self.flights.next_waiting().or_else(|| self.launch(now)) else {
                    break;
                };
                let tasks =
                    self.flights
                        .send(first, to, now, &mut self.workers, self.limits.attempts);
                self.outbox.push_back(VentilatorOutput::Tasks(to, tasks));
            }
            self.skip_safe();
            if self.all_safe() && !self.close_asked {
                self.close_sink();
            }
        }
    }

    fn has_work(&self) -> bool {
        self.flights.next_waiting().is_some() || !self.pending.is_empty()
    }

    /// Makes the next batch of the pending tasks.
    fn launch(&mut self, now: Time) -> Option<TaskId> {
        self.skip_safe();
        let records = self.pending.front()?.clone();
        let mut to = records.fit(
            self.pending_from,
            self.batch_tasks(),
            self.limits.batch_bytes,
        );
        let wanted = self.next..self.next + (to - self.pending_from) as u64;
        let unsafe_part = self.safe.missing(wanted).into_iter().next()?;
        to = self.pending_from + (unsafe_part.end - unsafe_part.start) as usize;
        let flight = Flight::new(records, self.pending_from, to, now);
        let first = self.next;
        self.take_pending(to);
        self.flights.insert(first, flight);
        Some(first)
    }

    /// Counts what is safe of the tasks handed in so far; a former start may have got further.
    fn count_safe(&mut self) {
        let ahead = self.safe.intersection(self.progress.submitted..TaskId::MAX);
        let ahead: u64 = ahead.map(|range| range.end - range.start).sum();
        self.progress.safe = self.safe.len() - ahead;
    }

    /// Passes over pending tasks that a former start of this ventilator has brought home.
    fn skip_safe(&mut self) {
        while let Some(records) = self.pending.front() {
            let end = self.next + (records.len() - self.pending_from) as u64;
            let gaps = self.safe.missing(self.next..end);
            let safe = gaps.first().map_or(end, |gap| gap.start) - self.next;
            if safe == 0 {
                break;
            }
            self.take_pending(self.pending_from + safe as usize);
        }
        self.count_safe();
    }

    fn take_pending(&mut self, to: usize) {
        let Some(records) = self.pending.front() else {
            return;
        };
        let taken = to - self.pending_from;
        self.next += taken as u64;
        self.pending_tasks -= taken as u64;
        self.pending_bytes -= records.slice(self.pending_from, to).len();
        self.pending_from = to;
        if to == records.len() {
            self.pending.pop_front();
            self.pending_from = 0;
        }
    }

    /// As many tasks as keep a worker busy for the batch time, and no more than its share of what
    /// waits, so that the last tasks spread over all workers; but so small a batch that sending it
    /// costs more than it spreads helps nobody.
    fn batch_tasks(&self) -> usize {
        let by_time = match self.task_time {
            None => 1,
            Some(time) => (self.limits.batch_time.as_nanos() / time.as_nanos().max(1)).max(1),
        };
        let share = self.pending_tasks.div_ceil(self.workers.capacity().max(1));
        let share = u128::from(share).max(by_time / SMALLEST_SHARE).max(1);
        by_time.min(share).min(self.limits.batch_tasks as u128) as usize
    }

    fn all_safe(&self) -> bool {
        self.finishing && self.pending_tasks == 0 && self.flights.is_empty()
    }

    fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            for worker in self.workers.ids() {
                self.outbox.push_back(VentilatorOutput::ToWorker(
                    worker,
                    VentilatorSays::Finished { job: self.job },
                ));
            }
            self.outbox.push_back(VentilatorOutput::Finished);
        }
    }

    fn beat(&mut self, now: Time) {
        for worker in self.workers.ids() {
            self.beat_worker(worker);
        }
        let (job, incarnation) = (self.job, self.incarnation);
        match self.sink.open {
            None => self.open_sink(now),
            Some(_) if self.sink_owes_word(now) => self.open_sink(now),
            Some(_) if self.all_safe() => self.close_sink(),
            Some(_) => {
                self.outbox
                    .push_back(VentilatorOutput::ToSink(VentilatorTells::Beat {
                        job,
                        incarnation,
                    }));
            }
        }
    }

    fn expire_workers(&mut self, now: Time) {
        for worker in self.workers.silent(now, &self.limits) {
            for first in self.flights.held_by(worker) {
                self.send_again(now, first);
            }
            self.workers.remove(worker);
            self.outbox.push_back(VentilatorOutput::WorkerLost(worker));
        }
    }

    /// Sends again what nobody has acknowledged for too long: sent and never held, or worked off
    /// and never received. The wait doubles each time.
    fn expire_flights(&mut self, now: Time) {
        // A sink that reads slowly makes results wait on their way without losing them.
        let patience = self.limits.patience();
        let busy = self
            .sink
            .busy
            .is_some_and(|busy| now.since(busy) < self.sink_patience());
        let to_sink = (self.sink_is_alive(now) && !busy).then(|| self.sink.lag.wait());
        for first in self.flights.expired(now, patience, to_sink) {
            self.send_again(now, first);
        }
    }

    fn beat_worker(&mut self, worker: WorkerId) {
        let beat = VentilatorSays::Beat {
            job: self.job,
            incarnation: self.incarnation,
            heartbeat: self.limits.heartbeat,
        };
        self.outbox
            .push_back(VentilatorOutput::ToWorker(worker, beat));
    }

    /// Whether results are on their way to the sink, or not made safe there, for so long that a
    /// word of the sink may have been lost.
    fn sink_owes_word(&self, now: Time) -> bool {
        let wait = self.limits.patience() / 2;
        now.since(self.sink.asked) >= wait && self.flights.worked_off_before(now, wait)
    }

    fn open_sink(&mut self, now: Time) {
        self.sink.asked = now;
        let safe = self.safe.iter().collect();
        let open = VentilatorTells::Open {
            job: self.job,
            incarnation: self.incarnation,
            safe,
            heartbeat: self.limits.heartbeat,
        };
        self.outbox.push_back(VentilatorOutput::ToSink(open));
    }

    fn close_sink(&mut self) {
        self.close_asked = true;
        let (job, incarnation, tasks) = (self.job, self.incarnation, self.progress.submitted);
        self.outbox
            .push_back(VentilatorOutput::ToSink(VentilatorTells::Close {
                job,
                incarnation,
                tasks,
            }));
    }
}

impl Machine for VentilatorMachine {
    type Input = VentilatorInput;
    type Output = VentilatorOutput;

    fn handle(&mut self, now: Time, input: VentilatorInput) {
        match input {
            VentilatorInput::Submit(records) => self.submit(records),
            VentilatorInput::Finish => self.finishing = true,
            VentilatorInput::Cut => self.cut(),
            VentilatorInput::Undelivered(worker, span) => {
                self.workers.forget_asks(worker);
                self.give_back(now, worker, &RangeSet::from_iter([span.range()]));
            }
            VentilatorInput::Worker(message) => self.hear_worker(now, message),
            VentilatorInput::Subscribed(worker) => self.workers.subscribe(worker, true),
            VentilatorInput::Unsubscribed(worker) => self.workers.subscribe(worker, false),
            VentilatorInput::Sink(message) => self.hear_sink(now, message),
        }
        self.advance(now);
    }

    fn wake(&mut self, now: Time) {
        self.flights.mature(now);
        if now >= self.next_beat && !self.finished {
            let stood_still = now.since(self.next_beat) >= self.limits.heartbeat;
            self.next_beat = now + self.limits.heartbeat;
            self.beat(now);
            if stood_still {
                // This process was stopped, or had no time: what the others said is still to be
                // read, and their silence is ours.
                self.workers.forgive(now);
            } else {
                self.expire_workers(now);
                self.expire_flights(now);
            }
        }
        self.advance(now);
    }

    fn poll(&mut self) -> Option<VentilatorOutput> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        if self.finished {
            return None;
        }
        Some(
            self.flights
                .next_maturity()
                .map_or(self.next_beat, |time| time.min(self.next_beat)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(1);

    fn sent_to(ventilator: &mut VentilatorMachine) -> Vec<(WorkerId, Span)> {
        let outputs = std::iter::from_fn(|| ventilator.poll());
        let sent = outputs.filter_map(|output| match output {
            VentilatorOutput::Tasks(Some(worker), tasks) => Some((worker, tasks.span)),
            _ => None,
        });
        sent.collect()
    }

    #[test]
    fn a_batch_that_cannot_be_delivered_goes_to_another_worker_at_once() {
        let limits = Limits::default();
        let mut ventilator = VentilatorMachine::new(JOB, Incarnation(1), Dispatch::Asked, limits);
        let opened = SinkSays::Opened {
            job: JOB,
            incarnation: Incarnation(2),
            heartbeat: Duration::ZERO,
            safe: Vec::new(),
            received: Vec::new(),
            failed: Vec::new(),
        };
        ventilator.handle(Time::START, VentilatorInput::Sink(opened));
        for worker in [WorkerId(1), WorkerId(2)] {
            let hello = WorkerSays::Hello {
                worker,
                slots: 1,
                heartbeat: Duration::ZERO,
            };
            ventilator.handle(Time::START, VentilatorInput::Worker(hello));
            let ask = WorkerSays::Ask { worker, batches: 1 };
            ventilator.handle(Time::START, VentilatorInput::Worker(ask));
        }
        let mut task = Records::default();
        task.push(&7).unwrap();
        ventilator.handle(Time::START, VentilatorInput::Submit(task));
        let [(first, span)] = sent_to(&mut ventilator)[..] else {
            panic!("one batch for one task");
        };
        ventilator.handle(Time::START, VentilatorInput::Undelivered(first, span));
        let again = sent_to(&mut ventilator);
        assert!(
            matches!(again[..], [(other, same)] if other != first && same == span),
            "{again:?}"
        );
        ventilator.handle(Time::START, VentilatorInput::Undelivered(again[0].0, span));
        assert!(
            sent_to(&mut ventilator).is_empty(),
            "nobody is left to ask for it"
        );
    }
}
