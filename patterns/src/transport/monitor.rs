//! What libzmq tells about connections, turned into [`LinkEvent`]s with a sentence for each failure.
//!
//! What libzmq 4.3.4 reports, tried out with both sides watched:
//!
//! | case | listening side | connecting side |
//! | --- | --- | --- |
//! | the client expects another server key | protocol error: cryptographic | closed by the peer; libzmq tries again |
//! | the client's key is not allowed | authentication, 400 | authentication, 400; libzmq gives up |
//! | one side uses CURVE, the other does not | protocol error: mechanism | the same; libzmq gives up |
//! | roles do not fit, without CURVE | disconnected, nothing else | the same; libzmq gives up |
//! | roles do not fit, with CURVE | disconnected, nothing else | closed by the peer; libzmq tries again |
//! | random bytes, HTTP or silence, without CURVE | timed out | timed out; libzmq tries again |
//! | random bytes or HTTP, with CURVE | disconnected, nothing else | |
//!
//! A peer that closes and one that is silent look alike: libzmq gives an errno that may be stale.
//! Where libzmq gives up it says nothing more and sends nothing more: see [`Link::is_lost`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::sys::{self, Wait};
use super::zap::Admission;
use super::{LinkEvent, Side};
use crate::endpoint::Endpoint;
use crate::security::Security;

const CONNECTED: u16 = 0x0001;
const CONNECT_RETRIED: u16 = 0x0004;
const ACCEPTED: u16 = 0x0020;
const DISCONNECTED: u16 = 0x0200;
const FAILED_NO_DETAIL: u16 = 0x0800;
const SUCCEEDED: u16 = 0x1000;
const FAILED_PROTOCOL: u16 = 0x2000;
const FAILED_AUTH: u16 = 0x4000;
const WATCHED: u16 = CONNECTED
    | CONNECT_RETRIED
    | ACCEPTED
    | DISCONNECTED
    | FAILED_NO_DETAIL
    | SUCCEEDED
    | FAILED_PROTOCOL
    | FAILED_AUTH;

/// The protocol errors that have a sentence of their own.
const CRYPTOGRAPHIC: u32 = 0x1100_0001;
const MECHANISM_MISMATCH: u32 = 0x1100_0002;

/// At most this often are reports looked for when nobody asks.
const PAUSE: Duration = Duration::from_millis(1);

/// Link events that wait to be asked for; older ones go.
const MAX_EVENTS: usize = 1024;

/// One report of libzmq: its event and the number that comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Report {
    event: u16,
    value: u32,
}

impl Report {
    /// Two bytes and four bytes in the machine's order.
    fn parse(frame: &[u8]) -> Option<Report> {
        let (event, value) = frame.split_first_chunk()?;
        let event = u16::from_ne_bytes(*event);
        Some(Report {
            event,
            value: u32::from_ne_bytes(value.try_into().ok()?),
        })
    }
}

/// Listens to what libzmq reports about one socket.
pub(crate) struct Monitor {
    socket: sys::Socket,
}

impl Monitor {
    /// Begins to watch a socket that neither listens nor connects yet.
    pub(crate) fn watch(watched: &sys::Socket) -> io::Result<Monitor> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let endpoint = format!("inproc://mutirao.monitor.{count}");
        watched.options().monitor(&endpoint, i32::from(WATCHED))?;
        let socket = sys::Socket::new(watched.context().clone(), zmq::PAIR)?;
        // With a limit, libzmq's I/O thread would wait for us when it is reached, and with it every
        // connection of the process.
        socket.options().set_rcvhwm(0)?;
        socket.connect(&endpoint)?;
        let mut monitor = Monitor { socket };
        // The descriptor tells of news only after a look that found nothing.
        monitor.next();
        Ok(monitor)
    }

    /// Readable when there may be a report since [`next`](Monitor::next) found none.
    fn fd(&self) -> RawFd {
        self.socket.fd()
    }

    fn next(&mut self) -> Option<Report> {
        loop {
            let frame = self.socket.receive(Wait::No).ok()?;
            let report = Report::parse(&frame);
            // The second frame names our own end, which we know.
            let mut more = frame.has_more();
            while more {
                more = self.socket.receive(Wait::No).ok()?.has_more();
            }
            if report.is_some() {
                return report;
            }
        }
    }
}

