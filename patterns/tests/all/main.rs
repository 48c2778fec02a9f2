//! The integration tests: one binary, so that they link once.

mod bad_input;
mod bare;
mod broker;
mod caller;
mod election;
mod examples;
mod json;
mod majordomo;
mod protocol;
mod pubsub;
mod pushpull;
mod python;
mod raw_tcp;
mod reqrep;
mod security;
mod sim_broker;
mod sim_detector;
mod sim_election;
mod sim_pipeline;
mod sim_storage;
#[cfg(feature = "disk")]
mod store;
mod support;
mod transport;
mod udp;
