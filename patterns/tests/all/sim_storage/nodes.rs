//! Head, data node and client as one node of the simulator, and what travels between them.

use mutirao::machine::Time;
use mutirao::sim::{Node, NodeId};
use mutirao::storage::{ClientAsks, DataSays, HeadAsks, HeadSays, HeadTells};

use super::client::ClientNode;
use super::data::DataNode;
use super::head::HeadNode;

#[derive(Clone, Debug)]
pub(super) enum Message {
    Asks(ClientAsks),
    Tells(HeadTells),
    ToData(HeadAsks),
    FromData(DataSays),
    Heads(HeadSays),
}

pub(super) enum Program {
    Head(Box<HeadNode>),
    Data(Box<DataNode>),
    Client(Box<ClientNode>),
}

impl Program {
    fn as_dyn(&self) -> &dyn Node<Message = Message> {
        match self {
            Program::Head(node) => node.as_ref(),
            Program::Data(node) => node.as_ref(),
            Program::Client(node) => node.as_ref(),
        }
    }

    fn as_dyn_mut(&mut self) -> &mut dyn Node<Message = Message> {
        match self {
            Program::Head(node) => node.as_mut(),
            Program::Data(node) => node.as_mut(),
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
}
