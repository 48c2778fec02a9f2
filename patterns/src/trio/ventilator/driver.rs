//! The ventilator's machine with its sockets.

use std::collections::HashMap;
use std::sync::Arc;

use crate::complaints::Complaints;
use crate::driver::{self, Delivery, Node, Port};
use crate::endpoint::Endpoint;
use crate::machine::{Machine, Time};
use crate::pipeline::{
    Incarnation, TaskId, VentilatorInput, VentilatorMachine, VentilatorOutput, VentilatorSays,
    WorkerId, WorkerSays,
};
use crate::station::OpenError;
use crate::transport::{self, Frame, Role, Side, SocketOptions, Source, TransportError};
use crate::wait::Interest;

use super::super::doors::Doors;
use super::super::{Pattern, TRIO, listen, partition};
use super::stage::Shared;
use super::{FinishError, VentilatorConfig};

/// Failures that are kept with their reasons; more are only counted.
const MAX_FAILURES: usize = 1000;

pub(super) struct VentilatorDriver {
    machine: VentilatorMachine,
    pattern: Pattern,
    shared: Arc<Shared>,
    endpoint: Endpoint,
    data: Port,
    control: Port,
    sink: Port,
    /// Routing ids of the workers on the control socket and, where they ask, on the data socket.
    control_routes: HashMap<WorkerId, Vec<u8>>,
    data_routes: HashMap<WorkerId, Vec<u8>>,
    doors: Doors,
    mistakes: Complaints,
    over: bool,
}

