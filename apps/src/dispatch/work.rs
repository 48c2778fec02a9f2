//! What a worker does with a task: find the operation, apply it, say where the result belongs.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mutirao::{Failure, TaskInfo};

use super::task::{Piece, Task};
use crate::ops::{self, Operation, TaskError};

/// Whether a worker runs commands that tasks bring along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commands {
    Allowed,
    Refused,
}

/// The handler of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workshop {
    pub(crate) commands: Commands,
    pub(crate) limit_bytes: usize,
}

thread_local! {
    /// The operation that this thread used last, with its specification: a job has but one.
    static LAST: RefCell<Option<(String, Box<dyn Operation>)>> = const { RefCell::new(None) };
}

impl Workshop {
    /// Works on a task. Every failure says where the result would have gone, so that the sink can
    /// give up what it has of that input.
    pub(crate) fn work(&self, task: Task, _info: &TaskInfo) -> Result<Piece, Failure> {
        let worked = catch_unwind(AssertUnwindSafe(|| self.apply(&task)));
        match worked
            .unwrap_or_else(|_| Err(Failure::new("the operation panicked: this is a bug in it")))
        {
            Ok((merge, data)) => Ok(Piece {
                place: task.place,
                merge,
                data,
            }),
            Err(failure) => Err(explain(failure, &task)),
        }
    }

    fn apply(&self, task: &Task) -> Result<(ops::Merge, Vec<u8>), Failure> {
        if let Some(problem) = &task.problem {
            return Err(Failure::permanent(problem.clone()));
        }
        LAST.with_borrow_mut(|last| {
            if last.as_ref().is_none_or(|(spec, _)| *spec != task.op) {
                *last = Some((task.op.clone(), self.find(&task.op)?));
            }
            let (_, op) = last.as_ref().expect("just filled");
            let data = op.apply(&task.data).map_err(|error| failure(&error))?;
            self.check_size(data.len())?;
            Ok((op.merge(), data))
        })
    }

    fn check_size(&self, bytes: usize) -> Result<(), Failure> {
        if bytes <= self.limit_bytes {
            return Ok(());
        }
        let limit = self.limit_bytes;
        Err(Failure::permanent(format!(
            "the result takes {bytes} bytes and may take {limit}: raise --max-payload-bytes everywhere"
        )))
    }

    fn find(&self, spec: &str) -> Result<Box<dyn Operation>, Failure> {
        if ops::needs_permission(spec) && self.commands == Commands::Refused {
            return Err(Failure::new(
                "this worker runs no commands: start it with --allow-exec",
            ));
        }
        ops::find_with_limit(spec, self.limit_bytes)
            .map_err(|error| Failure::new(error.to_string()))
    }
}

/// Says which input a failure is about, for a person and for the sink.
fn explain(failure: Failure, task: &Task) -> Failure {
    // Two strings and numbers always have a MessagePack form.
    let context = rmp_serde::to_vec(&task.place).unwrap_or_default();
    let reason = match &task.problem {
        // The reader named the input already.
        Some(problem) => problem.clone(),
        None => format!("{}: {}", task.place, failure.reason),
    };
    Failure {
        reason,
        context,
        ..failure
    }
}

/// What the text of a task is does not change with another attempt; all else may.
fn failure(error: &TaskError) -> Failure {
    match error {
        TaskError::NotUtf8 { .. } | TaskError::NotATime { .. } => {
            Failure::permanent(error.to_string())
        }
        TaskError::Io { .. } | TaskError::Exec(_) => Failure::new(error.to_string()),
    }
}
