//! The time of day beside a message, and the date between two of different days.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A moment as the clock and the calendar on the wall show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    day: Option<Date>,
    /// Hours and minutes.
    pub(crate) time: String,
}

impl Moment {
    /// A moment in milliseconds since 1970; not every number is one.
    pub(crate) fn local(at_ms: u64) -> Moment {
        static ZONE: LazyLock<TimeZone> = LazyLock::new(TimeZone::system);
        Moment::at(at_ms, &ZONE)
    }

    fn at(at_ms: u64, zone: &TimeZone) -> Moment {
        let at = i64::try_from(at_ms).ok();
        let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        match at.map(|at| at.to_zoned(zone.clone())) {
            Some(at) => Moment {
                day: Some(at.date()),
                time: at.strftime("%H:%M").to_string(),
            },
            None => Moment {
                day: None,
                time: "--:--".into(),
            },
        }
    }
}

/// The day that was last shown.
#[derive(Debug)]
pub(crate) struct Calendar(Option<Date>);

impl Calendar {
    /// Nobody needs to be told which day it is now.
    pub(crate) fn at(now: &Moment) -> Calendar {
        Calendar(now.day)
    }

    /// What to say before something of that moment, when it is of another day.
    pub(crate) fn turn(&mut self, moment: &Moment) -> Option<String> {
        let day = moment.day.filter(|day| Some(*day) != self.0)?;
        self.0 = Some(day);
        Some(day.strftime("%A %Y-%m-%d").to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn the_date_is_told_when_it_is_another_one() {
        let moment = |hour| Moment::at(hour * HOUR_MS, &TimeZone::UTC);
        let mut calendar = Calendar::at(&moment(24 * 5));
        let mut told = Vec::new();
        // Two lines of the history, then today, past midnight, and a private message of before.
        for hour in [22, 23, 24 * 5 + 1, 24 * 5 + 23, 24 * 6, 24 * 5 + 22] {
            told.push(calendar.turn(&moment(hour)).unwrap_or_default());
        }
        let expected = [
            "Thursday 1970-01-01",
            "",
            "Tuesday 1970-01-06",
            "",
            "Wednesday 1970-01-07",
            "Tuesday 1970-01-06",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn who_talks_today_is_told_no_date() {
        let now = Moment::local(1_000);
        assert_eq!(Calendar::at(&now).turn(&now), None);
        assert_eq!(now.time.len(), 5);
    }

    #[test]
    fn times_that_no_clock_shows_are_no_trouble() {
        let never = Moment::local(u64::MAX);
        assert_eq!(never.time, "--:--");
        assert_eq!(Calendar::at(&Moment::local(0)).turn(&never), None);
    }
}
