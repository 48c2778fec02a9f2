//! The integration tests: one binary, so that they link once.

mod sim_pipeline;
mod bad_input;
mod security;
mod support;
mod transport;
