//! Who gets which tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::machine::Time;
use crate::pipeline::{JobId, PeerId};

use super::machine::{BrokerMachine, BrokerOutput, Grant, Lease};
use super::piece::Piece;
use super::protocol::{BrokerTells, LeaseId};
use super::service::{Room, Service};

/// How often work is looked for that an idle worker could take from a busy one.
const STEAL_INTERVAL: Duration = Duration::from_millis(20);

/// After so long a worker is asked for a lease that it should have begun; it keeps those that it has.
const BEGUN: Duration = Duration::from_millis(100);

/// Where tasks wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    /// Behind what waits.
    Fresh,
    /// Before it.
    Again,
    /// After a pause, before it.
    Later(Time),
}

impl BrokerMachine {
    /// Puts tasks into the queue of their job and gives them out if somebody has room.
    pub(super) fn enqueue(&mut self, now: Time, id: JobId, pieces: Vec<Piece>, line: Line) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let name = job.operation.clone();
        let Some(service) = self.services.get_mut(&name) else {
            return;
        };
        for piece in pieces {
            service.queued += u64::from(piece.span.count);
            service.queued_bytes += piece.records.len();
            match line {
                Line::Fresh => job.queue.push_fresh(piece),
                Line::Again => job.queue.push_again(piece),
                Line::Later(due) => {
                    self.releases.insert((due, id));
                    job.queue.push_later(due, piece);
                }
            }
        }
        self.line_up(id);
        self.serve(now, &name);
    }

    /// Puts a job in line if it has something to give out and is not in it.
    fn line_up(&mut self, id: JobId) {
        let turn = self.turn();
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let service = self.services.get_mut(&job.operation);
        if let Some(service) = service.filter(|_| job.hold_until.is_none()) {
            match job.queue.has_suspects() {
                true => service.suspects.insert(id),
                false => service.suspects.remove(&id),
            };
        }
        if job.turn != 0 || job.hold_until.is_some() || !job.queue.is_ready() {
            return;
        }
        if !self.may_give(id) {
            self.held_back.insert(id);
            return;
        }
        self.held_back.remove(&id);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.turn = turn;
        if let Some(service) = self.services.get_mut(&job.operation) {
            service.line_up(id, job.settings.priority, turn);
        }
    }

    /// Takes a job that was just served out of the line, and puts it back at the end if it has more.
    fn line_up_anew(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let Some(service) = self.services.get_mut(&job.operation) {
            service.step_out(id, job.settings.priority, job.turn);
        }
        job.turn = 0;
        self.line_up(id);
    }

    /// Lets go what had to wait until now.
    pub(super) fn release(&mut self, now: Time) {
        while let Some(&(due, id)) = self.releases.first()
            && due <= now
        {
            self.releases.pop_first();
            if self.drop_orphan(now, id) {
                continue;
            }
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            job.queue.release(now);
            job.hold_until.take_if(|until| *until <= now);
            let name = job.operation.clone();
            self.line_up(id);
            self.serve(now, &name);
        }
    }

    /// Whether tasks of a job may be given out, by the results that wait for being fetched.
    fn may_give(&self, id: JobId) -> bool {
        let half = self.limits.kept_bytes / 2;
        let share = half / self.jobs.len().max(1);
        self.kept_bytes <= half
            || self
                .jobs
                .get(&id)
                .is_none_or(|job| job.kept_bytes() <= share || job.has_urgent_tasks())
    }

    /// Gives out tasks that were held back, where results that were fetched have made room.
    pub(super) fn go_on(&mut self, now: Time) {
        for id in std::mem::take(&mut self.held_back) {
            self.line_up(id);
            let job = self.jobs.get(&id);
            if let Some(name) = job.map(|job| job.operation.clone()) {
                self.serve(now, &name);
            }
        }
    }

    /// Gives out the tasks of a service as long as there are some and a worker has room.
    fn serve(&mut self, now: Time, name: &Arc<str>) {
        loop {
            let service = self.services.get_mut(name);
            let Some((peer, job, suspect)) = service.and_then(Service::pair) else {
                return;
            };
            self.grant_or_hold_back(now, peer, job, suspect);
        }
    }

    fn grant_or_hold_back(&mut self, now: Time, peer: PeerId, id: JobId, suspect: bool) {
        match self.may_give(id) {
            true => self.grant(now, peer, id, suspect),
            false => self.line_up_anew(id),
        }
    }

    /// Gives a worker as much as it has room for, of each of its operations in turn.
    pub(super) fn give(&mut self, now: Time, peer: PeerId) {
        while let Some((job, suspect)) = self.next_job_for(peer) {
            self.grant_or_hold_back(now, peer, job, suspect);
        }
        self.watch_idle(now, peer);
    }

    /// Of the services that it works for the one that got the least time.
    fn next_job_for(&mut self, peer: PeerId) -> Option<(JobId, bool)> {
        let worker = self.workers.get(&peer)?;
        worker.place?;
        let is_clean = worker.suspect.is_none();
        let services = worker.operations.iter().filter_map(|name| {
            let service = self.services.get(name)?;
            let waits = service.has_work() || is_clean && !service.suspects.is_empty();
            waits.then_some((service.spent_ns, name))
        });
        let name = services.min()?.1.clone();
        let service = self.services.get_mut(&name)?;
        match service.suspects.first().filter(|_| is_clean) {
            Some(&job) => Some((job, true)),
            None => Some((service.pick()?, false)),
        }
    }

    fn grant(&mut self, now: Time, peer: PeerId, id: JobId, suspect: bool) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(service) = self.services.get_mut(&job.operation) else {
            return;
        };
        let most = match self.workers.get(&peer) {
            Some(worker) if worker.takes_one() => 1,
            _ => self.limits.batch_tasks,
        };
        let time = self.limits.batch_time;
        let tasks = service.pace.tasks_in(time).min(most);
        // One that was idle has nothing to make up for.
        service.spent_ns = service.spent_ns.max(self.spent_ns);
        self.spent_ns = service.spent_ns;
        let piece = match suspect {
            true => job.queue.take_suspect(most),
            false => job.queue.take(tasks, self.limits.batch_bytes),
        };
        service.charge(piece.as_ref().map_or(0, |piece| piece.span.count), time);
        self.line_up_anew(id);
        let Some(piece) = piece else {
            return;
        };
        self.note_out(id, &piece);
        let lease = self.next_lease;
        self.next_lease += 1;
        self.send(peer, lease, id, &piece);
        self.start_lease(now, peer, lease, id, piece);
        self.replace(peer);
    }

    fn send(&mut self, peer: PeerId, lease: LeaseId, id: JobId, piece: &Piece) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        self.outbox.push_back(BrokerOutput::Grant(Grant {
            peer,
            lease,
            job: id,
            span: piece.span,
            attempt: piece.attempt,
            attempts: job.settings.attempts,
            time_limit_ms: job.settings.time_limit_ms,
            operation: job.operation.clone(),
            records: piece.records.clone(),
            majordomo: self.workers.get(&peer).and_then(|worker| worker.majordomo),
        }));
    }

    pub(super) fn start_lease(
        &mut self,
        now: Time,
        peer: PeerId,
        id: LeaseId,
        job: JobId,
        piece: Piece,
    ) {
        let left = vec![piece.span];
        let suspect = piece.suspect.then_some(id);
        self.leases.insert(
            id,
            Lease {
                peer,
                job,
                piece,
                left,
                sent: now,
                recalled: false,
            },
        );
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.leases.insert(id);
            worker.suspect = worker.suspect.or(suspect);
        }
    }

    /// Counts tasks that leave the queue for a worker.
    pub(super) fn note_out(&mut self, id: JobId, piece: &Piece) {
        let tasks = u64::from(piece.span.count);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.leased += tasks;
        let mut wanted = None;
        if let Some(service) = self.services.get_mut(&job.operation) {
            service.leased += tasks;
            service.queued -= tasks;
            service.queued_bytes -= piece.records.len();
            wanted = (!service.wanting.is_empty()).then(|| job.operation.clone());
        }
        if let Some(name) = wanted {
            self.offer_room(&name);
        }
    }

    /// Counts tasks that a worker does not hold any more.
    pub(super) fn note_back(&mut self, id: JobId, tasks: u64) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.leased -= tasks;
        if let Some(service) = self.services.get_mut(&job.operation) {
            service.leased -= tasks;
        }
    }

    /// Finds a worker its place among those with room.
    pub(super) fn replace(&mut self, peer: PeerId) {
        self.unplace(peer);
        let turn = self.turn();
        let Some(worker) = self.workers.get_mut(&peer) else {
            return;
        };
        let most = match worker.takes_one() {
            true => worker.slots,
            false => 2 * worker.slots,
        };
        let room = match worker.leases.len() {
            held if worker.leaving || worker.unreachable || held >= most => return,
            _ if worker.late => Room::Late,
            held if held < worker.slots => Room::Idle,
            _ => Room::Ahead,
        };
        let place = (room, turn, peer);
        worker.place = Some(place);
        for name in &worker.operations {
            if let Some(service) = self.services.get_mut(name) {
                service.open.insert(place);
                if worker.suspect.is_none() {
                    service.clean.insert(place);
                }
            }
        }
    }

    pub(super) fn unplace(&mut self, peer: PeerId) {
        let Some(worker) = self.workers.get_mut(&peer) else {
            return;
        };
        let Some(place) = worker.place.take() else {
            return;
        };
        for name in &worker.operations {
            if let Some(service) = self.services.get_mut(name) {
                service.open.remove(&place);
                service.clean.remove(&place);
            }
        }
    }

    /// Looks soon whether an idle worker can take something from a busy one.
    fn watch_idle(&mut self, now: Time, peer: PeerId) {
        let place = self.workers.get(&peer).and_then(|worker| worker.place);
        let idle = place.is_some_and(|(room, _, _)| room == Room::Idle);
        if idle && !self.leases.is_empty() && self.next_steal.is_none() {
            self.next_steal = Some(now + STEAL_INTERVAL);
        }
    }

    /// Calls back what busy workers have not begun, for those that idle.
    pub(super) fn steal(&mut self, now: Time) {
        if self.next_steal.is_none_or(|due| due > now) {
            return;
        }
        self.next_steal = None;
        let mut recalls: BTreeMap<PeerId, Vec<LeaseId>> = BTreeMap::new();
        let mut watch = false;
        for (name, service) in &self.services {
            let idle = service.open.iter();
            let idle = idle.take_while(|(room, _, _)| *room == Room::Idle).count();
            if idle == 0 || service.leased == 0 || service.has_work() {
                continue;
            }
            watch = true;
            for (peer, lease) in self.unbegun(now, name).into_iter().take(idle) {
                recalls.entry(peer).or_default().push(lease);
            }
        }
        for (peer, leases) in recalls {
            for id in &leases {
                if let Some(lease) = self.leases.get_mut(id) {
                    lease.recalled = true;
                }
            }
            self.tell(peer, BrokerTells::Recall { leases });
        }
        self.next_steal = watch.then_some(now + STEAL_INTERVAL);
    }

    /// Leases of a service that wait behind others at their worker, from those that hold most.
    fn unbegun(&self, now: Time, name: &Arc<str>) -> Vec<(PeerId, LeaseId)> {
        let mut found = Vec::new();
        for (&peer, worker) in &self.workers {
            if worker.leases.is_empty() || !worker.operations.contains(name) {
                continue;
            }
            for (depth, &id) in worker.leases.iter().enumerate().rev() {
                // One that should have been begun waits if something else holds the slot, such as a
                // task that nobody wants any more.
                let age = match depth < worker.slots {
                    true => BEGUN,
                    false => STEAL_INTERVAL,
                };
                let lease = self.leases.get(&id);
                let of_service = lease.is_some_and(|lease| {
                    let job = self.jobs.get(&lease.job);
                    !lease.recalled
                        && now.since(lease.sent) >= age
                        && job.is_some_and(|job| job.operation == *name)
                });
                if of_service {
                    found.push(((depth + 1).saturating_sub(worker.slots), peer, id));
                }
            }
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.into_iter().map(|(_, peer, id)| (peer, id)).collect()
    }
}
