//! The broker's disk: what was committed, and what is lost in a crash.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mutirao::broker::store::Write;
use mutirao::machine::Time;
use mutirao::pipeline::{JobId, Span, TaskId};
use mutirao::sim::Rng;

type Bodies = BTreeMap<(JobId, TaskId), (Span, Arc<[u8]>)>;

/// What survives.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    jobs: BTreeMap<JobId, Vec<u8>>,
    tasks: Bodies,
    results: Bodies,
    fetched: BTreeMap<JobId, Vec<Range<TaskId>>>,
}

impl Disk {
    pub(super) fn apply(&mut self, write: Write) {
        match write {
            Write::Job { job, description } => drop(self.jobs.insert(job, description)),
            Write::Tasks { job, span, body } => {
                self.tasks.insert((job, span.first), (span, body));
            }
            Write::TasksDone { job, first } => drop(self.tasks.remove(&(job, first))),
            Write::Results { job, span, body } => {
                self.results.insert((job, span.first), (span, body));
            }
            Write::ResultsFetched { job, first } => drop(self.results.remove(&(job, first))),
            Write::Fetched { job, tasks } => drop(self.fetched.insert(job, tasks)),
            Write::Forget { job } => {
                self.jobs.remove(&job);
                self.fetched.remove(&job);
                self.tasks.retain(|(other, _), _| *other != job);
                self.results.retain(|(other, _), _| *other != job);
            }
        }
    }

    /// The writes that would bring it about.
    pub(super) fn load(&self, fetched_first: bool) -> Vec<Write> {
        let jobs = self.jobs.iter().map(|(&job, description)| Write::Job {
            job,
            description: description.clone(),
        });
        let tasks = self.tasks.iter().map(|(&(job, _), (span, body))| {
            let (span, body) = (*span, body.clone());
            Write::Tasks { job, span, body }
        });
        let results = self.results.iter().map(|(&(job, _), (span, body))| {
            let (span, body) = (*span, body.clone());
            Write::Results { job, span, body }
        });
        let fetched = self.fetched.iter().map(|(&job, tasks)| Write::Fetched {
            job,
            tasks: tasks.clone(),
        });
        match fetched_first {
            true => jobs.chain(tasks).chain(fetched).chain(results).collect(),
            false => jobs.chain(tasks).chain(results).chain(fetched).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.has_no_bodies() && self.fetched.is_empty()
    }

    /// Neither tasks nor results lie there.
    pub(super) fn has_no_bodies(&self) -> bool {
        self.tasks.is_empty() && self.results.is_empty()
    }
}

/// Commits groups: whatever has gathered while the last one was synced.
#[derive(Debug)]
pub(super) struct SimStore {
    pub(super) disk: Disk,
    tail: VecDeque<Write>,
    /// How many of the tail are being synced, and until when.
    group: Option<(usize, Time)>,
    delay: Duration,
    /// Takes nothing.
    pub(super) trouble: bool,
    stored: u64,
}

impl SimStore {
    pub(super) fn new(disk: Disk, delay: Duration) -> SimStore {
        SimStore {
            disk,
            tail: VecDeque::new(),
            group: None,
            delay,
            trouble: false,
            stored: 0,
        }
    }

    pub(super) fn keep(&mut self, write: Write) {
        self.tail.push_back(write);
    }

    /// Begins a group if none is being synced.
    pub(super) fn begin(&mut self, now: Time, rng: &mut Rng) {
        if self.group.is_none() && !self.tail.is_empty() && !self.trouble {
            let delay = rng.within(&(Duration::from_micros(10)..self.delay));
            self.group = Some((self.tail.len(), now + delay));
        }
    }

    /// How many writes are safe, if that is news.
    pub(super) fn sync(&mut self, now: Time) -> Option<u64> {
        let (count, _) = self.group.take_if(|(_, due)| *due <= now)?;
        self.tail
            .drain(..count)
            .for_each(|write| self.disk.apply(write));
        self.stored += count as u64;
        Some(self.stored)
    }

    pub(super) fn due(&self) -> Option<Time> {
        self.group.map(|(_, due)| due)
    }

    /// What a crash leaves: of the group in flight all or nothing, of the rest nothing.
    pub(super) fn crash(mut self, in_flight_is_kept: bool) -> Disk {
        let (count, _) = self.group.filter(|_| in_flight_is_kept).unwrap_or_default();
        self.tail
            .drain(..count)
            .for_each(|write| self.disk.apply(write));
        self.disk
    }
}
