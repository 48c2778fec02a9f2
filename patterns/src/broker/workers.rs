//! What workers tell the broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::detector::{Heard, Trust};
use crate::machine::Time;
use crate::pipeline::{JobId, PeerId, Span, TaskId, WorkerId};

use super::assign::Line;
use super::clients::MAX_NAME_BYTES;
use super::machine::{BrokerMachine, Lease, Worker};
use super::majordomo::Version;
use super::piece::{Piece, Slice};
use super::protocol::{BrokerTells, Held, LeaseId, Takes, WorkerTells};
use super::store::Write;
use crate::wire::value_bytes;

/// Into how many pieces the tasks of a dead worker are cut, so that one that kills its workers is soon
/// found out.
const SUSPECTS: u32 = 16;

/// Pauses between attempts double this many times at most.
const MAX_DOUBLINGS: u32 = 10;

/// The longest reason that is passed on, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// MessagePack's `false`, before a failure.
const FALSE: u8 = 0xc2;
/// MessagePack's `true`, before a result.
const TRUE: u8 = 0xc3;

/// Why a task is taken back from a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// The worker died, or came back without it, while it worked on it.
    Died,
    /// It is not there, for whatever reason: lost on the way, or left behind.
    Strayed,
    /// It was not begun, and nobody is to blame: the worker died of something else, or was asked for it.
    Untouched,
}

/// What a worker says of itself.
pub(super) struct Registration {
    pub(super) id: WorkerId,
    pub(super) slots: u32,
    pub(super) operations: Vec<String>,
    pub(super) takes: Takes,
    /// What people call it.
    pub(super) name: Option<String>,
    /// It speaks Majordomo.
    pub(super) majordomo: Option<Version>,
}

impl BrokerMachine {
    pub(super) fn hear_worker(&mut self, now: Time, peer: PeerId, tells: WorkerTells) {
        if let WorkerTells::Ready {
            worker,
            slots,
            operations,
            held,
            takes,
            name,
        } = tells
        {
            let registration = Registration {
                id: worker,
                slots,
                operations,
                takes,
                name,
                majordomo: None,
            };
            return self.ready(now, peer, registration, held);
        }
        let Some(worker) = self.workers.get_mut(&peer) else {
            self.watch(now, peer);
            return match tells {
                WorkerTells::Gone {} => {}
                _ => self.tell(peer, BrokerTells::WhoAreYou {}),
            };
        };
        if let WorkerTells::Beat { .. } = tells {
            worker.beat(now, &self.patience.workers);
        } else {
            worker.heard.sign(now);
        }
        let is_back = std::mem::take(&mut worker.unreachable) || worker.late;
        match tells {
            WorkerTells::Beat { seen, held } => self.compare(now, peer, seen, held),
            WorkerTells::Failed {
                lease,
                task,
                reason,
            } => self.failed(now, peer, lease, task, reason),
            WorkerTells::Returned { leases } => self.returned(now, peer, leases),
            WorkerTells::Cut { lease, from } => self.cut(now, peer, lease, from),
            WorkerTells::Leaving {} => self.see_leaving(peer),
            WorkerTells::Gone {} => self.part_with(now, peer),
            WorkerTells::Ready { .. } => {}
        }
        if is_back {
            self.welcome(now, peer);
        }
    }

    fn ready(&mut self, now: Time, peer: PeerId, registration: Registration, held: Vec<Held>) {
        self.watch(now, peer);
        let id = registration.id;
        let is_same = self.worker_peers.get(&id) == Some(&peer);
        self.replace_peer(now, id, peer);
        self.register(now, peer, registration);
        self.worker_peers.insert(id, peer);
        let known: BTreeSet<LeaseId> = held.iter().map(|held| held.lease).collect();
        let unwanted: Vec<LeaseId> = held
            .into_iter()
            .filter(|&held| !self.adopt(now, peer, held))
            .map(|held| held.lease)
            .collect();
        if !unwanted.is_empty() {
            self.tell(peer, BrokerTells::Drop { leases: unwanted });
        }
        // Over the same connection what it does not hold may be on its way; its heartbeats tell.
        let worker = self.workers.get(&peer).filter(|_| !is_same);
        let lost: Vec<LeaseId> = worker
            .map(|worker| worker.leases.difference(&known).copied().collect())
            .unwrap_or_default();
        self.take_back_lost(now, id, peer, lost);
        self.welcome(now, peer);
    }

