//! How work reaches the workers: by one of the trio's patterns, or by a broker.

use std::str::FromStr;

use clap::Args;
use mutirao::Pattern;

/// A pattern of the trio, or the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Trio(Pattern),
    Broker,
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Way, String> {
        match text {
            "broker" => Ok(Way::Broker),
            text => text.parse().map(Way::Trio).map_err(|_| {
                format!("{text:?} is not a pattern: choose push-pull, req-rep, pub-sub or broker")
            }),
        }
    }
}

/// How tasks reach the workers and results the disk.
#[derive(Debug, Clone, Args)]
pub(crate) struct WayFlag {
    /// How tasks reach the workers: push-pull, req-rep, pub-sub (the same for all roles of a job) or
    /// broker
    #[arg(
        long = "pattern",
        env = "MUTIRAO_PATTERN",
        default_value = "push-pull",
        value_name = "PATTERN"
    )]
    pub(crate) way: Way,
}
