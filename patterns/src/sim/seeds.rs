//! Runs a test over many seeds and names the one that fails.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;

/// The environment variable with the one seed to replay.
const SEED_VARIABLE: &str = "MUTIRAO_SEED";

/// The environment variable that says how many seeds to try, where the test itself tries fewer.
const SEEDS_VARIABLE: &str = "MUTIRAO_SEEDS";

/// Runs `test` with every seed of the range.
///
/// `MUTIRAO_SEED=7` in the environment runs that one seed alone, and `MUTIRAO_SEEDS=20000` so many from
/// the first of the range on, if the range has fewer.
///
/// # Panics
///
/// When the test panics; the seed and the command that replays it go to standard error first.
pub fn run_seeds<F: Fn(u64)>(seeds: Range<u64>, test: F) {
    for seed in chosen(seeds, variable(SEED_VARIABLE), variable(SEEDS_VARIABLE)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            let name = caller(std::any::type_name::<F>());
            eprintln!("seed {seed} failed; replay with {SEED_VARIABLE}={seed} cargo test {name}");
            resume_unwind(panic);
        }
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn chosen(seeds: Range<u64>, only: Option<u64>, least: Option<u64>) -> Range<u64> {
    match only {
        Some(seed) => seed..seed.saturating_add(1),
        None => {
            let end = seeds.start.saturating_add(least.unwrap_or(0));
            seeds.start..seeds.end.max(end)
        }
    }
}

/// The function in which a closure is written, as `cargo test` knows it: without the crate.
fn caller(closure: &str) -> &str {
    let path = closure.split_once("::").map_or(closure, |(_, path)| path);
    path.split("::{{closure}}").next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of<F: Fn(u64)>(_: F) -> &'static str {
        caller(std::any::type_name::<F>())
    }

    #[test]
    fn the_command_names_the_test_as_its_runner_does() {
        // The runner names its threads so, unless there is only one.
        let thread = std::thread::current();
        let name = thread.name().filter(|&name| name != "main");
        let written = "sim::seeds::tests::the_command_names_the_test_as_its_runner_does";
        let nested = || name_of(|_| {});
        assert_eq!(name_of(|_| {}), name.unwrap_or(written));
        assert_eq!(nested(), name.unwrap_or(written));
    }

    #[test]
    fn ranges_are_widened_and_never_narrowed() {
        assert_eq!(chosen(3..9, None, None), 3..9);
        assert_eq!(chosen(3..9, None, Some(100)), 3..103);
        assert_eq!(chosen(3..9, None, Some(2)), 3..9);
        assert_eq!(chosen(3..9, Some(7000), Some(100)), 7000..7001);
    }
}
