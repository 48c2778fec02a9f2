//! Whether a peer that says nothing is still there.

use std::time::Duration;

use crate::machine::Time;
use crate::transport::BUSY;

/// Questions without an answer before a peer is given up, however long it has been silent: whoever was not
/// driven for a while has not asked.
const LEAST_ASKED: u32 = 2;

/// How long a peer may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// After such a time it is asked, and again.
    pub(super) interval: Duration,
    /// After such a time it is given up.
    pub(super) limit: Duration,
}

/// What is to be done about a peer's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing yet.
    Fine,
    /// Ask whether it is there.
    Ask,
    /// Give it up.
    Dead,
}

/// When a peer was heard and asked.
#[derive(Debug)]
pub(super) struct Live {
    patience: Patience,
    heard: Time,
    /// When it was asked last, and how often since it was heard.
    asked: Time,
    times: u32,
    /// Whether it may be busy with what we want of it.
    busy: bool,
}

impl Live {
    pub(super) fn new(patience: Patience, now: Time) -> Live {
        Live {
            patience,
            heard: now,
            asked: now,
            times: 0,
            busy: false,
        }
    }

    /// Whether the peer may be busy with what we want of it: then it is granted longer.
    pub(super) fn expect(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// How long it may be silent.
    pub(super) fn limit(&self) -> Duration {
        match self.busy {
            true => self.patience.limit.max(BUSY),
            false => self.patience.limit,
        }
    }

    /// Something came from the peer.
    pub(super) fn hear(&mut self, now: Time) {
        self.heard = now;
        self.times = 0;
    }

    /// To be called when it is [`due`](Live::due), or at any time.
    pub(super) fn check(&mut self, now: Time) -> Silence {
        if now.since(self.heard) >= self.limit() && self.times >= LEAST_ASKED {
            return Silence::Dead;
        }
        if now < self.due() {
            return Silence::Fine;
        }
        self.asked = now;
        self.times = self.times.saturating_add(1);
        Silence::Ask
    }

    /// When to look after the peer.
    pub(super) fn due(&self) -> Time {
        let again = self.heard.max(self.asked) + self.patience.interval;
        match self.times >= LEAST_ASKED {
            true => again.min((self.heard + self.limit()).max(self.asked)),
            false => again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_asked_and_then_given_up() {
        let patience = Patience {
            interval: Duration::from_secs(2),
            limit: Duration::from_secs(6),
        };
        let at = |seconds| Time::START + Duration::from_secs(seconds);
        let mut live = Live::new(patience, at(0));
        assert_eq!((live.check(at(1)), live.due()), (Silence::Fine, at(2)));
        assert_eq!((live.check(at(2)), live.due()), (Silence::Ask, at(4)));
        assert_eq!((live.check(at(4)), live.due()), (Silence::Ask, at(6)));
        live.hear(at(5));
        assert_eq!((live.check(at(6)), live.due()), (Silence::Fine, at(7)));
        // Nobody asked for a long time, so nobody can have failed to answer.
        assert_eq!(live.check(at(100)), Silence::Ask);
        assert_eq!(live.check(at(101)), Silence::Fine);
        assert_eq!(live.check(at(102)), Silence::Ask);
        assert_eq!((live.due(), live.check(at(102))), (at(102), Silence::Dead));
    }

    #[test]
    fn a_peer_that_may_be_busy_is_granted_longer_and_then_given_up() {
        let patience = Patience {
            interval: Duration::from_secs(2),
            limit: Duration::from_secs(6),
        };
        let mut live = Live::new(patience, Time::START);
        live.expect(true);
        let mut dead = Vec::new();
        let mut now = Time::START;
        while dead.is_empty() {
            now = live.due();
            dead.extend((live.check(now) == Silence::Dead).then_some(now));
        }
        assert_eq!(dead, [Time::START + BUSY]);
        live.hear(now);
        live.expect(false);
        let mut asked = 0;
        while live.check(live.due()) == Silence::Ask {
            asked += 1;
        }
        assert_eq!((asked, live.due()), (2, now + patience.limit));
    }
}
