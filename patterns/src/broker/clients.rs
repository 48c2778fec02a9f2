//! What clients ask of the broker.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::detector::Heard;
use crate::machine::Time;
use crate::pipeline::{JobId, PeerId, RangeSet, Span, TaskId};

use super::job::Job;
use super::machine::{Acceptance, BrokerMachine, BrokerOutput, Client, Promise};
use super::piece::{Piece, Slice, holds};
use super::protocol::{
    BrokerSays, ClientSays, JobSettings, JobView, Keeps, StatusView, WorkerView,
};
use super::service::Service;
use super::store::Write;
use super::synchronous;

/// The longest name of an operation, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 255;

/// The longest label of a job, in bytes.
const MAX_LABEL_BYTES: usize = 1024;

/// Jobs that are told of in one message.
const MOST_VIEWS: usize = 1_000;

/// When a full queue counts as having room again, in hundredths.
const ROOM_PERCENT: u64 = 90;

/// What the store keeps of a job.
pub(super) type Description = (JobSettings, Option<u64>);

impl BrokerMachine {
    pub(super) fn hear_client(&mut self, now: Time, peer: PeerId, says: ClientSays) {
        self.greet_client(now, peer);
        if let Some(client) = self.clients.get_mut(&peer) {
            client.beats = true;
            if let ClientSays::Beat { .. } = says {
                client.heard.beat(now);
            }
        }
        match says {
            ClientSays::Beat {
                submitting,
                fetching,
            } => self.reconnect(peer, submitting, fetching),
            ClientSays::Open { job, settings } => self.open(now, peer, job, settings),
            ClientSays::Close { job, tasks } => self.close(now, peer, job, tasks),
            ClientSays::Fetch {
                job,
                window_bytes,
                safe,
            } => self.fetch(now, peer, job, window_bytes, safe),
            ClientSays::Safe { job, tasks } => self.safe(now, peer, job, tasks),
            ClientSays::Await { job } => self.await_reply(peer, job),
            ClientSays::Cancel { job } => self.cancel(now, peer, job),
            ClientSays::Jobs {} => {
                let jobs = self.views(now);
                self.say(peer, BrokerSays::Jobs { jobs });
            }
            ClientSays::Job { job } => self.show(now, peer, job),
            ClientSays::Status {} => {
                let status = self.status(now);
                self.say(peer, BrokerSays::Status { status });
            }
        }
    }

    pub(super) fn greet_client(&mut self, now: Time, peer: PeerId) {
        if let Some(client) = self.clients.get_mut(&peer) {
            return client.heard.sign(now);
        }
        self.watch(now, peer);
        self.clients.insert(
            peer,
            Client {
                heard: Heard::new(now, &self.patience.clients),
                beats: false,
                asking: 0,
            },
        );
    }

    pub(super) fn lose_client(&mut self, now: Time, peer: PeerId) {
        if self.clients.remove(&peer).is_none() {
            return;
        }
        let keeps = self.keeps();
        let (mut over, mut left_open) = (Vec::new(), Vec::new());
        for (&id, job) in &mut self.jobs {
            let asks = job.asker.as_ref().is_some_and(|asker| asker.peer == peer);
            let submitter = job.submitter.take_if(|submitter| *submitter == peer);
            let fetcher = job.fetcher.take_if(|fetcher| fetcher.peer == peer);
            let (submits, fetches) = (submitter.is_some(), fetcher.is_some());
            let is_over = match keeps {
                Keeps::Nothing => job.is_deserted(submits, fetches),
                _ => (submits || fetches) && job.is_orphan(),
            };
            // A reply would reach nobody: who comes back is somebody else.
            if is_over || asks {
                over.push(id);
            } else if submits && job.total.is_none() && job.finished.is_none() {
                // Its client may never say that this was all.
                job.finished = Some(now);
                left_open.push(id);
            }
        }
        for id in over {
            self.end_job(now, id, synchronous::DESERTED);
        }
        for id in left_open {
            self.keep_from(now, id);
        }
    }

