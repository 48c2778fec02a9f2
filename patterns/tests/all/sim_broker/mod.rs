//! The machines of the broker in the simulator: one invariant per file.

mod broker;
mod client;
mod no_task_lost;
mod nodes;
mod store;
mod watch;
mod work;
mod worker;
mod world;
