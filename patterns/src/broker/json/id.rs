//! How a worker's messages name what it holds: `LEASE.FIRST`, of several tasks `LEASE.FIRST+COUNT`, and
//! with the job, which a worker that comes back has to know, `LEASE.FIRST+COUNT.JOB`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

use crate::hex;
use crate::pipeline::{JobId, Span};

use super::super::protocol::LeaseId;

/// Tasks of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) lease: LeaseId,
    pub(super) span: Span,
    pub(super) job: Option<JobId>,
}

impl Id {
    fn read(text: &str) -> Option<Id> {
        let mut parts = text.split('.');
        let lease = hex::read(parts.next()?)?;
        let tasks = parts.next()?;
        let (first, count) = tasks.split_once('+').unwrap_or((tasks, "1"));
        let job = match parts.next() {
            Some(job) => Some(JobId(hex::read(job)?)),
            None => None,
        };
        let span = Span {
            first: decimal(first)?,
            count: u32::try_from(decimal(count)?).ok()?,
        };
        let sound = span.count > 0 && span.first.checked_add(u64::from(span.count)).is_some();
        (sound && parts.next().is_none()).then_some(Id { lease, span, job })
    }
}

/// Digits only: a sign is none.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", hex::write(self.lease), self.span.first)?;
        if self.span.count != 1 {
            write!(f, "+{}", self.span.count)?;
        }
        match self.job {
            Some(job) => write!(f, ".{job}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        let text = String::deserialize(deserializer)?;
        Id::read(&text).ok_or_else(|| {
            D::Error::custom("this is no id of a task: give back the one that PROCESS had")
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_survives_as_text(lease: u64, first in 0..u64::MAX / 2, count in 1..u32::MAX, job: Option<u64>) {
            let id = Id { lease, span: Span { first, count }, job: job.map(JobId) };
            prop_assert_eq!(Id::read(&id.to_string()), Some(id));
        }

        #[test]
        fn rubbish_is_none(text in "[0-9a-f.+]{0,30}") {
            if let Some(id) = Id::read(&text) {
                prop_assert!(id.span.count > 0);
            }
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "7",
            "7.",
            "7.1+0",
            "7.1.",
            "7.1.2.3",
            "7.-1",
            "g.1",
            "7.1+9999999999",
        ] {
            assert_eq!(Id::read(text), None, "{text:?}");
        }
        let largest = format!("7.{}", u64::MAX);
        assert_eq!(Id::read(&largest), None);
    }
}
