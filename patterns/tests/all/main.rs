//! The integration tests: one binary, so that they link once.

mod bad_input;
mod bare;
mod broker;
mod examples;
mod pubsub;
mod pushpull;
mod reqrep;
mod security;
mod sim_broker;
mod sim_pipeline;
mod support;
mod transport;
