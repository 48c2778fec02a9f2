//! Tasks on their way in: into the queue at once, into the store in records that are worth it.
//!
//! What is smaller than a record gathers while the store is busy with what was written before: it
//! could not be safe any sooner, and tasks that come one by one end up in few records.

use crate::machine::Time;
use crate::pipeline::{JobId, PeerId, RangeSet, Span};

use super::assign::Line;
use super::machine::{Acceptance, BrokerMachine, Promise};
use super::piece::{Piece, Slice};
use super::protocol::BrokerSays;
use super::run::{RUN_BYTES, Run};
use super::store::Write;

/// Bytes that gather at most, over all jobs.
const GATHERED_BYTES: usize = 4 << 20;

/// What is promised of tasks that gather is due with a write that has no number yet.
const NOT_WRITTEN: u64 = u64::MAX;

impl BrokerMachine {
    /// Takes in tasks that nobody has submitted before.
    pub(super) fn take_in(&mut self, now: Time, id: JobId, piece: Piece) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.accepted.insert(piece.span.range());
        let mut pieces = vec![piece];
        if self.durable {
            // As large as their records are, so that both share their memory.
            let cut = pieces.into_iter().flat_map(|piece| piece.cut(RUN_BYTES));
            pieces = cut.map(alone).collect();
        }
        for piece in &pieces {
            self.keep_tasks(id, piece);
        }
        self.enqueue(now, id, pieces, Line::Fresh);
    }

    fn keep_tasks(&mut self, id: JobId, piece: &Piece) {
        if !self.durable {
            return;
        }
        if piece.records.len() > RUN_BYTES / 2 {
            return self.write_tasks(id, piece.span, &piece.records);
        }
        let run = self.gathered.entry(id).or_default();
        if !run.add(piece.span, piece.records.bytes()) {
            self.write_gathered();
            let mut run = Run::default();
            run.add(piece.span, piece.records.bytes());
            self.gathered.insert(id, run);
        }
        self.gathered_bytes += piece.records.len();
        if self.gathered_bytes > GATHERED_BYTES {
            self.write_gathered();
        }
    }

    /// Writes what has gathered as soon as the store is done with what had gathered before.
    pub(super) fn write_gathered_in_time(&mut self) {
        if !self.gathered.is_empty() && self.stored >= self.gathered_until {
            self.write_gathered();
        }
    }

    fn write_gathered(&mut self) {
        for (id, mut run) in std::mem::take(&mut self.gathered) {
            if let Some((span, records)) = run.take() {
                self.write_tasks(id, span, &records);
            }
        }
        self.gathered_bytes = 0;
        self.gathered_until = self.writes;
        let late = self.acceptances.iter_mut().rev();
        for promise in late.take_while(|promise| promise.write == NOT_WRITTEN) {
            promise.write = self.writes;
        }
        // All of it may be done, and that safe.
        self.keep_promises();
    }

    /// Lets go of what has gathered of a job.
    pub(super) fn forget_gathered(&mut self, id: JobId) {
        let run = self.gathered.remove(&id);
        self.gathered_bytes -= run.map_or(0, |run| run.bytes());
        if self.gathered.is_empty() {
            // Others may have been promised something together with it.
            self.write_gathered();
        }
    }

    /// Writes down tasks that are not done, and notes that they lie there.
    pub(super) fn write_tasks(&mut self, id: JobId, span: Span, records: &Slice) {
        let Some(job) = self.jobs.get_mut(&id).filter(|_| self.durable) else {
            return;
        };
        let left = job.undone(span);
        if left == 0 {
            return;
        }
        job.note_stored(span, left);
        self.write(Write::Tasks {
            job: id,
            span,
            body: records.to_arc(),
        });
    }

    pub(super) fn accept_when_stored(&mut self, peer: PeerId, id: JobId, span: Span) {
        let known = self.jobs.get(&id);
        let known = known.is_some_and(|job| job.promised.contains_all(span.range()));
        match known || self.is_stored() {
            true => self.accept(peer, id, &RangeSet::from_iter([span.range()])),
            false => self.promise_later(peer, id, Promise::Tasks(span)),
        }
    }

    /// Whether all that is to be kept is safe.
    pub(super) fn is_stored(&self) -> bool {
        !self.durable || self.gathered.is_empty() && self.stored == self.writes
    }

    pub(super) fn say_when_stored(&mut self, peer: PeerId, id: JobId, says: BrokerSays) {
        match self.is_stored() {
            true => self.say(peer, says),
            false => self.promise_later(peer, id, Promise::Say(says)),
        }
    }

    pub(super) fn promise_later(&mut self, peer: PeerId, job: JobId, promise: Promise) {
        let write = match self.gathered.is_empty() {
            true => self.writes,
            false => NOT_WRITTEN,
        };
        if let Some(last) = self.acceptances.back_mut()
            && (last.write, last.peer, last.job) == (write, peer, job)
            && last.promise.join(&promise)
        {
            return;
        }
        self.acceptances.push_back(Acceptance {
            write,
            peer,
            job,
            promise,
        });
    }
}

fn alone(piece: Piece) -> Piece {
    Piece {
        records: piece.records.alone(),
        ..piece
    }
}
