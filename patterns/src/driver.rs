//! The loop that drives a machine: one thread, its sockets, and a wait that always ends.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crate::machine::{Clock, Time};
use crate::transport::{Frame, LinkEvent, Message, SendError, Socket, Source, TransportError};
use crate::wait::{Interest, Sleeper, wait};
use crate::wire::{Kind, Reader, WireError, Writer};

/// Messages taken from one socket before the others have their turn.
pub(crate) const MESSAGES_PER_TURN: usize = 256;

/// Control messages that may wait for a peer; the protocol repeats what matters.
const MAX_WAITING_CONTROL: usize = 4096;

/// Refused handshakes in a row after which the peer is believed.
const REFUSALS_BELIEVED: u32 = 3;

/// What a driver drives: a machine with its sockets and queues.
pub(crate) trait Node: Send + 'static {
    /// Takes what has arrived, does what the machine wants; whether there may be more at once.
    fn turn(&mut self, now: Time) -> Result<bool, TransportError>;

    /// When the next turn is due although nothing arrives.
    fn deadline(&self) -> Option<Time>;

    /// What to wait on.
    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>);

    /// Whether there is nothing left to do.
    fn is_over(&self) -> bool;

    /// Called once, when the loop has ended.
    fn close(&mut self, error: Option<TransportError>);
}

/// Drives `node` in a thread of its own until it is over.
pub(crate) fn spawn<N: Node>(
    name: &str,
    node: N,
    sleeper: Sleeper,
) -> std::io::Result<JoinHandle<()>> {
    spawn_on(Clock::start(), name, node, sleeper)
}

/// The same for a node that reads the clock itself, too.
pub(crate) fn spawn_on<N: Node>(
    clock: Clock,
    name: &str,
    mut node: N,
    sleeper: Sleeper,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_string())
        .spawn(move || {
            // Whoever waits for the node must hear of its end, even of one that is a bug.
            let driven = catch_unwind(AssertUnwindSafe(|| drive(&mut node, &sleeper, &clock)));
            node.close(driven.unwrap_or_else(|_| Err(panicked())).err());
        })
}

pub(crate) fn panicked() -> TransportError {
    TransportError::Failed {
        what: "drive the sockets",
        reason: "their thread panicked, which is a bug".into(),
    }
}

fn drive<N: Node>(node: &mut N, sleeper: &Sleeper, clock: &Clock) -> Result<(), TransportError> {
    while !node.is_over() {
        if node.turn(clock.now())? || node.is_over() {
            continue;
        }
        let mut sources = Vec::with_capacity(8);
        node.interests(&mut sources);
        wait(&sources, sleeper, clock, node.deadline());
    }
    Ok(())
}

/// What became of a message that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The socket has it, or it waits for room.
    Taken,
    /// The peer that it names is not connected; it is dropped.
    Unroutable,
    /// The peer that it names does not read; it is dropped.
    Full,
}

/// A message that the socket would not take yet.
struct Waiting {
    message: Message,
    bytes: usize,
    /// Whether it is lost for ever if it is not sent.
    vital: bool,
}

/// A socket with the messages that it would not take yet.
pub(crate) struct Port {
    socket: Box<dyn Socket>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Those of them that the protocol does not repeat.
    vital_bytes: usize,
    /// Control messages that were dropped because the peer does not read.
    dropped: u64,
    /// Handshakes refused since the last one that went well.
    refusals: u32,
    /// Whether a connection stands; where nothing is reported, one is taken to.
    connected: bool,
    /// Whether it is read from; a port that is not pushes back on its peers.
    open: bool,
}

