//! What carries the messages: one flag for every app, and what it makes of endpoints.

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use mutirao::Endpoint;
use mutirao::endpoint::Scheme;

use crate::exit::Exit;

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// ZeroMQ, over TCP
    Zmq,
    /// A bare TCP socket
    Tcp,
    /// A bare UDP socket
    Udp,
}

/// Whether ZeroMQ or bare sockets carry the messages.
#[derive(Debug, Clone, Args)]
pub(crate) struct TransportFlags {
    /// What carries the messages; otherwise the endpoint says it, such as raw+tcp://HOST:PORT, and ZeroMQ does where none
    /// is given
    #[arg(long, env = "MUTIRAO_TRANSPORT", value_name = "TRANSPORT")]
    pub(crate) transport: Option<Transport>,

    /// With udp: acknowledge, repeat and order the datagrams
    #[arg(long, env = "MUTIRAO_RELIABLE", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub(crate) reliable: bool,
}

impl TransportFlags {
    /// The scheme that the flags ask for, if they do.
    pub(crate) fn scheme(&self) -> Result<Option<Scheme>, Exit> {
        Ok(match (self.transport, self.reliable) {
            (Some(Transport::Udp), true) => Some(Scheme::ReliableUdp),
            (_, true) => {
                return Err(Exit::Usage(
                    "--reliable goes with --transport udp: the others are reliable by themselves"
                        .into(),
                ));
            }
            (None, _) => None,
            (Some(Transport::Zmq), _) => Some(Scheme::Tcp),
            (Some(Transport::Tcp), _) => Some(Scheme::RawTcp),
            (Some(Transport::Udp), _) => Some(Scheme::RawUdp),
        })
    }

    /// The endpoint by the transport that was asked for; `tcp://` stands for any.
    pub(crate) fn apply(&self, endpoint: &Endpoint) -> Result<Endpoint, Exit> {
        let scheme = match self.scheme()? {
            None => return Ok(endpoint.clone()),
            Some(scheme) if scheme == endpoint.scheme() => return Ok(endpoint.clone()),
            Some(scheme) => scheme,
        };
        let changed = match endpoint.scheme() {
            Scheme::Tcp => endpoint.with_scheme(scheme),
            _ => None,
        };
        changed.ok_or_else(|| {
            Exit::Usage(format!(
                "{endpoint} and --transport contradict each other: leave the flag out, or write tcp://HOST:PORT"
            ))
        })
    }

    /// Where a part of a job that stays in this process listens: at a port that the system picks, or at
    /// this name when nothing was asked for.
    pub(crate) fn at_home(&self, name: &str) -> Result<Endpoint, Exit> {
        let text = match self.scheme()? {
            None => format!("inproc://{name}"),
            Some(scheme) => format!("{}://127.0.0.1:*", scheme.name()),
        };
        Ok(text.parse().expect("our own endpoint"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(transport: Option<Transport>, reliable: bool, endpoint: &str) -> Option<String> {
        let flags = TransportFlags {
            transport,
            reliable,
        };
        let applied = flags.apply(&endpoint.parse().unwrap());
        applied.ok().map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn the_flag_picks_the_scheme_and_contradicts_no_other() {
        let applied = |transport, reliable, endpoint| {
            applied(transport, reliable, endpoint).unwrap_or_else(|| "refused".into())
        };
        use Transport::*;
        assert_eq!(applied(None, false, "ipc:///x"), "ipc:///x");
        assert_eq!(applied(Some(Tcp), false, "tcp://a:1"), "raw+tcp://a:1");
        assert_eq!(applied(Some(Udp), false, "tcp://a:1"), "raw+udp://a:1");
        assert_eq!(applied(Some(Udp), true, "tcp://a:1"), "reliable+udp://a:1");
        assert_eq!(applied(Some(Zmq), false, "tcp://a:1"), "tcp://a:1");
        assert_eq!(applied(Some(Tcp), false, "raw+tcp://a:1"), "raw+tcp://a:1");
        assert_eq!(applied(Some(Zmq), false, "raw+tcp://a:1"), "refused");
        assert_eq!(applied(Some(Tcp), false, "ipc:///x"), "refused");
        assert_eq!(applied(Some(Tcp), true, "tcp://a:1"), "refused");
    }
}
