//! Which broker, and how long to wait for its word.

use std::time::Duration;

use clap::Args;
use mutirao::Endpoint;
use mutirao::broker::{ClientConfig, ClientError, Console, Keeps, StatusView};
use mutirao::pipeline::JobId;
use mutirao::security::Security;

use crate::exit::Exit;
use crate::flags::{self, CodecFlag, KeyFlag, LimitFlags, ServerFlag, TransportFlags};

/// Where the broker is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// Where the broker listens
    #[arg(long, env = "MUTIRAO_BROKER", default_value = "tcp://127.0.0.1:5555", value_name = "ENDPOINT", value_parser = flags::endpoint)]
    broker: Endpoint,

    #[command(flatten)]
    transport: TransportFlags,

    #[command(flatten)]
    pub(crate) codec: CodecFlag,

    /// How long to wait for the broker's first answer
    #[arg(long, env = "MUTIRAO_TIMEOUT", default_value = "5s", value_name = "TIME", value_parser = flags::duration)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server: ServerFlag,
}

impl Connection {
    /// Where the broker listens.
    pub(crate) fn at(&self) -> Result<Endpoint, Exit> {
        self.transport.apply(&self.broker)
    }

    /// Settings for those who hand in tasks or fetch results.
    pub(crate) fn client(&self, limits: &LimitFlags) -> Result<ClientConfig, Exit> {
        limits.client(self.at()?, &self.codec, self.security()?)
    }

    /// For questions.
    pub(crate) fn console(&self) -> Result<Console, Exit> {
        self.console_within(self.timeout)
    }

    /// For questions whose answers are waited for no longer than this.
    pub(crate) fn console_within(&self, within: Duration) -> Result<Console, Exit> {
        Ok(Console::connect(&self.config()?, within.min(self.timeout))?)
    }

    fn config(&self) -> Result<ClientConfig, Exit> {
        let mut config = ClientConfig::new(self.at()?);
        config.codec = self.codec.codec();
        config.socket.security = self.security()?;
        Ok(config)
    }

    fn security(&self) -> Result<Security, Exit> {
        flags::security(&self.key, Some(&self.server), None)
    }
}

/// For what outlives the client that hands it in.
pub(crate) fn need_keeping(status: &StatusView, broker: &Endpoint) -> Result<(), Exit> {
    match status.keeps {
        Keeps::Disk | Keeps::Memory => Ok(()),
        Keeps::Nothing => Err(Exit::Environment(format!(
            "the broker at {broker} works by request and reply and keeps nothing: stay for the results with `mutirao submit --wait`, or use a broker with --mode load-balancing"
        ))),
    }
}

/// Why a client of the broker ends.
pub(crate) fn ended(error: ClientError) -> Exit {
    match error {
        ClientError::Stopped => Exit::Interrupted("interrupted".into()),
        other => Exit::Environment(other.to_string()),
    }
}

pub(crate) fn no_such_job(job: JobId) -> Exit {
    Exit::Environment(format!(
        "the broker has no job {job}: it was fetched, cancelled or never there; `mutirao jobs` lists those there are"
    ))
}

/// Reads the id of a job as it is shown: up to 16 hexadecimal digits.
pub(crate) fn job_id(text: &str) -> Result<JobId, String> {
    let digits = text.len() <= 16 && text.chars().all(|c| c.is_ascii_hexdigit());
    u64::from_str_radix(text, 16)
        .ok()
        .filter(|_| digits)
        .map(JobId)
        .ok_or_else(|| {
            format!("{text:?} is not the id of a job: give the 16 digits that `mutirao jobs` shows")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let job = JobId(0x0123_4567_89ab_cdef);
        assert_eq!(job_id(&job.to_string()), Ok(job));
        for wrong in ["", "x", "+1", "-1", "0123456789abcdef0", "12 "] {
            assert!(job_id(wrong).is_err(), "{wrong:?}");
        }
    }
}
