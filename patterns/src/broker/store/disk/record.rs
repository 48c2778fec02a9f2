//! How writes become records of the database.
//!
//! ```text
//! key    job, 8 bytes │ kind, 1 byte │ first task, 8 bytes     big-endian: in the order of numbers
//! value  a job: its description · fetched: first and end of each range, 8 bytes each
//!        tasks and results: how many, 4 bytes │ body
//! ```
//!
//! A job's records lie side by side: its description first, its tasks last, when it is known what is
//! done of them.

use std::ops::RangeInclusive;

use crate::broker::store::Write;
use crate::pipeline::{JobId, Span, TaskId};

/// Names a record.
pub(super) type Key = [u8; 17];

const JOB: u8 = 0;
const FETCHED: u8 = 1;
const RESULTS: u8 = 2;
const TASKS: u8 = 3;

/// What a write does to the records.
pub(super) enum Change<'a> {
    /// A value of two parts, which are not joined before they are in their place.
    Put(Key, Vec<u8>, &'a [u8]),
    Remove(Key),
    RemoveAll(RangeInclusive<Key>),
}

/// Says what a write does to the records.
pub(super) fn change(write: &Write) -> Change<'_> {
    match write {
        Write::Job { job, description } => Change::Put(key(*job, JOB, 0), vec![], description),
        Write::Tasks { job, span, body } => put_span(key(*job, TASKS, span.first), *span, body),
        Write::Results { job, span, body } => put_span(key(*job, RESULTS, span.first), *span, body),
        Write::TasksDone { job, first } => Change::Remove(key(*job, TASKS, *first)),
        Write::ResultsFetched { job, first } => Change::Remove(key(*job, RESULTS, *first)),
        Write::Fetched { job, tasks } => {
            let bounds = tasks.iter().flat_map(|range| [range.start, range.end]);
            let value = bounds.flat_map(u64::to_be_bytes).collect();
            Change::Put(key(*job, FETCHED, 0), value, &[])
        }
        Write::Forget { job } => Change::RemoveAll(of_job(*job)),
    }
}

fn put_span(key: Key, span: Span, body: &[u8]) -> Change<'_> {
    Change::Put(key, span.count.to_be_bytes().to_vec(), body)
}

fn key(job: JobId, kind: u8, first: TaskId) -> Key {
    let mut key = [kind; 17];
    key[..8].copy_from_slice(&job.0.to_be_bytes());
    key[9..].copy_from_slice(&first.to_be_bytes());
    key
}

fn of_job(job: JobId) -> RangeInclusive<Key> {
    key(job, 0, 0)..=key(job, u8::MAX, u64::MAX)
}

/// Reads a record back as the write that would bring it about; none if it was never written so.
pub(super) fn read(key: &Key, value: &[u8]) -> Option<Write> {
    let job = JobId(u64::from_be_bytes(key[..8].try_into().ok()?));
    let first = u64::from_be_bytes(key[9..].try_into().ok()?);
    match key[8] {
        JOB => Some(Write::Job {
            job,
            description: value.to_vec(),
        }),
        FETCHED => Some(Write::Fetched {
            job,
            tasks: read_ranges(value)?,
        }),
        TASKS => {
            let (span, body) = read_span(first, value)?;
            Some(Write::Tasks {
                job,
                span,
                body: body.into(),
            })
        }
        RESULTS => {
            let (span, body) = read_span(first, value)?;
            Some(Write::Results {
                job,
                span,
                body: body.into(),
            })
        }
        _ => None,
    }
}

fn read_span(first: TaskId, value: &[u8]) -> Option<(Span, &[u8])> {
    let (count, body) = value.split_first_chunk()?;
    let count = u32::from_be_bytes(*count);
    Some((Span { first, count }, body))
}

fn read_ranges(value: &[u8]) -> Option<Vec<std::ops::Range<TaskId>>> {
    let (ranges, rest) = value.as_chunks::<16>();
    let number = |bytes: &[u8]| Some(TaskId::from_be_bytes(bytes.try_into().ok()?));
    let range = |bytes: &[u8; 16]| Some(number(&bytes[..8])?..number(&bytes[8..])?);
    rest.is_empty()
        .then(|| ranges.iter().map(range).collect())?
}
