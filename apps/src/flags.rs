//! Flags that several roles share, and what they become before any work starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use mutirao::pipeline::Limits;
use mutirao::security::{Allow, CurveConfig, KeyPair, PublicKey, Security};
use mutirao::transport::SocketOptions;
use mutirao::{Endpoint, Pattern};

use crate::exit::Exit;

/// Room for what travels with a payload: its place, its operation, the frame's header.
const ENVELOPE_BYTES: usize = 1 << 20;

/// How tasks reach the workers and results the sink.
#[derive(Debug, Clone, Args)]
pub(crate) struct PatternFlag {
    /// How tasks reach the workers and results the sink: push-pull, req-rep or pub-sub; the same
    /// for all roles of a job
    #[arg(
        long,
        env = "MUTIRAO_PATTERN",
        default_value = "push-pull",
        value_name = "PATTERN"
    )]
    pub(crate) pattern: Pattern,
}

/// Bounds and times that all roles know.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitFlags {
    /// Interval of heartbeats; a peer that misses four is taken for dead. The same for all roles of
    /// a job
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

    pub(crate) fn socket(&self, security: Security) -> SocketOptions {
        let max_message_bytes = self.max_payload_bytes.saturating_add(ENVELOPE_BYTES);
        SocketOptions {
            max_message_bytes,
            security,
            ..SocketOptions::default()
        }
    }
}

/// Encryption and authentication.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Encryption")]
pub(crate) struct SecurityFlags {
    /// Our secret key, a file made by `mutirao keygen`; turns encryption on
    #[arg(long, env = "MUTIRAO_CURVE_KEY", value_name = "FILE")]
    pub(crate) curve_key: Option<PathBuf>,

    /// The public key of the ventilator and the sink, to which we connect
    #[arg(long, env = "MUTIRAO_CURVE_SERVER", value_name = "FILE")]
    pub(crate) curve_server: Option<PathBuf>,

    /// A folder with the public keys of those who may connect to us
    #[arg(long, env = "MUTIRAO_CURVE_ALLOW", value_name = "DIR")]
    pub(crate) curve_allow: Option<PathBuf>,

    /// Listen beyond this machine without encryption
    #[arg(long, env = "MUTIRAO_INSECURE", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub(crate) insecure: bool,
}

/// Which of the keys a role needs beside its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) server: bool,
    pub(crate) allow: bool,
}

impl SecurityFlags {
    pub(crate) fn security(&self, needs: Needs) -> Result<Security, Exit> {
        let Some(key) = &self.curve_key else {
            return self.without_key();
        };
        if self.insecure {
            return Err(Exit::Usage(
                "--insecure contradicts --curve-key: give one of the two".into(),
            ));
        }
        let server = self.curve_server.as_deref();
        let allow = self.curve_allow.as_deref();
        for (needed, given, flag) in [
            (needs.server, server, "--curve-server FILE"),
            (needs.allow, allow, "--curve-allow DIR"),
        ] {
            if needed && given.is_none() {
                return Err(Exit::Usage(format!(
                    "--curve-key needs {flag} as well; `mutirao keygen DIR` makes both"
                )));
            }
        }
        let unusable = |error: mutirao::security::KeyError| Exit::Environment(error.to_string());
        if let Some(folder) = allow.filter(|folder| !folder.is_dir()) {
            return Err(Exit::Environment(format!(
                "{} is not a folder: give the one that holds the public keys of those who may connect",
                folder.display()
            )));
        }
        Ok(Security::Curve(Arc::new(CurveConfig {
            keys: KeyPair::load(key).map_err(unusable)?,
            server: server.map(PublicKey::load).transpose().map_err(unusable)?,
            allow: allow.map(|folder| Allow::Folder(folder.to_path_buf())),
        })))
    }

    fn without_key(&self) -> Result<Security, Exit> {
        if self.curve_server.is_some() || self.curve_allow.is_some() {
            return Err(Exit::Usage(
                "--curve-server and --curve-allow need --curve-key: give our secret key too".into(),
            ));
        }
        Ok(if self.insecure {
            Security::Insecure
        } else {
            Security::None
        })
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

/// Reads an endpoint that ZeroMQ can carry.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = text
        .parse()
        .map_err(|error: mutirao::endpoint::EndpointError| error.to_string())?;
    match endpoint.scheme() {
        mutirao::endpoint::Scheme::Tcp | mutirao::endpoint::Scheme::Ipc => Ok(endpoint),
        _ => Err(format!(
            "{endpoint} reaches only this process: give a tcp:// or ipc:// endpoint"
        )),
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
    match number.checked_mul(1 << shift) {
        Some(size @ 1..=0x3fff_ffff) => Ok(size),
        _ => Err(format!(
            "{text:?} is out of range: give at least 1 byte and less than 1GiB"
        )),
    }
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
