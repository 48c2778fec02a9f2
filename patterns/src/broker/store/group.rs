//! Writes on their way to the disk, less those that need not get there.

use std::collections::HashSet;

use super::Write;
use crate::pipeline::{JobId, TaskId};

/// Writes that become safe together, in order.
///
/// Of the writes under one key only the last is kept, and nothing of a job before it is forgotten:
/// tasks that are done, and results that were fetched, before the disk got round to them are never
/// written. What is known of jobs comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    writes: Vec<Write>,
}

impl Group {
    /// The writes, in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds writes behind those that are there.
    pub fn add(&mut self, writes: impl IntoIterator<Item = Write>) {
        self.writes.extend(writes);
        let (mut keys, mut forgotten) = (HashSet::new(), HashSet::new());
        let mut kept = std::mem::take(&mut self.writes);
        kept.reverse();
        kept.retain(|write| {
            let (job, key) = key(write);
            let is_needed = !forgotten.contains(&job);
            match key {
                Some(key) => is_needed && keys.insert((job, key)),
                None => is_needed && forgotten.insert(job),
            }
        });
        kept.reverse();
        // A job never comes after what belongs to it, should only a part be written.
        kept.sort_by_key(|write| !matches!(write, Write::Job { .. } | Write::Forget { .. }));
        self.writes = kept;
    }

    /// The first writes, of so many bytes or only one, and the others.
    pub fn cut(&self, bytes: usize) -> (Group, Group) {
        let mut total = 0;
        let fits = self.writes.iter().take_while(|write| {
            total += write.bytes();
            total <= bytes
        });
        let count = fits.count().max(1).min(self.writes.len());
        let (part, rest) = self.writes.split_at(count);
        let [part, rest] = [part, rest].map(|writes| Group {
            writes: writes.to_vec(),
        });
        (part, rest)
    }

    /// For a full disk: the writes that make room and may go ahead of the others, and the others. A
    /// crash between the two loses nothing that is safe.
    pub fn split(&self) -> (Group, Group) {
        let owing: HashSet<JobId> = self
            .writes
            .iter()
            .filter(|write| matches!(write, Write::Results { .. }))
            .map(job)
            .collect();
        let makes_room = |write: &Write| match write {
            // Before the results are safe the tasks must be.
            Write::TasksDone { job, .. } => !owing.contains(job),
            Write::Fetched { .. } | Write::ResultsFetched { .. } | Write::Forget { .. } => true,
            Write::Job { .. } | Write::Tasks { .. } | Write::Results { .. } => false,
        };
        let lighter: HashSet<JobId> = self
            .writes
            .iter()
            .filter(|write| makes_room(write))
            .map(job)
            .collect();
        let goes_ahead = |write: &Write| match write {
            // What is known of a job never comes without the job.
            Write::Job { job, .. } => lighter.contains(job),
            write => makes_room(write),
        };
        let (ahead, rest) = self.writes.iter().cloned().partition(goes_ahead);
        (Group { writes: ahead }, Group { writes: rest })
    }
}

fn job(write: &Write) -> JobId {
    key(write).0
}

