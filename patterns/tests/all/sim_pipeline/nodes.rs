//! The three programs of a pipeline as one node of the simulator, and what travels between them.

use std::sync::Arc;

use mutirao::machine::Time;
use mutirao::pipeline::{
    JobId, PeerId, SinkSays, Span, VentilatorSays, VentilatorTells, WorkerId, WorkerSays,
};
use mutirao::sim::{Node, NodeId};

use super::sink::SinkNode;
use super::ventilator::VentilatorNode;
use super::worker::WorkerNode;

pub(super) const VENTILATOR: NodeId = NodeId(0);
pub(super) const SINK: NodeId = NodeId(1);

/// The ids of the starts of one worker differ by this much, so that an id names its node.
pub(super) const IDS_PER_START: u64 = 1000;

pub(super) fn node_of(worker: WorkerId) -> NodeId {
    NodeId((worker.0 % IDS_PER_START) as usize)
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Subscribe(WorkerId),
    Tasks {
        job: JobId,
        span: Span,
        attempt: u32,
        attempts: u32,
        body: Arc<[u8]>,
    },
    Worker(WorkerSays),
    /// To the worker of this id, as a router or a topic addresses it.
    Ventilator(WorkerId, VentilatorSays),
    Tells(PeerId, VentilatorTells),
    Sink(PeerId, SinkSays),
    Results {
        worker: WorkerId,
        job: JobId,
        span: Span,
        frame: Arc<[u8]>,
    },
    Acknowledge(WorkerId, JobId, Span),
}

pub(super) enum Program {
    Ventilator(Box<VentilatorNode>),
    Worker(Box<WorkerNode>),
    Sink(Box<SinkNode>),
}

impl Program {
    fn as_dyn(&self) -> &dyn Node<Message = Message> {
        match self {
            Program::Ventilator(node) => node.as_ref(),
            Program::Worker(node) => node.as_ref(),
            Program::Sink(node) => node.as_ref(),
        }
    }

    fn as_dyn_mut(&mut self) -> &mut dyn Node<Message = Message> {
        match self {
            Program::Ventilator(node) => node.as_mut(),
            Program::Worker(node) => node.as_mut(),
            Program::Sink(node) => node.as_mut(),
        }
    }
}

impl Node for Program {
    type Message = Message;

    fn handle(&mut self, now: Time, from: NodeId, message: Message) {
        self.as_dyn_mut().handle(now, from, message);
    }

    fn wake(&mut self, now: Time) {
        self.as_dyn_mut().wake(now);
        let deadline = self.as_dyn().deadline();
        assert!(
            deadline.is_none_or(|deadline| deadline > now),
            "a busy loop: woken at {now:?}, to be woken again at {deadline:?}"
        );
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.as_dyn_mut().poll()
    }

    fn deadline(&self) -> Option<Time> {
        self.as_dyn().deadline()
    }

    fn connection(&mut self, now: Time, peer: NodeId, up: bool) {
        self.as_dyn_mut().connection(now, peer, up);
    }
}
