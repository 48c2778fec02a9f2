//! A job as the broker keeps it: what waits, what is out, what is done and not fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::machine::Time;
use crate::pipeline::{PeerId, RangeSet, Span, TaskId};

use super::piece::{Piece, Slice};
use super::protocol::{JobCounts, JobSettings};
use super::requests::Asker;
use super::run::Run;

/// What keeping a piece or a result costs beside its bytes.
pub(super) const OVERHEAD_BYTES: usize = 160;

/// Below this what a piece costs beside its bytes counts, and those behind it are joined to one.
const SMALL_BYTES: usize = 4096;

/// Tasks that wait for a worker.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What came back, and goes first.
    again: VecDeque<Piece>,
    /// What nobody has tried, in the order of the tasks.
    fresh: VecDeque<Piece>,
    /// What is behind all of these, as long as it comes in small pieces.
    tail: Run,
    /// What may have killed its workers; no worker gets two of these at once.
    suspects: VecDeque<Piece>,
    /// What is tried again after a pause.
    later: BTreeMap<(Time, TaskId), Piece>,
    tasks: u64,
    bytes: usize,
}

impl Queue {
    pub(super) fn push_fresh(&mut self, piece: Piece) {
        self.count_in(&piece);
        if self.join_tail(&piece) {
            return;
        }
        self.end_tail();
        let behind = self
            .fresh
            .back()
            .is_none_or(|last| last.first() < piece.first());
        if behind {
            return self.fresh.push_back(piece);
        }
        // A client that fills a gap.
        let at = self
            .fresh
            .partition_point(|other| other.first() < piece.first());
        self.fresh.insert(at, piece);
    }

    /// Puts a small piece to the tail, if it comes next; one that is alone may as well stay so.
    fn join_tail(&mut self, piece: &Piece) -> bool {
        let end = self.fresh.back().map(|last| last.span.end());
        if piece.records.len() >= SMALL_BYTES {
            return false;
        }
        if self.tail.is_empty() && end.is_none_or(|end| piece.first() < end) {
            return false;
        }
        self.tail.add(piece.span, piece.records.bytes())
    }

    /// Makes a piece of the tail.
    fn end_tail(&mut self) {
        let tail = self.tail.take();
        self.fresh
            .extend(tail.map(|(span, records)| Piece::new(span, records)));
    }

    pub(super) fn push_again(&mut self, piece: Piece) {
        self.count_in(&piece);
        self.put_again(piece);
    }

    fn put_again(&mut self, piece: Piece) {
        match piece.suspect {
            true => self.suspects.push_back(piece),
            false => self.again.push_back(piece),
        }
    }

    pub(super) fn push_later(&mut self, due: Time, piece: Piece) {
        self.count_in(&piece);
        self.later.insert((due, piece.first()), piece);
    }

    /// The next piece within these bounds.
    pub(super) fn take(&mut self, tasks: u32, bytes: usize) -> Option<Piece> {
        if self.fresh.is_empty() {
            self.end_tail();
        }
        let line = if self.again.is_empty() {
            &mut self.fresh
        } else {
            &mut self.again
        };
        let front = line.front_mut()?;
        let piece = if front.fits(tasks, bytes) {
            line.pop_front()?
        } else {
            front.take(tasks, bytes)
        };
        self.tasks -= u64::from(piece.span.count);
        self.bytes -= piece.records.len();
        Some(piece)
    }

    /// At most so many tasks of the next piece that may have killed its workers.
    pub(super) fn take_suspect(&mut self, most: u32) -> Option<Piece> {
        let mut piece = self.suspects.pop_front()?;
        if piece.span.count > most {
            let first = piece.take(most, usize::MAX);
            self.suspects.push_front(piece);
            piece = first;
        }
        self.tasks -= u64::from(piece.span.count);
        self.bytes -= piece.records.len();
        Some(piece)
    }

    /// Whether something waits that a worker had before.
    fn has_returned(&self) -> bool {
        !self.again.is_empty() || !self.suspects.is_empty()
    }

    /// The first of the tasks that nobody has tried.
    fn first_fresh(&self) -> Option<TaskId> {
        let first = self.fresh.front().map(Piece::first);
        first.or_else(|| self.tail.first())
    }

    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Takes exactly the tasks of `span`, if they wait in one piece and none has failed.
    pub(super) fn take_untried(&mut self, span: Span) -> Option<Piece> {
        self.end_tail();
        let fits = |piece: &Piece| piece.contains(span) && piece.attempt == 1;
        for line in [&mut self.again, &mut self.fresh, &mut self.suspects] {
            let Some(at) = line.iter().position(fits) else {
                continue;
            };
            let (before, piece, behind) = line.remove(at)?.cut_out(span);
            for left in [behind, before].into_iter().flatten() {
                line.insert(at, left);
            }
            self.tasks -= u64::from(piece.span.count);
            self.bytes -= piece.records.len();
            return Some(piece);
        }
        None
    }

