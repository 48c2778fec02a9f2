//! Pieces that came before their turn.

use std::collections::BTreeMap;

/// What a waiting piece costs beyond its bytes: its entry in the tree, its id.
const OVERHEAD_BYTES: usize = 128;

/// A piece that waits.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    /// The task's id.
    pub(super) id: u64,
    /// What it gave.
    pub(super) what: T,
    bytes: usize,
}

/// Pieces by number, each waiting for the one before it.
#[derive(Debug)]
pub(super) struct Reorder<T>(BTreeMap<u64, Waiting<T>>);

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Reorder(BTreeMap::new())
    }
}

impl<T> Reorder<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, piece: u64) -> bool {
        self.0.contains_key(&piece)
    }

    /// Lets a piece wait if all that waits stays within `limit_bytes`; false leaves all as it was.
    pub(super) fn hold(
        &mut self,
        piece: u64,
        id: u64,
        what: T,
        bytes: usize,
        held: &mut Held,
    ) -> bool {
        let bytes = bytes + OVERHEAD_BYTES;
        if held.bytes + bytes > held.limit_bytes {
            return false;
        }
        held.bytes += bytes;
        self.0.insert(piece, Waiting { id, what, bytes });
        true
    }

    /// The piece with this number, if it waits.
    pub(super) fn take(&mut self, piece: u64, held: &mut Held) -> Option<Waiting<T>> {
        // The usual case is that nothing waits, or that the first one does not fit yet.
        if *self.0.first_key_value()?.0 != piece {
            return None;
        }
        let (_, waiting) = self.0.pop_first()?;
        held.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Everything that waits, in no need of its turn any more: the ids.
    pub(super) fn drain(&mut self, held: &mut Held) -> Vec<u64> {
        let waiting = std::mem::take(&mut self.0);
        held.bytes -= waiting.values().map(|waiting| waiting.bytes).sum::<usize>();
        waiting.into_values().map(|waiting| waiting.id).collect()
    }
}

/// How much waits in all inputs together, and how much may.
#[derive(Debug)]
pub(super) struct Held {
    /// How much waits.
    pub(super) bytes: usize,
    /// How much may.
    pub(super) limit_bytes: usize,
}
