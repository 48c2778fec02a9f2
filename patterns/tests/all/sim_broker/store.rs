//! The broker's disk: what was committed, and what is lost in a crash.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mutirao::broker::store::{Group, Write};
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
    fn apply(&mut self, group: &Group) {
        for write in group.writes() {
            self.take(write.clone());
        }
    }

    pub(super) fn take(&mut self, write: Write) {
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

    /// The writes that would bring it about, tasks last.
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
            true => jobs.chain(fetched).chain(results).chain(tasks).collect(),
            false => jobs.chain(results).chain(fetched).chain(tasks).collect(),
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
    tail: Vec<Write>,
    /// What comes next to the disk.
    group: Group,
    /// How many writes it stands for.
    covers: u64,
    flight: Option<Flight>,
    delay: Duration,
    /// The disk is full: what makes room is taken, and now and then a part of the rest.
    pub(super) trouble: bool,
    stored: u64,
}

/// What is being synced, and until when.
#[derive(Debug)]
struct Flight {
    group: Group,
    rest: Group,
    due: Time,
}

impl SimStore {
    pub(super) fn new(disk: Disk, delay: Duration) -> SimStore {
        SimStore {
            disk,
            tail: Vec::new(),
            group: Group::default(),
            covers: 0,
            flight: None,
            delay,
            trouble: false,
            stored: 0,
        }
    }

    pub(super) fn keep(&mut self, write: Write) {
        self.tail.push(write);
    }

    /// Begins to sync if nothing is being synced.
    pub(super) fn begin(&mut self, now: Time, rng: &mut Rng) {
        if self.flight.is_some() {
            return;
        }
        self.covers += self.tail.len() as u64;
        self.group.add(self.tail.drain(..));
        let (group, rest) = match self.trouble {
            false => (self.group.clone(), Group::default()),
            true if rng.chance(0.05) => self.group.cut(rng.below(500) as usize),
            true => self.group.split(),
        };
        if self.covers > 0 && (!self.trouble || !group.is_empty()) {
            let due = now + rng.within(&(Duration::from_micros(10)..self.delay));
            self.flight = Some(Flight { group, rest, due });
        }
    }

    /// How many writes are safe, if that is news.
    pub(super) fn sync(&mut self, now: Time) -> Option<u64> {
        let flight = self.flight.take_if(|flight| flight.due <= now)?;
        self.disk.apply(&flight.group);
        self.group = flight.rest;
        if !self.group.is_empty() {
            return None;
        }
        self.stored += std::mem::take(&mut self.covers);
        Some(self.stored)
    }

    pub(super) fn due(&self) -> Option<Time> {
        self.flight.as_ref().map(|flight| flight.due)
    }

    /// What a crash leaves: of the group in flight all or nothing, of the rest nothing.
    pub(super) fn crash(mut self, in_flight_is_kept: bool) -> Disk {
        if let Some(flight) = self.flight.filter(|_| in_flight_is_kept) {
            self.disk.apply(&flight.group);
        }
        self.disk
    }
}