impl VentilatorDriver {
    pub(super) fn open(
        config: &VentilatorConfig,
        shared: Arc<Shared>,
    ) -> Result<VentilatorDriver, OpenError> {
        let role = match config.pattern {
            Pattern::ReqRep => Role::Router,
            pattern => pattern.roles().0,
        };
        let (data, control) = listen(role, &config.bind, &config.socket)?;
        let watched = SocketOptions {
            watch_links: true,
            ..config.socket.clone()
        };
        let sink = transport::open_complete(
            TRIO,
            Role::Dealer,
            Side::Connect,
            &config.sink.control()?,
            &watched,
        )?;
        let machine = VentilatorMachine::new(
            config.job,
            Incarnation(rand::random()),
            config.pattern.dispatch(),
            config.limits.clone(),
        );
        Ok(VentilatorDriver {
            machine,
            pattern: config.pattern,
            shared,
            endpoint: data.endpoint().clone(),
            data: Port::new(data),
            control: Port::new(control),
            sink: Port::new(sink),
            control_routes: HashMap::new(),
            data_routes: HashMap::new(),
            doors: Doors::default(),
            mistakes: Complaints::default(),
            over: false,
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes tasks from the program while the window has room.
    fn take_tasks(&mut self, now: Time) -> bool {
        let mut stage = self.shared.stage.lock();
        let safe_before = stage.progress.safe;
        stage.progress = self.machine.progress();
        stage.sink_is_open = self.machine.sink_is_alive(now);
        if stage.closed && stage.progress.safe != safe_before {
            self.shared.stage.notify();
        }
        if stage.cut {
            self.machine.handle(now, VentilatorInput::Cut);
            stage.progress = self.machine.progress();
            stage.cut = false;
            self.shared.stage.notify();
        }
        let mut taken = false;
        if self.machine.has_room() && !stage.records.is_empty() {
            let records = std::mem::take(&mut stage.records);
            stage.progress.submitted += records.len() as u64;
            self.shared.stage.notify();
            drop(stage);
            self.machine.handle(now, VentilatorInput::Submit(records));
            stage = self.shared.stage.lock();
            taken = true;
        }
        if stage.no_more && stage.records.is_empty() {
            stage.no_more = false;
            drop(stage);
            self.machine.handle(now, VentilatorInput::Finish);
        }
        taken
    }

    fn receive(&mut self, now: Time) -> Result<bool, TransportError> {
        let VentilatorDriver {
            machine,
            data,
            control,
            sink,
            mistakes,
            control_routes,
            data_routes,
            ..
        } = self;
        let mut more = control.receive(|message| {
            if let [route, body] = message.as_slice() {
                match driver::read_control::<WorkerSays>(body) {
                    Ok(says) => {
                        learn(control_routes, says.worker(), route);
                        machine.handle(now, VentilatorInput::Worker(says));
                    }
                    Err(error) => mistakes.add(&"ventilator, control", &error),
                }
            }
        })?;
        more |= sink.receive(|message| match driver::read_control(&message[0]) {
            Ok(says) => machine.handle(now, VentilatorInput::Sink(says)),
            Err(error) => mistakes.add(&"ventilator, from the sink", &error),
        })?;
        more |= match self.pattern {
            Pattern::PushPull => false,
            Pattern::ReqRep => data.receive(|message| {
                if let [route, body] = message.as_slice() {
                    match driver::read_control::<WorkerSays>(body) {
                        Ok(says) => {
                            learn(data_routes, says.worker(), route);
                            machine.handle(now, VentilatorInput::Worker(says));
                        }
                        Err(error) => mistakes.add(&"ventilator, requests", &error),
                    }
                }
            })?,
            Pattern::PubSub => data.receive(|message| {
                if let Some(input) = subscription(&message[0]) {
                    machine.handle(now, input);
                }
            })?,
        };
        Ok(more)
    }

    fn act(&mut self, now: Time) -> Result<(), TransportError> {
        let job = self.machine.job();
        while let Some(output) = self.machine.poll() {
            match output {
                VentilatorOutput::Tasks(to, tasks) => {
                    let sent = self.send_tasks(to, tasks.frame(job))?;
                    if let (Delivery::Unroutable, Some(worker)) = (sent, to) {
                        let undelivered = VentilatorInput::Undelivered(worker, tasks.span);
                        self.machine.handle(now, undelivered);
                    }
                }
                VentilatorOutput::ToWorker(worker, says) => self.tell_worker(worker, &says)?,
                VentilatorOutput::ToSink(tells) => {
                    self.sink.post(vec![driver::control(&tells).into()])?
                }
                VentilatorOutput::WorkerJoined(worker) => log::info!("worker {worker} has joined"),
                VentilatorOutput::Stubborn(span) => log::warn!(
                    "tasks {} to {} were sent several times and nothing came of it: is the largest payload the same for all roles, or do these tasks kill their workers?",
                    span.first,
                    span.end() - 1
                ),
                VentilatorOutput::WorkerLost(worker) => {
                    log::warn!(
                        "worker {worker} has been silent for too long; its tasks go to others"
                    );
                    self.control_routes.remove(&worker);
                    self.data_routes.remove(&worker);
                }
                VentilatorOutput::SinkOpened(safe) => {
                    log::info!(
                        "the sink is ready; results safe there, unknown to us so far: {safe}"
                    );
                }
                VentilatorOutput::SinkRefused(reason) => {
                    self.end(Err(FinishError::Refused(reason)))
                }
                VentilatorOutput::TaskFailed(task, reason) => self.note_failure(task, reason),
                VentilatorOutput::Finished => self.end(Ok(())),
            }
        }
        Ok(())
    }

    /// Sends a batch; whether there is somebody to send it to.
    fn send_tasks(
        &mut self,
        to: Option<WorkerId>,
        frame: Vec<u8>,
    ) -> Result<Delivery, TransportError> {
        let address: Option<Frame> = match (self.pattern, to) {
            (Pattern::ReqRep, Some(worker)) => match self.data_routes.get(&worker) {
                Some(route) => Some(route.clone().into()),
                None => return Ok(Delivery::Unroutable),
            },
            (Pattern::PubSub, Some(worker)) => Some(partition(worker).into_bytes().into()),
            _ => None,
        };
        self.data
            .send(address.into_iter().chain([frame.into()]).collect())
    }

    fn tell_worker(
        &mut self,
        worker: WorkerId,
        says: &VentilatorSays,
    ) -> Result<(), TransportError> {
        match self.control_routes.get(&worker) {
            Some(route) => self
                .control
                .post_to(vec![route.clone().into(), driver::control(says).into()]),
            None => Ok(()),
        }
    }

    fn note_failure(&self, task: TaskId, reason: String) {
        let mut stage = self.shared.stage.lock();
        if stage.failures.len() < MAX_FAILURES {
            stage.failures.push((task, reason));
        }
    }

    fn end(&mut self, result: Result<(), FinishError>) {
        self.over = true;
        let mut stage = self.shared.stage.lock();
        stage.progress = self.machine.progress();
        stage.end.get_or_insert(result);
        self.shared.stage.notify();
    }
}

/// Remembers where a worker is reached; it may have reconnected.
fn learn(routes: &mut HashMap<WorkerId, Vec<u8>>, worker: WorkerId, route: &[u8]) {
    const MAX_ROUTES: usize = 1 << 17;
    let full = routes.len() >= MAX_ROUTES;
    match routes.get_mut(&worker) {
        Some(known) if known == route => {}
        Some(known) => *known = route.to_vec(),
        None if full => {}
        None => {
            routes.insert(worker, route.to_vec());
        }
    }
}

/// Reads a worker's subscription to its partition.
fn subscription(message: &[u8]) -> Option<VentilatorInput> {
    let (&subscribes, topic) = message.split_first()?;
    let worker = std::str::from_utf8(topic).ok()?.strip_prefix("tasks/")?;
    let worker = WorkerId(u64::from_str_radix(worker, 16).ok()?);
    Some(match subscribes {
        0 => VentilatorInput::Unsubscribed(worker),
        _ => VentilatorInput::Subscribed(worker),
    })
}

impl Node for VentilatorDriver {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        if self.shared.stop.is_stopped() {
            self.end(Err(FinishError::Stopped));
            return Ok(false);
        }
        if let Some(reason) = self.sink.refusal() {
            self.end(Err(FinishError::Refused(format!("the sink: {reason}"))));
            return Ok(false);
        }
        self.doors.look([&mut self.data, &mut self.control]);
        self.machine.wake(now);
        let mut more = self.receive(now)?;
        more |= self.take_tasks(now);
        self.act(now)?;
        for port in [&mut self.data, &mut self.control, &mut self.sink] {
            port.flush()?;
        }
        Ok(more)
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        for port in [&self.data, &self.control, &self.sink] {
            port.interests(sources);
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn close(&mut self, error: Option<TransportError>) {
        if self.mistakes.count() > 0 {
            log::warn!(
                "malformed messages that the ventilator dropped: {}",
                self.mistakes.count()
            );
        }
        let error = error.map_or(FinishError::Stopped, |error| {
            FinishError::Failed(error.to_string())
        });
        self.end(Err(error));
    }
}
