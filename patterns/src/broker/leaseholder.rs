//! The machine of a broker's worker: takes leases, runs as many at once as it has slots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Machine, Time};
use crate::pipeline::{Incarnation, JobId, Span, TaskId, WorkerId};

use super::protocol::{BrokerTells, Held, LeaseId, Takes, WorkerTells};
use super::pulse::Pulse;

/// Tasks as a worker holds them; `B` is whatever carries the bytes.
#[derive(Clone, Debug)]
pub struct Leased<B> {
    /// Under which name.
    pub lease: LeaseId,
    /// Whose tasks.
    pub job: JobId,
    /// Which.
    pub span: Span,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// How many there are.
    pub attempts: u32,
    /// How long a task may take.
    pub time_limit: Option<Duration>,
    /// What to do.
    pub operation: Arc<str>,
    /// The encoded tasks.
    pub body: B,
}

/// What happens to a worker of a broker.
#[derive(Debug)]
pub enum LeaseholderInput<B> {
    /// Tasks arrive.
    Leased(Leased<B>),
    /// A slot has worked them off; its results are frames.
    Worked {
        /// Under which lease.
        lease: LeaseId,
        /// What came of it.
        results: Vec<Arc<[u8]>>,
        /// Tasks to be tried again, with the reason.
        failed: Vec<(TaskId, String)>,
    },
    /// A task goes on long after its time is up, and its slot does not wait for it any more.
    Overdue {
        /// Under which lease.
        lease: LeaseId,
        /// Which.
        task: TaskId,
        /// One sentence.
        reason: String,
    },
    /// A slot has not begun the tasks from this one on, and will not.
    Cut {
        /// Under which lease.
        lease: LeaseId,
        /// The first of them.
        from: TaskId,
    },
    /// The broker speaks.
    Broker(BrokerTells),
    /// The application wants to leave.
    Leave,
}

/// What a worker of a broker wants done.
#[derive(Debug)]
pub enum LeaseholderOutput<B> {
    /// Run these tasks in a free slot.
    Run(Leased<B>),
    /// Say something to the broker.
    Tell(WorkerTells),
    /// Send results to the broker.
    Send(Arc<[u8]>),
    /// Nobody wants the results of these any more: stop them if that can be done.
    Unwanted(LeaseId),
    /// The broker answers; a new one, or after silence.
    Found(Incarnation),
    /// No broker has answered yet, for as long as one may be silent; said once.
    Missing,
    /// The broker has been silent for too long.
    Lost,
    /// All that was begun is worked off and handed on: the worker may go.
    Left,
}

/// The worker of a broker as a machine.
#[derive(Debug)]
pub struct Leaseholder<B> {
    id: WorkerId,
    slots: usize,
    operations: Vec<String>,
    heartbeat: Duration,
    liveness: u32,
    waiting: VecDeque<Leased<B>>,
    running: BTreeMap<LeaseId, Held>,
    /// Those of them that nobody wants any more.
    unwanted: BTreeSet<LeaseId>,
    seen: LeaseId,
    broker: Option<Incarnation>,
    heard: Time,
    /// Whether it was said that there is none.
    missed: bool,
    next_beat: Time,
    pulse: Pulse,
    leaving: bool,
    left: bool,
    outbox: VecDeque<LeaseholderOutput<B>>,
}

impl<B> Leaseholder<B> {
    /// A worker for these operations; `id` differs at every start.
    pub fn new(
        id: WorkerId,
        slots: usize,
        operations: Vec<String>,
        heartbeat: Duration,
        liveness: u32,
    ) -> Leaseholder<B> {
        Leaseholder {
            id,
            slots: slots.max(1),
            operations,
            heartbeat,
            liveness,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            seen: 0,
            broker: None,
            heard: Time::START,
            missed: false,
            next_beat: Time::START,
            pulse: Pulse::default(),
            leaving: false,
            left: false,
            outbox: VecDeque::new(),
        }
    }

