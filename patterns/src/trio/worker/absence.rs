//! A peer that is not there: said once when that lasts, and once when it is over.

use std::time::Duration;

use crate::machine::Time;

/// How long a peer may be away before a word is said about it.
const SILENCE: Duration = Duration::from_secs(3);

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It has been away for a while.
    Away,
    /// It is there, after it was said to be away.
    Back,
}

/// Watches whether a peer is there.
#[derive(Debug, Default)]
pub(super) struct Absence {
    since: Option<Time>,
    said: bool,
}

impl Absence {
    /// Takes note of whether the peer is there now; what is to be said about it.
    pub(super) fn note(&mut self, now: Time, is_there: bool) -> Option<Word> {
        if is_there {
            self.since = None;
            return std::mem::take(&mut self.said).then_some(Word::Back);
        }
        let since = *self.since.get_or_insert(now);
        let due = !self.said && now >= since + SILENCE;
        self.said |= due;
        due.then_some(Word::Away)
    }

    /// When there may be something to say although nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.since
            .filter(|_| !self.said)
            .map(|since| since + SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_absence_and_its_end_are_told_once() {
        let mut absence = Absence::default();
        let at = |seconds| Time::START + Duration::from_secs(seconds);
        assert_eq!(absence.note(at(1), false), None);
        assert_eq!(absence.deadline(), Some(at(4)));
        assert_eq!(absence.note(at(4), false), Some(Word::Away));
        assert_eq!(
            (absence.note(at(9), false), absence.deadline()),
            (None, None)
        );
        assert_eq!(absence.note(at(10), true), Some(Word::Back));
        assert_eq!(absence.note(at(11), true), None);
        assert_eq!(absence.note(at(12), false), None);
        assert_eq!(absence.note(at(13), true), None, "too short for a word");
        assert_eq!(
            (absence.note(at(14), false), absence.deadline()),
            (None, Some(at(17)))
        );
    }
}
