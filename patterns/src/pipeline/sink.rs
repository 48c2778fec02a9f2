//! The sink's machine: lets each result through once and confirms it when it is safe.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::machine::{Machine, Time};

use super::{
    Incarnation, JobId, Limits, RangeSet, SinkSays, Span, TaskId, VentilatorTells, WorkerId,
};

/// Jobs that may be open at once.
const MAX_JOBS: usize = 64;

/// How long a ventilator may be silent before its job is let go of, while there is room for others.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// Finished jobs that are remembered, to tell a ventilator that missed the word.
const MAX_CLOSED: usize = 64;

/// Separate ranges of tasks of one job that are kept; results beyond are turned away.
const MAX_RANGES: usize = 1 << 17;

/// Failures of one job that are remembered for a ventilator that starts anew.
const MAX_FAILURES: usize = 1 << 20;

/// Bytes that their reasons may take.
const MAX_FAILURE_BYTES: usize = 4 << 20;

/// The longest reason that is passed on, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// A ventilator's connection, as the driver numbers them.
pub type PeerId = u64;

/// Tasks that failed for good, with the reason.
pub type Failures = Vec<(TaskId, String)>;

/// What happens to a sink; `B` is whatever carries a frame of results.
#[derive(Debug)]
pub enum SinkInput<B> {
    /// Results arrive.
    Results {
        /// From whom.
        worker: WorkerId,
        /// Of which job.
        job: JobId,
        /// Of which tasks.
        span: Span,
        /// The results.
        body: B,
    },
    /// A ventilator speaks.
    Ventilator(PeerId, VentilatorTells),
    /// The application is ready for the job, and holds these results from before.
    Resume(JobId, Vec<Range<TaskId>>, Failures),
    /// The application cannot take the job; the reason is a sentence.
    Refuse(JobId, String),
    /// The application has made these results safe.
    Confirm(JobId, Vec<Range<TaskId>>, Failures),
    /// The application had to drop these results; the tasks must come again.
    Defer(JobId, Vec<Range<TaskId>>),
    /// The driver has stopped reading results because the application does not keep up (`true`),
    /// or reads again.
    Busy(bool),
    /// The application has put the job away; its results take so many bytes.
    Close(JobId, u64),
}

/// What a sink wants done.
#[derive(Debug)]
pub enum SinkOutput<B> {
    /// Say something to a ventilator.
    ToVentilator(PeerId, SinkSays),
    /// Tell a worker that its results are here; only sent where results are requests.
    Acknowledge(WorkerId, JobId, Span),
    /// Ask the application to [`Resume`](SinkInput::Resume) or [`Refuse`](SinkInput::Refuse) a job.
    Open(JobId),
    /// Hand the application those results of the frame that are in `fresh`.
    Deliver {
        /// Of which job.
        job: JobId,
        /// The tasks of the frame.
        span: Span,
        /// Those whose results are here for the first time.
        fresh: Vec<Range<TaskId>>,
        /// The frame.
        body: B,
    },
    /// Its ventilator has been silent for so long that the application shall let go of the job; what
    /// is safe stays safe, and a ventilator that comes back opens the job again.
    Abandon(JobId),
    /// Every result is safe: ask the application to put the job away and [`Close`](SinkInput::Close).
    Complete(JobId),
}

#[derive(Debug)]
struct Job {
    peer: PeerId,
    /// When its ventilator was last heard of.
    seen: Time,
    /// How often it says that it beats.
    heartbeat: Duration,
    /// Whether the application has said what it holds.
    open: bool,
    /// What the ventilator says was confirmed to it.
    confirmed: Vec<Range<TaskId>>,
    received: RangeSet,
    safe: RangeSet,
    /// Received since the ventilator was last told.
    news: RangeSet,
    duplicates: u64,
    /// Safe tasks that failed, to tell a ventilator that starts anew.
    failed: BTreeMap<TaskId, String>,
    failed_bytes: usize,
    completing: bool,
}

