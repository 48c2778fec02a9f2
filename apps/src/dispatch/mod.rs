//! Task dispatch: a job's inputs become tasks, workers turn them into results, a sink keeps these.

pub(crate) mod broker;
mod collect;
mod feed;
mod input;
mod output;
mod progress;
pub(crate) mod run;
pub(crate) mod sink;
mod summary;
mod task;
pub(crate) mod ventilator;
mod work;
pub(crate) mod worker;
