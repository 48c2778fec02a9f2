//! What all programs of a cluster must agree on, and how they find the heads.

use clap::Args;
use mutirao::Endpoint;
use mutirao::security::Security;
use mutirao::storage::{HeadId, StorageError};
use mutirao::transport::SocketOptions;

use crate::exit::Exit;
use crate::flags::{self, KeyFlag, ServerFlag, TransportFlags};

/// Where a head listens unless it is told otherwise.
pub(super) const HEAD: &str = "tcp://127.0.0.1:5590";

/// A head with its number, where that was given.
pub(super) type Head = (Option<HeadId>, Endpoint);

/// The heads, for those that connect to them.
#[derive(Debug, Clone, Args)]
pub(super) struct HeadFlags {
    /// The head, or all heads with their ids, such as 1=tcp://HOST:PORT,2=tcp://HOST:PORT
    #[arg(
        long,
        visible_alias = "peers",
        env = "MUTIRAO_HEAD",
        default_value = HEAD,
        value_name = "ENDPOINT",
        value_delimiter = ',',
        value_parser = head
    )]
    head: Vec<Head>,

    #[command(flatten)]
    transport: TransportFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server: ServerFlag,
}

impl HeadFlags {
    /// The heads, by the transport that was asked for.
    pub(super) fn heads(&self) -> Result<Vec<Head>, Exit> {
        let heads = self.head.iter();
        heads
            .map(|(id, endpoint)| Ok((*id, self.transport.apply(endpoint)?)))
            .collect()
    }

    pub(super) fn socket(&self) -> Result<SocketOptions, Exit> {
        let security = flags::security(&self.key, Some(&self.server), None)?;
        Ok(socket(security))
    }
}

pub(super) fn socket(security: Security) -> SocketOptions {
    SocketOptions {
        security,
        ..SocketOptions::default()
    }
}

/// The longest record.
#[derive(Debug, Clone, Args)]
pub(super) struct RecordFlag {
    /// The longest record in bytes; the same for all programs of the cluster
    #[arg(long, env = "MUTIRAO_MAX_RECORD_BYTES", default_value = "16MiB", value_name = "BYTES", value_parser = flags::bytes)]
    pub(super) max_record_bytes: usize,
}

/// Reads a head: its endpoint, with or without its id.
pub(super) fn head(text: &str) -> Result<Head, String> {
    let text = text.trim();
    match text.split_once('=') {
        None => Ok((None, flags::endpoint(text)?)),
        Some((id, at)) => {
            let id: u32 = id
                .parse()
                .map_err(|_| format!("{text:?} is not a head: write it like 1={HEAD}"))?;
            Ok((Some(HeadId(id)), flags::endpoint(at)?))
        }
    }
}

pub(super) fn cannot_start(error: StorageError) -> Exit {
    match error {
        StorageError::Open(error) => error.into(),
        StorageError::Election(mutirao::election::ElectionError::Open(error)) => error.into(),
        error => Exit::Environment(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_with_and_without_its_id() {
        assert_eq!(head(HEAD).unwrap().0, None);
        let (id, at) = head(" 2=tcp://b:1").unwrap();
        assert_eq!(
            (id, at.to_string().as_str()),
            (Some(HeadId(2)), "tcp://b:1")
        );
        for wrong in ["", "b:1", "x=tcp://b:1", "-1=tcp://b:1", "1=inproc://b"] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
    }
}