/// The sink as a machine.
#[derive(Debug)]
pub struct SinkMachine<B> {
    incarnation: Incarnation,
    limits: Limits,
    outbox: VecDeque<SinkOutput<B>>,
    jobs: BTreeMap<JobId, Job>,
    closed: VecDeque<(JobId, SinkSays)>,
    strays: u64,
    busy: bool,
    next_beat: Time,
}

impl Job {
    /// Keeps failures for a ventilator that starts anew; without their reasons, and then not at
    /// all, when there are too many.
    fn remember(&mut self, failed: Failures) {
        for (task, mut reason) in failed {
            if self.failed_bytes + reason.len() > MAX_FAILURE_BYTES {
                reason.clear();
            }
            if self.failed.len() < MAX_FAILURES {
                self.failed_bytes += reason.len();
                self.failed.insert(task, reason);
            }
        }
    }

    /// The remembered failures of some tasks.
    fn failures(&self, of: impl IntoIterator<Item = Range<TaskId>>) -> Failures {
        let failed = of.into_iter().flat_map(|range| self.failed.range(range));
        failed
            .map(|(&task, reason)| (task, reason.clone()))
            .collect()
    }

    /// Whether the list of what has been received stays short. The first task that is not safe
    /// always has a place: the application may be waiting for just that one.
    fn has_place_for(&self, span: Span) -> bool {
        let near = span.first.saturating_sub(1)..span.end().saturating_add(1);
        self.received.ranges() < MAX_RANGES
            || span.range().contains(&self.safe.prefix())
            || self.received.intersection(near).next().is_some()
    }

    /// Takes note that the ventilator must hear of these results, even of those that were here
    /// before: it sent the tasks again because it did not know. What is safe is told at once.
    fn tell_again(&mut self, id: JobId, span: Span) -> Option<SinkSays> {
        let mut safe = RangeSet::default();
        safe.insert(span.range());
        for part in self.safe.missing(span.range()) {
            safe.remove(part.clone());
            self.news.insert(part);
        }
        (!safe.is_empty()).then(|| SinkSays::Confirmed {
            job: id,
            safe: safe.iter().collect(),
            failed: self.failures(safe.iter()),
        })
    }
}

impl<B> SinkMachine<B> {
    /// A sink; `incarnation` differs at every start of the program.
    pub fn new(incarnation: Incarnation, limits: Limits) -> SinkMachine<B> {
        SinkMachine {
            incarnation,
            limits,
            outbox: VecDeque::new(),
            jobs: BTreeMap::new(),
            closed: VecDeque::new(),
            strays: 0,
            busy: false,
            next_beat: Time::START,
        }
    }

    /// Frames of results dropped because their job is not open.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// For tests: how many ranges are kept for all jobs together.
    #[doc(hidden)]
    pub fn audit(&self) -> usize {
        let ranges = |job: &Job| job.safe.ranges() + job.received.ranges() + job.news.ranges();
        self.jobs.values().map(ranges).sum()
    }

    fn receive(&mut self, worker: WorkerId, job_id: JobId, span: Span, body: B) {
        let Some(job) = self.jobs.get_mut(&job_id).filter(|job| job.open) else {
            self.strays += 1;
            if self.closed.iter().any(|(closed, _)| *closed == job_id) {
                // A slow worker's repeat of what another brought home: nobody wants it any more.
                self.outbox
                    .push_back(SinkOutput::Acknowledge(worker, job_id, span));
            }
            return;
        };
        if !job.has_place_for(span) {
            let (peer, tasks) = (job.peer, vec![span.range()]);
            self.outbox
                .push_back(SinkOutput::Acknowledge(worker, job_id, span));
            self.tell(peer, SinkSays::Deferred { job: job_id, tasks });
            return;
        }
        let unsafe_parts = job.safe.missing(span.range());
        let fresh: Vec<_> = unsafe_parts
            .into_iter()
            .flat_map(|part| job.received.missing(part))
            .collect();
        let fresh_tasks: u64 = fresh.iter().map(|range| range.end - range.start).sum();
        let tasks = span.end() - span.first;
        job.duplicates = job.duplicates.saturating_add(tasks - fresh_tasks);
        for range in &fresh {
            job.received.insert(range.clone());
        }
        let (peer, confirmed) = (job.peer, job.tell_again(job_id, span));
        self.outbox
            .push_back(SinkOutput::Acknowledge(worker, job_id, span));
        if let Some(confirmed) = confirmed {
            self.tell(peer, confirmed);
        }
        if !fresh.is_empty() {
            self.outbox.push_back(SinkOutput::Deliver {
                job: job_id,
                span,
                fresh,
                body,
            });
        }
    }

