//! A part of every day, by the clock on the wall.

use std::fmt;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// From one time of day to another, the second one excluded; over midnight where it is the earlier one, and the whole day where
/// they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayWindow {
    /// When it opens.
    pub from: Time,
    /// When it closes.
    pub to: Time,
}

impl DayWindow {
    /// Whether a moment lies in it.
    #[must_use]
    pub fn contains(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let time = zone.to_datetime(now).time();
        if self.from < self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        }
    }

    /// The first moment at or after `now` that lies in it. On a day on which the clocks are set forward over all of it, there is
    /// none; then it is the next day's.
    #[must_use]
    pub fn next(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.contains(now, zone) {
            return Some(now);
        }
        self.moment_after(self.from, now, zone).filter(|at| self.contains(*at, zone)).or_else(|| {
            let tomorrow = now.checked_add(SignedDuration::from_hours(24)).ok()?;
            self.moment_after(self.from, tomorrow, zone)
        })
    }

    /// When it closes after `now`, a moment that lies in it.
    #[must_use]
    pub fn end(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.from == self.to { None } else { self.moment_after(self.to, now, zone) }
    }

    /// When it is next `time` on the wall, after `now`.
    fn moment_after(&self, time: Time, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let today = zone.to_datetime(now).date();
        (0..=2).find_map(|days| {
            let date = today.checked_add(days.days()).ok()?;
            // A time that is skipped is the moment after the gap; one that comes twice, the first.
            let at = zone.to_timestamp(date.to_datetime(time)).ok()?;
            (at > now).then_some(at)
        })
    }
}

impl fmt::Display for DayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from.strftime("%H:%M"), self.to.strftime("%H:%M"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn window(from: &str, to: &str) -> DayWindow {
        DayWindow { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn a_window_over_midnight_is_open_on_both_sides_of_it() {
        let (night, zone) = (window("22:00", "06:00"), TimeZone::get("Europe/Berlin").unwrap());
        for (moment, open) in [
            ("2026-07-01T19:59:59Z", false),
            ("2026-07-01T20:00:00Z", true),
            ("2026-07-02T03:59:59Z", true),
            ("2026-07-02T04:00:00Z", false),
        ] {
            assert_eq!(night.contains(at(moment), &zone), open, "{moment}");
        }
        assert_eq!(night.next(at("2026-07-02T04:00:00Z"), &zone), Some(at("2026-07-02T20:00:00Z")));
        assert_eq!(night.next(at("2026-07-02T01:00:00Z"), &zone), Some(at("2026-07-02T01:00:00Z")));
        assert_eq!(night.end(at("2026-07-01T21:00:00Z"), &zone), Some(at("2026-07-02T04:00:00Z")));
        assert!(window("00:00", "00:00").contains(at("2026-07-02T01:00:00Z"), &zone));
    }

    #[test]
    fn when_the_clocks_change_it_follows_the_wall() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        // 29 March 2026: 02:00 becomes 03:00. A night of 22 to 06 has seven hours.
        let night = window("22:00", "06:00");
        let begun = night.next(at("2026-03-28T12:00:00Z"), &zone).unwrap();
        assert_eq!(
            (begun, night.end(begun, &zone)),
            (at("2026-03-28T21:00:00Z"), Some(at("2026-03-29T04:00:00Z")))
        );
        // One that lies in the gap is not there on that day.
        let gap = window("02:15", "02:45");
        assert_eq!(gap.next(at("2026-03-28T12:00:00Z"), &zone), Some(at("2026-03-30T00:15:00Z")));
        // 25 October: the hour from 2 to 3 comes twice, and so does what lies in it.
        assert!(
            gap.contains(at("2026-10-25T00:30:00Z"), &zone)
                && gap.contains(at("2026-10-25T01:30:00Z"), &zone)
        );
    }
}
