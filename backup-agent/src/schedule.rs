//! When a policy runs: the usual five cron fields, in a time zone.
//!
//! ```text
//! minute 0-59   hour 0-23   day of the month 1-31   month 1-12 or jan-dec   day of the week 0-7 or sun-sat (0 and 7: Sunday)
//! each: *   7   1,15   1-5   */10   10-40/5           or: @hourly @daily @midnight @weekly @monthly @yearly @annually
//! ```
//! As in every cron, a day matches when the day of the month *or* the day of the week does, where both are given.
//!
//! **Days on which the clocks change.** A time of day that is skipped runs right after the gap; one that happens twice runs
//! the first time. A schedule of every hour (`*` as the hour) follows the hours as they pass: nothing is made up for a
//! gap, and both of the doubled hours run, or else a point would be missing for an hour.
//!
//! The crate `cron` finds the matching days and times. It wants seconds, counts days of the week from 1 = Sunday, and means
//! *and* where cron means *or*: `fields` translates. It knows no time zone here: it counts plain wall-clock time, and what
//! that is in the world is worked out with jiff.

mod fields;
mod wall;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use wall::WallClock;

/// When something runs.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    wall: WallClock,
    zone: TimeZone,
}

/// The text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("{text:?} has {found} fields, a schedule has five: minute hour day month weekday")]
    Fields {
        /// What was given.
        text: String,
        /// How many fields it has.
        found: usize,
    },
    /// An `@` word that is not known.
    #[error(
        "{text:?} is not known: there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually"
    )]
    Word {
        /// What was given.
        text: String,
    },
    /// One field is wrong.
    #[error("the {field} {given:?} is not understood: {reason}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such day, such as the 31st of February.
    #[error("{text:?} never comes")]
    Never {
        /// What was given.
        text: String,
    },
}

impl Schedule {
    /// Understands a schedule in a time zone.
    ///
    /// # Errors
    /// When the text is none, or never comes.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let wall = WallClock::new(&fields::Fields::parse(text)?);
        if !wall.ever_comes() {
            return Err(ScheduleError::Never { text: text.to_owned() });
        }
        Ok(Self { text: text.to_owned(), wall, zone })
    }

    /// The first slot after `now`. `None` at the end of the calendar.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.wall.next(now, &self.zone)
    }

    /// The last slot at or before `now`.
    #[must_use]
    pub fn previous(&self, now: Timestamp) -> Option<Timestamp> {
        self.wall.previous(now, &self.zone)
    }

    /// The longest of the next gaps between slots: how old a point may become when every run succeeds at once.
    #[must_use]
    pub fn longest_gap(&self, now: Timestamp) -> Duration {
        // A week of an hourly schedule and years of a monthly one.
        const SLOTS: usize = 200;
        let mut longest = Duration::ZERO;
        let mut slot = self.next(now);
        for _ in 0..SLOTS {
            let Some(from) = slot else { break };
            slot = self.next(from);
            let gap = slot.map_or(0, |to| to.as_second() - from.as_second());
            longest = longest.max(Duration::from_secs(gap.unsigned_abs()));
        }
        longest
    }

    /// Where its days begin.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.text, self.zone.iana_name())
    }
}

/// How much later than its slot a volume runs: less than `jitter`, and always the same for the same volume and slot, so
/// that a restarted agent, or one on another machine, neither skips a run nor doubles it.
#[must_use]
pub fn jitter_of(volume: &str, slot: Timestamp, jitter: Duration) -> Duration {
    let jitter_ms = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
    if jitter_ms == 0 {
        return Duration::ZERO;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&slot.as_second().to_le_bytes());
    hasher.update(volume.as_bytes());
    let drawn = hasher.finalize().as_bytes()[..8].try_into().map_or(0, u64::from_le_bytes);
    Duration::from_millis(drawn % jitter_ms)
}

#[cfg(test)]
mod tests;
