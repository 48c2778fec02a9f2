//! The machines of the broker in the simulator: one invariant per file.

mod attempts_are_counted;
mod bounded_memory;
mod broker;
mod client;
mod cost_is_flat;
mod fair_share;
mod hand_fed;
mod hostile_input;
mod majordomo;
mod no_result_twice;
mod no_task_lost;
mod nodes;
mod progress_when_faults_stop;
mod request_reply;
mod store;
mod throughput;
mod watch;
mod who_is_late;
mod work;
mod worker;
mod world;