    /// How many leases it holds, waiting and running.
    pub fn held(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    fn tell(&mut self, tells: WorkerTells) {
        self.outbox.push_back(LeaseholderOutput::Tell(tells));
    }

    fn ready(&mut self) {
        let waiting = self.waiting.iter().map(|leased| Held {
            lease: leased.lease,
            job: leased.job,
            span: leased.span,
        });
        let running = self.running.values().copied();
        let running = running.filter(|held| !self.unwanted.contains(&held.lease));
        let held = waiting.chain(running).collect();
        self.tell(WorkerTells::Ready {
            worker: self.id,
            slots: u32::try_from(self.slots).unwrap_or(u32::MAX),
            operations: self.operations.clone(),
            held,
            takes: Takes::Batches,
            name: None,
        });
        if self.leaving {
            // A broker that meets us anew would send what we only give back.
            self.tell(WorkerTells::Leaving {});
        }
    }

    fn take(&mut self, leased: Leased<B>) {
        self.seen = self.seen.max(leased.lease);
        if self.leaving {
            let leases = vec![leased.lease];
            return self.tell(WorkerTells::Returned { leases });
        }
        let known = self.running.contains_key(&leased.lease)
            || self.waiting.iter().any(|other| other.lease == leased.lease);
        if !known {
            self.waiting.push_back(leased);
            self.begin();
        }
    }

    /// Begins what the slots have room for.
    fn begin(&mut self) {
        while self.running.len() < self.slots {
            let Some(leased) = self.waiting.pop_front() else {
                break;
            };
            let held = Held {
                lease: leased.lease,
                job: leased.job,
                span: leased.span,
            };
            self.running.insert(leased.lease, held);
            self.outbox.push_back(LeaseholderOutput::Run(leased));
        }
    }

    fn worked(&mut self, lease: LeaseId, results: Vec<Arc<[u8]>>, failed: Vec<(TaskId, String)>) {
        if self.running.remove(&lease).is_none() {
            return;
        }
        if !self.unwanted.remove(&lease) {
            for frame in results {
                self.outbox.push_back(LeaseholderOutput::Send(frame));
            }
            for (task, reason) in failed {
                self.tell(WorkerTells::Failed {
                    lease,
                    task,
                    reason,
                });
            }
        }
        self.begin();
        self.leave_if_done();
    }

    /// Fails a task that cannot be stopped, and gives back the others of its lease.
    fn overdue(&mut self, lease: LeaseId, task: TaskId, reason: String) {
        if self.running.remove(&lease).is_none() {
            return;
        }
        if !self.unwanted.remove(&lease) {
            self.tell(WorkerTells::Failed {
                lease,
                task,
                reason,
            });
            let leases = vec![lease];
            self.tell(WorkerTells::Returned { leases });
        }
        self.begin();
        self.leave_if_done();
    }

    /// Gives back a part of a lease.
    fn cut(&mut self, lease: LeaseId, from: TaskId) {
        let Some(held) = self.running.get_mut(&lease) else {
            return;
        };
        let count = from.saturating_sub(held.span.first);
        held.span.count = held
            .span
            .count
            .min(u32::try_from(count).unwrap_or(u32::MAX));
        if !self.unwanted.contains(&lease) {
            self.tell(WorkerTells::Cut { lease, from });
        }
    }

    fn hear(&mut self, now: Time, tells: BrokerTells) {
        self.heard = now;
        match tells {
            BrokerTells::Beat { incarnation } => {
                // Answered at once, for a broker that believes in shorter intervals.
                self.next_beat = self.next_beat.min(now);
                self.pulse.beat(now);
                self.meet(incarnation);
            }
            BrokerTells::WhoAreYou {} => self.ready(),
            BrokerTells::Recall { leases } => {
                let leases = self.drop_waiting(&leases);
                if !leases.is_empty() {
                    self.tell(WorkerTells::Returned { leases });
                }
            }
            BrokerTells::Drop { leases } => {
                self.drop_waiting(&leases);
                for lease in leases {
                    if self.running.contains_key(&lease) && self.unwanted.insert(lease) {
                        self.outbox.push_back(LeaseholderOutput::Unwanted(lease));
                    }
                }
            }
        }
    }

    /// Lets go of those of the leases that have not begun, and says which these are.
    fn drop_waiting(&mut self, leases: &[LeaseId]) -> Vec<LeaseId> {
        let before = std::mem::take(&mut self.waiting);
        let (dropped, kept): (VecDeque<_>, _) = before
            .into_iter()
            .partition(|leased| leases.contains(&leased.lease));
        self.waiting = kept;
        dropped.into_iter().map(|leased| leased.lease).collect()
    }

    fn meet(&mut self, incarnation: Incarnation) {
        if self.broker == Some(incarnation) {
            return;
        }
        let known = self.broker.replace(incarnation).is_some();
        // Its names may begin anywhere: the clock that they follow may have been set back.
        self.seen = 0;
        self.outbox.push_back(LeaseholderOutput::Found(incarnation));
        if known {
            // Another broker, which may not know us though it hears us.
            self.ready();
        }
    }

    fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        self.tell(WorkerTells::Leaving {});
        let waiting = std::mem::take(&mut self.waiting);
        let leases: Vec<LeaseId> = waiting.into_iter().map(|leased| leased.lease).collect();
        if !leases.is_empty() {
            self.tell(WorkerTells::Returned { leases });
        }
        self.leave_if_done();
    }

