//! How work reaches the workers: by one of the trio's patterns, or by a broker.

use std::str::FromStr;

use clap::Args;
use mutirao::{Endpoint, Pattern};

use crate::exit::Exit;
use crate::given::Given;

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

/// Where a role gets its work, or leaves it.
pub(crate) enum Route {
    Trio(Pattern),
    Broker(Endpoint),
}

/// The flags of a role that mean something in one of the two ways only.
pub(crate) struct OneWay {
    pub(crate) trio: &'static [&'static str],
    pub(crate) broker: &'static [&'static str],
}

impl OneWay {
    /// The way of a role: what was typed counts before what the environment says, and there the
    /// pattern before the endpoint.
    pub(crate) fn route(
        &self,
        given: &Given,
        flag: &WayFlag,
        broker: Option<&Endpoint>,
    ) -> Result<Route, Exit> {
        let typed = |flags: &[&'static str]| flags.iter().copied().find(|flag| given.has(flag));
        let way = self.way(given, flag.way, broker.is_some())?;
        match (way, typed(self.trio), typed(self.broker)) {
            (Way::Broker, Some(trio), _) => Err(contradiction(given, trio)),
            (Way::Trio(_), _, Some(flag)) => Err(Exit::Usage(format!(
                "{} needs --broker: ventilator, workers and sink have no use for it",
                spelled(flag)
            ))),
            (Way::Trio(pattern), ..) => Ok(Route::Trio(pattern)),
            (Way::Broker, ..) => Ok(Route::Broker(broker.cloned().unwrap_or_else(at_home))),
        }
    }

    fn way(&self, given: &Given, way: Way, has_broker: bool) -> Result<Way, Exit> {
        let trio_typed = self.trio.iter().any(|flag| given.has(flag));
        match way {
            Way::Trio(pattern) if given.has("way") && given.has("broker") => Err(Exit::Usage(
                format!("--broker contradicts --pattern {pattern}: leave one of them out"),
            )),
            Way::Trio(_) if given.has("broker") => Ok(Way::Broker),
            Way::Trio(_) if given.has("way") || trio_typed => Ok(way),
            Way::Trio(_) if has_broker && !given.is_in_environment("way") => Ok(Way::Broker),
            way => Ok(way),
        }
    }
}

fn contradiction(given: &Given, trio: &str) -> Exit {
    let broker = match given.has("broker") {
        true => "--broker",
        false => "--pattern broker",
    };
    Exit::Usage(format!(
        "{broker} contradicts {}: work goes through a broker, or between a ventilator and a sink",
        spelled(trio)
    ))
}

/// A flag as it is typed.
fn spelled(flag: &str) -> String {
    format!("--{}", flag.replace('_', "-"))
}

fn at_home() -> Endpoint {
    "tcp://127.0.0.1:5555".parse().expect("our own endpoint")
}