    /// A job that clients hand in, as opposed to a request, which belongs to whoever waits for it.
    fn job_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.get_mut(&id).filter(|job| job.asker.is_none())
    }

    /// Asks a client that we have lost sight of to begin anew.
    fn reconnect(&mut self, peer: PeerId, submitting: Vec<JobId>, fetching: Vec<JobId>) {
        let submitting: BTreeSet<JobId> = submitting.into_iter().collect();
        let fetching: BTreeSet<JobId> = fetching.into_iter().collect();
        for &id in submitting.union(&fetching) {
            let Some(job) = self.job_mut(id) else {
                self.say_over(peer, id);
                continue;
            };
            // What another connection of the client carried last may be lost.
            let resubmits = submitting.contains(&id) && job.submitter != Some(peer);
            if resubmits || fetching.contains(&id) && job.fetcher.is_none() {
                self.say(peer, BrokerSays::Resume { job: id });
            }
        }
    }

    fn open(&mut self, now: Time, peer: PeerId, id: JobId, settings: JobSettings) {
        if let Err(reason) = self.check_settings(id, &settings) {
            return self.say(peer, BrokerSays::Refused { job: id, reason });
        }
        self.take_over(now, peer, id);
        if !self.jobs.contains_key(&id) {
            if self.is_ending(id) {
                return;
            }
            self.add_job(now, id, settings);
            self.describe(id);
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.submitter = Some(peer);
        }
        match self.trouble.is_some() || self.is_stored() {
            // Of trouble is told when tasks come.
            true => self.say_opened(peer, id),
            // Others may rely on the job from then on.
            false => self.promise_later(peer, id, Promise::Opened),
        }
    }

    pub(super) fn say_opened(&mut self, peer: PeerId, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let opened = BrokerSays::Opened {
            job: id,
            incarnation: self.incarnation,
            keeps: self.keeps(),
            // What is not safe in the store yet counts as accepted only later.
            accepted: job.promised.iter().collect(),
        };
        self.say(peer, opened);
    }

    /// The store takes nothing, or works again.
    pub(super) fn note_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
        if self.trouble.is_none() {
            return self.offer_all_room();
        }
        let is_opened = |next: &Acceptance| matches!(next.promise, Promise::Opened);
        let (opened, others): (Vec<_>, Vec<_>) = self.acceptances.drain(..).partition(is_opened);
        self.acceptances = others.into();
        for next in opened {
            self.say_opened(next.peer, next.job);
        }
    }

    /// Whether there are as many jobs as may be.
    pub(super) fn has_too_many_jobs(&self) -> bool {
        self.jobs.len() >= self.limits.jobs
    }

    pub(super) fn check_settings(&self, id: JobId, settings: &JobSettings) -> Result<(), String> {
        if settings.operation.is_empty() || settings.operation.len() > MAX_NAME_BYTES {
            return Err(format!(
                "the name of an operation has 1 to {MAX_NAME_BYTES} bytes"
            ));
        }
        if settings.label.len() > MAX_LABEL_BYTES {
            return Err(format!("a label has at most {MAX_LABEL_BYTES} bytes"));
        }
        match self.jobs.get(&id) {
            Some(job) if job.asker.is_some() => {
                Err(format!("{id} is a request under way: choose another id"))
            }
            Some(job) if job.settings.operation != settings.operation => Err(format!(
                "job {id} exists and is about {:?}: choose another id",
                job.settings.operation
            )),
            None if self.has_too_many_jobs() => Err(format!(
                "the broker has {} jobs, the most it takes: fetch or cancel some, `mutirao jobs` lists them",
                self.jobs.len()
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn add_job(&mut self, now: Time, id: JobId, settings: JobSettings) {
        let operation = self.service_name(&settings.operation);
        if let Some(service) = self.services.get_mut(&operation) {
            service.jobs += 1;
        }
        self.jobs.insert(id, Job::new(settings, operation, now));
    }

    /// The name as it is shared; the service is made if there is none.
    pub(super) fn service_name(&mut self, operation: &str) -> Arc<str> {
        if let Some((name, _)) = self.services.get_key_value(operation) {
            return name.clone();
        }
        let name: Arc<str> = operation.into();
        self.services.insert(name.clone(), Default::default());
        name
    }

    /// Lets go of a service that nobody has use for.
    pub(super) fn tidy(&mut self, name: &Arc<str>) {
        if self.services.get(name).is_some_and(Service::is_idle) {
            self.services.remove(name);
        }
    }

    /// Writes down what a job is about.
    pub(super) fn describe(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        // Plain fields always have a MessagePack form.
        let description = rmp_serde::to_vec(&(&job.settings, job.total)).unwrap_or_default();
        self.write(Write::Job {
            job: id,
            description,
        });
    }

    pub(super) fn submit(
        &mut self,
        now: Time,
        peer: PeerId,
        id: JobId,
        span: Span,
        records: Slice,
    ) {
        self.greet_client(now, peer);
        let sound = span.count > 0
            && span.end() < TaskId::MAX
            && holds(records.bytes(), u64::from(span.count));
        if !sound {
            self.counts.malformed += 1;
            return;
        }
        if let Some(reason) = self.too_large(records.len()) {
            return self.say(peer, BrokerSays::Refused { job: id, reason });
        }
        let Some(job) = self.job_mut(id) else {
            return self.say_over(peer, id);
        };
        let missing = job.accepted.missing(span.range());
        if !missing.is_empty()
            && let Some(reason) = self.no_room(id, span, records.len())
        {
            return self.refuse_for_now(peer, id, span.first, reason);
        }
        let whole = Piece::new(span, records);
        for range in missing {
            let span = Span {
                first: range.start,
                count: (range.end - range.start) as u32,
            };
            let (_, piece, _) = whole.clone().cut_out(span);
            self.take_in(now, id, piece);
        }
        self.accept_when_stored(peer, id, span);
    }

    /// Why so many bytes cannot be passed on, if so.
    pub(super) fn too_large(&self, bytes: usize) -> Option<String> {
        let most = self.limits.message_bytes;
        (bytes > most).then(|| {
            format!("a message with {bytes} bytes of tasks cannot be passed on, the most is {most}: send less at once")
        })
    }

    pub(super) fn no_room(&self, id: JobId, span: Span, bytes: usize) -> Option<String> {
        let trouble = self.trouble.clone();
        trouble.or_else(|| self.full(id, span, bytes))
    }

    /// Why the queue does not take so much more, if so.
    pub(super) fn full(&self, id: JobId, span: Span, bytes: usize) -> Option<String> {
        let service = self.services.get(&self.jobs.get(&id)?.operation)?;
        let tasks = service.queued + u64::from(span.count);
        let (most_tasks, most_bytes) = (self.limits.queue_tasks, self.limits.queue_bytes);
        let full = tasks > most_tasks || service.queued_bytes + bytes > most_bytes;
        // One that is larger than the whole queue could never come in otherwise.
        (full && service.queued > 0).then(|| {
            format!("the queue is full (at most {most_tasks} tasks of {most_bytes} bytes together)")
        })
    }

    fn refuse_for_now(&mut self, peer: PeerId, id: JobId, first: TaskId, reason: String) {
        let name = self.jobs.get(&id).map(|job| job.operation.clone());
        if let Some(service) = name.and_then(|name| self.services.get_mut(&name)) {
            service.wanting.insert(id);
        }
        self.say(
            peer,
            BrokerSays::Full {
                job: id,
                first,
                reason,
            },
        );
    }

    /// Tells those who wait for room in any service that there is some.
    pub(super) fn offer_all_room(&mut self) {
        let waiting = self.services.iter();
        let waiting = waiting.filter(|(_, service)| !service.wanting.is_empty());
        let names: Vec<Arc<str>> = waiting.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.offer_room(&name);
        }
    }

    /// Tells those who wait for it that there is room.
    pub(super) fn offer_room(&mut self, name: &Arc<str>) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let (tasks, bytes) = (self.limits.queue_tasks, self.limits.queue_bytes as u64);
        let room = service.queued <= tasks / 100 * ROOM_PERCENT
            && service.queued_bytes as u64 <= bytes / 100 * ROOM_PERCENT;
        if !room || self.trouble.is_some() {
            return;
        }
        for job in std::mem::take(&mut service.wanting) {
            // A client that is not there begins anew when it comes back.
            if let Some(peer) = self.jobs.get(&job).and_then(|job| job.submitter) {
                self.say(peer, BrokerSays::Room { job });
            }
        }
    }

    fn close(&mut self, now: Time, peer: PeerId, id: JobId, tasks: u64) {
        let Some(job) = self.job_mut(id) else {
            return self.say_over(peer, id);
        };
        if job.total != Some(tasks) {
            job.total = Some(tasks);
            self.describe(id);
        }
        self.say_when_stored(peer, id, BrokerSays::Closed { job: id, tasks });
        self.finish_if_done(now, id);
    }

    fn fetch(
        &mut self,
        now: Time,
        peer: PeerId,
        id: JobId,
        window_bytes: u64,
        safe: Vec<Range<TaskId>>,
    ) {
        let keeps = self.keeps();
        let Some(job) = self.job_mut(id) else {
            return self.say_over(peer, id);
        };
        if let Some(reason) = job.why_not_fetch(peer, keeps) {
            let reason = reason.to_string();
            return self.say(peer, BrokerSays::Refused { job: id, reason });
        }
        job.fetch(peer, window_bytes);
        self.safe(now, peer, id, safe);
        self.send_results(id);
    }

    fn find_over(&self, id: JobId) -> Option<&(JobView, u64)> {
        self.over.iter().rev().find(|(view, _)| view.job == id)
    }

    /// Whether a broker that dies now has the job again, though it is over. Nothing is said of it
    /// until that is settled: the client asks again.
    fn is_ending(&self, id: JobId) -> bool {
        let over = self.find_over(id);
        over.is_some_and(|(_, write)| self.durable && *write > self.stored)
    }

    /// Answers about a job that is not there any more.
    fn say_over(&mut self, peer: PeerId, id: JobId) {
        if self.is_ending(id) {
            return;
        }
        let over = self.find_over(id).map(|(view, _)| view);
        let complete = over.filter(|view| {
            let tasks = view.tasks.map(|tasks| tasks.max(view.counts.accepted));
            tasks.is_some_and(|tasks| view.counts.fetched >= tasks)
        });
        let says = match complete.map(|view| view.counts) {
            Some(counts) => BrokerSays::Complete { job: id, counts },
            None => BrokerSays::Unknown { job: id },
        };
        self.say(peer, says);
    }

    fn safe(&mut self, now: Time, peer: PeerId, id: JobId, tasks: Vec<Range<TaskId>>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.asker.is_none()) else {
            return self.say_over(peer, id);
        };
        let before = job.kept_bytes();
        let mut over = Vec::new();
        // As a set, so that it costs no more to say the same a thousand times.
        for range in RangeSet::from_iter(tasks).iter() {
            over.extend(job.note_fetched(range));
        }
        self.kept_bytes -= before - job.kept_bytes();
        let freed = !over.is_empty();
        if freed && self.durable {
            let fetched = job.fetched.iter().collect();
            self.write(Write::Fetched {
                job: id,
                tasks: fetched,
            });
        }
        for first in over {
            self.write(Write::ResultsFetched { job: id, first });
        }
        self.send_results(id);
        self.finish_if_done(now, id);
        if freed {
            self.go_on(now);
        }
    }

    /// Sends the client that fetches what its window has room for.
    pub(super) fn send_results(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        while let Some((peer, span, records)) = job.next_to_send() {
            self.outbox.push_back(BrokerOutput::Results {
                peer,
                job: id,
                span,
                records,
            });
        }
    }

    /// Ends a job whose results are all fetched, and notes when those of one that is done may go.
    pub(super) fn finish_if_done(&mut self, now: Time, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.is_fetched() {
            let (counts, fetcher) = (job.counts(), job.fetcher.as_ref().map(|to| to.peer));
            self.drop_job(now, id);
            if let Some(peer) = fetcher {
                self.say_when_stored(peer, id, BrokerSays::Complete { job: id, counts });
            }
        } else if job.is_done() && job.finished.is_none() {
            job.finished = Some(now);
            self.keep_from(now, id);
        }
    }

    /// Lets go of the results of a job when they have been kept for as long as its settings say.
    fn keep_from(&mut self, now: Time, id: JobId) {
        let keep = self
            .jobs
            .get(&id)
            .map_or(0, |job| job.settings.keep_seconds);
        if keep > 0 {
            let keep = std::time::Duration::from_secs(keep);
            self.forgets.insert((now + keep, id));
        }
    }

    /// Lets go of results that nobody fetched in time.
    pub(super) fn forget_old(&mut self, now: Time) {
        while let Some(&(due, id)) = self.forgets.first()
            && due <= now
        {
            self.forgets.pop_first();
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            if !job.is_done() && !job.is_left_open() {
                // There are more tasks than it seemed.
                job.finished = None;
                continue;
            }
            if job.fetcher.is_some() {
                // Whoever fetches has as long as it takes.
                job.finished = Some(now);
                self.keep_from(now, id);
                continue;
            }
            log::warn!("job {id}: its results were not fetched in time and are let go");
            self.drop_job(now, id);
        }
    }

    fn cancel(&mut self, now: Time, peer: PeerId, id: JobId) {
        let is_theirs = |job: &&Job| job.asker.as_ref().is_none_or(|asker| asker.peer == peer);
        let Some(job) = self.jobs.get(&id).filter(is_theirs) else {
            // What is over may be back after a crash until that is safe.
            return self.say_when_stored(peer, id, BrokerSays::Unknown { job: id });
        };
        let others = [job.submitter, job.fetcher.as_ref().map(|to| to.peer)];
        self.drop_job(now, id);
        let mut told: Vec<PeerId> = others.into_iter().flatten().chain([peer]).collect();
        told.sort_unstable();
        told.dedup();
        for peer in told {
            self.say_when_stored(peer, id, BrokerSays::Cancelled { job: id });
        }
    }

    /// Forgets a job with all that belongs to it.
    pub(super) fn drop_job(&mut self, now: Time, id: JobId) {
        self.empty_queue(id);
        self.drop_leases(now, id);
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.kept_bytes -= job.kept_bytes();
        self.acceptances.retain(|next| next.job != id);
        self.forget_gathered(id);
        if let (Some(finished), keep) = (job.finished, job.settings.keep_seconds) {
            let keep = std::time::Duration::from_secs(keep);
            self.forgets.remove(&(finished + keep, id));
        }
        match &job.asker {
            Some(asker) => self.note_answered(asker.peer, asker.version),
            None => {
                self.write(Write::Forget { job: id });
                self.remember(JobView {
                    over: true,
                    ..view(now, id, &job)
                });
            }
        }
        if let Some(service) = self.services.get_mut(&job.operation) {
            service.jobs -= 1;
        }
        self.offer_room(&job.operation);
        self.tidy(&job.operation);
        self.held_back.remove(&id);
        // What it kept makes room for the results of others.
        self.go_on(now);
    }

    /// Lets go what waits for a worker.
    fn empty_queue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let queue = std::mem::take(&mut job.queue);
        if let Some(service) = self.services.get_mut(&job.operation) {
            service.step_out(id, job.settings.priority, job.turn);
            service.suspects.remove(&id);
            service.wanting.remove(&id);
            service.queued -= queue.tasks();
            service.queued_bytes -= queue.bytes();
        }
    }

    fn views(&self, now: Time) -> Vec<JobView> {
        let jobs = self.jobs.iter().filter(|(_, job)| job.asker.is_none());
        let mut newest: Vec<_> = jobs.collect();
        newest.sort_by_key(|(_, job)| Reverse(job.opened));
        newest.truncate(MOST_VIEWS);
        let views = newest.into_iter().map(|(&id, job)| view(now, id, job));
        views.collect()
    }

    fn show(&mut self, now: Time, peer: PeerId, id: JobId) {
        let living = self.jobs.get(&id);
        let living = living.map(|job| (view(now, id, job), job.fetched.iter().collect()));
        let over = || Some((self.find_over(id)?.0.clone(), Vec::new()));
        let says = match living.or_else(over) {
            Some((job, fetched)) => BrokerSays::Job { job, fetched },
            None => BrokerSays::Unknown { job: id },
        };
        self.say(peer, says);
    }

    /// How the broker fares.
    pub fn status(&self, now: Time) -> StatusView {
        let workers = self.workers.values().map(|worker| WorkerView {
            worker: (worker.name.clone()).unwrap_or_else(|| worker.id.to_string()),
            protocol: match worker.majordomo {
                Some(version) => version.to_string(),
                None => "mutirao".into(),
            },
            operations: worker.operations.iter().map(ToString::to_string).collect(),
            slots: u32::try_from(worker.slots).unwrap_or(u32::MAX),
            leased: self.tasks_at(worker),
            done: worker.done,
            seen_ms: u64::try_from(now.since(worker.heard.last()).as_millis()).unwrap_or(u64::MAX),
            suspect: worker.late,
        });
        StatusView {
            up_seconds: now.since(Time::START).as_secs(),
            workers: workers.collect(),
            services: self
                .services
                .iter()
                .map(|(name, service)| (name.to_string(), service.view(now)))
                .collect(),
            jobs: self.jobs.len() as u64,
            clients: self.clients.len() as u64,
            done: self.counts.done,
            failed: self.counts.failed,
            retried: self.counts.retried,
            done_per_second: self.throughput.per_second(now),
            malformed: self.counts.malformed,
            kept_bytes: (self.kept_bytes
                + self
                    .services
                    .values()
                    .map(|service| service.queued_bytes)
                    .sum::<usize>()) as u64,
            trouble: self.trouble.clone(),
            keeps: self.keeps(),
        }
    }
}

fn view(now: Time, id: JobId, job: &Job) -> JobView {
    JobView {
        job: id,
        settings: job.settings.clone(),
        tasks: job.total,
        counts: job.counts(),
        age_seconds: now.since(job.opened).as_secs(),
        fetching: job.fetcher.is_some(),
        over: false,
    }
}