    fn leave_if_done(&mut self) {
        if self.leaving && self.running.is_empty() && !self.left {
            self.left = true;
            self.tell(WorkerTells::Gone {});
            self.outbox.push_back(LeaseholderOutput::Left);
        }
    }

    fn beat(&mut self, now: Time) {
        if now < self.next_beat || self.left {
            return;
        }
        self.next_beat = now + self.heartbeat;
        let interval = self.pulse.interval(self.heartbeat);
        let patience = interval.saturating_mul(self.liveness);
        let silent = now.since(self.heard) > patience;
        if self.broker.is_some() && silent {
            self.broker = None;
            self.missed = true;
            self.outbox.push_back(LeaseholderOutput::Lost);
        }
        if self.broker.is_none() && silent && !std::mem::replace(&mut self.missed, true) {
            self.outbox.push_back(LeaseholderOutput::Missing);
        }
        if self.broker.is_none() {
            return self.ready();
        }
        let waiting = self.waiting.iter().map(|leased| leased.lease);
        let running = self.running.keys().copied();
        let running = running.filter(|lease| !self.unwanted.contains(lease));
        let held = waiting.chain(running).collect();
        let seen = self.seen;
        self.tell(WorkerTells::Beat { seen, held });
    }
}

impl<B> Machine for Leaseholder<B> {
    type Input = LeaseholderInput<B>;
    type Output = LeaseholderOutput<B>;

    fn handle(&mut self, now: Time, input: LeaseholderInput<B>) {
        match input {
            LeaseholderInput::Leased(leased) => {
                self.heard = now;
                self.take(leased);
            }
            LeaseholderInput::Worked {
                lease,
                results,
                failed,
            } => self.worked(lease, results, failed),
            LeaseholderInput::Overdue {
                lease,
                task,
                reason,
            } => self.overdue(lease, task, reason),
            LeaseholderInput::Cut { lease, from } => self.cut(lease, from),
            LeaseholderInput::Broker(tells) => self.hear(now, tells),
            LeaseholderInput::Leave => self.leave(),
        }
    }

    fn wake(&mut self, now: Time) {
        self.beat(now);
    }

    fn poll(&mut self) -> Option<LeaseholderOutput<B>> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        (!self.left).then_some(self.next_beat)
    }
}
