//! Watches whom the broker gives tasks: to a second worker only when the first is out of it.

use std::collections::BTreeMap;
use std::time::Duration;

use mutirao::broker::{BrokerInput, BrokerOutput, BrokerTells, Grant, Held, LeaseId, WorkerTells};
use mutirao::machine::Time;
use mutirao::pipeline::{JobId, PeerId, Span, TaskId, WorkerId};

#[derive(Clone, Copy, Debug)]
struct Holder {
    peer: PeerId,
    lease: LeaseId,
    since: Time,
}

/// Who holds which task, as far as the broker can know.
#[derive(Debug)]
pub(super) struct Watch {
    tasks: BTreeMap<(JobId, TaskId), Holder>,
    workers: BTreeMap<PeerId, WorkerId>,
    patience: Duration,
}

impl Watch {
    pub(super) fn new(patience: Duration) -> Watch {
        Watch {
            tasks: BTreeMap::new(),
            workers: BTreeMap::new(),
            patience,
        }
    }

    pub(super) fn input(&mut self, now: Time, input: &BrokerInput) {
        match input {
            BrokerInput::Worker(peer, tells) => self.told(now, *peer, tells),
            BrokerInput::Worked {
                peer, lease, span, ..
            } => self.end(|(_, task), holder| {
                (holder.peer, holder.lease) == (*peer, *lease) && span.range().contains(&task)
            }),
            _ => {}
        }
    }

    fn told(&mut self, now: Time, peer: PeerId, tells: &WorkerTells) {
        let patience = self.patience;
        match tells {
            WorkerTells::Ready { worker, held, .. } => self.ready(now, peer, *worker, held),
            WorkerTells::Beat { seen, held } => self.end(|_, holder| {
                holder.peer == peer
                    && !held.contains(&holder.lease)
                    && (holder.lease <= *seen || now.since(holder.since) >= patience)
            }),
            WorkerTells::Failed { lease, task, .. } => self.end(|(_, other), holder| {
                (holder.peer, holder.lease, other) == (peer, *lease, *task)
            }),
            WorkerTells::Returned { leases } => {
                self.end(|_, holder| holder.peer == peer && leases.contains(&holder.lease));
            }
            WorkerTells::Cut { lease, from } => {
                self.end(|(_, task), holder| {
                    (holder.peer, holder.lease) == (peer, *lease) && task >= *from
                });
            }
            WorkerTells::Gone {} => self.lose(peer),
            WorkerTells::Leaving {} => {}
        }
    }

    /// A worker that is another peer now takes along what it holds; what it does not hold was lost
    /// with the connection. From the same peer, what it does not hold may be on its way.
    fn ready(&mut self, now: Time, peer: PeerId, worker: WorkerId, held: &[Held]) {
        let leases: Vec<LeaseId> = held.iter().map(|held| held.lease).collect();
        let workers = self.workers.clone();
        self.tasks.retain(|_, holder| {
            let same = workers.get(&holder.peer) == Some(&worker);
            let moved = same && holder.peer != peer;
            if moved {
                holder.peer = peer;
            }
            !moved || leases.contains(&holder.lease)
        });
        self.workers.retain(|_, other| *other != worker);
        self.workers.insert(peer, worker);
        for held in held {
            self.hold(now, peer, held.lease, held.job, held.span);
        }
    }

    fn hold(&mut self, since: Time, peer: PeerId, lease: LeaseId, job: JobId, span: Span) {
        for task in span.range() {
            let holder = Holder { peer, lease, since };
            self.tasks.entry((job, task)).or_insert(holder);
        }
    }

    fn lose(&mut self, peer: PeerId) {
        self.end(|_, holder| holder.peer == peer);
    }

    fn end(&mut self, over: impl Fn((JobId, TaskId), &Holder) -> bool) {
        self.tasks.retain(|&key, holder| !over(key, holder));
    }

    pub(super) fn output(&mut self, now: Time, output: &BrokerOutput) {
        match output {
            BrokerOutput::Grant(grant) => self.granted(now, grant),
            BrokerOutput::ToWorker(peer, BrokerTells::Drop { leases }) => {
                self.end(|_, holder| holder.peer == *peer && leases.contains(&holder.lease));
            }
            BrokerOutput::Gone(peer) => {
                self.lose(*peer);
                self.workers.remove(peer);
            }
            _ => {}
        }
    }

    fn granted(&mut self, now: Time, grant: &Grant) {
        for task in grant.span.range() {
            if let Some(holder) = self.tasks.get(&(grant.job, task)) {
                panic!(
                    "at {now:?} task {task} of {} goes to {} as lease {}, but {holder:?} has it",
                    grant.job, grant.peer, grant.lease
                );
            }
        }
        self.hold(now, grant.peer, grant.lease, grant.job, grant.span);
    }
}
