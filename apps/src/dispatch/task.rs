//! What travels: a task to a worker, a piece of a result to the sink. MessagePack arrays, so a
//! field's place in the struct is its place on the wire.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ops::Merge;

/// Where a result belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The path under `--out`, relative, without `.out`; empty for lines of standard input.
    pub(crate) name: String,
    /// Which input of the job, counted from 0.
    pub(crate) input: u32,
    /// Which piece of the input, counted from 0; for standard input the line, counted from 0.
    pub(crate) piece: u64,
    /// No piece of the input follows. Never true for a line: its reader does not wait for another.
    pub(crate) last: bool,
}

/// As a person counts: `texts/a.txt`, `texts/a.txt (piece 3)` or `line 3`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.piece.saturating_add(1);
        match (self.name.as_str(), self.last && self.piece == 0) {
            ("", _) => write!(f, "line {number}"),
            (name, true) => f.write_str(name),
            (name, false) => write!(f, "{name} (piece {number})"),
        }
    }
}

/// One piece of work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Where its result belongs; handed through.
    pub(crate) place: Place,
    /// What to do, as `NAME` or `NAME:ARGUMENT`.
    pub(crate) op: String,
    /// What to do it to.
    #[serde(with = "serde_bytes")]
    pub(crate) data: Vec<u8>,
    /// Why there is nothing to do it to: the input could not be read. The task fails with it.
    pub(crate) problem: Option<String>,
}

/// One piece of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Where it belongs.
    pub(crate) place: Place,
    /// How the pieces of its input become one.
    pub(crate) merge: Merge,
    /// The operation's result.
    #[serde(with = "serde_bytes")]
    pub(crate) data: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        (".{0,20}", any::<u32>(), any::<u64>(), any::<bool>()).prop_map(
            |(name, input, piece, last)| Place {
                name,
                input,
                piece,
                last,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(place in place(), op in ".{0,9}", data: Vec<u8>, merge in 0..4u8) {
            let task = Task { place: place.clone(), op, data: data.clone(), problem: None };
            let bytes = rmp_serde::to_vec(&task).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Task>(&bytes).unwrap(), task);

            let piece = Piece { place, merge: Merge::try_from(merge).unwrap(), data };
            let bytes = rmp_serde::to_vec(&piece).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Piece>(&bytes).unwrap(), piece);
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = rmp_serde::from_slice::<Task>(&bytes);
            let _ = rmp_serde::from_slice::<Piece>(&bytes);
        }
    }

    #[test]
    fn a_place_is_told_as_a_person_counts() {
        let place = |name: &str, piece, last| {
            let (name, input) = (name.to_owned(), 0);
            Place {
                name,
                input,
                piece,
                last,
            }
            .to_string()
        };
        assert_eq!(place("a/b.txt", 0, true), "a/b.txt");
        assert_eq!(place("a/b.txt", 2, true), "a/b.txt (piece 3)");
        assert_eq!(place("", 2, false), "line 3");
    }

    #[test]
    fn a_line_costs_few_bytes_beyond_its_text() {
        let place = Place {
            name: String::new(),
            input: 0,
            piece: 9,
            last: false,
        };
        let task = Task {
            place,
            op: "noop".into(),
            data: vec![b'x'; 10],
            problem: None,
        };
        assert_eq!(rmp_serde::to_vec(&task).unwrap().len(), 10 + 14);
    }
}
