//! Quick.
#[path = "all/sim_broker/mod.rs"]
mod sim_broker;
