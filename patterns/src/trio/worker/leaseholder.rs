//! The machine of a broker's worker with its socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{AtWorker, BROKER, Codec, End, read_at_worker};
use crate::broker::{
    LeaseId, Leased, Leaseholder, LeaseholderInput, LeaseholderOutput, WorkerTells,
};
use crate::complaints::Complaints;
use crate::driver::{MESSAGES_PER_TURN, Node, Port};
use crate::endpoint::Endpoint;
use crate::machine::{Machine, Time};
use crate::pipeline::WorkerId;
use crate::station::OpenError;
use crate::transport::{self, Frame, Role, Side, SocketOptions, Source, TransportError};
use crate::wait::Interest;
use crate::wire::{Kind, Writer};

use super::bounds::Bounds;
use super::paces::Paces;
use super::progress::Progress;
use super::slots::{Author, Body, Slots, Work, Worked};
use super::watchdog::{Overdue, Watchdog};
use super::{BrokerWorkerConfig, Shared, WorkerExit};

/// How long a leaving worker tries to hand on its last results.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// How long the thread that drives the worker may be at tasks itself, when no other slot could run
/// others meanwhile.
const OWN_MOST_ALONE: Duration = Duration::from_millis(5);

/// The same when there are such slots: the longest that they wait for it.
const OWN_MOST: Duration = Duration::from_micros(200);

/// A lease that runs longer than this was judged wrongly, or holds a slow task: what is not begun of it
/// goes back, for whoever has time.
const LONGEST: Duration = Duration::from_millis(50);

type Records = (Frame, usize);

pub(super) struct LeaseholderDriver {
    machine: Leaseholder<Records>,
    shared: Arc<Shared>,
    slots: Slots,
    broker: Endpoint,
    port: Port,
    codec: Codec,
    /// Why the broker wants nothing to do with us.
    refused: Option<String>,
    mistakes: Complaints,
    paces: Paces,
    /// The longest that the thread which drives this may be at tasks itself.
    own_most: Duration,
    /// What it shall work off before its next turn.
    own: Option<Work>,
    watchdog: Watchdog,
    /// Since when leases run, and how far they are.
    begun: BTreeMap<LeaseId, (Time, Arc<Bounds>)>,
    /// It was asked to leave, or has to.
    leaving: bool,
    /// Why it has to.
    complaint: Option<String>,
    /// When one that has nothing left to do gives up handing on its last results.
    leave_by: Option<Time>,
    exit: Option<WorkerExit>,
}

impl LeaseholderDriver {
    pub(super) fn open(
        config: &BrokerWorkerConfig,
        shared: Arc<Shared>,
        slots: Slots,
    ) -> Result<LeaseholderDriver, OpenError> {
        let watched = SocketOptions {
            watch_links: true,
            max_message_bytes: config.codec.frame_bytes(config.socket.max_message_bytes),
            ..config.socket.clone()
        };
        let broker = &config.broker;
        let socket =
            transport::open_complete(BROKER, Role::Dealer, Side::Connect, broker, &watched)?;
        let machine = Leaseholder::new(
            WorkerId(rand::random()),
            config.slots,
            config.operations.clone(),
            config.heartbeat,
            config.liveness,
        );
        Ok(LeaseholderDriver {
            machine,
            shared,
            slots,
            broker: config.broker.clone(),
            port: Port::new(socket),
            codec: config.codec,
            refused: None,
            mistakes: Complaints::default(),
            paces: Paces::new(&config.operations),
            own_most: match config.slots {
                0 | 1 => OWN_MOST_ALONE,
                _ => OWN_MOST,
            },
            own: None,
            watchdog: Watchdog::new(config.slots),
            begun: BTreeMap::new(),
            leaving: false,
            complaint: None,
            leave_by: None,
            exit: None,
        })
    }

