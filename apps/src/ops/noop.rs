//! `noop`: does nothing and gives nothing; what remains is the cost of dispatch.

use super::{Declaration, Merge, OpError, Operation, Split, TaskError, no_argument};

/// `noop`. It may split, so that a large file measures a large file's dispatch.
pub(super) static DECLARATION: Declaration = Declaration {
    name: "noop",
    argument: "",
    takes: "any bytes",
    gives: "nothing; measures the dispatch alone",
    split: Split::AtLineEnds,
    merge: Merge::Concatenate,
};

struct Noop;

pub(super) fn build(
    argument: Option<&str>,
    _limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    no_argument(&DECLARATION, argument)?;
    Ok(Box::new(Noop))
}

impl Operation for Noop {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn apply(&self, _input: &[u8]) -> Result<Vec<u8>, TaskError> {
        Ok(Vec::new())
    }
}
