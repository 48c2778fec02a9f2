//! The pipeline's machines in the simulator: one invariant per file.

mod attempts_are_counted;
mod bounded_memory;
mod cost_is_flat;
mod hostile_input;
mod no_needless_repeats;
mod no_result_twice;
mod no_task_lost;
mod nodes;
mod progress_when_faults_stop;
mod sink;
mod ventilator;
mod work;
mod worker;
mod world;