    fn hear(&mut self, now: Time, peer: PeerId, message: VentilatorTells) {
        match message {
            VentilatorTells::Open {
                job,
                safe,
                heartbeat,
                ..
            } => self.open(now, peer, job, safe, heartbeat),
            VentilatorTells::Beat { job, .. } => match self.jobs.get_mut(&job) {
                Some(known) => (known.peer, known.seen) = (peer, now),
                None => self.tell_stranger(peer, job),
            },
            VentilatorTells::Close { job, tasks, .. } => self.complete(now, peer, job, tasks),
        }
    }

    fn open(
        &mut self,
        now: Time,
        peer: PeerId,
        id: JobId,
        confirmed: Vec<Range<TaskId>>,
        heartbeat: Duration,
    ) {
        if let Some(job) = self.jobs.get_mut(&id) {
            (job.peer, job.seen, job.confirmed) = (peer, now, confirmed);
            job.heartbeat = heartbeat;
            if job.open {
                self.opened(id);
            }
            return;
        }
        if self.jobs.len() == MAX_JOBS {
            self.abandon(now, Duration::ZERO);
        }
        if self.jobs.len() == MAX_JOBS {
            let reason = format!(
                "the sink already holds {MAX_JOBS} unfinished jobs: let one finish or start another sink"
            );
            self.tell(peer, SinkSays::Refused { job: id, reason });
            return;
        }
        self.closed.retain(|(job, _)| *job != id);
        let job = Job {
            peer,
            seen: now,
            heartbeat,
            open: false,
            confirmed,
            received: RangeSet::default(),
            safe: RangeSet::default(),
            news: RangeSet::default(),
            duplicates: 0,
            failed: BTreeMap::new(),
            failed_bytes: 0,
            completing: false,
        };
        self.jobs.insert(id, job);
        self.outbox.push_back(SinkOutput::Open(id));
    }