/// The state of one socket's connections.
pub(crate) struct Link {
    monitor: Monitor,
    history: History,
    /// Who is let in, on the listening side with CURVE.
    admission: Option<std::sync::Arc<Admission>>,
    events: VecDeque<LinkEvent>,
    /// Whether somebody asks for the events; otherwise the log gets them.
    is_asked: bool,
    /// The last refusal, which need not be told again.
    last_refusal: Option<String>,
    patience: Duration,
    last_look: Option<Instant>,
}

impl Link {
    pub(crate) fn new(
        monitor: Monitor,
        words: Words,
        admission: Option<std::sync::Arc<Admission>>,
        is_asked: bool,
        patience: Duration,
    ) -> Link {
        let history = History {
            words,
            open: 0,
            up: 0,
            refused: 0,
            lost: None,
        };
        let events = VecDeque::new();
        Link {
            monitor,
            history,
            admission,
            events,
            is_asked,
            last_refusal: None,
            patience,
            last_look: None,
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.monitor.fd()
    }

    /// Takes note of what was reported, unless that was done just now: it costs a system call.
    /// Where it is skipped, [`fd`](Link::fd) still tells that there is something.
    pub(crate) fn update_now_and_then(&mut self) {
        if self
            .last_look
            .is_none_or(|last_look| last_look.elapsed() > PAUSE)
        {
            self.update();
        }
    }

    /// Takes note of everything that was reported.
    pub(crate) fn update(&mut self) {
        self.last_look = Some(Instant::now());
        while let Some(report) = self.monitor.next() {
            log::trace!("{:?}: {report:?}", self.history.words.endpoint);
            for event in self.history.note(report, Instant::now() + self.patience) {
                self.tell(event);
            }
        }
    }

    /// The next event, oldest first.
    pub(crate) fn next_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    pub(crate) fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// How long to wait until the connection counts as given up by libzmq; `None` while it stands
    /// or libzmq tries to make it.
    pub(crate) fn time_to_loss(&self) -> Option<Duration> {
        Some(self.history.lost?.saturating_duration_since(Instant::now()))
    }

    /// Whether libzmq has given the connection up, as it does after a refusal and after anything
    /// that it takes for a breach of protocol. Only a new socket connects again.
    pub(crate) fn is_lost(&self) -> bool {
        self.time_to_loss() == Some(Duration::ZERO)
    }

    /// Goes on with the socket that replaces a lost one.
    pub(crate) fn replace(&mut self, monitor: Monitor) {
        self.monitor = monitor;
        self.last_look = None;
        (self.history.open, self.history.refused, self.history.lost) = (0, 0, None);
    }

    fn tell(&mut self, event: LinkEvent) {
        let event = match event {
            LinkEvent::Refused { reason } => {
                let known = self
                    .admission
                    .as_ref()
                    .and_then(|admission| admission.next_refusal());
                LinkEvent::Refused {
                    reason: known.unwrap_or(reason),
                }
            }
            other => other,
        };
        let again = match &event {
            LinkEvent::Refused { reason } => {
                self.last_refusal.replace(reason.clone()).as_ref() == Some(reason)
            }
            _ => {
                self.last_refusal = None;
                false
            }
        };
        if !self.is_asked {
            if let (LinkEvent::Refused { reason }, false) = (event, again) {
                log::warn!("{reason}");
            }
            return;
        }
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Counts connections. libzmq does not say which of them a report is about, but its one I/O thread
/// reports in order.
struct History {
    words: Words,
    /// Connections that stand, with their handshake done or not.
    open: usize,
    /// Those of them whose handshake is done.
    up: usize,
    /// Those of them whose handshake has failed, and that has been told.
    refused: usize,
    /// When a connection of ours that went away counts as given up.
    lost: Option<Instant>,
}

impl History {
    /// What a report means; a lost connection may wait until `deadline` for libzmq to try again.
    fn note(&mut self, report: Report, deadline: Instant) -> Vec<LinkEvent> {
        match report.event {
            CONNECTED | ACCEPTED => self.open += 1,
            SUCCEEDED => {
                self.up += 1;
                return vec![LinkEvent::Connected];
            }
            FAILED_AUTH | FAILED_PROTOCOL | FAILED_NO_DETAIL => {
                self.refused += 1;
                return vec![LinkEvent::Refused {
                    reason: self.words.failure(report),
                }];
            }
            DISCONNECTED => return self.part(deadline),
            _ => {}
        }
        self.lost = None;
        Vec::new()
    }

    fn part(&mut self, deadline: Instant) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        self.open = self.open.saturating_sub(1);
        if self.words.side == Side::Connect {
            self.lost = Some(deadline);
        }
        if self.refused > 0 {
            self.refused -= 1;
        } else if self.up <= self.open {
            events.push(LinkEvent::Refused {
                reason: self.words.misfit(),
            });
        }
        while self.up > self.open {
            self.up -= 1;
            events.push(LinkEvent::Disconnected);
        }
        events
    }
}

/// Finds the words for a failure.
pub(crate) struct Words {
    pub(crate) side: Side,
    pub(crate) endpoint: Endpoint,
    pub(crate) security: Security,
}

impl Words {
    fn failure(&self, report: Report) -> String {
        match (report.event, report.value) {
            (FAILED_AUTH, status) => self.not_allowed(status),
            (FAILED_PROTOCOL, CRYPTOGRAPHIC) => self.wrong_key(),
            (FAILED_PROTOCOL, MECHANISM_MISMATCH) => self.mechanism(),
            (FAILED_NO_DETAIL, _) => self.unfinished(),
            _ => self.misfit(),
        }
    }

    fn not_allowed(&self, status: u32) -> String {
        let endpoint = &self.endpoint;
        match (self.side, &self.security, status) {
            (Side::Connect, Security::Curve(curve), 400) => format!(
                "{endpoint} does not allow our public key {}: copy our .pub file into its folder of allowed keys",
                curve.keys.public()
            ),
            (Side::Connect, ..) => {
                format!("{endpoint} could not check our key (status {status}): see its log")
            }
            (Side::Bind, ..) => format!("{endpoint} refused a client (status {status})"),
        }
    }

    fn wrong_key(&self) -> String {
        let endpoint = &self.endpoint;
        match (self.side, &self.security) {
            (Side::Bind, Security::Curve(curve)) => format!(
                "a client of {endpoint} expects another server key than ours, which is {}: give it our .pub file",
                curve.keys.public()
            ),
            (Side::Bind, _) => format!("a client of {endpoint} sent what cannot be decrypted"),
            (Side::Connect, _) => format!(
                "{endpoint} cannot prove that it has the server key that we expect{}: check the server's .pub file",
                self.expected_key()
            ),
        }
    }

    fn expected_key(&self) -> String {
        match &self.security {
            Security::Curve(curve) => curve
                .server
                .map(|key| format!(" ({key})"))
                .unwrap_or_default(),
            _ => String::new(),
        }
    }

    fn mechanism(&self) -> String {
        let endpoint = &self.endpoint;
        let remedy = "start both sides with keys, or neither";
        match (self.side, &self.security) {
            (Side::Bind, Security::Curve(_)) => {
                format!("a client of {endpoint} does not use CURVE and we do: {remedy}")
            }
            (Side::Bind, _) => format!("a client of {endpoint} uses CURVE and we do not: {remedy}"),
            (Side::Connect, Security::Curve(_)) => {
                format!("{endpoint} does not use CURVE and we do: {remedy}")
            }
            (Side::Connect, _) => format!("{endpoint} uses CURVE and we do not: {remedy}"),
        }
    }

    /// The connection ended or took too long; the number that libzmq gives does not tell which.
    fn unfinished(&self) -> String {
        let endpoint = &self.endpoint;
        match (self.side, &self.security) {
            (Side::Bind, _) => format!(
                "a peer of {endpoint} did not finish the handshake: it follows another pattern, speaks no ZeroMQ, or went away"
            ),
            (Side::Connect, Security::Curve(_)) => format!(
                "{endpoint} does not finish the handshake: it does not use CURVE, or the server key that we expect{} is not its own, or another kind of program may listen there",
                self.expected_key()
            ),
            (Side::Connect, _) => format!(
                "{endpoint} does not finish the handshake: it asks for CURVE keys, or follows another pattern, or another kind of program may listen there"
            ),
        }
    }

    fn misfit(&self) -> String {
        let endpoint = &self.endpoint;
        match self.side {
            Side::Bind => format!(
                "a peer of {endpoint} was cut off: it is a socket of another kind, as of another pattern, or speaks no ZeroMQ"
            ),
            Side::Connect => format!(
                "{endpoint} is a socket of another kind or speaks no ZeroMQ: check the address, and the pattern at both ends"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(side: Side) -> History {
        let endpoint = "tcp://127.0.0.1:5557".parse().unwrap();
        let words = Words {
            side,
            endpoint,
            security: Security::None,
        };
        History {
            words,
            open: 0,
            up: 0,
            refused: 0,
            lost: None,
        }
    }

    /// What the reports add up to: `+` connected, `-` disconnected, `!` refused.
    fn tell(side: Side, reports: &[(u16, u32)]) -> String {
        let mut history = history(side);
        let now = Instant::now();
        let reports = reports
            .iter()
            .map(|&(event, value)| Report { event, value });
        let events =
            reports
                .flat_map(|report| history.note(report, now))
                .map(|event| match event {
                    LinkEvent::Connected => '+',
                    LinkEvent::Disconnected => '-',
                    LinkEvent::Refused { .. } => '!',
                });
        events.collect()
    }

    #[test]
    fn each_connection_is_told_once() {
        let good = [(ACCEPTED, 0), (SUCCEEDED, 0), (DISCONNECTED, 0)];
        assert_eq!(tell(Side::Bind, &good), "+-");
        let refused = [(ACCEPTED, 0), (FAILED_AUTH, 400), (DISCONNECTED, 0)];
        assert_eq!(tell(Side::Bind, &refused), "!");
        assert_eq!(tell(Side::Bind, &[(ACCEPTED, 0), (DISCONNECTED, 0)]), "!");
    }

    #[test]
    fn one_that_fails_is_not_taken_for_one_that_stands() {
        let both = [
            (ACCEPTED, 0),
            (SUCCEEDED, 0),
            (ACCEPTED, 0),
            (DISCONNECTED, 0),
        ];
        assert_eq!(tell(Side::Bind, &both), "+!");
        let both = [&both[..], &[(DISCONNECTED, 0)]].concat();
        assert_eq!(tell(Side::Bind, &both), "+!-");
    }

    #[test]
    fn a_connection_that_nobody_tries_again_is_lost() {
        let mut history = history(Side::Connect);
        let now = Instant::now();
        history.note(
            Report {
                event: CONNECTED,
                value: 0,
            },
            now,
        );
        history.note(
            Report {
                event: DISCONNECTED,
                value: 0,
            },
            now,
        );
        assert_eq!(history.lost, Some(now));
        history.note(
            Report {
                event: CONNECT_RETRIED,
                value: 0,
            },
            now,
        );
        assert_eq!(history.lost, None);
    }

    #[test]
    fn short_reports_are_nothing() {
        for len in 0..6 {
            assert_eq!(Report::parse(&vec![0; len]), None);
        }
    }
}
