//! The worker's machine with its sockets.

use std::sync::Arc;
use std::time::Duration;

use crate::complaints::Complaints;
use crate::driver::{self, Node, Port};
use crate::endpoint::Endpoint;
use crate::machine::{Machine, Time};
use crate::pipeline::{
    Batch, JobId, Span, VentilatorSays, WorkerId, WorkerInput, WorkerMachine, WorkerOutput,
    WorkerSays,
};
use crate::station::OpenError;
use crate::transport::{Message, Role, Side, SocketOptions, Source, TransportError, open_complete};
use crate::wait::Interest;
use crate::wire::{Kind, Reader, WireError};

use super::super::{Pattern, RESULTS_TOPIC, TRIO, partition};
use super::absence::{Absence, Word};
use super::bounds::Bounds;
use super::slots::{Author, Body, Slots, Work, Worked};
use super::{Shared, WorkerConfig, WorkerExit};

/// Bytes of results that may wait for the sink's socket before no new task is begun.
const MAX_WAITING_RESULTS: usize = 8 << 20;

/// How long a leaving worker tries to hand on its last results.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct WorkerDriver {
    machine: WorkerMachine<Body>,
    pattern: Pattern,
    once: bool,
    shared: Arc<Shared>,
    slots: Slots,
    tasks: Port,
    control: Port,
    results: Port,
    /// Where the sink shall be, and whether it is missing.
    sink: Endpoint,
    sink_absence: Absence,
    mistakes: Complaints,
    /// When a leaving worker gives up.
    leave_by: Option<Time>,
    exit: Option<WorkerExit>,
}

impl WorkerDriver {
    pub(super) fn open(
        config: &WorkerConfig,
        shared: Arc<Shared>,
        slots: Slots,
    ) -> Result<WorkerDriver, OpenError> {
        let id = WorkerId(rand::random());
        let watched = SocketOptions {
            watch_links: true,
            ..config.socket.clone()
        };
        let connect =
            |role, endpoint: &_| open_complete(TRIO, role, Side::Connect, endpoint, &watched);
        let task_role = match config.pattern {
            Pattern::ReqRep => Role::Dealer,
            pattern => pattern.roles().1,
        };
        let mut tasks = connect(task_role, &config.ventilator)?;
        if config.pattern == Pattern::PubSub {
            tasks.subscribe(partition(id).as_bytes())?;
        }
        let control = connect(Role::Dealer, &config.ventilator.control()?)?;
        let results = connect(config.pattern.roles().0, &config.sink)?;
        let slot_count = u32::try_from(config.slots).unwrap_or(u32::MAX);
        let mut machine = WorkerMachine::new(
            id,
            slot_count,
            config.pattern.dispatch(),
            config.limits.clone(),
        );
        if config.pattern != Pattern::PubSub {
            machine.handle(Time::START, WorkerInput::SinkReady);
        }
        Ok(WorkerDriver {
            machine,
            pattern: config.pattern,
            once: config.once,
            shared,
            slots,
            tasks: Port::new(tasks),
            control: Port::new(control),
            results: Port::new(results),
            sink: config.sink.clone(),
            sink_absence: Absence::default(),
            mistakes: Complaints::default(),
            leave_by: None,
            exit: None,
        })
    }

    fn receive(&mut self, now: Time) -> Result<bool, TransportError> {
        let WorkerDriver {
            machine,
            tasks,
            control,
            results,
            mistakes,
            pattern,
            ..
        } = self;
        let mut more = control.receive(|message| {
            match driver::read_control::<VentilatorSays>(&message[0]) {
                Ok(says) => machine.handle(now, WorkerInput::Ventilator(says)),
                Err(error) => mistakes.add(&"worker, from the ventilator", &error),
            }
        })?;
        more |= tasks.receive(|message| match read_tasks(message) {
            Ok(batch) => machine.handle(now, WorkerInput::Tasks(batch)),
            Err(error) => mistakes.add(&"worker, tasks", &error),
        })?;
        more |= match pattern {
            Pattern::PushPull => false,
            Pattern::ReqRep => results.receive(|message| {
                match driver::read_control::<(JobId, Span)>(&message[0]) {
                    Ok((job, span)) => machine.handle(now, WorkerInput::Acknowledged(job, span)),
                    Err(error) => mistakes.add(&"worker, from the sink", &error),
                }
            })?,
            Pattern::PubSub => results.receive(|message| {
                if message[0].first() == Some(&1) {
                    machine.handle(now, WorkerInput::SinkReady);
                }
            })?,
        };
        Ok(more)
    }

    fn act(&mut self, now: Time) -> Result<(), TransportError> {
        while let Some(output) = self.machine.poll() {
            match output {
                WorkerOutput::Run(batch) => self.slots.run(self.work(batch)),
                WorkerOutput::ToVentilator(says) => self.tell_ventilator(&says)?,
                WorkerOutput::ToSink(results) => {
                    let topic = (self.pattern == Pattern::PubSub).then(|| RESULTS_TOPIC.into());
                    self.results
                        .send(topic.into_iter().chain([results.frame.into()]).collect())?;
                }
                WorkerOutput::VentilatorFound(_) => log::info!("the ventilator is there"),
                WorkerOutput::VentilatorLost => {
                    log::warn!("the ventilator has been silent for too long")
                }
                WorkerOutput::Finished(job) => {
                    log::info!("job {job} is finished");
                    if self.once {
                        self.exit = Some(WorkerExit::Finished);
                    }
                }
                WorkerOutput::Left => self.exit = Some(WorkerExit::Left),
            }
        }
        self.machine.handle(
            now,
            WorkerInput::SinkBlocked(self.results.waiting_bytes() > MAX_WAITING_RESULTS),
        );
        Ok(())
    }

