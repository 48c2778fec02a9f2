//! Runs a test over many seeds and names the one that fails.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The environment variable with the one seed to replay.
const SEED_VARIABLE: &str = "MUTIRAO_SEED";

/// Runs `test` with every seed of the range, or with the one in `MUTIRAO_SEED` alone.
///
/// # Panics
///
/// When the test panics; the seed and the command that replays it go to standard error first.
pub fn run_seeds(name: &str, seeds: Range<u64>, test: impl Fn(u64)) {
    let replay = std::env::var(SEED_VARIABLE).ok();
    let seeds = match replay.as_deref().map(str::parse) {
        Some(Ok(seed)) => seed..seed + 1,
        _ => seeds,
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!(
                "{name}: seed {seed} failed; replay with {SEED_VARIABLE}={seed} cargo test {name}"
            );
            resume_unwind(panic);
        }
    }
}
