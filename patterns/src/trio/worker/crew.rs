//! The threads of a broker's worker: one of them leads, which is to drive the machine and its socket,
//! the others run tasks.
//!
//! Tasks that will not take long are run by the leader itself, so that no other thread has to wake up
//! for them. Should they take longer than it seemed, one of the others takes the lead, and heartbeats
//! go on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::driver::{Node, panicked};
use crate::machine::Clock;
use crate::transport::TransportError;
use crate::wait::{Sleeper, wait};

use super::leaseholder::LeaseholderDriver;
use super::slots::{Queues, Slots, Work, Worked};

/// How long a leader may be at tasks of its own before it is relieved.
const RELIEF: Duration = Duration::from_millis(10);

/// Who leads, and whether that one is at tasks of its own.
#[derive(Debug, Default)]
pub(super) struct Lead {
    leader: Option<usize>,
    /// The leader is at tasks of its own.
    busy: bool,
    /// How often one was.
    turns: u64,
    /// One of those who wait looks after the leader.
    watched: bool,
}

impl Lead {
    fn take(&mut self, member: usize) {
        (self.leader, self.busy) = (Some(member), false);
    }
}

/// What drives the worker, for whoever leads.
#[derive(Debug)]
pub(super) struct Crew {
    seat: Mutex<Seat>,
    slots: Slots,
    members: Arc<Members>,
}

/// The threads, without those that are lost to a task that does not end.
#[derive(Debug, Default)]
pub(super) struct Members {
    threads: Mutex<BTreeMap<usize, JoinHandle<()>>>,
    next: AtomicUsize,
}

impl Members {
    fn threads(&self) -> MutexGuard<'_, BTreeMap<usize, JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all have ended.
    pub(super) fn join(&self) {
        loop {
            let Some((_, thread)) = self.threads().pop_first() else {
                return;
            };
            let _ = thread.join();
        }
    }
}

struct Seat {
    /// None when the worker has ended: threads that are lost to a task must not hold its socket.
    driver: Option<LeaseholderDriver>,
    sleeper: Sleeper,
    clock: Clock,
}

impl Seat {
    /// Waits until there is something to do for the driver.
    fn wait(&self) {
        if let Some(driver) = self.driver.as_ref().filter(|driver| !driver.is_over()) {
            let mut sources = Vec::with_capacity(4);
            driver.interests(&mut sources);
            wait(&sources, &self.sleeper, &self.clock, driver.deadline());
        }
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}

enum Duty {
    Lead,
    Run(Work),
    End,
}

enum Led {
    /// The worker has ended.
    Over,
    /// Somebody else leads now.
    Relieved,
    /// Somebody else leads now, and has our place.
    Lost,
}

impl Crew {
    pub(super) fn new(
        driver: LeaseholderDriver,
        sleeper: Sleeper,
        slots: Slots,
        members: Arc<Members>,
    ) -> Crew {
        let clock = Clock::start();
        Crew {
            seat: Mutex::new(Seat {
                driver: Some(driver),
                sleeper,
                clock,
            }),
            slots,
            members,
        }
    }

    /// Starts one more thread.
    pub(super) fn enlist<F>(self: &Arc<Self>, work_off: F) -> std::io::Result<()>
    where
        F: Fn(&Work) -> Worked + Clone + Send + 'static,
    {
        let member = self.members.next.fetch_add(1, Ordering::Relaxed);
        let crew = self.clone();
        let mut threads = self.members.threads();
        let thread = std::thread::Builder::new()
            .name(format!("worker {member}"))
            .spawn(move || crew.serve(member, work_off))?;
        threads.insert(member, thread);
        Ok(())
    }

    /// Puts other threads in the place of those that are lost.
    fn replace<F>(self: &Arc<Self>, lost: Vec<usize>, work_off: &F)
    where
        F: Fn(&Work) -> Worked + Clone + Send + 'static,
    {
        for member in lost {
            self.members.threads().remove(&member);
            if let Err(error) = self.enlist(work_off.clone()) {
                log::error!(
                    "a lost thread cannot be replaced, the worker goes on with less: {error}"
                );
            }
        }
    }