    fn work(&self, batch: Batch<Body>) -> Work {
        Work {
            author: Author::Worker(self.machine.id()),
            job: batch.job,
            span: batch.span,
            attempt: batch.attempt,
            attempts: batch.attempts,
            operation: None,
            progress: None,
            bounds: Arc::new(Bounds::new(batch.span)),
            body: batch.body,
        }
    }

    fn tell_ventilator(&mut self, says: &WorkerSays) -> Result<(), TransportError> {
        let port = match says {
            // Where work is asked for, the request goes where the reply shall come from.
            WorkerSays::Ask { .. } => &mut self.tasks,
            _ => &mut self.control,
        };
        port.post(vec![driver::control(says).into()])
    }

    fn leave_if_asked(&mut self, now: Time) {
        if self.shared.stop.is_stopped() && self.leave_by.is_none() {
            self.leave_by = Some(now + LEAVE_PATIENCE);
            self.machine.handle(now, WorkerInput::Leave);
        }
    }

    fn watch_sink(&mut self, now: Time) {
        match self.sink_absence.note(now, self.results.is_connected()) {
            Some(Word::Away) => {
                log::warn!(
                    "the sink does not answer at {}; results wait here until it does",
                    self.sink
                );
            }
            Some(Word::Back) => log::info!("the sink is there"),
            None => {}
        }
    }

    fn refusal(&mut self) -> Option<String> {
        let ventilator = self.control.refusal().or_else(|| self.tasks.refusal());
        let ventilator = ventilator.map(|reason| format!("the ventilator: {reason}"));
        ventilator.or_else(|| {
            self.results
                .refusal()
                .map(|reason| format!("the sink: {reason}"))
        })
    }
}

fn input(worked: Worked) -> WorkerInput<Body> {
    WorkerInput::Worked {
        job: worked.job,
        span: worked.span,
        attempt: worked.attempt,
        busy: worked.busy,
        results: worked.results,
        failed: worked.failed,
    }
}

/// Reads a frame of tasks without copying them; a topic before it is passed over.
fn read_tasks(mut message: Message) -> Result<Batch<Body>, WireError> {
    let frame = message.pop().ok_or(WireError::Malformed)?;
    let mut reader = Reader::expect(&frame, Kind::Tasks)?;
    let job = JobId(reader.uint()?);
    let span = Span {
        first: reader.uint()?,
        count: reader.uint32()?,
    };
    let (attempt, attempts) = (reader.uint32()?, reader.uint32()?);
    let bytes = reader.rest().len();
    // Every task takes at least a byte, so a count beyond that is a lie.
    if span.count == 0
        || span.count as usize > bytes
        || span.first.checked_add(u64::from(span.count)).is_none()
    {
        return Err(WireError::Malformed);
    }
    let start = frame.len() - bytes;
    Ok(Batch {
        job,
        span,
        attempt,
        attempts,
        body: Body { frame, start },
        bytes,
    })
}

impl Node for WorkerDriver {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        if let Some(reason) = self.refusal() {
            self.exit = Some(WorkerExit::Refused(reason));
            return Ok(false);
        }
        self.watch_sink(now);
        self.leave_if_asked(now);
        self.machine.wake(now);
        let more = self.receive(now)?;
        for worked in self.slots.worked() {
            self.machine.handle(now, input(worked));
        }
        self.act(now)?;
        for port in [&mut self.tasks, &mut self.control, &mut self.results] {
            port.flush()?;
        }
        if self.leave_by.is_some_and(|by| now >= by) && !self.is_over() {
            // `Left` as well, while results wait that nobody takes.
            self.exit = Some(WorkerExit::LeftUndone);
        }
        Ok(more)
    }

    fn deadline(&self) -> Option<Time> {
        self.machine
            .deadline()
            .into_iter()
            .chain(self.leave_by)
            .chain(self.sink_absence.deadline())
            .min()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        for port in [&self.tasks, &self.control, &self.results] {
            port.interests(sources);
        }
    }

    fn is_over(&self) -> bool {
        match &self.exit {
            Some(WorkerExit::Left | WorkerExit::Finished) => {
                self.results.waiting_bytes() == 0 || self.leave_by.is_none()
            }
            exit => exit.is_some(),
        }
    }

    fn close(&mut self, error: Option<TransportError>) {
        self.slots.close();
        if self.mistakes.count() > 0 {
            log::warn!(
                "malformed messages that the worker dropped: {}",
                self.mistakes.count()
            );
        }
        let failed = error.map(|error| WorkerExit::Failed(error.to_string()));
        self.shared
            .end(failed.or(self.exit.take()).unwrap_or(WorkerExit::Left));
    }
}