    fn receive(&mut self, now: Time, most: usize) -> Result<bool, TransportError> {
        let LeaseholderDriver {
            machine,
            port,
            refused,
            mistakes,
            ..
        } = self;
        port.receive_some(most, |mut message| {
            let frame = message.pop().unwrap_or_else(|| Frame::from(&[][..]));
            match read_at_worker(frame) {
                Ok(AtWorker::Tells(tells)) => {
                    machine.handle(now, LeaseholderInput::Broker(tells));
                }
                Ok(AtWorker::Leased(leased)) => {
                    machine.handle(now, LeaseholderInput::Leased(leased));
                }
                Ok(AtWorker::Refused(reason)) => *refused = Some(reason),
                Err(error) => mistakes.add(&"worker, from the broker", &error),
            }
        })
    }

    /// Hands on what has been worked off.
    pub(super) fn deliver(&mut self, now: Time) -> Result<(), TransportError> {
        for worked in self.slots.worked() {
            self.paces.note(&worked);
            self.watchdog.release(&worked);
            if let Author::Lease(lease) = worked.author {
                self.begun.remove(&lease);
            }
            if let Some(input) = input(worked) {
                self.machine.handle(now, input);
            }
        }
        self.act(now)?;
        self.port.flush()
    }

    fn act(&mut self, now: Time) -> Result<(), TransportError> {
        while let Some(output) = self.machine.poll() {
            match output {
                LeaseholderOutput::Run(leased) => self.run(now, work(leased)),
                LeaseholderOutput::Tell(tells) => self.tell(&tells)?,
                LeaseholderOutput::Send(frame) => {
                    let frame = self.codec.outgoing(End::Broker, frame.into());
                    self.port.send(vec![frame])?;
                }
                LeaseholderOutput::Unwanted(lease) => {
                    if let Some((_, bounds)) = self.begun.remove(&lease) {
                        bounds.cut();
                    }
                }
                LeaseholderOutput::Found(_) => log::info!("the broker is there"),
                LeaseholderOutput::Missing => log::warn!(
                    "no broker answers at {} yet: check that one runs there, by the same transport",
                    self.broker
                ),
                LeaseholderOutput::Lost => {
                    log::warn!("the broker has been silent for too long");
                }
                LeaseholderOutput::Left => {
                    self.exit = Some(WorkerExit::Left);
                    self.leave_by = Some(now + LEAVE_PATIENCE);
                }
            }
        }
        Ok(())
    }

    /// Has tasks worked off: in this thread if that does not take long, else in another.
    fn run(&mut self, now: Time, work: Work) {
        self.watchdog.watch(&work);
        if let Author::Lease(lease) = work.author {
            self.begun.insert(lease, (now, work.bounds.clone()));
        }
        let expected = self.paces.expect(&work);
        match self.own.is_none() && expected.is_some_and(|time| time <= self.own_most) {
            true => self.own = Some(work),
            false => self.slots.run(work),
        }
    }

    /// What the thread that drives this shall work off now.
    pub(super) fn take_own(&mut self) -> Option<Work> {
        self.own.take()
    }

    /// Gives up tasks that go on long after their time is up, with the threads that are at them.
    fn give_up_overdue(&mut self, now: Time) {
        for Overdue {
            lease,
            task,
            reason,
        } in self.watchdog.look(now)
        {
            log::error!("task {task}: {reason}");
            self.begun.remove(&lease);
            let input = LeaseholderInput::Overdue {
                lease,
                task,
                reason,
            };
            self.machine.handle(now, input);
        }
        if !self.leaving
            && let Some(reason) = self.watchdog.complaint()
        {
            log::error!("{reason}");
            self.complaint = Some(reason);
            self.leave(now);
        }
    }

    fn leave(&mut self, now: Time) {
        self.leaving = true;
        self.machine.handle(now, LeaseholderInput::Leave);
    }

