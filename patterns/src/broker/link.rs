//! A client's machine with its socket; what is done with its outputs is the object's.

use crate::complaints::Complaints;
use crate::driver::Port;
use crate::endpoint::Endpoint;
use crate::machine::{Machine, Time};
use crate::pipeline::JobId;
use crate::station::OpenError;
use crate::transport::{self, Role, Side, SocketOptions, Source, TransportError};
use crate::wait::Interest;
use crate::wire::Kind;

use super::BROKER;
use super::client::{ClientInput, ClientLimits, ClientMachine, ClientOutput};
use super::frames::{self, AtClient};
use super::json::{Codec, End};
use super::protocol::ClientSays;

/// Settings of a client of a broker: of a [`Submitter`](super::Submitter), a
/// [`Fetcher`](super::Fetcher) or a [`Console`](super::Console).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where the broker listens.
    pub broker: Endpoint,
    /// How messages are written; the broker understands either.
    pub codec: Codec,
    /// Times and bounds.
    pub limits: ClientLimits,
    /// Bytes of tasks that may wait to be accepted; submitting blocks beyond it.
    pub unaccepted_bytes: usize,
    /// Socket and security.
    pub socket: SocketOptions,
}

impl ClientConfig {
    /// Settings with defaults for all but the endpoint.
    pub fn new(broker: Endpoint) -> ClientConfig {
        ClientConfig {
            broker,
            codec: Codec::default(),
            limits: ClientLimits::default(),
            unaccepted_bytes: 32 << 20,
            socket: SocketOptions::default(),
        }
    }
}

/// Why a client cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// It was stopped from outside.
    #[error("stopped")]
    Stopped,
    /// The broker does not take the job, has lost it, or it was cancelled.
    #[error("job {job}: {reason}")]
    Refused {
        /// Which job.
        job: JobId,
        /// One sentence.
        reason: String,
    },
    /// The task cannot be encoded or is larger than a message may be; it was not handed in.
    #[error("the task cannot be sent: {0}")]
    Unsendable(String),
    /// It took longer than it may.
    #[error("the broker at {0} did not answer in time: check that it runs; nothing is lost")]
    TimedOut(Endpoint),
    /// The handshake or the socket failed.
    #[error("{0}")]
    Failed(String),
}

/// The machine and the socket of a client.
pub(super) struct Link {
    pub(super) machine: ClientMachine,
    port: Port,
    codec: Codec,
    /// Why the broker wants nothing to do with us.
    refused: Option<String>,
    mistakes: Complaints,
}

impl Link {
    pub(super) fn open(config: &ClientConfig) -> Result<Link, OpenError> {
        let watched = SocketOptions {
            watch_links: true,
            max_message_bytes: config.codec.frame_bytes(config.socket.max_message_bytes),
            ..config.socket.clone()
        };
        let broker = &config.broker;
        let socket =
            transport::open_complete(BROKER, Role::Dealer, Side::Connect, broker, &watched)?;
        Ok(Link {
            machine: ClientMachine::new(config.limits.clone()),
            port: Port::new(socket),
            codec: config.codec,
            refused: None,
            mistakes: Complaints::default(),
        })
    }

    /// Why the broker does not let us in, if so.
    pub(super) fn refusal(&mut self) -> Option<ClientError> {
        let reason = self.port.refusal().or(self.refused.take())?;
        Some(ClientError::Failed(format!("the broker: {reason}")))
    }

    pub(super) fn receive(&mut self, now: Time) -> Result<bool, TransportError> {
        let Link {
            machine,
            port,
            refused,
            mistakes,
            ..
        } = self;
        machine.wake(now);
        port.receive(
            |mut message| match message.pop().map(frames::read_at_client) {
                Some(Ok(AtClient::Says(says))) if says.refuses_all().is_some() => {
                    *refused = says.refuses_all().map(str::to_string);
                }
                Some(Ok(AtClient::Says(says))) => machine.handle(now, ClientInput::Broker(says)),
                Some(Ok(AtClient::Outcomes(job, span, records))) => {
                    machine.handle(now, ClientInput::Results { job, span, records });
                }
                Some(Err(error)) => mistakes.add(&"client, from the broker", &error),
                None => {}
            },
        )
    }

    /// Sends what the machine wants sent, and returns the first output that is for the object.
    pub(super) fn next(&mut self) -> Result<Option<ClientOutput>, TransportError> {
        while let Some(output) = self.machine.poll() {
            match output {
                ClientOutput::Say(says) => self.say(&says)?,
                ClientOutput::Submit(frame) => {
                    let frame = self.codec.outgoing(End::Broker, frame.into());
                    self.port.send(vec![frame])?;
                }
                other => return Ok(Some(other)),
            }
        }
        self.port.flush()?;
        Ok(None)
    }

    fn say(&mut self, says: &ClientSays) -> Result<(), TransportError> {
        let frame = frames::control(Kind::Client, says);
        let message = vec![self.codec.outgoing(End::Broker, frame)];
        match says {
            // A broker that does not come back shall not have them pile up.
            ClientSays::Beat { .. } => self.port.post(message),
            _ => self.port.send(message).map(|_| ()),
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }

    pub(super) fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.port.interests(sources);
    }

    /// Whether everything has been handed to the socket.
    pub(super) fn is_flushed(&self) -> bool {
        self.port.waiting_bytes() == 0
    }
}