    fn resume(&mut self, id: JobId, safe: Vec<Range<TaskId>>, failed: Failures) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.open = true;
            job.safe = safe.into_iter().collect();
            job.remember(cut(failed));
            self.opened(id);
        }
    }

    /// Tells the ventilator all there is to know of the job.
    fn opened(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let known: RangeSet = std::mem::take(&mut job.confirmed).into_iter().collect();
        for range in known.iter() {
            if job.safe.ranges() < MAX_RANGES {
                job.safe.insert(range);
            }
        }
        job.news = RangeSet::default();
        let opened = SinkSays::Opened {
            job: id,
            incarnation: self.incarnation,
            heartbeat: self.limits.heartbeat,
            safe: job.safe.iter().collect(),
            received: job.received.iter().collect(),
            failed: job.failures(known.missing(0..TaskId::MAX)),
        };
        let peer = job.peer;
        self.tell(peer, opened);
    }

    fn confirm(&mut self, id: JobId, safe: Vec<Range<TaskId>>, failed: Failures) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        for range in &safe {
            job.received.remove(range.clone());
            job.news.remove(range.clone());
            job.safe.insert(range.clone());
        }
        let failed = cut(failed);
        job.remember(failed.clone());
        let confirmed = SinkSays::Confirmed {
            job: id,
            safe,
            failed,
        };
        let peer = job.peer;
        self.tell(peer, confirmed);
    }

    fn defer(&mut self, id: JobId, tasks: Vec<Range<TaskId>>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        for range in &tasks {
            job.received.remove(range.clone());
            job.news.remove(range.clone());
        }
        let peer = job.peer;
        self.tell(peer, SinkSays::Deferred { job: id, tasks });
    }

    fn complete(&mut self, now: Time, peer: PeerId, id: JobId, tasks: u64) {
        if let Some((_, closed)) = self.closed.iter().find(|(job, _)| *job == id) {
            let closed = closed.clone();
            self.tell(peer, closed);
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            self.tell_stranger(peer, id);
            return;
        };
        (job.peer, job.seen) = (peer, now);
        if job.open && !job.completing && job.safe.contains_all(0..tasks) {
            job.completing = true;
            self.outbox.push_back(SinkOutput::Complete(id));
        }
    }

    fn close(&mut self, id: JobId, bytes: u64) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let closed = SinkSays::Closed {
            job: id,
            duplicates: job.duplicates,
            bytes,
        };
        self.closed.push_back((id, closed.clone()));
        if self.closed.len() > MAX_CLOSED {
            self.closed.pop_front();
        }
        self.tell(job.peer, closed);
    }

    fn refuse(&mut self, id: JobId, reason: String) {
        if let Some(job) = self.jobs.remove(&id) {
            self.tell(job.peer, SinkSays::Refused { job: id, reason });
        }
    }

    /// A ventilator speaks of a job that is not known (any more): an incarnation that cannot be the
    /// one it knows makes it open the job again.
    fn tell_stranger(&mut self, peer: PeerId, job: JobId) {
        let beat = SinkSays::Beat {
            job,
            incarnation: Incarnation(!self.incarnation.0),
            safe_below: 0,
            duplicates: 0,
            busy: self.busy,
        };
        self.tell(peer, beat);
    }

    fn tell(&mut self, peer: PeerId, message: SinkSays) {
        self.outbox
            .push_back(SinkOutput::ToVentilator(peer, message));
    }

    fn beat(&mut self) {
        let incarnation = self.incarnation;
        for (&id, job) in self.jobs.iter().filter(|(_, job)| job.open) {
            let beat = SinkSays::Beat {
                job: id,
                incarnation,
                safe_below: job.safe.prefix(),
                duplicates: job.duplicates,
                busy: self.busy,
            };
            self.outbox
                .push_back(SinkOutput::ToVentilator(job.peer, beat));
        }
    }

    /// Lets go of jobs whose ventilators count as dead and have not been heard of for `silence`.
    fn abandon(&mut self, now: Time, silence: Duration) {
        let (outbox, limits) = (&mut self.outbox, &self.limits);
        self.jobs.retain(|&id, job| {
            let abandoned = now.since(job.seen) >= silence.max(limits.patience_with(job.heartbeat));
            if abandoned {
                outbox.push_back(SinkOutput::Abandon(id));
            }
            !abandoned
        });
    }

    /// What has been received since the ventilators were last told, one message for each.
    fn news(&mut self) -> Option<SinkOutput<B>> {
        let (&id, job) = self.jobs.iter_mut().find(|(_, job)| !job.news.is_empty())?;
        let tasks = std::mem::take(&mut job.news).iter().collect();
        Some(SinkOutput::ToVentilator(
            job.peer,
            SinkSays::Received { job: id, tasks },
        ))
    }
}

/// Cuts over-long reasons, so that a frame of them stays small.
fn cut(mut failed: Failures) -> Failures {
    for (_, reason) in &mut failed {
        if reason.len() > MAX_REASON_BYTES {
            let end = (0..=MAX_REASON_BYTES).rfind(|&at| reason.is_char_boundary(at));
            reason.truncate(end.unwrap_or(0));
        }
    }
    failed
}

