//! The main job: files in, one operation over many workers, results out, nothing lost.

pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod task;
