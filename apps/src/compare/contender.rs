//! The transports that are compared.

use clap::ValueEnum;
use mutirao::Endpoint;
use mutirao::endpoint::Scheme;
use serde::Serialize;

/// A transport that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// A bare TCP socket
    Tcp,
    /// A bare UDP socket
    Udp,
    /// UDP with acknowledgement, repetition and order
    UdpReliable,
    /// ZeroMQ over TCP
    ZmqTcp,
    /// ZeroMQ over a Unix domain socket
    ZmqIpc,
    /// ZeroMQ within the process
    ZmqInproc,
}

/// What can be put between the two ends of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// A proxy of datagrams.
    Datagrams,
    /// A proxy of byte streams.
    Stream,
    /// Nothing: there is no path that could be bad.
    Nothing,
}

impl Contender {
    /// As it is written on the command line and in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Tcp => "tcp",
            Contender::Udp => "udp",
            Contender::UdpReliable => "udp-reliable",
            Contender::ZmqTcp => "zmq-tcp",
            Contender::ZmqIpc => "zmq-ipc",
            Contender::ZmqInproc => "zmq-inproc",
        }
    }

    /// As a sentence names it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Contender::Tcp => "bare TCP",
            Contender::Udp => "plain UDP",
            Contender::UdpReliable => "reliable UDP",
            Contender::ZmqTcp => "ZeroMQ over TCP",
            Contender::ZmqIpc => "ZeroMQ over ipc",
            Contender::ZmqInproc => "ZeroMQ inproc",
        }
    }

    /// The scheme of its endpoints.
    pub(crate) fn scheme(self) -> Scheme {
        match self {
            Contender::Tcp => Scheme::RawTcp,
            Contender::Udp => Scheme::RawUdp,
            Contender::UdpReliable => Scheme::ReliableUdp,
            Contender::ZmqTcp => Scheme::Tcp,
            Contender::ZmqIpc => Scheme::Ipc,
            Contender::ZmqInproc => Scheme::Inproc,
        }
    }

    /// What can be put into its path.
    pub(crate) fn between(self) -> Between {
        match self {
            Contender::Tcp | Contender::ZmqTcp => Between::Stream,
            Contender::Udp | Contender::UdpReliable => Between::Datagrams,
            Contender::ZmqIpc | Contender::ZmqInproc => Between::Nothing,
        }
    }

    /// Whether both ends are threads of one process.
    pub(crate) fn is_one_process(self) -> bool {
        self == Contender::ZmqInproc
    }

    /// Whether a message of this size does not fit, whatever is done.
    pub(crate) fn is_too_large(self, bytes: usize) -> bool {
        let most = self.scheme().promises().message_bytes;
        most.is_some_and(|most| bytes > most)
    }

    /// Whether it promises that everything arrives.
    pub(crate) fn is_complete(self) -> bool {
        self.scheme().promises().complete
    }

    /// Where to listen: a port of the system's choice, or a name that `unique` makes its own.
    pub(crate) fn endpoint(
        self,
        folder: &std::path::Path,
        unique: u64,
    ) -> Result<Endpoint, String> {
        let scheme = self.scheme().name();
        let text = match self {
            Contender::ZmqIpc => format!("{scheme}://{}/{unique}", folder.display()),
            Contender::ZmqInproc => format!("{scheme}://compare-{unique}"),
            _ => format!("{scheme}://127.0.0.1:*"),
        };
        text.parse()
            .map_err(|error: mutirao::endpoint::EndpointError| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listens_by_its_own_scheme_and_is_written_as_clap_reads_it() {
        for contender in Contender::value_variants() {
            let endpoint = contender.endpoint("/tmp/x".as_ref(), 7).unwrap();
            assert_eq!(endpoint.scheme(), contender.scheme());
            assert_eq!(Contender::from_str(contender.name(), false), Ok(*contender));
            let value = serde_json::to_value(contender).unwrap();
            assert_eq!(value, contender.name());
        }
    }

    #[test]
    fn only_plain_udp_has_messages_that_are_too_large() {
        for contender in Contender::value_variants() {
            assert!(!contender.is_too_large(65_479), "{contender:?}");
            assert_eq!(contender.is_too_large(65_536), *contender == Contender::Udp);
        }
    }
}
