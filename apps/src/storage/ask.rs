//! Asking the heads, for those that do it once.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mutirao::storage::{AskError, ClientSetup, RecordId, StorageClient};

use super::cluster::{HeadFlags, RecordFlag, cannot_start};
use crate::exit::Exit;
use crate::flags;
use crate::signals::Caught;

/// Whom a client asks, and for how long.
#[derive(Debug, Clone, Args)]
pub(super) struct AskFlags {
    #[command(flatten)]
    head: HeadFlags,

    /// How long an answer is waited for
    #[arg(long, env = "MUTIRAO_TIMEOUT", default_value = "30s", value_name = "TIME", value_parser = flags::duration)]
    timeout: Duration,

    #[command(flatten)]
    pub(super) record: RecordFlag,
}

impl AskFlags {
    /// A client that Ctrl-C stops; it notes what is confirmed in `register`.
    pub(super) fn client(&self, register: Option<PathBuf>) -> Result<StorageClient, Exit> {
        let setup = ClientSetup {
            heads: self.head.heads()?,
            register,
            resend: Duration::from_millis(500).min(self.timeout),
            patience: self.timeout,
            record_bytes: self.record.max_record_bytes as u64,
            connect: self.head.socket()?,
        };
        let caught = Caught::begin()?;
        let client = StorageClient::open(setup).map_err(cannot_start)?;
        let stop = client.stop_handle();
        caught.then(move |_| stop.stop());
        Ok(client)
    }
}

/// Reads the id of a record.
pub(super) fn record_id(text: &str) -> Result<RecordId, String> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let id = u64::from_str_radix(text, 16).ok().filter(|_| digits);
    id.map(RecordId).ok_or_else(|| {
        format!("{text:?} is not the id of a record: `mutirao storage list` shows them")
    })
}

pub(super) fn ended(error: AskError) -> Exit {
    match error {
        AskError::Stopped(_) => Exit::Interrupted("stopped before there was an answer".into()),
        AskError::Refused(Some(id), why) if why.may_pass() => {
            Exit::Environment(format!("record {id}: {why}"))
        }
        error => Exit::Environment(error.to_string()),
    }
}
