//! The machines of the storage cluster in the simulator: one invariant per file.

mod client;
mod data;
mod data_node;
mod disk;
mod head;
mod head_alone;
mod hostile_input;
mod no_confirmed_record_lost;
mod nodes;
mod progress_when_faults_stop;
mod replicas_converge;
mod world;
