//! What the broker knows again after a restart.

use std::sync::Arc;

use crate::machine::Time;
use crate::pipeline::{JobId, Span, TaskId};

use super::clients::Description;
use super::job::Job;
use super::machine::BrokerMachine;
use super::piece::{Piece, Slice, holds};
use super::store::Write;
use super::workers::failures;

/// For how many times the patience with a worker an empty job waits for its client after a restart.
const ORPHANED: u32 = 30;

/// Fills a broker with what a store has kept, write by write.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Entries that no job or no reader can make sense of.
    unreadable: u64,
}

impl Recovery {
    /// Takes one thing that was kept; each job comes before what belongs to it, and its tasks last.
    /// Nothing is given out until the workers of the former start have had the time to say what
    /// they hold.
    pub fn take(&mut self, broker: &mut BrokerMachine, now: Time, write: Write) {
        let known = match write {
            Write::Job { job, description } => broker.recover_job(now, job, &description),
            Write::Tasks { job, span, body } => broker.recover_tasks(now, job, span, body),
            Write::Results { job, span, body } => broker.recover_results(job, span, body),
            Write::Fetched { job, tasks } => broker.recover_fetched(job, tasks),
            Write::TasksDone { .. } | Write::ResultsFetched { .. } | Write::Forget { .. } => true,
        };
        self.unreadable += u64::from(!known);
    }

    /// That was all. Returns how many entries made no sense.
    pub fn finish(self, broker: &mut BrokerMachine, now: Time) -> u64 {
        broker.settle_recovered(now);
        self.unreadable
    }
}

/// Whether what is done can still be said of a job: its tasks come last.
fn is_unfilled(job: &&mut Job) -> bool {
    job.queue.tasks() == 0
}

impl BrokerMachine {
    fn recover_job(&mut self, now: Time, job: JobId, description: &[u8]) -> bool {
        let Ok((settings, total)) = rmp_serde::from_slice::<Description>(description) else {
            return false;
        };
        self.add_job(now, job, settings);
        let patience = self.limits.patience();
        let until = now + patience;
        if let Some(job) = self.jobs.get_mut(&job) {
            job.total = total;
            job.hold_until = Some(until);
        }
        self.releases.insert((until, job));
        self.releases.insert((now + ORPHANED * patience, job));
        true
    }

    /// Lets go of a job from before a restart that is still empty, and whose clients have not come back.
    pub(super) fn drop_orphan(&mut self, now: Time, id: JobId) -> bool {
        let patience = self.limits.patience();
        let job = self.jobs.get(&id).filter(|job| job.is_orphan());
        let is_old = job.is_some_and(|job| now.since(job.opened) >= ORPHANED * patience);
        if is_old {
            self.drop_job(now, id);
        }
        is_old
    }

    fn recover_results(&mut self, id: JobId, span: Span, body: Arc<[u8]>) -> bool {
        let Some(job) = self.jobs.get_mut(&id).filter(is_unfilled) else {
            return false;
        };
        let Some(failed) = failures(&body, span.count).filter(|_| span.end() < TaskId::MAX) else {
            return false;
        };
        job.failed += failed;
        job.accepted.insert(span.range());
        job.done.insert(span.range());
        if job.fetched.contains_all(span.range()) {
            let first = span.first;
            self.write(Write::ResultsFetched { job: id, first });
            return true;
        }
        let before = job.kept_bytes();
        job.keep(span, Slice::from(body, 0));
        self.kept_bytes = self.kept_bytes + job.kept_bytes() - before;
        true
    }

    fn recover_fetched(&mut self, id: JobId, tasks: Vec<std::ops::Range<TaskId>>) -> bool {
        let Some(job) = self.jobs.get_mut(&id).filter(is_unfilled) else {
            return false;
        };
        let before = job.kept_bytes();
        let mut over = Vec::new();
        for range in tasks {
            job.accepted.insert(range.clone());
            job.done.insert(range.clone());
            over.extend(job.note_fetched(range));
        }
        self.kept_bytes -= before - job.kept_bytes();
        for first in over {
            self.write(Write::ResultsFetched { job: id, first });
        }
        true
    }

    fn recover_tasks(&mut self, now: Time, id: JobId, span: Span, body: Arc<[u8]>) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let sound = span.end() < TaskId::MAX && holds(&body, u64::from(span.count));
        if !sound {
            return false;
        }
        // What is done, and what another entry holds already, was accepted before.
        let missing = job.accepted.missing(span.range());
        job.accepted.insert(span.range());
        let left = missing.iter().map(|range| range.end - range.start).sum();
        job.note_stored(span, left);
        if missing.is_empty() {
            self.write(Write::TasksDone {
                job: id,
                first: span.first,
            });
            return true;
        }
        let whole = Piece::new(span, Slice::from(body, 0));
        let pieces = missing.into_iter().map(|range| {
            let count = (range.end - range.start) as u32;
            let first = range.start;
            whole.clone().cut_out(Span { first, count }).1
        });
        self.enqueue(now, id, pieces.collect(), super::assign::Line::Fresh);
        true
    }

    /// Ends the jobs that were complete when the former start died.
    fn settle_recovered(&mut self, now: Time) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for job in self.jobs.values_mut() {
            job.promised = job.accepted.clone();
        }
        for id in ids {
            // One that is empty waits for the client that opened it.
            if !self.jobs.get(&id).is_some_and(Job::is_orphan) {
                self.finish_if_done(now, id);
            }
        }
    }
}
