//! Flags that several roles share, and what they become before any work starts.

mod codec;
mod format;
mod peers;
mod security;
mod transport;

use std::time::Duration;

use clap::{Args, ValueEnum};
use mutirao::Endpoint;
use mutirao::broker::ClientConfig;
use mutirao::endpoint::Scheme;
use mutirao::pipeline::Limits;
use mutirao::security::Security;
use mutirao::transport::SocketOptions;

use crate::exit::Exit;

pub(crate) use codec::CodecFlag;
pub(crate) use format::FormatFlag;
pub(crate) use peers::{Peers, PeersFlags};
pub(crate) use security::{GuardFlags, KeyFlag, ServerFlag, security};
pub(crate) use transport::TransportFlags;

/// Room for what travels with a payload: its place, its operation, the frame's header.
const ENVELOPE_BYTES: usize = 1 << 20;

/// Bounds and times that all roles know.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitFlags {
    /// Interval of heartbeats; a peer that misses four is taken for dead. Where two roles were given
    /// different ones, the longer counts between them, up to a minute
    #[arg(long, env = "MUTIRAO_HEARTBEAT", default_value = "500ms", value_name = "TIME", value_parser = duration)]
    pub(crate) heartbeat: Duration,

    /// Largest piece of a file, line or result in bytes; more is an error of that task
    #[arg(long, env = "MUTIRAO_MAX_PAYLOAD_BYTES", default_value = "32MiB", value_name = "BYTES", value_parser = bytes)]
    pub(crate) max_payload_bytes: usize,
}

impl LimitFlags {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            heartbeat: self.heartbeat,
            ..Limits::default()
        }
    }

    /// Settings for those who hand in tasks at a broker or fetch results.
    pub(crate) fn client(
        &self,
        broker: Endpoint,
        codec: &CodecFlag,
        security: Security,
    ) -> Result<ClientConfig, Exit> {
        let mut config = ClientConfig::new(broker);
        config.codec = codec.codec();
        config.limits.heartbeat = self.heartbeat;
        config.socket = self.socket(security);
        self.limits()
            .validate()
            .map_err(|error| Exit::Usage(error.to_string()))?;
        Ok(config)
    }

    pub(crate) fn socket(&self, security: Security) -> SocketOptions {
        let max_message_bytes = self.max_payload_bytes.saturating_add(ENVELOPE_BYTES);
        SocketOptions {
            max_message_bytes,
            security,
            ..SocketOptions::default()
        }
    }
}

/// What the summary at the end looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SummaryFormat {
    /// A line for a person, on standard error
    Text,
    /// One JSON object, on standard output (on standard error when results go there)
    Json,
    /// Nothing
    None,
}

/// How the job's end is reported.
#[derive(Debug, Clone, Args)]
pub(crate) struct SummaryFlag {
    /// The summary at the end: text, json or none
    #[arg(
        long,
        env = "MUTIRAO_SUMMARY",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) summary: SummaryFormat,
}

/// Reads an endpoint that reaches other processes.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = text
        .parse()
        .map_err(|error: mutirao::endpoint::EndpointError| error.to_string())?;
    match endpoint.scheme() {
        Scheme::Inproc | Scheme::Memory => Err(format!(
            "{endpoint} reaches only this process: give a tcp:// or ipc:// endpoint"
        )),
        _ => Ok(endpoint),
    }
}

/// Reads a time such as `500ms`, `2s` or `1m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => {
            return Err(format!(
                "{text:?} is not a time: write it like 500ms, 2s, 1m, 12h or 7d"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a time: write it like 500ms or 2s"))?;
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is too long a time"))
}

/// Reads a number of bytes such as `4096`, `64KiB` or `1MiB`.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    match any_bytes(text)? {
        Some(size @ 1..=0x3fff_ffff) => Ok(size),
        _ => Err(format!(
            "{text:?} is out of range: give at least 1 byte and less than 1GiB"
        )),
    }
}

/// The same whatever its range; `None` where it is more than can be counted.
pub(crate) fn any_bytes(text: &str) -> Result<Option<usize>, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" | "K" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        _ => {
            return Err(format!(
                "{text:?} is not a size: write it like 4096, 64KiB or 1MiB"
            ));
        }
    };
    let number: usize = number
        .parse()
        .map_err(|_| format!("{text:?} is not a size: write it like 4096 or 1MiB"))?;
    Ok(number.checked_mul(1 << shift))
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(bytes("64KiB"), Ok(65536));
        assert_eq!(bytes("17"), Ok(17));
        for wrong in ["", "s", "5", "-1s", "1h2"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0", "1TiB", "99999999GiB", "x"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
