//! The integration tests: one binary, so that they link once.

mod examples;
mod pubsub;
mod pushpull;
mod reqrep;
mod support;
mod transport;
