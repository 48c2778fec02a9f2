//! Results of standard input's lines, in the order of the lines, each ended by a newline.

use serde::{Deserialize, Serialize};

use super::ranges::Runs;
use super::reorder::{Held, Reorder};
use super::{Accepted, Counts, Failure, Outcome, REASON_CHARS};
use crate::dispatch::task::{Piece, Place};
use crate::ops::{Merge, printable};

/// How far standard input has got; goes into the journal.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct LineProgress {
    /// The line whose result comes next.
    pub(super) next: u64,
    /// The size of the part file.
    pub(super) bytes: u64,
}

/// What lines add to.
pub(super) struct Tally<'a> {
    /// How much waits.
    pub(super) held: &'a mut Held,
    /// Tasks that the next commit makes durable.
    pub(super) ids: &'a mut Runs,
    /// Lines without a result.
    pub(super) failures: &'a mut Vec<Failure>,
    /// The totals.
    pub(super) counts: &'a mut Counts,
}

/// Puts lines in order; whoever owns it writes [`text`](LineStream::text) away and clears it.
#[derive(Debug, Default)]
pub(super) struct LineStream {
    next: u64,
    waiting: Reorder<Outcome>,
    /// Results in order, not written yet.
    pub(super) text: Vec<u8>,
}

impl LineStream {
    pub(super) fn resume(next: u64) -> LineStream {
        LineStream {
            next,
            ..LineStream::default()
        }
    }

    /// The line whose result comes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn accept(&mut self, id: u64, outcome: Outcome, mut tally: Tally<'_>) -> Accepted {
        let (line, bytes) = match &outcome {
            Ok(piece) => (piece.place.piece, piece.data.len()),
            Err((place, reason)) => (place.piece, reason.len()),
        };
        if line > self.next && !self.waiting.contains(line) {
            let held = self.waiting.hold(line, id, outcome, bytes, tally.held);
            return if held {
                Accepted::Taken
            } else {
                Accepted::Deferred
            };
        }
        if line != self.next {
            tally.ids.push(id); // A copy under another id: done, and not wanted.
            return Accepted::Taken;
        }
        self.append(id, outcome, &mut tally);
        while let Some(next) = self.waiting.take(self.next, tally.held) {
            self.append(next.id, next.what, &mut tally);
        }
        Accepted::Taken
    }

    fn append(&mut self, id: u64, outcome: Outcome, tally: &mut Tally<'_>) {
        self.next += 1;
        tally.ids.push(id);
        match outcome {
            Ok(piece) => {
                let before = self.text.len();
                self.append_text(&piece);
                tally.counts.written += 1;
                tally.counts.bytes_out += (self.text.len() - before) as u64;
            }
            Err((place, reason)) => {
                tally.failures.push(failure(id, place, &reason));
                tally.counts.failed += 1;
            }
        }
    }

    fn append_text(&mut self, piece: &Piece) {
        self.text.extend_from_slice(&piece.data);
        let is_text = piece.merge != Merge::ConcatenateBytes;
        if is_text && piece.data.last() != Some(&b'\n') {
            self.text.push(b'\n');
        }
    }
}

/// A failure whose reason is fit to print.
pub(super) fn failure(id: u64, place: Place, reason: &str) -> Failure {
    Failure {
        id,
        place,
        reason: printable(reason, REASON_CHARS),
    }
}
