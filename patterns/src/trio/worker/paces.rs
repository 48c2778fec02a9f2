//! How long tasks take, by operation.

use std::time::Duration;

use super::slots::{Work, Worked};

/// Each new measurement counts for one part in so many.
const WEIGHT: u32 = 4;

/// What is known of each of a worker's operations.
#[derive(Debug)]
pub(super) struct Paces(Vec<(String, Option<Duration>)>);

impl Paces {
    /// Nothing is known yet; other operations than these are not kept.
    pub(super) fn new(operations: &[String]) -> Paces {
        Paces(operations.iter().map(|name| (name.clone(), None)).collect())
    }

    /// How long a batch is likely to take; `None` when nothing like it was done.
    pub(super) fn expect(&self, work: &Work) -> Option<Duration> {
        let operation = work.operation.as_deref()?;
        let (_, pace) = self.0.iter().find(|(name, _)| name == operation)?;
        Some(pace.as_ref()?.saturating_mul(work.span.count))
    }

    /// Takes note of a batch that was worked off.
    pub(super) fn note(&mut self, worked: &Worked) {
        let Some(operation) = worked.operation.as_deref() else {
            return;
        };
        let each = worked.busy / worked.done.max(1);
        if let Some((_, pace)) = self.0.iter_mut().find(|(name, _)| name == operation) {
            let known = pace.map(|known| (known * (WEIGHT - 1) + each) / WEIGHT);
            *pace = Some(known.unwrap_or(each));
        }
    }
}
