//! One input on its way: how the results of its pieces become its result.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ranges::Runs;
use super::reorder::{Held, Reorder};
use super::store::Store;
use super::tables::Tables;
use super::{OutputError, counts};
use crate::ops::Merge;

/// A piece's result, ready to be put where it belongs.
pub(super) struct Arrival {
    /// The task.
    pub(super) id: u64,
    /// Its number in the input.
    pub(super) piece: u64,
    /// No piece follows.
    pub(super) last: bool,
    /// The result.
    pub(super) data: Vec<u8>,
}

/// What all inputs share.
pub(super) struct Shared<'a> {
    /// Where parts are.
    pub(super) store: &'a mut Store,
    /// How much waits.
    pub(super) held: &'a mut Held,
    /// Tasks that the next commit makes durable.
    pub(super) ids: &'a mut Runs,
}

/// What an arrival led to.
pub(super) enum Step {
    /// It is in, or waits.
    Taken,
    /// There is no room to wait; nothing changed.
    Deferred,
    /// It was the last one missing: the part file holds the result, of so many bytes.
    Complete(u64),
    /// The data is not what its merge needs; the input has to fail.
    Bad(String),
}

/// One input on its way.
#[derive(Debug)]
pub(super) struct Assembly {
    /// What a restart has to know.
    pub(super) progress: Progress,
    waiting: Reorder<(bool, Vec<u8>)>,
}

/// How far an input has got; goes into the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Which input.
    pub(super) input: u32,
    /// The name that its pieces carry.
    pub(super) name: String,
    /// The path under `--out` that the result gets.
    pub(super) result: String,
    /// How its pieces say that they become one.
    pub(super) merge: Merge,
    state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum State {
    Joined(Joined),
    Summed(Summed),
    Tabled(Tabled),
}

impl Assembly {
    pub(super) fn new(input: u32, name: String, result: String, merge: Merge) -> Assembly {
        let state = match merge {
            Merge::Concatenate | Merge::ConcatenateBytes => State::Joined(Joined::default()),
            Merge::SumLines => State::Summed(Summed::default()),
            Merge::SumCounts => State::Tabled(Tabled::default()),
        };
        Assembly::resume(Progress {
            input,
            name,
            result,
            merge,
            state,
        })
    }

    pub(super) fn resume(progress: Progress) -> Assembly {
        Assembly {
            progress,
            waiting: Reorder::default(),
        }
    }

    pub(super) fn accept(
        &mut self,
        arrival: Arrival,
        shared: Shared<'_>,
    ) -> Result<Step, OutputError> {
        let input = self.progress.input;
        match &mut self.progress.state {
            State::Joined(joined) => joined.accept(input, arrival, &mut self.waiting, shared),
            State::Summed(summed) => summed.accept(input, arrival, shared),
            State::Tabled(tabled) => tabled.accept(input, arrival, shared),
        }
    }

    /// Gives up what waits; the ids of it.
    pub(super) fn stop_waiting(&mut self, held: &mut Held) -> Vec<u64> {
        self.waiting.drain(held)
    }
}

impl Progress {
    /// The files that hold it and the sizes that they must have at least.
    pub(super) fn files(&self, store: &Store) -> Vec<(PathBuf, u64)> {
        match &self.state {
            State::Joined(Joined { pieces: 0, .. }) | State::Summed(_) => Vec::new(),
            State::Joined(joined) => vec![(store.part(Some(self.input)), joined.bytes)],
            State::Tabled(tabled) => {
                let path = |number| store.table(self.input, number);
                tabled
                    .tables
                    .iter()
                    .map(|table| (path(table.number), table.bytes))
                    .collect()
            }
        }
    }
}

/// Pieces one after the other: the first ones are in the part file, later ones wait in memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Joined {
    pieces: u64,
    bytes: u64,
}

impl Joined {
    fn accept(
        &mut self,
        input: u32,
        arrival: Arrival,
        waiting: &mut Reorder<(bool, Vec<u8>)>,
        shared: Shared<'_>,
    ) -> Result<Step, OutputError> {
        let Arrival {
            id,
            piece,
            mut last,
            data,
        } = arrival;
        if piece > self.pieces && !waiting.contains(piece) {
            let bytes = data.len();
            let held = waiting.hold(piece, id, (last, data), bytes, shared.held);
            return Ok(if held { Step::Taken } else { Step::Deferred });
        }
        shared.ids.push(id);
        if piece != self.pieces {
            return Ok(Step::Taken); // A copy under another id: done, and not wanted.
        }
        self.append(input, &data, shared.store)?;
        while !last && let Some(next) = waiting.take(self.pieces, shared.held) {
            shared.ids.push(next.id);
            self.append(input, &next.what.1, shared.store)?;
            last = next.what.0;
        }
        Ok(if last {
            Step::Complete(self.bytes)
        } else {
            Step::Taken
        })
    }

    fn append(&mut self, input: u32, data: &[u8], store: &mut Store) -> Result<(), OutputError> {
        if self.pieces == 0 {
            store.create_part(Some(input))?;
        }
        store.append(Some(input), data)?;
        self.pieces += 1;
        self.bytes += data.len() as u64;
        Ok(())
    }
}

/// How many pieces are in, where their order does not matter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Counter {
    pieces: u64,
    of: Option<u64>,
}

impl Counter {
    /// Counts a piece that is in; true when all are.
    fn count(&mut self, arrival: &Arrival, ids: &mut Runs) -> bool {
        ids.push(arrival.id);
        self.pieces += 1;
        if arrival.last {
            self.of = Some(arrival.piece.saturating_add(1));
        }
        self.of == Some(self.pieces)
    }
}

/// Numbers that add up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Summed {
    counter: Counter,
    sum: u64,
}

impl Summed {
    fn accept(
        &mut self,
        input: u32,
        arrival: Arrival,
        shared: Shared<'_>,
    ) -> Result<Step, OutputError> {
        let number = std::str::from_utf8(&arrival.data)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let Some(sum) = number.and_then(|number| self.sum.checked_add(number)) else {
            return Ok(Step::Bad(
                "a piece's result is no number that adds up".to_owned(),
            ));
        };
        self.sum = sum;
        if !self.counter.count(&arrival, shared.ids) {
            return Ok(Step::Taken);
        }
        let line = format!("{sum}\n");
        shared.store.create_part(Some(input))?;
        shared.store.append(Some(input), line.as_bytes())?;
        Ok(Step::Complete(line.len() as u64))
    }
}

/// Tables that are merged.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tabled {
    counter: Counter,
    tables: Tables,
}

impl Tabled {
    fn accept(
        &mut self,
        input: u32,
        arrival: Arrival,
        shared: Shared<'_>,
    ) -> Result<Step, OutputError> {
        if let Err(row) = counts::check(&arrival.data) {
            return Ok(Step::Bad(format!(
                "row {row} of a piece's result is no word and count in order"
            )));
        }
        let Shared { store, ids, .. } = shared;
        let alone = arrival.last && arrival.piece == 0;
        if !alone {
            self.tables.add(input, &arrival.data, store)?;
        }
        if !self.counter.count(&arrival, ids) {
            return Ok(Step::Taken);
        }
        store.create_part(Some(input))?;
        if alone {
            store.append(Some(input), &arrival.data)?;
            return Ok(Step::Complete(arrival.data.len() as u64));
        }
        Ok(Step::Complete(self.tables.merge_all(input, store)?))
    }
}