    /// Makes ready what had to wait until now.
    pub(super) fn release(&mut self, now: Time) {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let piece = entry.remove();
            self.put_again(piece);
        }
    }

    /// Whether a piece could be taken now.
    pub(super) fn is_ready(&self) -> bool {
        !self.again.is_empty() || !self.fresh.is_empty() || !self.tail.is_empty()
    }

    pub(super) fn tasks(&self) -> u64 {
        self.tasks
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn pieces(&self) -> usize {
        let tail = usize::from(!self.tail.is_empty());
        self.again.len() + self.fresh.len() + tail + self.suspects.len() + self.later.len()
    }

    fn count_in(&mut self, piece: &Piece) {
        self.tasks += u64::from(piece.span.count);
        self.bytes += piece.records.len();
    }
}

/// Results that were not fetched.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) span: Span,
    pub(super) records: Slice,
    /// Whether it is on its way to the client that fetches.
    pub(super) sent: bool,
}

impl Kept {
    pub(super) fn cost(&self) -> usize {
        self.records.len() + OVERHEAD_BYTES
    }
}

/// Tasks as they lie in the store.
#[derive(Debug)]
struct Stored {
    end: TaskId,
    /// How many of them are not done.
    left: u64,
}

/// A client that wants the results.
#[derive(Debug)]
pub(super) struct Fetcher {
    pub(super) peer: PeerId,
    pub(super) window_bytes: u64,
    pub(super) on_way_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) settings: JobSettings,
    pub(super) operation: Arc<str>,
    pub(super) opened: Time,
    /// How many tasks it has, once the client has said so.
    pub(super) total: Option<u64>,
    pub(super) accepted: RangeSet,
    /// Those of them that a client was told are accepted, or may be told.
    pub(super) promised: RangeSet,
    pub(super) queue: Queue,
    pub(super) leased: u64,
    pub(super) done: RangeSet,
    pub(super) fetched: RangeSet,
    pub(super) failed: u64,
    pub(super) retried: u64,
    pub(super) submitter: Option<PeerId>,
    pub(super) fetcher: Option<Fetcher>,
    kept: BTreeMap<TaskId, Kept>,
    kept_bytes: usize,
    unsent: BTreeSet<TaskId>,
    stored: BTreeMap<TaskId, Stored>,
    /// Nothing is leased before: workers from before a restart first say what they hold.
    pub(super) hold_until: Option<Time>,
    /// Under which number it stands in line; see `lines`.
    pub(super) turn: u64,
    /// When everything was done.
    pub(super) finished: Option<Time>,
    /// A Majordomo client that waits for the only result, which is then not kept.
    pub(super) asker: Option<Asker>,
}

impl Job {
    pub(super) fn new(settings: JobSettings, operation: Arc<str>, opened: Time) -> Job {
        Job {
            settings,
            operation,
            opened,
            total: None,
            accepted: RangeSet::default(),
            promised: RangeSet::default(),
            queue: Queue::default(),
            leased: 0,
            done: RangeSet::default(),
            fetched: RangeSet::default(),
            failed: 0,
            retried: 0,
            submitter: None,
            fetcher: None,
            kept: BTreeMap::new(),
            kept_bytes: 0,
            unsent: BTreeSet::new(),
            stored: BTreeMap::new(),
            hold_until: None,
            turn: 0,
            finished: None,
            asker: None,
        }
    }

    /// Notes that tasks lie in the store under this span, so many of them not done.
    pub(super) fn note_stored(&mut self, span: Span, left: u64) {
        if left > 0 {
            let end = span.end();
            self.stored.insert(span.first, Stored { end, left });
        }
    }

    /// How many tasks of these are not done.
    pub(super) fn undone(&self, span: Span) -> u64 {
        let done = self.done.intersection(span.range());
        u64::from(span.count) - done.map(|range| range.end - range.start).sum::<u64>()
    }

    /// Notes that tasks are done, and returns which entries of the store are not needed any more.
    pub(super) fn note_done(&mut self, span: Span) -> Vec<TaskId> {
        self.done.insert(span.range());
        let before = self.stored.range(..=span.first).next_back();
        let start = before.map_or(span.first, |(&first, _)| first);
        let mut over = Vec::new();
        for (&first, stored) in self.stored.range_mut(start..span.end()) {
            let (from, end) = (first.max(span.first), stored.end.min(span.end()));
            stored.left = stored.left.saturating_sub(end.saturating_sub(from));
            if stored.left == 0 {
                over.push(first);
            }
        }
        for first in &over {
            self.stored.remove(first);
        }
        over
    }

    /// Keeps results until they are fetched.
    pub(super) fn keep(&mut self, span: Span, records: Slice) {
        let kept = Kept {
            span,
            records,
            sent: false,
        };
        self.kept_bytes += kept.cost();
        self.unsent.insert(span.first);
        if let Some(before) = self.kept.insert(span.first, kept) {
            self.kept_bytes -= before.cost();
        }
    }