    /// Takes back what a worker that came back does not hold any more.
    ///
    /// One that takes batches and holds exactly what it names never got the rest, or has answered it: that is
    /// believed as long as it may be chance. One that takes a task at a time names nothing and has begun what it was
    /// given: whatever made it come back, the task may do so for ever.
    fn take_back_lost(&mut self, now: Time, id: WorkerId, peer: PeerId, lost: Vec<LeaseId>) {
        let worker = self.workers.get(&peer);
        let begun = worker.is_some_and(Worker::takes_one);
        if begun && !lost.is_empty() {
            let count = lost.len();
            log::warn!(
                "worker {id} came back without {count} of its tasks: they are tried again as if it had died"
            );
        }
        let back = if begun { Back::Died } else { Back::Strayed };
        for lease in lost {
            self.take_back(now, lease, back);
        }
    }

    /// Puts a start of a worker in the place of another that spoke as this peer, and takes along what
    /// it held as another peer.
    fn replace_peer(&mut self, now: Time, id: WorkerId, peer: PeerId) {
        let before = self.worker_peers.get(&id).copied();
        if before == Some(peer) {
            return;
        }
        self.lose_worker(now, peer);
        if let Some(before) = before {
            self.move_leases(before, peer);
        }
    }

    pub(super) fn register(&mut self, now: Time, peer: PeerId, registration: Registration) {
        let Registration {
            id,
            slots,
            operations,
            takes,
            name,
            majordomo,
        } = registration;
        let leases = self.forget_worker(peer);
        let mut names: Vec<Arc<str>> = operations
            .iter()
            .filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()))
            .map(|name| self.service_name(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in &names {
            if let Some(service) = self.services.get_mut(name) {
                service.workers += 1;
            }
        }
        let suspect = leases.iter().copied().find(|id| {
            let lease = self.leases.get(id);
            lease.is_some_and(|lease| lease.piece.suspect)
        });
        let rules = match majordomo {
            Some(_) => &self.patience.hands,
            None => &self.patience.workers,
        };
        let heard = Heard::new(now, rules);
        // One that speaks Majordomo comes back as another.
        let past = majordomo.map_or_else(|| self.fallen.remove(&id), |_| None);
        let trust = past.unwrap_or_else(|| Trust::new(now));
        self.workers.insert(
            peer,
            Worker {
                id,
                slots: slots.clamp(1, 65_536) as usize,
                operations: names,
                leases,
                suspect,
                heard,
                trust,
                late: false,
                leaving: false,
                unreachable: false,
                place: None,
                done: 0,
                majordomo,
                takes,
                name: name.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len())),
            },
        );
    }

    /// A worker whose connection broke is another peer now; what it holds goes with it.
    fn move_leases(&mut self, from: PeerId, to: PeerId) {
        let leases = self.forget_worker(from);
        for lease in &leases {
            if let Some(lease) = self.leases.get_mut(lease) {
                lease.peer = to;
            }
        }
        if leases.is_empty() {
            return;
        }
        // Made whole by `register`.
        self.workers.insert(
            to,
            Worker {
                id: WorkerId(0),
                slots: 1,
                operations: Vec::new(),
                leases,
                suspect: None,
                heard: Heard::new(Time::START, &self.patience.workers),
                trust: Trust::new(Time::START),
                late: false,
                leaving: false,
                unreachable: false,
                place: None,
                done: 0,
                majordomo: None,
                takes: Takes::Batches,
                name: None,
            },
        );
    }

    /// Takes a worker off the books; its leases stay.
    fn forget_worker(&mut self, peer: PeerId) -> BTreeSet<LeaseId> {
        self.unplace(peer);
        let Some(worker) = self.workers.remove(&peer) else {
            return BTreeSet::new();
        };
        for name in &worker.operations {
            if let Some(service) = self.services.get_mut(name) {
                service.workers -= 1;
            }
            self.tidy(name);
        }
        if self.worker_peers.get(&worker.id) == Some(&peer) {
            self.worker_peers.remove(&worker.id);
        }
        if worker.majordomo.is_none() {
            self.remember_trust(worker.id, worker.trust);
        }
        worker.leases
    }

    /// Whether what a worker holds from before is, or becomes, a lease.
    fn adopt(&mut self, now: Time, peer: PeerId, held: Held) -> bool {
        if let Some(lease) = self.leases.get(&held.lease) {
            return lease.peer == peer;
        }
        let Some(job) = self.jobs.get_mut(&held.job) else {
            return false;
        };
        if held.span.count == 0 || held.lease >= self.next_lease {
            return false;
        }
        // What failed at others since is another attempt than the one that this worker has.
        let Some(mut piece) = job.queue.take_untried(held.span) else {
            return false;
        };
        // It was taken for dead wrongly.
        piece.deaths = piece.deaths.saturating_sub(1);
        piece.suspect = piece.deaths + 1 >= self.deaths_most(held.job);
        self.note_out(held.job, &piece);
        self.start_lease(now, peer, held.lease, held.job, piece);
        true
    }

    /// Ends everything with a worker that is dead; what it held goes to others.
    pub(super) fn lose_worker(&mut self, now: Time, peer: PeerId) {
        // One that was about to leave has left, if without a word.
        let worker = self.workers.get(&peer).filter(|worker| !worker.leaving);
        let Some(worker) = worker else {
            return self.part_with(now, peer);
        };
        // What it had not begun cannot have killed it.
        let begun = worker.slots;
        for (at, lease) in self.forget_worker(peer).into_iter().enumerate() {
            let back = if at < begun {
                Back::Died
            } else {
                Back::Untouched
            };
            self.take_back(now, lease, back);
        }
    }

    /// Ends everything with a worker that has left; what it left behind goes to others.
    pub(super) fn part_with(&mut self, now: Time, peer: PeerId) {
        let back = self.unasked(peer);
        for lease in self.forget_worker(peer) {
            self.take_back(now, lease, back);
        }
    }

    /// What it is to be given tasks back that were not asked for: nothing, from one that is about to leave.
    fn unasked(&self, peer: PeerId) -> Back {
        match self.workers.get(&peer).is_some_and(|worker| worker.leaving) {
            true => Back::Untouched,
            false => Back::Strayed,
        }
    }

    /// What a worker should hold and does not is lost on the way.
    fn compare(&mut self, now: Time, peer: PeerId, seen: LeaseId, held: Vec<LeaseId>) {
        let Some(worker) = self.workers.get(&peer) else {
            return;
        };
        let held: BTreeSet<LeaseId> = held.into_iter().collect();
        let patience = self.limits.patience();
        let missing = worker.leases.difference(&held).copied();
        let lost: Vec<LeaseId> = missing
            .filter(|lease| {
                let sent = self.leases.get(lease).map(|lease| lease.sent);
                *lease <= seen || sent.is_none_or(|sent| now.since(sent) >= patience)
            })
            .collect();
        let unwanted: Vec<LeaseId> = held.difference(&worker.leases).copied().collect();
        if !unwanted.is_empty() {
            self.tell(peer, BrokerTells::Drop { leases: unwanted });
        }
        for lease in lost {
            self.take_back(now, lease, Back::Strayed);
        }
    }

    fn see_leaving(&mut self, peer: PeerId) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.leaving = true;
            self.unplace(peer);
        }
    }

    fn returned(&mut self, now: Time, peer: PeerId, leases: Vec<LeaseId>) {
        let unasked = self.unasked(peer);
        for id in leases {
            let lease = self.leases.get(&id).filter(|lease| lease.peer == peer);
            let Some(lease) = lease else { continue };
            let back = match lease.recalled {
                true => Back::Untouched,
                false => unasked,
            };
            self.take_back(now, id, back);
        }
    }

    /// Puts back what a worker has not begun of a lease, and will not.
    fn cut(&mut self, now: Time, peer: PeerId, id: LeaseId, from: TaskId) {
        let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.peer == peer) else {
            self.counts.stale += 1;
            return;
        };
        let (mut kept, mut again) = (Vec::new(), Vec::new());
        for span in std::mem::take(&mut lease.left) {
            let begun = (from.clamp(span.first, span.end()) - span.first) as u32;
            if begun > 0 {
                let count = begun;
                kept.push(Span { count, ..span });
            }
            if begun < span.count {
                let (first, count) = (span.first + u64::from(begun), span.count - begun);
                again.push(lease.piece.clone().cut_out(Span { first, count }).1);
            }
        }
        lease.left = kept;
        let job = lease.job;
        self.note_back(
            job,
            again.iter().map(|piece| u64::from(piece.span.count)).sum(),
        );
        self.enqueue(now, job, again, Line::Again);
        self.end_if_settled(now, id);
    }

    /// Ends a lease and puts what is left of it back into the queue.
    pub(super) fn take_back(&mut self, now: Time, id: LeaseId, back: Back) {
        let Some(lease) = self.end_lease(id) else {
            return;
        };
        self.note_back(lease.job, lease.tasks_left());
        let deaths_most = self.deaths_most(lease.job);
        let (mut again, mut blamed) = (Vec::new(), false);
        for &span in &lease.left {
            let (_, mut piece, _) = lease.piece.clone().cut_out(span);
            let blame = piece.blame();
            piece.deaths += u32::from(back == Back::Died);
            piece.strays += u32::from(back == Back::Strayed);
            piece.suspect = piece.blame() + 1 >= deaths_most;
            blamed = piece.blame() > blame;
            match piece.span.count == 1 && piece.blame() >= deaths_most {
                true => self.give_up(now, lease.job, piece.span, &end_of(&piece)),
                false if blamed => again.extend(piece.split(SUSPECTS)),
                false => again.push(piece),
            }
        }
        self.count_retries(lease.job, &again, blamed);
        self.enqueue(now, lease.job, again, Line::Again);
        self.replace(lease.peer);
        self.give(now, lease.peer);
    }

    fn count_retries(&mut self, job: JobId, again: &[Piece], begun: bool) {
        let tasks: u64 = again.iter().map(|piece| u64::from(piece.span.count)).sum();
        if let Some(job) = self.jobs.get_mut(&job).filter(|_| begun) {
            job.retried += tasks;
            self.counts.retried += tasks;
        }
    }

    /// How many workers a task may kill before it is given up; of one death anybody may be guilty who
    /// was at that worker.
    fn deaths_most(&self, job: JobId) -> u32 {
        let attempts = self.jobs.get(&job).map_or(1, |job| job.settings.attempts);
        attempts.max(2)
    }

    /// Takes a lease off the books.
    fn end_lease(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        if let Some(worker) = self.workers.get_mut(&lease.peer) {
            worker.leases.remove(&id);
            worker.suspect.take_if(|suspect| *suspect == id);
        }
        Some(lease)
    }

    /// Drops the leases of a job that nobody wants any more.
    pub(super) fn drop_leases(&mut self, now: Time, job: JobId) {
        if self.jobs.get(&job).is_none_or(|job| job.leased == 0) {
            return;
        }
        let of_job = self.leases.iter().filter(|(_, lease)| lease.job == job);
        let ids: Vec<LeaseId> = of_job.map(|(&id, _)| id).collect();
        for id in ids {
            let Some(lease) = self.end_lease(id) else {
                continue;
            };
            self.note_back(job, lease.tasks_left());
            // Majordomo has no word for it: what such a worker replies comes too late.
            if !self.is_hand(lease.peer) {
                self.tell(lease.peer, BrokerTells::Drop { leases: vec![id] });
            }
            self.replace(lease.peer);
            self.give(now, lease.peer);
        }
    }

    pub(super) fn worked(
        &mut self,
        now: Time,
        peer: PeerId,
        id: LeaseId,
        span: Span,
        busy: Duration,
        records: Slice,
    ) {
        let Some(worker) = self.workers.get_mut(&peer) else {
            self.watch(now, peer);
            return self.tell(peer, BrokerTells::WhoAreYou {});
        };
        worker.heard.sign(now);
        if worker.late {
            self.welcome(now, peer);
        }
        let Some(failures) = failures(records.bytes(), span.count) else {
            self.counts.malformed += 1;
            return;
        };
        let Some(job) = self.settle(peer, id, span) else {
            self.counts.stale += 1;
            return;
        };
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.done += u64::from(span.count);
        }
        let sent = self.leases.get(&id).map_or(now, |lease| lease.sent);
        let busy = busy.min(now.since(sent));
        let service = self.jobs.get(&job).map(|job| job.operation.clone());
        if let Some(service) = service.and_then(|name| self.services.get_mut(&name)) {
            service.pace.note(busy, span.count);
        }
        let bytes = records.len();
        if bytes > self.limits.message_bytes {
            let reason = format!("its result cannot be passed on: it takes {bytes} bytes");
            for first in span.range() {
                self.give_up(now, job, Span { first, count: 1 }, &reason);
            }
        } else {
            self.done(now, job, span, records, failures);
        }
        self.end_if_settled(now, id);
    }

    /// Takes tasks out of a lease; the job that they belong to, or `None` when they were not in it.
    fn settle(&mut self, peer: PeerId, id: LeaseId, span: Span) -> Option<JobId> {
        let lease = self
            .leases
            .get_mut(&id)
            .filter(|lease| lease.peer == peer)?;
        let at = lease
            .left
            .iter()
            .position(|left| left.first <= span.first && span.end() <= left.end())?;
        let left = lease.left.remove(at);
        let before = (left.first, span.first);
        let behind = (span.end(), left.end());
        for (first, end) in [behind, before] {
            if first < end {
                let count = (end - first) as u32;
                lease.left.insert(at, Span { first, count });
            }
        }
        let job = lease.job;
        self.note_back(job, u64::from(span.count));
        Some(job)
    }

    fn end_if_settled(&mut self, now: Time, id: LeaseId) {
        if self
            .leases
            .get(&id)
            .is_some_and(|lease| lease.left.is_empty())
            && let Some(lease) = self.end_lease(id)
        {
            self.replace(lease.peer);
            self.give(now, lease.peer);
        }
    }

    /// Keeps the outcome of tasks that have left their lease.
    fn done(&mut self, now: Time, id: JobId, span: Span, records: Slice, failures: u64) {
        let tasks = u64::from(span.count);
        self.counts.done += tasks;
        self.counts.failed += failures;
        self.throughput.note(now, tasks);
        let operation = self.jobs.get(&id).map(|job| job.operation.clone());
        if let Some(service) = operation.and_then(|name| self.services.get_mut(&name)) {
            service.done += tasks;
            service.throughput.note(now, tasks);
        }
        if !self.reply(id, &records) {
            self.keep_results(id, span, records, failures);
            self.send_results(id);
            self.finish_if_done(now, id);
        }
    }

    fn keep_results(&mut self, id: JobId, span: Span, records: Slice, failures: u64) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.failed += failures;
        let over = job.note_done(span);
        let before = job.kept_bytes();
        job.keep(span, records.clone());
        self.kept_bytes += job.kept_bytes() - before;
        if !self.durable {
            return;
        }
        self.write(Write::Results {
            job: id,
            span,
            body: records.to_arc(),
        });
        for first in over {
            self.write(Write::TasksDone { job: id, first });
        }
    }

    /// A task that its worker could not do: tried again after a pause, or given up.
    fn failed(&mut self, now: Time, peer: PeerId, id: LeaseId, task: TaskId, reason: String) {
        let span = Span {
            first: task,
            count: 1,
        };
        let piece = self.leases.get(&id).map(|lease| lease.piece.clone());
        let Some(piece) = piece.filter(|piece| piece.contains(span)) else {
            self.counts.stale += 1;
            return;
        };
        let Some(job) = self.settle(peer, id, span) else {
            self.counts.stale += 1;
            return;
        };
        let (_, mut piece, _) = piece.cut_out(span);
        let attempts = self.jobs.get(&job).map_or(1, |job| job.settings.attempts);
        if piece.attempt >= attempts {
            self.give_up(now, job, span, &reason);
        } else {
            let doublings = (piece.attempt - 1).min(MAX_DOUBLINGS);
            let pause = self.limits.retry_delay.saturating_mul(1 << doublings);
            piece.attempt += 1;
            self.count_retries(job, std::slice::from_ref(&piece), true);
            self.enqueue(now, job, vec![piece], Line::Later(now + pause));
        }
        self.end_if_settled(now, id);
    }

    /// Ends a task without a result.
    fn give_up(&mut self, now: Time, job: JobId, span: Span, reason: &str) {
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let failure = crate::pipeline::TaskFailure {
            reason: reason[..end].to_string(),
            context: Vec::new(),
        };
        let mut record = vec![FALSE];
        // Two plain fields always have a MessagePack form.
        let _ = rmp_serde::encode::write(&mut record, &failure);
        self.done(now, job, span, Slice::from(record.into(), 0), 1);
    }

    pub(super) fn tasks_at(&self, worker: &Worker) -> u64 {
        let leases = worker.leases.iter().filter_map(|id| self.leases.get(id));
        leases.map(Lease::tasks_left).sum()
    }
}

/// Why a task is given up that nobody brought to an end.
fn end_of(piece: &Piece) -> String {
    match piece.strays {
        0 => format!(
            "{} workers died, or came back without it, while they worked on it",
            piece.deaths
        ),
        strays => format!(
            "{} workers died, or came back without it, while they worked on it, and it came back undone {strays} times",
            piece.deaths
        ),
    }
}

/// How many of so many outcomes are failures; `None` when that is not what the bytes hold.
pub(super) fn failures(bytes: &[u8], outcomes: u32) -> Option<u64> {
    let (mut rest, mut failures) = (bytes, 0);
    for _ in 0..outcomes {
        match *rest.first()? {
            TRUE => {}
            FALSE => failures += 1,
            _ => return None,
        }
        rest = &rest[1..];
        rest = &rest[value_bytes(rest)?..];
    }
    (rest.is_empty() && outcomes > 0).then_some(failures)
}
