//! Broker, worker and client as one node of the simulator, and what travels between them.

use mutirao::broker::{BrokerSays, BrokerTells, ClientSays, Grant, LeaseId, Slice, WorkerTells};
use mutirao::machine::Time;
use mutirao::pipeline::{JobId, Span};
use mutirao::sim::{Node, NodeId};

use std::time::Duration;

use super::broker::BrokerNode;
use super::client::ClientNode;
use super::worker::WorkerNode;

pub(super) const BROKER: NodeId = NodeId(0);

/// What travels to the broker.
#[derive(Clone, Debug)]
pub(super) enum ToBroker {
    Client(ClientSays),
    Submit {
        job: JobId,
        span: Span,
        records: Slice,
    },
    Worker(WorkerTells),
    Worked {
        lease: LeaseId,
        span: Span,
        busy: Duration,
        records: Slice,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    /// Over which connection of the sender, counted by the sender.
    ToBroker(u64, ToBroker),
    Says(BrokerSays),
    Tells(BrokerTells),
    Grant(Grant),
    Results {
        job: JobId,
        span: Span,
        records: Slice,
    },
}

pub(super) enum Program {
    Broker(Box<BrokerNode>),
    Worker(Box<WorkerNode>),
    Client(Box<ClientNode>),
}

impl Program {
    fn as_dyn(&self) -> &dyn Node<Message = Message> {
        match self {
            Program::Broker(node) => node.as_ref(),
            Program::Worker(node) => node.as_ref(),
            Program::Client(node) => node.as_ref(),
        }
    }

    fn as_dyn_mut(&mut self) -> &mut dyn Node<Message = Message> {
        match self {
            Program::Broker(node) => node.as_mut(),
            Program::Worker(node) => node.as_mut(),
            Program::Client(node) => node.as_mut(),
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