    /// The next results to send to the client that fetches, as far as its window goes.
    pub(super) fn next_to_send(&mut self) -> Option<(PeerId, Span, Slice)> {
        let fetcher = self.fetcher.as_mut()?;
        let first = *self.unsent.first()?;
        let kept = self.kept.get_mut(&first)?;
        let bytes = kept.cost() as u64;
        // A client that puts results in order can make nothing safe before it has the next one.
        let is_next = self.fetched.contains_all(0..first);
        let fits = fetcher.on_way_bytes + bytes <= fetcher.window_bytes;
        if fetcher.on_way_bytes > 0 && !fits && !is_next {
            return None;
        }
        fetcher.on_way_bytes += bytes;
        kept.sent = true;
        self.unsent.remove(&first);
        Some((fetcher.peer, kept.span, kept.records.clone()))
    }

    /// Sends everything anew, to this client.
    pub(super) fn fetch(&mut self, peer: PeerId, window_bytes: u64) {
        self.fetcher = Some(Fetcher {
            peer,
            window_bytes,
            on_way_bytes: 0,
        });
        for (&first, kept) in &mut self.kept {
            kept.sent = false;
            self.unsent.insert(first);
        }
    }

    /// Notes that a client has results safe, and returns those that are not needed any more.
    pub(super) fn note_fetched(&mut self, tasks: Range<TaskId>) -> Vec<TaskId> {
        if tasks.is_empty() {
            return Vec::new();
        }
        // What is not done cannot have been fetched.
        for done in self.done.intersection(tasks.clone()) {
            self.fetched.insert(done);
        }
        let before = self.kept.range(..=tasks.start).next_back();
        let start = before.map_or(tasks.start, |(&first, _)| first);
        let within = self.kept.range(start..tasks.end);
        let fetched = within.filter(|(_, kept)| self.fetched.contains_all(kept.span.range()));
        let over: Vec<TaskId> = fetched.map(|(&first, _)| first).collect();
        for first in &over {
            self.let_go(*first);
        }
        over
    }

    fn let_go(&mut self, first: TaskId) {
        let Some(kept) = self.kept.remove(&first) else {
            return;
        };
        self.kept_bytes -= kept.cost();
        self.unsent.remove(&first);
        if let Some(fetcher) = self.fetcher.as_mut().filter(|_| kept.sent) {
            fetcher.on_way_bytes = fetcher.on_way_bytes.saturating_sub(kept.cost() as u64);
        }
    }

    /// The outcome of a task that was done alone.
    pub(super) fn result_of(&self, task: TaskId) -> Option<&[u8]> {
        Some(self.kept.get(&task)?.records.bytes())
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// How many tasks it has, once that is known; what was accepted counts, whatever was said.
    fn tasks(&self) -> Option<u64> {
        self.total.map(|total| total.max(self.accepted.len()))
    }

    /// Whether every task is done.
    pub(super) fn is_done(&self) -> bool {
        self.tasks().is_some_and(|tasks| self.done.len() >= tasks)
    }

    /// Whether every result is safe with a client.
    pub(super) fn is_fetched(&self) -> bool {
        self.tasks()
            .is_some_and(|tasks| self.fetched.len() >= tasks)
    }

    /// Whether tasks wait that a client needs next which takes the results in order.
    pub(super) fn has_urgent_tasks(&self) -> bool {
        self.queue.has_returned() || self.queue.first_fresh() == Some(self.fetched.prefix())
    }

    pub(super) fn counts(&self) -> JobCounts {
        JobCounts {
            accepted: self.accepted.len(),
            queued: self.queue.tasks(),
            leased: self.leased,
            done: self.done.len(),
            failed: self.failed,
            retried: self.retried,
            fetched: self.fetched.len(),
        }
    }

    /// Whether all that it has is done, and nobody is there to say whether that is all.
    pub(super) fn is_left_open(&self) -> bool {
        let nothing_waits = self.queue.tasks() == 0 && self.leased == 0;
        self.total.is_none() && self.submitter.is_none() && nothing_waits
    }

    /// Whether it is empty, and no client cares for it.
    pub(super) fn is_orphan(&self) -> bool {
        self.submitter.is_none() && self.fetcher.is_none() && self.accepted.is_empty()
    }

    /// For tests: how many things it remembers.
    pub(super) fn footprint(&self) -> usize {
        let sets = [&self.accepted, &self.promised, &self.done, &self.fetched];
        let ranges: usize = sets.into_iter().map(RangeSet::ranges).sum();
        1 + ranges + self.queue.pieces() + self.kept.len() + self.unsent.len() + self.stored.len()
    }

    /// For tests: what adds up.
    pub(super) fn audit(&self) -> Result<(), String> {
        let known = self.queue.tasks() + self.leased + self.done.len();
        if known != self.accepted.len() {
            return Err(format!(
                "{known} tasks are somewhere, {} were accepted",
                self.accepted.len()
            ));
        }
        let kept: usize = self.kept.values().map(Kept::cost).sum();
        if kept != self.kept_bytes {
            return Err("bytes of results are miscounted".into());
        }
        Ok(())
    }
}