    /// The life of a member.
    fn serve<F>(self: &Arc<Self>, member: usize, work_off: F)
    where
        F: Fn(&Work) -> Worked + Clone + Send + 'static,
    {
        loop {
            match self.duty(member) {
                Duty::Lead => {
                    // Whoever waits for the worker must hear of its end, even of one that is a bug.
                    let lead = AssertUnwindSafe(|| self.lead(member, &work_off));
                    let led = catch_unwind(lead).unwrap_or_else(|_| Err(panicked()));
                    match led {
                        Ok(Led::Relieved) => {}
                        Ok(Led::Lost) => return,
                        Ok(Led::Over) => return self.close(None),
                        Err(error) => return self.close(Some(error)),
                    }
                }
                Duty::Run(work) => {
                    if !self.run(member, &work, &work_off) {
                        return;
                    }
                }
                Duty::End => return,
            }
        }
    }

    fn close(&self, error: Option<TransportError>) {
        let driver = self.seat().driver.take();
        if let Some(mut driver) = driver {
            driver.close(error);
        }
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do.
    fn duty(&self, member: usize) -> Duty {
        let mut queues = self.slots.queues();
        let mut active = false;
        loop {
            if let Some(work) = queues.run.pop_front() {
                if queues.lead.busy && !queues.lead.watched {
                    self.slots.0.more.notify_one();
                }
                return Duty::Run(work);
            }
            if queues.closed {
                return Duty::End;
            }
            if queues.lead.leader.is_none() {
                queues.lead.take(member);
                return Duty::Lead;
            }
            if queues.lead.watched || !(queues.lead.busy || active) {
                active = false;
                let waited = self.slots.0.more.wait(queues);
                queues = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let before = queues.lead.turns;
            let is_late;
            (queues, is_late) = self.watch(queues);
            active = queues.lead.turns != before;
            if is_late && queues.lead.busy && !active && !queues.closed {
                queues.lead.take(member);
                return Duty::Lead;
            }
        }
    }

    /// Sleeps for as long as a leader may be at one thing; whether that long.
    fn watch<'a>(&'a self, mut queues: MutexGuard<'a, Queues>) -> (MutexGuard<'a, Queues>, bool) {
        queues.lead.watched = true;
        let waited = self.slots.0.more.wait_timeout(queues, RELIEF);
        let (mut queues, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        queues.lead.watched = false;
        (queues, timeout.timed_out())
    }

    /// Works off a batch; whether the thread is still one of us.
    fn run(&self, member: usize, work: &Work, work_off: &impl Fn(&Work) -> Worked) -> bool {
        let progress = work.progress.as_ref();
        if let Some(progress) = progress {
            progress.taken_by(member);
        }
        let worked = work_off(work);
        if progress.is_some_and(|progress| !progress.finish()) {
            return false;
        }
        self.slots.hand_in(worked);
        true
    }

    fn lead<F>(self: &Arc<Self>, member: usize, work_off: &F) -> Result<Led, TransportError>
    where
        F: Fn(&Work) -> Worked + Clone + Send + 'static,
    {
        let mut seat = self.seat();
        loop {
            let now = seat.clock.now();
            let Some(driver) = seat.driver.as_mut().filter(|driver| !driver.is_over()) else {
                return Ok(Led::Over);
            };
            let more = driver.turn(now)?;
            self.replace(driver.take_lost(), work_off);
            let mut own = driver.take_own();
            let has_own = own.is_some();
            while let Some(work) = own {
                drop(seat);
                if let Some(led) = self.run_own(member, &work, work_off) {
                    return Ok(led);
                }
                seat = self.seat();
                let now = seat.clock.now();
                if let Some(driver) = &mut seat.driver {
                    driver.deliver(now)?;
                    own = driver.take_own();
                } else {
                    own = None;
                }
            }
            // After tasks of its own the wait looks by itself whether something has arrived.
            if !more || has_own {
                seat.wait();
            }
        }
    }

    /// Works off a batch without giving up the lead; `None` when it is still ours.
    fn run_own(
        &self,
        member: usize,
        work: &Work,
        work_off: &impl Fn(&Work) -> Worked,
    ) -> Option<Led> {
        let progress = work.progress.as_ref();
        if let Some(progress) = progress {
            progress.taken_by(member);
        }
        let mut queues = self.slots.queues();
        queues.lead.busy = true;
        queues.lead.turns += 1;
        let watched = queues.lead.watched;
        drop(queues);
        if !watched {
            self.slots.0.more.notify_one();
        }
        let worked = work_off(work);
        let is_wanted = progress.is_none_or(|progress| progress.finish());
        let mut queues = self.slots.queues();
        if queues.lead.leader == Some(member) {
            queues.lead.busy = false;
            queues.worked.push(worked);
            return None;
        }
        drop(queues);
        if !is_wanted {
            return Some(Led::Lost);
        }
        self.slots.hand_in(worked);
        Some(Led::Relieved)
    }
}