/// What a write is about: the job, and which record of it if not all.
fn key(write: &Write) -> (JobId, Option<(u8, TaskId)>) {
    match write {
        Write::Job { job, .. } => (*job, Some((0, 0))),
        Write::Fetched { job, .. } => (*job, Some((1, 0))),
        Write::Results { job, span, .. } => (*job, Some((2, span.first))),
        Write::ResultsFetched { job, first } => (*job, Some((2, *first))),
        Write::Tasks { job, span, .. } => (*job, Some((3, span.first))),
        Write::TasksDone { job, first } => (*job, Some((3, *first))),
        Write::Forget { job } => (*job, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Span;

    const JOB: JobId = JobId(1);
    const OTHER: JobId = JobId(2);

    fn tasks(job: JobId, first: TaskId) -> Write {
        let (span, body) = (Span { first, count: 1 }, [1][..].into());
        Write::Tasks { job, span, body }
    }

    fn results(job: JobId, first: TaskId) -> Write {
        let (span, body) = (Span { first, count: 1 }, [1][..].into());
        Write::Results { job, span, body }
    }

    fn fetched(job: JobId, end: TaskId) -> Write {
        let tasks = std::iter::once(0..end).collect();
        Write::Fetched { job, tasks }
    }

    fn description(job: JobId) -> Write {
        let description = vec![1];
        Write::Job { job, description }
    }

    fn done(job: JobId, first: TaskId) -> Write {
        Write::TasksDone { job, first }
    }

    fn gone(job: JobId, first: TaskId) -> Write {
        Write::ResultsFetched { job, first }
    }

    fn group(writes: &[Write]) -> Group {
        let mut group = Group::default();
        // In two parts, as they come.
        let (some, others) = writes.split_at(writes.len() / 2);
        group.add(some.iter().cloned());
        group.add(others.iter().cloned());
        group
    }

    #[test]
    fn what_is_over_before_it_is_written_is_not_written() {
        let group = group(&[
            tasks(JOB, 0),
            tasks(JOB, 1),
            results(JOB, 0),
            done(JOB, 0),
            fetched(JOB, 1),
            gone(JOB, 0),
            fetched(JOB, 2),
        ]);
        // What was written in an earlier group must go all the same.
        let needed = [tasks(JOB, 1), done(JOB, 0), gone(JOB, 0), fetched(JOB, 2)];
        assert_eq!(group.writes(), needed);
    }

    #[test]
    fn of_a_job_that_is_forgotten_only_that_is_written_and_what_comes_after() {
        let forget = Write::Forget { job: JOB };
        let group = group(&[
            description(JOB),
            tasks(JOB, 0),
            tasks(OTHER, 0),
            forget.clone(),
            description(JOB),
            tasks(JOB, 0),
        ]);
        let needed = [forget, description(JOB), tasks(OTHER, 0), tasks(JOB, 0)];
        assert_eq!(group.writes(), needed);
    }

    #[test]
    fn what_makes_room_goes_ahead_but_for_tasks_whose_results_are_not_safe() {
        let group = group(&[
            description(JOB),
            results(JOB, 0),
            done(JOB, 0),
            tasks(JOB, 9),
            fetched(JOB, 5),
            gone(JOB, 4),
            description(OTHER),
            tasks(OTHER, 9),
            done(OTHER, 0),
        ]);
        let (ahead, rest) = group.split();
        let makes_room = [
            description(JOB),
            description(OTHER),
            fetched(JOB, 5),
            gone(JOB, 4),
            done(OTHER, 0),
        ];
        assert_eq!(ahead.writes(), makes_room);
        let others = [
            results(JOB, 0),
            done(JOB, 0),
            tasks(JOB, 9),
            tasks(OTHER, 9),
        ];
        assert_eq!(rest.writes(), others);
    }

    #[test]
    fn a_part_is_as_large_as_may_be_but_never_empty() {
        let group = group(&[tasks(JOB, 0), tasks(JOB, 1), tasks(JOB, 2)]);
        let each = tasks(JOB, 0).bytes();
        for (bytes, count) in [(0, 1), (each, 1), (2 * each, 2), (9 * each, 3)] {
            let (part, rest) = group.cut(bytes);
            assert_eq!((part.writes.len(), rest.writes.len()), (count, 3 - count));
            assert_eq!([part.writes, rest.writes].concat(), group.writes);
        }
        assert!(Group::default().cut(1).0.is_empty());
    }

    #[test]
    fn a_job_that_only_grows_waits() {
        let group = group(&[description(JOB), tasks(JOB, 0), results(JOB, 3)]);
        let (ahead, rest) = group.split();
        assert!(ahead.is_empty());
        assert_eq!(rest, group);
    }
}
