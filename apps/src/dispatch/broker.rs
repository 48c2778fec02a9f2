//! The broker's side of dispatch: those who hand in, work, fetch, look and watch.
//!
//! ```text
//!  submit ── tasks ──▶ broker ── leases ──▶ worker
//!  results, watch ◀── results ──┘ ◀── results ──┘
//! ```
//!
//! Tasks and results are those of the trio, so what reads inputs and what writes results is too.

mod accept;
mod connection;
mod fetch;
pub(crate) mod jobs;
mod payload;
pub(crate) mod results;
mod run;
pub(crate) mod serve;
mod sink;
pub(crate) mod status;
mod stay;
pub(crate) mod submit;
mod tally;
mod ventilator;
mod wait;
mod watch;
mod way;
mod worker;

pub(super) use run::run;
pub(super) use sink::{BrokerSink, run as run_sink};
pub(super) use ventilator::{BrokerVentilator, run as run_ventilator};
pub(super) use way::{OneWay, Route, Way, WayFlag};
pub(super) use worker::{BrokerWork, start as start_worker};
