//! `sleep`: holds a worker for a while, for demonstrations of balance and failure.

use std::thread;
use std::time::Duration;

use super::{
    Declaration, Merge, OpError, Operation, Split, TaskError, bad_argument, printable, text,
};

/// The longest sleep: one hour. A longer one is a mistake more often than a wish.
pub(super) const MOST_MS: u64 = 60 * 60 * 1000;

/// `sleep`.
pub(super) static DECLARATION: Declaration = Declaration {
    name: "sleep",
    argument: "MILLISECONDS, to 3600000 (what the task says)",
    takes: "anything, or milliseconds",
    gives: "nothing, later",
    split: Split::Whole,
    merge: Merge::Concatenate,
};

/// With no time of its own, the task says how long.
struct Sleep {
    time: Option<Duration>,
}

pub(super) fn build(
    argument: Option<&str>,
    _limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    let time = match argument {
        None => None,
        Some(argument) => Some(milliseconds(argument).ok_or_else(|| {
            bad_argument(
                &DECLARATION,
                argument,
                "milliseconds, a whole number from 0 to 3600000",
            )
        })?),
    };
    Ok(Box::new(Sleep { time }))
}

impl Operation for Sleep {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, TaskError> {
        self.apply_within(input, None)
    }

    fn apply_within(&self, input: &[u8], limit: Option<Duration>) -> Result<Vec<u8>, TaskError> {
        let time = match self.time {
            Some(time) => time,
            None => time_in(text(input)?)?,
        };
        if let Some(limit) = limit.filter(|limit| *limit < time) {
            thread::sleep(limit);
            return Err(TaskError::TooLong { limit });
        }
        thread::sleep(time);
        Ok(Vec::new())
    }
}

fn time_in(text: &str) -> Result<Duration, TaskError> {
    milliseconds(text).ok_or_else(|| TaskError::NotATime {
        text: printable(text.trim(), 40),
    })
}

fn milliseconds(text: &str) -> Option<Duration> {
    let ms = text.trim().parse().ok().filter(|ms| *ms <= MOST_MS)?;
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;

    #[test]
    fn the_time_comes_from_the_argument_or_the_task() {
        assert!(
            find("sleep:0")
                .unwrap()
                .apply(b"not read")
                .unwrap()
                .is_empty()
        );
        assert!(find("sleep").unwrap().apply(b" 0\n").unwrap().is_empty());
        assert_eq!(milliseconds("1500"), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_sleep_ends_with_its_time_limit() {
        let sleep = find("sleep:60000").unwrap();
        let error = sleep.apply_within(b"", Some(Duration::from_millis(20)));
        assert_eq!(error.unwrap_err().to_string(), "it took longer than 20 ms");
        let sleep = find("sleep:1").unwrap();
        assert!(
            sleep
                .apply_within(b"", Some(Duration::from_secs(9)))
                .is_ok()
        );
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        assert!(find("sleep:soon").is_err() && find("sleep:3600001").is_err());
        let error = find("sleep")
            .unwrap()
            .apply(b"3600001")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("“3600001”") && error.contains("one hour"),
            "{error}"
        );
    }
}
