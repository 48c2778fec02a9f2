//! Watches tasks that have a time limit, and gives up those that do not keep to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::machine::Time;
use crate::pipeline::TaskId;

use super::progress::{Look, Progress};
use super::slots::{Author, Work, Worked};

/// Threads that may be lost for each slot before the worker leaves.
const LOST_PER_SLOT: usize = 4;

/// The longest time without a look.
const LOOK: Duration = Duration::from_secs(3600);

/// A task whose time is long up.
#[derive(Debug)]
pub(super) struct Overdue {
    pub(super) lease: u64,
    pub(super) task: TaskId,
    pub(super) reason: String,
}

/// What runs under a time limit, by lease.
#[derive(Debug)]
pub(super) struct Watchdog {
    watched: BTreeMap<u64, Arc<Progress>>,
    next_look: Option<Time>,
    /// Threads that were lost and not replaced yet.
    lost: Vec<usize>,
    /// What they were given up with.
    abandoned: Vec<Arc<Progress>>,
    abandoned_most: usize,
}

impl Watchdog {
    pub(super) fn new(slots: usize) -> Watchdog {
        Watchdog {
            watched: BTreeMap::new(),
            next_look: None,
            lost: Vec::new(),
            abandoned: Vec::new(),
            abandoned_most: LOST_PER_SLOT * slots.max(1),
        }
    }

    /// Looks after a batch from now on, if it has a time limit.
    pub(super) fn watch(&mut self, work: &Work) {
        if let (Author::Lease(lease), Some(progress)) = (work.author, &work.progress) {
            self.watched.insert(lease, progress.clone());
            // At the next turn, which finds out when the first look is due.
            self.next_look = Some(Time::START);
        }
    }

    /// The batch is worked off.
    pub(super) fn release(&mut self, worked: &Worked) {
        if let Author::Lease(lease) = worked.author
            && self.watched.remove(&lease).is_some()
            && self.watched.is_empty()
        {
            self.next_look = None;
        }
    }

    /// When the next look is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.next_look
    }

    /// Gives up what has to be given up.
    pub(super) fn look(&mut self, now: Time) -> Vec<Overdue> {
        if self.next_look.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let instant = Instant::now();
        let (mut overdue, mut next) = (Vec::new(), None::<Time>);
        for (&lease, progress) in &self.watched {
            match progress.look(instant) {
                Look::Again(at) => {
                    let wait = at.saturating_duration_since(instant).min(LOOK);
                    next = Some(next.map_or(now + wait, |next| next.min(now + wait)));
                }
                Look::Abandoned { member, task } => {
                    self.lost.push(member);
                    let limit = progress.limit();
                    let reason =
                        format!("it went on after its time limit of {limit:?} and was given up");
                    overdue.push(Overdue {
                        lease,
                        task,
                        reason,
                    });
                }
            }
        }
        for Overdue { lease, .. } in &overdue {
            self.abandoned.extend(self.watched.remove(lease));
        }
        self.abandoned.retain(|progress| progress.is_lost());
        self.next_look = next;
        overdue
    }

    /// Threads that were lost since the last call.
    pub(super) fn take_lost(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.lost)
    }

    /// Why the worker should leave, if so: threads cannot be stopped, only their process.
    pub(super) fn complaint(&self) -> Option<String> {
        let lost = self.abandoned.iter().filter(|progress| progress.is_lost());
        let lost = lost.count();
        (lost >= self.abandoned_most).then(|| {
            format!(
                "{lost} tasks go on after their time limit and cannot be stopped: start the worker again"
            )
        })
    }
}
