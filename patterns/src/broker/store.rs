//! What the broker keeps on disk: jobs, the tasks that are not done, the results not fetched.

#[cfg(feature = "disk")]
mod disk;
mod group;
mod memory;

use std::ops::Range;
use std::sync::Arc;

use crate::pipeline::{JobId, Span, TaskId};
#[cfg(feature = "disk")]
pub use disk::DiskStore;
pub use group::Group;
pub use memory::MemoryStore;

/// One thing to be kept, or no longer.
///
/// Writes are idempotent: the same again changes nothing. What is put under a key replaces what was
/// there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A job as the broker describes it; opaque to the store.
    Job {
        /// Which.
        job: JobId,
        /// What is known of it.
        description: Vec<u8>,
    },
    /// Consecutive tasks of a job; the key is the job with the first task.
    Tasks {
        /// Whose.
        job: JobId,
        /// Which.
        span: Span,
        /// The encoded tasks.
        body: Arc<[u8]>,
    },
    /// The tasks that begin with this one are done.
    TasksDone {
        /// Whose.
        job: JobId,
        /// The first of them.
        first: TaskId,
    },
    /// Results of consecutive tasks; the key is the job with the first task.
    Results {
        /// Whose.
        job: JobId,
        /// Which.
        span: Span,
        /// The encoded results.
        body: Arc<[u8]>,
    },
    /// The results that begin with this task were fetched.
    ResultsFetched {
        /// Whose.
        job: JobId,
        /// The first of them.
        first: TaskId,
    },
    /// All tasks of the job whose results were fetched; replaces what was said before.
    Fetched {
        /// Whose.
        job: JobId,
        /// Which, in order.
        tasks: Vec<Range<TaskId>>,
    },
    /// Nothing of the job is needed any more: its description, tasks, results and what was fetched.
    Forget {
        /// Which.
        job: JobId,
    },
}

impl Write {
    /// What it takes on its way, roughly.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Write::Tasks { body, .. } | Write::Results { body, .. } => body.len() + 64,
            Write::Job { description, .. } => description.len() + 64,
            Write::Fetched { tasks, .. } => 16 * tasks.len() + 64,
            _ => 64,
        }
    }
}

/// Why nothing can be kept; nothing of the group was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space is left, or a quota is used up.
    #[error("{path} has no space left: free some, the broker takes tasks again then")]
    Full {
        /// Where.
        path: String,
    },
    /// Another broker has the folder open.
    #[error("{path} is in use by another broker: stop it or choose another folder")]
    Busy {
        /// Where.
        path: String,
    },
    /// What is there was not written by this version, or was damaged.
    #[error("{path} cannot be read: {reason}")]
    Damaged {
        /// Where.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The system refuses.
    #[error("{path} cannot be written: {reason}")]
    Failed {
        /// Where.
        path: String,
        /// The system's reason.
        reason: String,
    },
}

/// A place where the broker's state survives.
pub trait Store: Send {
    /// Everything that is kept, as the writes that would bring it about: each job before what belongs
    /// to it, and its tasks last. Called once, first.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn load(&mut self, keep: &mut dyn FnMut(Write)) -> Result<(), StoreError>;

    /// Makes a group of writes safe: all of them, in order, before it returns, or none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]; after [`StoreError::Full`] the same group may be tried again, and one that
    /// only removes, and notes what was fetched, should still succeed.
    fn commit(&mut self, group: &[Write]) -> Result<(), StoreError>;

    /// Bytes that the store takes on disk, roughly.
    fn bytes(&self) -> u64;
}
