//! What a worker does with a task: find the operation, apply it, say where the result belongs.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

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
    pub(crate) fn work(&self, task: Task, info: &TaskInfo) -> Result<Piece, Failure> {
        let worked = catch_unwind(AssertUnwindSafe(|| self.apply(&task, info)));
        match worked.unwrap_or_else(|_| Err(panicked())) {
            Ok((merge, data)) => Ok(Piece {
                place: task.place,
                merge,
                data,
            }),
            Err(failure) => Err(explain(failure, &task)),
        }
    }

    /// Works on bytes that came without a place, as other programs hand them in.
    pub(crate) fn work_raw(&self, data: &[u8], info: &TaskInfo) -> Result<Vec<u8>, Failure> {
        let spec = info.operation.as_deref().unwrap_or_default();
        let worked = catch_unwind(AssertUnwindSafe(|| self.run(spec, data, info)));
        let (_, result) = worked.unwrap_or_else(|_| Err(panicked()))?;
        Ok(result)
    }

    fn apply(&self, task: &Task, info: &TaskInfo) -> Result<(ops::Merge, Vec<u8>), Failure> {
        if let Some(problem) = &task.problem {
            return Err(Failure::permanent(problem.clone()));
        }
        if let Some(operation) = &info.operation
            && **operation != *ops::name(&task.op)
        {
            return Err(Failure::permanent(format!(
                "the task asks for {} in a job for {operation}",
                ops::printable(&task.op, 60)
            )));
        }
        self.run(&task.op, &task.data, info)
    }

    fn run(
        &self,
        spec: &str,
        data: &[u8],
        info: &TaskInfo,
    ) -> Result<(ops::Merge, Vec<u8>), Failure> {
        LAST.with_borrow_mut(|last| {
            if last.as_ref().is_none_or(|(known, _)| known != spec) {
                *last = Some((spec.to_owned(), self.find(spec)?));
            }
            let (_, op) = last.as_ref().expect("just filled");
            let now = Instant::now();
            let limit = info
                .deadline
                .map(|deadline| deadline.saturating_duration_since(now));
            let data = op.apply_within(data, limit);
            let data = data.map_err(|error| failure(&error))?;
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

fn panicked() -> Failure {
    Failure::new("the operation panicked: this is a bug in it")
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
        TaskError::TooLong { .. } | TaskError::Io { .. } | TaskError::Exec(_) => {
            Failure::new(error.to_string())
        }
    }
}
