//! Endpoints: where a socket listens or connects, checked before any transport sees them.

use std::fmt;
use std::str::FromStr;

/// The longest path of a Unix domain socket, in bytes, that Linux accepts.
const MAX_IPC_PATH_BYTES: usize = 107;

/// What stands before `://`; it picks the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `tcp://host:port` over ZeroMQ; `*` as the port lets the system pick one.
    Tcp,
    /// `raw+tcp://host:port` without ZeroMQ.
    RawTcp,
    /// `raw+udp://host:port`: datagrams, which may be lost, repeated or come in another order; the host may be a
    /// multicast group.
    RawUdp,
    /// `reliable+udp://host:port`: datagrams that are acknowledged, repeated and put in order.
    ReliableUdp,
    /// `ipc://path` over ZeroMQ: a Unix domain socket.
    Ipc,
    /// `inproc://name` over ZeroMQ: threads of this process.
    Inproc,
    /// `memory://name`: threads of this process without ZeroMQ, for tests.
    Memory,
}

impl Scheme {
    /// All schemes.
    pub const ALL: [Scheme; 7] = [
        Scheme::Tcp,
        Scheme::Ipc,
        Scheme::Inproc,
        Scheme::RawTcp,
        Scheme::RawUdp,
        Scheme::ReliableUdp,
        Scheme::Memory,
    ];

    /// The scheme as it is written before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp",
            Scheme::RawTcp => "raw+tcp",
            Scheme::RawUdp => "raw+udp",
            Scheme::ReliableUdp => "reliable+udp",
            Scheme::Ipc => "ipc",
            Scheme::Inproc => "inproc",
            Scheme::Memory => "memory",
        }
    }

    /// Whether a host and a port follow.
    pub fn has_port(self) -> bool {
        !matches!(self, Scheme::Ipc | Scheme::Inproc | Scheme::Memory)
    }
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not an endpoint: {reason}; write it like tcp://127.0.0.1:5557, raw+tcp://127.0.0.1:5557, reliable+udp://127.0.0.1:5557, ipc:///run/mutirao.sock or inproc://name"
)]
pub struct EndpointError {
    text: String,
    reason: &'static str,
}

/// A checked endpoint such as `tcp://127.0.0.1:5557`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    address: String,
}

impl Endpoint {
    /// The scheme, which picks the transport.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What follows `://`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The host where there is a port, without brackets; `None` for the others.
    pub fn host(&self) -> Option<&str> {
        let (host, _) = self.host_and_port()?;
        Some(host.trim_start_matches('[').trim_end_matches(']'))
    }

    /// The port where there is one; `None` for the others and for `*` (the system picks).
    pub fn port(&self) -> Option<u16> {
        self.host_and_port()?.1.parse().ok()
    }

    /// Whether only this machine can reach a socket that listens here.
    pub fn is_local(&self) -> bool {
        match self.host() {
            None => true,
            Some("localhost") => true,
            Some(host) => host
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        }
    }

    /// Where the control socket that accompanies a data socket at this endpoint lives: the next
    /// port where there are ports, the same name with `.control` appended for the others.
    ///
    /// # Errors
    ///
    /// The port is 65535, or the path would grow beyond what the system accepts.
    pub fn control(&self) -> Result<Endpoint, EndpointError> {
        let text = match self.host_and_port() {
            None => format!("{self}.control"),
            Some((host, "*")) => format!("{}://{host}:*", self.scheme.name()),
            Some((host, _)) => {
                let next = self.port().and_then(|port| port.checked_add(1));
                let next = next.ok_or(EndpointError {
                    text: self.to_string(),
                    reason: "the next port, which carries the control messages, does not exist",
                })?;
                format!("{}://{host}:{next}", self.scheme.name())
            }
        };
        text.parse()
    }

    /// The same with another port, where there are ports.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Endpoint {
        let address = match self.host_and_port() {
            Some((host, _)) => format!("{host}:{port}"),
            None => self.address.clone(),
        };
        Endpoint {
            scheme: self.scheme,
            address,
        }
    }

    /// The same host and port by another transport, where both have ports.
    #[must_use]
    pub fn with_scheme(&self, scheme: Scheme) -> Option<Endpoint> {
        (self.scheme.has_port() && scheme.has_port()).then(|| Endpoint {
            scheme,
            address: self.address.clone(),
        })
    }

    fn host_and_port(&self) -> Option<(&str, &str)> {
        self.scheme
            .has_port()
            .then(|| self.address.rsplit_once(':'))?
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.address)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let fail = |reason| EndpointError {
            text: text.to_string(),
            reason,
        };
        if text.chars().any(char::is_control) {
            return Err(fail("it contains a NUL or another control character"));
        }
        let (scheme, address) = text
            .split_once("://")
            .ok_or(fail("the scheme is missing"))?;
        let known = Scheme::ALL.into_iter().find(|known| known.name() == scheme);
        let scheme = known.ok_or(fail("the scheme is unknown"))?;
        match scheme {
            _ if scheme.has_port() => check_host_and_port(address).map_err(fail)?,
            _ if address.is_empty() => return Err(fail("nothing follows the scheme")),
            Scheme::Ipc if address.len() > MAX_IPC_PATH_BYTES => {
                return Err(fail("the path is longer than 107 bytes"));
            }
            _ if address.len() > 240 => return Err(fail("the name is longer than 240 bytes")),
            _ => {}
        }
        Ok(Endpoint {
            scheme,
            address: address.to_string(),
        })
    }
}

fn check_host_and_port(address: &str) -> Result<(), &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("the port is missing")?;
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address is written in brackets");
    }
    if host.contains(['/', ';', ' ']) {
        return Err("the host contains a character that no host has");
    }
    match port {
        "*" => Ok(()),
        port if port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err("the port is not a number from 0 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        text.parse()
    }

    #[test]
    fn well_formed_endpoints_are_printed_as_they_were_read() {
        for text in [
            "tcp://127.0.0.1:5557",
            "tcp://[::1]:*",
            "tcp://*:80",
            "ipc:///run/a",
            "inproc://x",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_endpoints_are_refused_with_a_reason() {
        for text in [
            "",
            "tcp",
            "tcp://",
            "tcp://host",
            "tcp://:1",
            "tcp://host:70000",
            "tcp://host:+1",
            "tcp://::1:80",
            "udp://host:1",
            "ipc://",
            "inproc://a\0b",
            "tcp://a\0:1",
            "tcp://a;b:1",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&format!("ipc://{}", "x".repeat(108))).is_err());
    }

    #[test]
    fn only_loopback_is_local() {
        for text in [
            "tcp://127.0.0.1:1",
            "tcp://[::1]:1",
            "tcp://localhost:1",
            "ipc://x",
            "inproc://x",
        ] {
            assert!(parse(text).unwrap().is_local(), "{text}");
        }
        for text in [
            "tcp://*:1",
            "tcp://0.0.0.0:1",
            "tcp://[::]:1",
            "tcp://192.168.1.7:1",
            "tcp://eth0:1",
        ] {
            assert!(!parse(text).unwrap().is_local(), "{text}");
        }
    }

    #[test]
    fn control_lives_next_door() {
        let control = |text: &str| parse(text).unwrap().control().map(|e| e.to_string());
        assert_eq!(control("tcp://a:5557").unwrap(), "tcp://a:5558");
        assert_eq!(control("inproc://trio").unwrap(), "inproc://trio.control");
        assert!(control("tcp://a:65535").is_err());
    }
}