impl Port {
    pub(crate) fn new(socket: Box<dyn Socket>) -> Port {
        Port {
            connected: socket.link_source().is_none(),
            socket,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            vital_bytes: 0,
            dropped: 0,
            refusals: 0,
            open: true,
        }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether nothing is left to be sent. What the protocol repeats need not wait for a connection that
    /// may come no more.
    pub(crate) fn is_done(&self) -> bool {
        let bytes = match self.connected {
            true => self.waiting_bytes,
            false => self.vital_bytes,
        };
        bytes == 0
    }

    /// Sends a message that must not be dropped: it waits here while the socket is full.
    pub(crate) fn send(&mut self, message: Message) -> Result<Delivery, TransportError> {
        self.send_or_keep(message, true)
    }

    fn send_or_keep(&mut self, message: Message, vital: bool) -> Result<Delivery, TransportError> {
        if self.waiting.is_empty() {
            match self.socket.send(&message) {
                Ok(()) => return Ok(Delivery::Taken),
                Err(SendError::Unroutable) => return Ok(Delivery::Unroutable),
                Err(SendError::Full) => {}
                Err(SendError::Failed(error)) => return Err(error),
            }
        }
        let bytes = message.iter().map(|frame| frame.len()).sum::<usize>();
        self.waiting_bytes += bytes;
        self.vital_bytes += if vital { bytes } else { 0 };
        self.waiting.push_back(Waiting {
            message,
            bytes,
            vital,
        });
        Ok(Delivery::Taken)
    }

    /// Sends a message that the protocol repeats when it is lost: dropped when too many wait.
    pub(crate) fn post(&mut self, message: Message) -> Result<(), TransportError> {
        if self.waiting.len() >= MAX_WAITING_CONTROL {
            self.dropped += 1;
            return Ok(());
        }
        self.send_or_keep(message, false).map(|_| ())
    }

    /// Sends to one of many peers; dropped when that peer does not read, so that none holds up the
    /// others.
    pub(crate) fn post_to(&mut self, message: Message) -> Result<(), TransportError> {
        match self.socket.send(&message) {
            Ok(()) | Err(SendError::Unroutable) => Ok(()),
            Err(SendError::Full) => {
                self.dropped += 1;
                Ok(())
            }
            Err(SendError::Failed(error)) => Err(error),
        }
    }

    /// Sends to one of many peers now or not at all.
    pub(crate) fn send_now(&mut self, message: &[Frame]) -> Result<Delivery, TransportError> {
        match self.socket.send(message) {
            Ok(()) => Ok(Delivery::Taken),
            Err(SendError::Unroutable) => Ok(Delivery::Unroutable),
            Err(SendError::Full) => Ok(Delivery::Full),
            Err(SendError::Failed(error)) => Err(error),
        }
    }

    /// Sends what waits, as far as the socket takes it, and has it on its way: the thread may be busy
    /// with something else next.
    pub(crate) fn flush(&mut self) -> Result<(), TransportError> {
        while let Some(waiting) = self.waiting.front() {
            match self.socket.send(&waiting.message) {
                Ok(()) | Err(SendError::Unroutable) => {}
                Err(SendError::Full) => break,
                Err(SendError::Failed(error)) => return Err(error),
            }
            self.waiting_bytes -= waiting.bytes;
            self.vital_bytes -= if waiting.vital { waiting.bytes } else { 0 };
            self.waiting.pop_front();
        }
        self.socket.flush();
        Ok(())
    }

    /// Stops reading, or starts again.
    pub(crate) fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// Hands over what has arrived, a bounded number at a time; whether there may be more.
    pub(crate) fn receive(&mut self, take: impl FnMut(Message)) -> Result<bool, TransportError> {
        self.receive_some(MESSAGES_PER_TURN, take)
    }

    /// The same, with at most so many.
    pub(crate) fn receive_some(
        &mut self,
        most: usize,
        mut take: impl FnMut(Message),
    ) -> Result<bool, TransportError> {
        if !self.open {
            // Heartbeats go on, where the transport works only in calls.
            self.socket.flush();
        }
        for _ in 0..most {
            match self
                .open
                .then(|| self.socket.receive())
                .transpose()?
                .flatten()
            {
                Some(message) => take(message),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The reason why the peer does not let us in, once it has refused several times in a row: a
    /// peer that dies in the middle of a handshake looks the same, and is let off.
    pub(crate) fn refusal(&mut self) -> Option<String> {
        self.refusal_after(REFUSALS_BELIEVED)
    }

    /// The same with `believed` refusals in a row, the last one included.
    pub(crate) fn refusal_after(&mut self, believed: u32) -> Option<String> {
        while let Some(event) = self.socket.link_event() {
            match event {
                LinkEvent::Connected => (self.refusals, self.connected) = (0, true),
                LinkEvent::Disconnected => self.connected = false,
                LinkEvent::Refused { reason } => {
                    self.refusals += 1;
                    if self.refusals >= believed {
                        return Some(reason);
                    }
                }
            }
        }
        None
    }

    /// Whether the connection that it makes stood when [`refusal`](Port::refusal) last looked.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        if !self.waiting.is_empty() {
            sources.push((self.socket.source(), Interest::ReadableOrWritable));
        } else if self.open {
            sources.push((self.socket.source(), Interest::Readable));
        }
        sources.extend(
            self.socket
                .link_source()
                .map(|source| (source, Interest::Readable)),
        );
    }
}

/// A control message as a frame.
pub(crate) fn control<T: serde::Serialize>(message: &T) -> Vec<u8> {
    // Our own messages hold nothing that MessagePack cannot express.
    Writer::new(Kind::Control)
        .value(message)
        .map(Writer::finish)
        .unwrap_or_default()
}

/// Reads a control message.
pub(crate) fn read_control<T: serde::de::DeserializeOwned>(frame: &[u8]) -> Result<T, WireError> {
    Reader::expect(frame, Kind::Control)?.value()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Clumsy(Sender<Option<String>>);

    impl Node for Clumsy {
        fn turn(&mut self, _now: Time) -> Result<bool, TransportError> {
            panic!("on purpose")
        }

        fn deadline(&self) -> Option<Time> {
            None
        }

        fn interests<'a>(&'a self, _sources: &mut Vec<(Source<'a>, Interest)>) {}

        fn is_over(&self) -> bool {
            false
        }

        fn close(&mut self, error: Option<TransportError>) {
            let _ = self.0.send(error.map(|error| error.to_string()));
        }
    }

    #[test]
    fn a_node_that_panics_is_closed_with_an_error() {
        let (tell, told) = channel();
        let (sleeper, _waker) = Sleeper::new().unwrap();
        let thread = spawn("clumsy", Clumsy(tell), sleeper).unwrap();
        assert!(told.recv().unwrap().unwrap().contains("panicked"));
        thread.join().unwrap();
    }
}
