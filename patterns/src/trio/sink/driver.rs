//! The sink's machine with its sockets.

use std::collections::HashMap;
use std::sync::Arc;

use crate::complaints::Complaints;
use crate::driver::{self, Node, Port};
use crate::endpoint::Endpoint;
use crate::machine::{Machine, Time};
use crate::pipeline::{
    Incarnation, JobId, PeerId, SinkInput, SinkMachine, SinkOutput, Span, VentilatorTells, WorkerId,
};
use crate::station::OpenError;
use crate::transport::{Message, Source, TransportError};
use crate::wait::Interest;
use crate::wire::{Kind, Reader, WireError};

use super::super::doors::Doors;
use super::super::{Pattern, RESULTS_TOPIC, listen};
use super::{Delivery, Notice, Order, Shared, SinkConfig, SinkError};

/// Ventilators that are told apart at once; the oldest are forgotten beyond it.
const MAX_PEERS: usize = 4096;

pub(super) struct SinkDriver {
    machine: SinkMachine<Body>,
    pattern: Pattern,
    queue_bytes: usize,
    shared: Arc<Shared>,
    endpoint: Endpoint,
    data: Port,
    control: Port,
    peers: Peers,
    /// Where the workers are reached that want an answer to their results.
    workers: HashMap<WorkerId, Vec<u8>>,
    doors: Doors,
    mistakes: Complaints,
    over: bool,
}

/// A frame of results, from the first result on.
#[derive(Debug)]
struct Body {
    frame: crate::transport::Frame,
    start: usize,
}

/// The ventilators' routing ids, numbered.
#[derive(Default)]
struct Peers {
    by_route: HashMap<Vec<u8>, PeerId>,
    routes: std::collections::BTreeMap<PeerId, Vec<u8>>,
    next: PeerId,
}

impl Peers {
    fn number(&mut self, route: &[u8]) -> PeerId {
        if let Some(&peer) = self.by_route.get(route) {
            return peer;
        }
        if self.routes.len() == MAX_PEERS
            && let Some((_, oldest)) = self.routes.pop_first()
        {
            self.by_route.remove(&oldest);
        }
        self.next += 1;
        self.by_route.insert(route.to_vec(), self.next);
        self.routes.insert(self.next, route.to_vec());
        self.next
    }
}

