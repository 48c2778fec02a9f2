//! The way to one head: where it is told something, and where its beats are heard.

use std::time::Duration;

use crate::driver::Port;
use crate::endpoint::Endpoint;
use crate::machine::Time;
use crate::security::Security;
use crate::station::OpenError;
use crate::transport::{self, Frame, Message, Role, Side, SocketOptions, TransportError};

use super::super::super::HeadId;
use super::super::envelope::BeatsAt;
use super::super::{ENVELOPE_BYTES, beats_endpoint};

/// How often the head hears where this node is, whether it asks or not.
const HELLO_EVERY: Duration = Duration::from_secs(1);

/// Messages taken at once.
const MESSAGES_PER_TURN: usize = 64;

pub(crate) struct Link {
    endpoint: Endpoint,
    options: SocketOptions,
    pub(crate) port: Port,
    /// Who is there, once it has said so.
    pub(crate) head: Option<HeadId>,
    /// What its beats carry.
    pub(crate) token: Option<u64>,
    beats: Option<(BeatsAt, Port)>,
    hello_at: Time,
    /// Why it does not let us in, if that was said already.
    told: Option<String>,
}

impl Link {
    pub(crate) fn open(head: &Endpoint, options: SocketOptions) -> Result<Link, OpenError> {
        let options = SocketOptions {
            watch_links: true,
            ..options
        };
        let socket = transport::open(Role::Dealer, Side::Connect, head, &options)?;
        Ok(Link {
            endpoint: head.clone(),
            options,
            port: Port::new(socket),
            head: None,
            token: None,
            beats: None,
            hello_at: Time::START,
            told: None,
        })
    }

    /// When the next hello is due.
    pub(crate) fn deadline(&self) -> Time {
        self.hello_at
    }

    /// Says hello when it is time, and complains when it is not let in.
    pub(crate) fn wake(&mut self, now: Time, hello: &Frame) -> Result<(), TransportError> {
        let was_connected = self.port.is_connected();
        let refusal = self.port.refusal();
        if self.port.is_connected() && !was_connected {
            self.hello_at = now;
        }
        if refusal.is_some() && refusal != self.told {
            log::error!(
                "the head at {} does not let us in: {}",
                self.endpoint,
                refusal.as_deref().unwrap_or_default()
            );
            self.told = refusal;
        }
        if now >= self.hello_at {
            self.hello_at = now + HELLO_EVERY;
            self.port.post_to(vec![hello.clone()])?;
        }
        Ok(())
    }

    /// Takes what has arrived from there; whether there may be more.
    pub(crate) fn receive(
        &mut self,
        mut take: impl FnMut(Message),
    ) -> Result<bool, TransportError> {
        let mut more = self.port.receive_some(MESSAGES_PER_TURN, &mut take)?;
        if let Some((_, beats)) = &mut self.beats {
            more |= beats.receive_some(MESSAGES_PER_TURN, take)?;
            beats.flush()?;
        }
        self.port.flush()?;
        Ok(more)
    }

    /// The head has said who it is and where its beats are heard.
    pub(crate) fn welcomed(
        &mut self,
        head: HeadId,
        at: BeatsAt,
        token: u64,
    ) -> Result<(), TransportError> {
        (self.head, self.token) = (Some(head), Some(token));
        if self.beats.as_ref().is_some_and(|(known, _)| *known == at) {
            return Ok(());
        }
        let endpoint = self.beats_at(&at)?;
        let security = match (&at, &self.options.security) {
            // A group is heard in the clear or not at all, and the head has been told to use it. One with keys would not.
            (BeatsAt::Group(_), Security::None) => Security::Insecure,
            (_, security) => security.clone(),
        };
        let options = SocketOptions {
            max_message_bytes: ENVELOPE_BYTES,
            watch_links: false,
            security,
            ..self.options.clone()
        };
        let mut socket = transport::open(Role::Subscribe, Side::Connect, &endpoint, &options)?;
        socket.subscribe(b"")?;
        log::info!("the head at {} beats at {endpoint}", self.endpoint);
        self.beats = Some((at, Port::new(socket)));
        Ok(())
    }

    fn beats_at(&self, at: &BeatsAt) -> Result<Endpoint, TransportError> {
        let endpoint = match at {
            BeatsAt::Port(port) => return Ok(self.endpoint.with_port(*port)),
            BeatsAt::Beside => beats_endpoint(&self.endpoint),
            BeatsAt::Group(group) => group.parse(),
        };
        endpoint.map_err(|error| TransportError::Failed {
            what: "hear the beats of a head",
            reason: error.to_string(),
        })
    }

    /// Where messages arrive.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &Port> {
        let beats = self.beats.iter().map(|(_, port)| port);
        [&self.port].into_iter().chain(beats)
    }
}
