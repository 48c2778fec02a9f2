//! How often the broker is heard, as opposed to how often one would beat oneself.

use std::time::Duration;

use crate::machine::Time;

/// The longest interval that is believed to be one.
const LONGEST: Duration = Duration::from_secs(60);

/// The interval between the last two beats of a broker, which may have been told another than we.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulse {
    last: Option<Time>,
    interval: Duration,
}

impl Pulse {
    /// A beat is heard.
    pub(super) fn beat(&mut self, now: Time) {
        let interval = self.last.map(|last| now.since(last));
        self.interval = interval.unwrap_or_default().min(LONGEST);
        self.last = Some(now);
    }

    /// The interval to go by: the longer of the broker's and one's own.
    pub(super) fn interval(&self, own: Duration) -> Duration {
        self.interval.max(own)
    }
}
