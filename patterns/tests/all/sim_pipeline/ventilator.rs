//! A ventilator as its driver and its application run it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{
    Dispatch, Incarnation, JobId, Limits, TaskId, VentilatorInput, VentilatorMachine,
    VentilatorOutput, WorkerId, WorkerSays,
};
use mutirao::sim::{Node, NodeId};
use mutirao::wire::Records;

use super::nodes::{Message, SINK, VENTILATOR, node_of};
use super::work::Work;

pub(super) struct VentilatorNode {
    pub(super) machine: VentilatorMachine,
    work: Work,
    dispatch: Dispatch,
    limits: Limits,
    incarnation: Incarnation,
    /// Tasks handed in at once.
    chunk: u64,
    submitted: u64,
    finishing: bool,
    outbox: VecDeque<(NodeId, Message)>,
    /// Workers that are connected, in turn.
    connected: VecDeque<NodeId>,
    subscribed: BTreeMap<NodeId, BTreeSet<WorkerId>>,
    pub(super) finished: bool,
    pub(super) refused: Option<String>,
    pub(super) failed: BTreeMap<TaskId, String>,
    pub(super) lost: u64,
}

impl VentilatorNode {
    pub(super) fn new(
        work: Work,
        dispatch: Dispatch,
        limits: Limits,
        incarnation: Incarnation,
        chunk: u64,
    ) -> VentilatorNode {
        let mut node = VentilatorNode {
            machine: VentilatorMachine::new(JobId(7), incarnation, dispatch, limits.clone()),
            work,
            dispatch,
            limits,
            incarnation,
            chunk,
            submitted: 0,
            finishing: false,
            outbox: VecDeque::new(),
            connected: VecDeque::new(),
            subscribed: BTreeMap::new(),
            finished: false,
            refused: None,
            failed: BTreeMap::new(),
            lost: 0,
        };
        node.feed(Time::START);
        node
    }

    /// Hands in tasks while the window has room.
    fn feed(&mut self, now: Time) {
        while self.submitted < self.work.tasks && self.machine.has_room() {
            let end = self.work.tasks.min(self.submitted + self.chunk);
            let mut records = Records::default();
            for task in self.submitted..end {
                records.push(&self.work.content(task)).expect("a number");
            }
            self.submitted = end;
            self.machine.handle(now, VentilatorInput::Submit(records));
        }
        if self.submitted == self.work.tasks && !self.finishing {
            self.finishing = true;
            self.machine.handle(now, VentilatorInput::Finish);
        }
    }

    fn input(&mut self, now: Time, input: VentilatorInput) {
        self.machine.handle(now, input);
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        self.feed(now);
        while let Some(output) = self.machine.poll() {
            self.act(output);
            self.feed(now);
        }
        let unconfirmed = self.machine.progress().submitted - self.machine.progress().safe;
        let bound = self.limits.window_tasks as u64 + self.chunk;
        assert!(
            unconfirmed < bound,
            "{unconfirmed} unconfirmed tasks, the window is {bound}"
        );
    }

    fn act(&mut self, output: VentilatorOutput) {
        match output {
            VentilatorOutput::Tasks(to, tasks) => {
                let Some(to) = self.route(to) else {
                    return;
                };
                let message = Message::Tasks {
                    job: self.machine.job(),
                    span: tasks.span,
                    attempt: tasks.attempt,
                    attempts: tasks.attempts,
                    body: Arc::from(tasks.bytes()),
                };
                self.outbox.push_back((to, message));
            }
            VentilatorOutput::ToWorker(worker, says) => {
                let message = Message::Ventilator(worker, says);
                self.outbox.push_back((node_of(worker), message));
            }
            VentilatorOutput::ToSink(tells) => {
                let message = Message::Tells(self.incarnation.0, tells);
                self.outbox.push_back((SINK, message));
            }
            VentilatorOutput::WorkerJoined(_) | VentilatorOutput::SinkOpened(_) => {}
            VentilatorOutput::WorkerLost(_) => self.lost += 1,
            VentilatorOutput::Stubborn(_) => {}
            VentilatorOutput::SinkRefused(reason) => self.refused = Some(reason),
            VentilatorOutput::TaskFailed(task, reason) => {
                let twice = self.failed.insert(task, reason).is_some();
                assert!(!twice, "the failure of task {task} was reported twice");
            }
            VentilatorOutput::Finished => self.finished = true,
        }
    }

    /// Where the sockets take a batch.
    fn route(&mut self, to: Option<WorkerId>) -> Option<NodeId> {
        match (self.dispatch, to) {
            (Dispatch::Anyone, _) => {
                self.connected.rotate_left(1.min(self.connected.len()));
                self.connected.front().copied()
            }
            (Dispatch::Asked, to) => to.map(node_of),
            (Dispatch::Addressed, to) => to
                .filter(|worker| {
                    let subscribed = self.subscribed.get(&node_of(*worker));
                    subscribed.is_some_and(|workers| workers.contains(worker))
                })
                .map(node_of),
        }
    }

    fn hear(&mut self, now: Time, from: NodeId, message: Message) {
        match message {
            Message::Worker(says) => self.input(now, VentilatorInput::Worker(says)),
            Message::Sink(peer, says) if peer == self.incarnation.0 => {
                self.input(now, VentilatorInput::Sink(says));
            }
            Message::Subscribe(worker) => {
                self.subscribed.entry(from).or_default().insert(worker);
                self.input(now, VentilatorInput::Subscribed(worker));
            }
            _ => {}
        }
    }
}

impl Node for VentilatorNode {
    type Message = Message;

    fn handle(&mut self, now: Time, from: NodeId, message: Message) {
        // A push socket gives work to whoever is connected; datagrams come without a connection.
        let worker_speaks = matches!(
            message,
            Message::Worker(WorkerSays::Hello { .. } | WorkerSays::Beat { .. })
        );
        if worker_speaks && !self.connected.contains(&from) {
            self.connected.push_back(from);
        }
        self.hear(now, from, message);
    }

    fn wake(&mut self, now: Time) {
        self.machine.wake(now);
        self.settle(now);
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }

    fn connection(&mut self, now: Time, peer: NodeId, up: bool) {
        if peer == SINK || peer == VENTILATOR {
            return;
        }
        self.connected.retain(|&node| node != peer);
        if up {
            self.connected.push_back(peer);
            return;
        }
        for worker in self.subscribed.remove(&peer).unwrap_or_default() {
            self.input(now, VentilatorInput::Unsubscribed(worker));
        }
    }
}
