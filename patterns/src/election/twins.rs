//! Notices two processes under one id, which have different ballots, or they could not both run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machine::Time;

use super::MemberId;

/// How long what a process has said before its end may still be on its way.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// Which process speaks for each member, and which did before.
///
/// A member that is started again is another process, and the one before is silent. Of two that run each is heard after
/// the other. Their votes and promises are not one member's, and so nothing is certain any more.
#[derive(Debug, Default)]
pub(super) struct Twins(BTreeMap<MemberId, Speaker>);

#[derive(Debug)]
struct Speaker {
    instance: u64,
    /// The process that spoke before it, and since when the two do in turn.
    before: Option<(u64, Time)>,
}

impl Twins {
    /// Whether this word of `from` shows that two processes run: they speak in turn for too long.
    pub(super) fn show(&mut self, now: Time, from: MemberId, instance: u64) -> bool {
        let before = None;
        let speaker = self.0.entry(from).or_insert(Speaker { instance, before });
        if speaker.instance == instance {
            return false;
        }
        let known = speaker.before.filter(|(before, _)| *before == instance);
        let since = known.map_or(now, |(_, since)| since);
        speaker.before = Some((speaker.instance, since));
        speaker.instance = instance;
        now.since(since) > ON_THE_WAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_was_started_again_is_one_and_two_that_speak_in_turn_are_two() {
        let mut twins = Twins::default();
        let mut show = |ms, instance| {
            let now = Time::START + Duration::from_millis(ms);
            twins.show(now, MemberId(3), instance)
        };
        assert!(!show(0, 7) && !show(500, 7));
        assert!(!show(600, 8), "it was started again");
        assert!(!show(700, 7), "what the old one said comes late");
        assert!(!show(710, 8) && !show(4_000, 8));
        assert!(!show(5_000, 9), "and again");
        assert!(!show(5_100, 7) && !show(5_200, 9), "later still");
        assert!(!show(9_000, 9));
        assert!(!show(9_100, 8) && !show(10_000, 9));
        assert!(show(10_200, 8), "it runs still");
        assert!(show(10_300, 9) && !show(10_400, 9));
    }

    #[test]
    fn members_are_told_apart() {
        let mut twins = Twins::default();
        for ms in 0..5_000 {
            for member in 1..=3 {
                let now = Time::START + Duration::from_millis(ms);
                assert!(!twins.show(now, MemberId(member), member));
            }
        }
    }
}