impl<B> Machine for SinkMachine<B> {
    type Input = SinkInput<B>;
    type Output = SinkOutput<B>;

    fn handle(&mut self, now: Time, input: SinkInput<B>) {
        match input {
            SinkInput::Results {
                worker,
                job,
                span,
                body,
            } => self.receive(worker, job, span, body),
            SinkInput::Ventilator(peer, message) => self.hear(now, peer, message),
            SinkInput::Resume(job, safe, failed) => self.resume(job, safe, failed),
            SinkInput::Refuse(job, reason) => self.refuse(job, reason),
            SinkInput::Confirm(job, safe, failed) => self.confirm(job, safe, failed),
            SinkInput::Defer(job, tasks) => self.defer(job, tasks),
            SinkInput::Close(job, bytes) => self.close(job, bytes),
            SinkInput::Busy(busy) => self.busy = busy,
        }
    }

    fn wake(&mut self, now: Time) {
        if now >= self.next_beat {
            self.next_beat = now + self.limits.heartbeat;
            self.abandon(now, ABANDONED_AFTER);
            self.beat();
        }
    }

    /// The next thing to do. What was received is told when nothing else is left, so that one
    /// message covers all that arrived together.
    fn poll(&mut self) -> Option<SinkOutput<B>> {
        self.outbox.pop_front().or_else(|| self.news())
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next_beat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(7);
    const HERE: Incarnation = Incarnation(1);

    fn outputs(sink: &mut SinkMachine<()>) -> Vec<SinkOutput<()>> {
        std::iter::from_fn(|| sink.poll()).collect()
    }

    #[test]
    fn a_job_whose_ventilator_is_gone_is_let_go_and_opened_again_when_it_returns() {
        let mut sink = SinkMachine::new(HERE, Limits::default());
        let (job, incarnation) = (JOB, Incarnation(2));
        let open = VentilatorTells::Open {
            job,
            incarnation,
            safe: Vec::new(),
            heartbeat: Duration::ZERO,
        };
        sink.handle(Time::START, SinkInput::Ventilator(1, open));
        sink.handle(Time::START, SinkInput::Resume(JOB, Vec::new(), Vec::new()));
        outputs(&mut sink);

        let later = Time::START + ABANDONED_AFTER;
        sink.wake(later);
        assert!(matches!(outputs(&mut sink)[..], [SinkOutput::Abandon(JOB)]));

        let beat = VentilatorTells::Beat { job, incarnation };
        sink.handle(later, SinkInput::Ventilator(1, beat));
        let answer = outputs(&mut sink);
        let [SinkOutput::ToVentilator(1, SinkSays::Beat { incarnation, .. })] = answer[..] else {
            panic!("{answer:?}");
        };
        assert_ne!(
            incarnation, HERE,
            "or the ventilator would not open the job again"
        );
    }

    #[test]
    fn a_result_that_comes_after_the_end_of_its_job_is_acknowledged() {
        let (job, worker) = (JobId(1), WorkerId(2));
        let (incarnation, safe) = (Incarnation(3), Vec::new());
        let span = Span { first: 0, count: 1 };
        let open = VentilatorTells::Open {
            job,
            incarnation,
            safe,
            heartbeat: Duration::ZERO,
        };
        let mut sink = SinkMachine::new(Incarnation(4), Limits::default());
        for input in [
            SinkInput::Ventilator(5, open),
            SinkInput::Resume(job, vec![span.range()], Vec::new()),
            SinkInput::Close(job, 0),
        ] {
            sink.handle(Time::START, input);
            while sink.poll().is_some() {}
        }
        let late = SinkInput::Results {
            worker,
            job,
            span,
            body: (),
        };
        sink.handle(Time::START, late);
        let answer = sink.poll();
        assert!(matches!(answer, Some(SinkOutput::Acknowledge(to, ..)) if to == worker));
        assert!(sink.poll().is_none());
    }
}