    /// Gives back what is not begun of leases that take longer than they should.
    fn cut_slow(&mut self, now: Time) {
        let slow = |&(begun, _): &(Time, Arc<Bounds>)| begun + LONGEST <= now;
        let leases = self.begun.iter().filter(|(_, lease)| slow(lease));
        let cut = leases.map(|(&lease, (_, bounds))| (lease, bounds.cut()));
        for (lease, from) in cut.collect::<Vec<_>>() {
            // Once is enough: no more will be begun.
            self.begun.remove(&lease);
            if let Some(from) = from {
                self.machine
                    .handle(now, LeaseholderInput::Cut { lease, from });
            }
        }
    }

    /// Threads that are lost to a task without end, to be replaced.
    pub(super) fn take_lost(&mut self) -> Vec<usize> {
        self.watchdog.take_lost()
    }

    fn tell(&mut self, tells: &WorkerTells) -> Result<(), TransportError> {
        // Our own messages hold nothing that MessagePack cannot express.
        let frame = Writer::new(Kind::Worker).value(tells).map(Writer::finish);
        let frame = frame.unwrap_or_default().into();
        let message = vec![self.codec.outgoing(End::Broker, frame)];
        match tells {
            // The broker would not miss the results otherwise.
            WorkerTells::Failed { .. } | WorkerTells::Returned { .. } => {
                self.port.send(message).map(|_| ())
            }
            _ => self.port.post(message),
        }
    }

    fn leave_if_asked(&mut self, now: Time) {
        if self.shared.stop.is_stopped() && !self.leaving {
            self.leave(now);
        }
    }
}

fn work(leased: Leased<Records>) -> Work {
    let (frame, start) = leased.body;
    Work {
        author: Author::Lease(leased.lease),
        job: leased.job,
        span: leased.span,
        attempt: leased.attempt,
        attempts: leased.attempts,
        operation: Some(leased.operation),
        progress: leased
            .time_limit
            .map(|limit| Arc::new(Progress::new(limit))),
        bounds: Arc::new(Bounds::new(leased.span)),
        body: Body { frame, start },
    }
}

fn input(worked: Worked) -> Option<LeaseholderInput<Records>> {
    let Author::Lease(lease) = worked.author else {
        return None;
    };
    Some(LeaseholderInput::Worked {
        lease,
        results: worked
            .results
            .into_iter()
            .map(|result| result.frame)
            .collect(),
        failed: worked.failed,
    })
}

impl Node for LeaseholderDriver {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        if let Some(reason) = self.port.refusal().or(self.refused.take()) {
            self.exit = Some(WorkerExit::Refused(format!("the broker: {reason}")));
            return Ok(false);
        }
        self.leave_if_asked(now);
        self.machine.wake(now);
        // A lease that this thread works off itself need not wait for a look whether there are more.
        let mut more = self.receive(now, 1)?;
        self.deliver(now)?;
        if more && self.own.is_none() {
            more = self.receive(now, MESSAGES_PER_TURN)?;
            self.deliver(now)?;
        }
        self.cut_slow(now);
        self.give_up_overdue(now);
        self.act(now)?;
        self.port.flush()?;
        if self.leave_by.is_some_and(|by| now >= by) && !self.is_over() {
            self.exit = Some(WorkerExit::LeftUndone);
        }
        Ok(more)
    }

    fn deadline(&self) -> Option<Time> {
        let due = self.machine.deadline();
        let watched = self.watchdog.deadline();
        let slow = self.begun.values().map(|&(begun, _)| begun + LONGEST).min();
        due.into_iter()
            .chain(self.leave_by)
            .chain(watched)
            .chain(slow)
            .min()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.port.interests(sources);
    }

    fn is_over(&self) -> bool {
        match &self.exit {
            Some(WorkerExit::Left) => self.port.is_done(),
            exit => exit.is_some(),
        }
    }

    fn close(&mut self, error: Option<TransportError>) {
        self.slots.close();
        let failed = error.map(|error| WorkerExit::Failed(error.to_string()));
        let failed = failed.or(self.complaint.take().map(WorkerExit::Failed));
        let exit = failed.or(self.exit.take()).unwrap_or(WorkerExit::Left);
        self.shared.end(exit);
    }
}
