//! A new connection, until both ends have said what they are.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use crate::transport::{Role, fits};

use super::wire::{self, Breach, PREFACE_BYTES};

/// Probes of the system that a silent peer may leave unanswered.
const PROBES: u32 = 3;

#[derive(Debug)]
pub(super) struct Greeting {
    stream: TcpStream,
    heard: [u8; PREFACE_BYTES],
    count: usize,
    by: Instant,
}

/// How far a greeting is.
#[derive(Debug)]
pub(super) enum Greeted {
    NotYet,
    Done,
    /// For this reason.
    Refused(String),
    /// The connection ended.
    Gone,
}

impl Greeting {
    /// Says what we are.
    pub(super) fn begin(
        mut stream: TcpStream,
        role: Role,
        by: Instant,
        keepalive: Duration,
    ) -> io::Result<Greeting> {
        prepare(&mut stream, role, keepalive)?;
        Ok(Greeting {
            stream,
            heard: [0; PREFACE_BYTES],
            count: 0,
            by,
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// When it has to be done.
    pub(super) fn by(&self) -> Instant {
        self.by
    }

    /// Hears what the other is.
    pub(super) fn go_on(&mut self, role: Role) -> Greeted {
        while self.count < PREFACE_BYTES {
            match self.stream.read(&mut self.heard[self.count..]) {
                Ok(0) => return Greeted::Gone,
                Ok(read) => self.count += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Greeted::NotYet,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Greeted::Gone,
            }
        }
        match wire::read_preface(&self.heard) {
            Ok(other) if fits(role, other) => Greeted::Done,
            Ok(other) => Greeted::Refused(Breach::Role(other).to_string()),
            Err(breach) => Greeted::Refused(breach.to_string()),
        }
    }
}

/// Sets a new connection up, and says what we are.
pub(super) fn prepare(stream: &mut TcpStream, role: Role, keepalive: Duration) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let seconds = keepalive.max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(seconds)
        .with_interval(seconds)
        .with_retries(PROBES);
    SockRef::from(&*stream).set_tcp_keepalive(&keepalive)?;
    // A fresh connection has room for eight bytes.
    stream.write_all(&wire::preface(role))
}