impl SinkDriver {
    pub(super) fn open(config: &SinkConfig, shared: Arc<Shared>) -> Result<SinkDriver, OpenError> {
        let role = match config.pattern {
            Pattern::ReqRep => crate::transport::Role::Router,
            pattern => pattern.roles().1,
        };
        let (mut data, control) = listen(role, &config.bind, &config.socket)?;
        if config.pattern == Pattern::PubSub {
            data.subscribe(RESULTS_TOPIC)?;
        }
        Ok(SinkDriver {
            machine: SinkMachine::new(Incarnation(rand::random()), config.limits.clone()),
            pattern: config.pattern,
            queue_bytes: config.queue_bytes,
            shared,
            endpoint: data.endpoint().clone(),
            data: Port::new(data),
            control: Port::new(control),
            peers: Peers::default(),
            workers: HashMap::new(),
            doors: Doors::default(),
            mistakes: Complaints::default(),
            over: false,
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn receive(&mut self, now: Time) -> Result<bool, TransportError> {
        let SinkDriver {
            machine,
            data,
            control,
            peers,
            mistakes,
            workers,
            pattern,
            ..
        } = self;
        let mut more = control.receive(|message| {
            if let [route, body] = message.as_slice() {
                match driver::read_control::<VentilatorTells>(body) {
                    Ok(tells) => {
                        machine.handle(now, SinkInput::Ventilator(peers.number(route), tells))
                    }
                    Err(error) => mistakes.add(&"sink, control", &error),
                }
            }
        })?;
        more |= data.receive(|mut message| match read_results(&mut message) {
            Ok((worker, job, span, body)) => {
                if *pattern == Pattern::ReqRep
                    && workers
                        .get(&worker)
                        .is_none_or(|route| **route != *message[0])
                {
                    if workers.len() >= MAX_PEERS {
                        workers.clear();
                    }
                    workers.insert(worker, message[0].to_vec());
                }
                machine.handle(
                    now,
                    SinkInput::Results {
                        worker,
                        job,
                        span,
                        body,
                    },
                );
            }
            Err(error) => mistakes.add(&"sink, results", &error),
        })?;
        Ok(more)
    }

    /// Carries out what the program has said.
    fn take_orders(&mut self, now: Time) {
        let orders = std::mem::take(&mut self.shared.queues.lock().orders);
        for order in orders {
            let order = match order {
                Order::Resume(job, safe, failed) => SinkInput::Resume(job, safe, failed),
                Order::Refuse(job, reason) => SinkInput::Refuse(job, reason),
                Order::Confirm(job, safe, failed) => SinkInput::Confirm(job, safe, failed),
                Order::Defer(job, tasks) => SinkInput::Defer(job, tasks),
                Order::Close(job, bytes) => SinkInput::Close(job, bytes),
            };
            self.machine.handle(now, order);
        }
    }

    fn act(&mut self) -> Result<(), TransportError> {
        let mut notices = Vec::new();
        while let Some(output) = self.machine.poll() {
            match output {
                SinkOutput::ToVentilator(peer, says) => {
                    if let Some(route) = self.peers.routes.get(&peer) {
                        self.control
                            .post_to(vec![route.clone().into(), driver::control(&says).into()])?;
                    }
                }
                SinkOutput::Acknowledge(worker, job, span) => {
                    self.acknowledge(worker, job, span)?
                }
                SinkOutput::Open(job) => {
                    log::info!("job {job} is announced");
                    notices.push(Notice::Opened(job));
                }
                SinkOutput::Deliver {
                    job,
                    span,
                    fresh,
                    body,
                } => {
                    notices.push(Notice::Delivery(Delivery {
                        job,
                        span,
                        fresh,
                        frame: body.frame,
                        start: body.start,
                    }));
                }
                SinkOutput::Abandon(job) => {
                    log::warn!("job {job}: its ventilator is gone; what is safe stays safe");
                    notices.push(Notice::Abandoned(job));
                }
                SinkOutput::Complete(job) => {
                    log::info!("job {job} is complete");
                    notices.push(Notice::Complete(job));
                }
            }
        }
        self.hand_over(notices);
        Ok(())
    }

    fn acknowledge(
        &mut self,
        worker: WorkerId,
        job: JobId,
        span: Span,
    ) -> Result<(), TransportError> {
        match self.workers.get(&worker) {
            Some(route) if self.pattern == Pattern::ReqRep => self.data.post_to(vec![
                route.clone().into(),
                driver::control(&(job, span)).into(),
            ]),
            _ => Ok(()),
        }
    }

    /// Hands notices to the program, and stops reading results while it does not keep up.
    fn hand_over(&mut self, notices: Vec<Notice>) {
        let mut queues = self.shared.queues.lock();
        for notice in notices {
            if let Notice::Delivery(delivery) = &notice {
                queues.bytes += delivery.frame.len();
            }
            queues.notices.push_back(notice);
        }
        if queues.bytes > self.queue_bytes {
            queues.choked = true;
        }
        self.data.set_open(!queues.choked);
        if !queues.notices.is_empty() {
            self.shared.queues.notify();
        }
    }
}

/// Reads a frame of results without copying them and leaves what stands before it.
fn read_results(message: &mut Message) -> Result<(WorkerId, JobId, Span, Body), WireError> {
    let frame = message.pop().ok_or(WireError::Malformed)?;
    let mut reader = Reader::expect(&frame, Kind::Results)?;
    let job = JobId(reader.uint()?);
    let worker = WorkerId(reader.uint()?);
    let span = Span {
        first: reader.uint()?,
        count: reader.uint32()?,
    };
    let bytes = reader.rest().len();
    // Every result takes at least two bytes, so a count beyond that is a lie.
    let lies = span.count == 0 || span.count as usize > bytes / 2;
    if lies || span.first.checked_add(u64::from(span.count)).is_none() {
        return Err(WireError::Malformed);
    }
    let start = frame.len() - bytes;
    Ok((worker, job, span, Body { frame, start }))
}

impl Node for SinkDriver {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        if self.shared.stop.is_stopped() {
            self.over = true;
        }
        self.doors.look([&mut self.data, &mut self.control]);
        let busy = self.shared.queues.lock().choked;
        self.machine.handle(now, SinkInput::Busy(busy));
        self.machine.wake(now);
        let more = self.receive(now)?;
        self.take_orders(now);
        self.act()?;
        self.control.flush()?;
        self.data.flush()?;
        Ok(more && !self.over)
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.data.interests(sources);
        self.control.interests(sources);
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn close(&mut self, error: Option<TransportError>) {
        if self.mistakes.count() > 0 {
            log::warn!(
                "malformed messages that the sink dropped: {}",
                self.mistakes.count()
            );
        }
        if self.machine.strays() > 0 {
            log::info!(
                "the sink dropped {} frames of jobs that it does not know",
                self.machine.strays()
            );
        }
        let mut queues = self.shared.queues.lock();
        queues.end = Some(error.map_or(SinkError::Stopped, |error| {
            SinkError::Failed(error.to_string())
        }));
        self.shared.queues.notify();
    }
}
