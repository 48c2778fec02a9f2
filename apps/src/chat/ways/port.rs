//! A socket whose messages may be lost, and what comes of those that cannot be read.

use mutirao::complaints::Complaints;
use mutirao::transport::{
    self, Frame, LinkEvent, Message, Role, SendError, Side, Socket, SocketOptions, Source,
    TransportError,
};
use mutirao::wait::Interest;
use mutirao::{Endpoint, OpenError};
use serde::de::DeserializeOwned;

use crate::chat::wire;

/// Messages taken from one socket before the others have their turn.
const MESSAGES_PER_TURN: usize = 256;

/// Refused handshakes in a row after which they are believed: a peer that dies in the middle of one
/// looks the same.
const REFUSALS_BELIEVED: u32 = 3;

/// The same where we listen: the peer may have given up after three at both of its sockets together.
const REFUSALS_TOLD: u32 = 2;

/// Listening sockets that are tried in search of two free ports side by side.
const PAIRS_TRIED: usize = 32;

/// A socket that drops what it has no room for.
pub(super) struct Port {
    socket: Box<dyn Socket>,
    dropped: u64,
    refusals: u32,
    unreadable: Complaints,
    refused: Complaints,
}

impl Port {
    pub(super) fn open(
        role: Role,
        side: Side,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<Port, OpenError> {
        Ok(Port {
            socket: transport::open(role, side, endpoint, options)?,
            dropped: 0,
            refusals: 0,
            unreadable: Complaints::default(),
            refused: Complaints::default(),
        })
    }

    /// Listens at an endpoint and at the next one; where the system picks the port, both are free.
    pub(super) fn open_pair(
        role: Role,
        next: Role,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<(Port, Port), OpenError> {
        let picked = endpoint.scheme().has_port() && matches!(endpoint.port(), None | Some(0));
        let mut tried = 0;
        loop {
            let first = Port::open(role, Side::Bind, endpoint, options)?;
            tried += 1;
            match Port::open(next, Side::Bind, &first.endpoint().control()?, options) {
                Ok(second) => return Ok((first, second)),
                Err(OpenError::Transport(TransportError::InUse { .. }))
                    if picked && tried < PAIRS_TRIED => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.socket.endpoint()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends a message, or drops and counts it. To a peer that is not there it is dropped as well.
    pub(super) fn post(&mut self, message: &[Frame]) -> Result<(), TransportError> {
        match self.socket.send(message) {
            Ok(()) | Err(SendError::Unroutable) => Ok(()),
            Err(SendError::Full) => {
                self.dropped += 1;
                Ok(())
            }
            Err(SendError::Failed(error)) => Err(error),
        }
    }

    /// Hands over what has arrived, a bounded number at a time; whether there may be more.
    pub(super) fn receive(
        &mut self,
        mut take: impl FnMut(&mut Reader<'_>, Message),
    ) -> Result<bool, TransportError> {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = self.socket.receive()? else {
                return Ok(false);
            };
            take(&mut Reader(&mut self.unreadable), message);
        }
        Ok(true)
    }

    pub(super) fn subscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        self.socket.subscribe(topic)
    }

    pub(super) fn unsubscribe(&mut self, topic: &[u8]) -> Result<(), TransportError> {
        self.socket.unsubscribe(topic)
    }

    pub(super) fn flush(&mut self) {
        self.socket.flush();
    }

    /// Tells the log of peers that do not get in where we listen.
    pub(super) fn note_refusals(&mut self) {
        if let Some(reason) = self.refusal_after(REFUSALS_TOLD) {
            self.refused.add(&"somebody does not get in", &reason);
        }
    }

    /// Why the peer does not let us in, once it has refused several times in a row.
    pub(super) fn refusal(&mut self) -> Option<String> {
        self.refusal_after(REFUSALS_BELIEVED)
    }

    fn refusal_after(&mut self, believed: u32) -> Option<String> {
        while let Some(event) = self.socket.link_event() {
            match event {
                LinkEvent::Connected => self.refusals = 0,
                LinkEvent::Disconnected => {}
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

    pub(super) fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        sources.push((self.socket.source(), Interest::Readable));
        let links = self.socket.link_source();
        sources.extend(links.map(|source| (source, Interest::Readable)));
    }
}

/// Reads packets, and counts what is none.
pub(super) struct Reader<'a>(&'a mut Complaints);

impl Reader<'_> {
    /// The packet in a frame.
    pub(super) fn read<T: DeserializeOwned>(&mut self, frame: Option<&Frame>) -> Option<T> {
        let Some(frame) = frame else {
            self.complain(&"a frame is missing");
            return None;
        };
        match wire::decode(frame) {
            Ok(packet) => Some(packet),
            Err(error) => {
                self.complain(&error);
                None
            }
        }
    }

    /// Counts something that cannot be read.
    pub(super) fn complain(&mut self, what: &dyn std::fmt::Display) {
        self.0.add(&"dropped a message", what);
    }
}
