//! Slots on the wall clock, and what moment each of them is.

use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::fields::{Field, Fields};

/// No zone ever jumped further: Samoa left out a whole day.
const LARGEST_JUMP_HOURS: i64 = 25;

/// Matching times of day on matching days, without a time zone.
#[derive(Debug, Clone)]
pub(super) struct WallClock {
    /// One, or two where the days are an *or*.
    alternatives: Vec<cron::Schedule>,
    every_hour: bool,
}

impl WallClock {
    pub(super) fn new(fields: &Fields) -> Self {
        let either = !fields.day.star && !fields.weekday.star;
        let any_day = (1..=31).collect::<Vec<u8>>();
        let any_weekday = (0..=6).collect::<Vec<u8>>();
        let (days, weekdays) = (numbers(&fields.day), numbers(&fields.weekday));
        let alternatives = if either {
            vec![(&days, &any_weekday), (&any_day, &weekdays)]
        } else {
            vec![(&days, &weekdays)]
        };
        let alternatives =
            alternatives.into_iter().map(|(days, weekdays)| compile(fields, days, weekdays)).collect();
        Self { alternatives, every_hour: fields.hour.matches.len() == 24 }
    }

    pub(super) fn ever_comes(&self) -> bool {
        let start = wall("2001-01-01T00:00:00".parse().expect("this is a date and a time"));
        self.alternatives.iter().any(|schedule| schedule.after(&start).next().is_some())
    }

    pub(super) fn next(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let jump = SignedDuration::from_hours(LARGEST_JUMP_HOURS);
        let start = wall(zone.to_datetime(now).saturating_sub(jump));
        let mut best: Option<Timestamp> = None;
        for schedule in &self.alternatives {
            // Wall clock time and real time disagree by at most the largest jump, so once a slot was found nothing that is
            // further than two jumps behind it can come before it.
            let mut until: Option<DateTime<Utc>> = None;
            for slot in schedule.after(&start) {
                if until.is_some_and(|until| slot > until) {
                    break;
                }
                for moment in self.moments(slot, zone).into_iter().flatten().filter(|moment| *moment > now) {
                    until = until.or_else(|| {
                        slot.checked_add_signed(chrono::TimeDelta::hours(2 * LARGEST_JUMP_HOURS))
                    });
                    best = Some(best.map_or(moment, |best| best.min(moment)));
                }
                // Nearly always the first slot decides: no change of the clocks is near.
                if until.is_some() && steady(best.unwrap_or(now), zone) {
                    break;
                }
            }
        }
        best
    }

    pub(super) fn previous(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let jump = SignedDuration::from_hours(LARGEST_JUMP_HOURS);
        let start = wall(zone.to_datetime(now).saturating_add(jump));
        let mut best: Option<Timestamp> = None;
        for schedule in &self.alternatives {
            let mut until: Option<DateTime<Utc>> = None;
            for slot in schedule.after(&start).rev() {
                if until.is_some_and(|until| slot < until) {
                    break;
                }
                for moment in self.moments(slot, zone).into_iter().flatten().filter(|moment| *moment <= now) {
                    until = until.or_else(|| {
                        slot.checked_sub_signed(chrono::TimeDelta::hours(2 * LARGEST_JUMP_HOURS))
                    });
                    best = Some(best.map_or(moment, |best| best.max(moment)));
                }
                if until.is_some() && steady(best.unwrap_or(now), zone) {
                    break;
                }
            }
        }
        best
    }

    /// What moments a slot of the wall clock is: none, one, or two.
    fn moments(&self, slot: DateTime<Utc>, zone: &TimeZone) -> [Option<Timestamp>; 2] {
        let Some(civil) = civil_of(slot) else { return [None, None] };
        match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => [offset.to_timestamp(civil).ok(), None],
            AmbiguousOffset::Fold { before, after } => {
                let second = if self.every_hour { after.to_timestamp(civil).ok() } else { None };
                [before.to_timestamp(civil).ok(), second]
            }
            AmbiguousOffset::Gap { .. } if self.every_hour => [None, None],
            AmbiguousOffset::Gap { after, .. } => {
                // By the offset of afterwards the skipped time lies before the change; the change is what comes next.
                [
                    after
                        .to_timestamp(civil)
                        .ok()
                        .and_then(|at| Some(zone.following(at).next()?.timestamp())),
                    None,
                ]
            }
        }
    }
}

/// Whether the zone's offset is the same all around `at`, so that the wall clock and the world run side by side.
fn steady(at: Timestamp, zone: &TimeZone) -> bool {
    let around = (2 * LARGEST_JUMP_HOURS).hours();
    let (Ok(before), Ok(after)) = (at.checked_sub(around), at.checked_add(around)) else { return false };
    zone.following(before).next().is_none_or(|change| change.timestamp() > after)
}

fn numbers(field: &Field) -> Vec<u8> {
    field.matches.iter().copied().collect()
}

fn compile(fields: &Fields, days: &[u8], weekdays: &[u8]) -> cron::Schedule {
    let list = |numbers: &[u8], add: u8| {
        let texts: Vec<String> = numbers.iter().map(|number| (number + add).to_string()).collect();
        texts.join(",")
    };
    let text = format!(
        "0 {} {} {} {} {}",
        list(&numbers(&fields.minute), 0),
        list(&numbers(&fields.hour), 0),
        list(days, 0),
        list(&numbers(&fields.month), 0),
        list(weekdays, 1)
    );
    cron::Schedule::from_str(&text).expect("lists of numbers within their bounds are a schedule")
}

/// The wall clock as the crate `cron` wants it: as if it were UTC.
fn wall(civil: civil::DateTime) -> DateTime<Utc> {
    let date = NaiveDate::from_ymd_opt(
        civil.year().into(),
        civil.month().unsigned_abs().into(),
        civil.day().unsigned_abs().into(),
    );
    let time = |date: NaiveDate| {
        date.and_hms_opt(
            civil.hour().unsigned_abs().into(),
            civil.minute().unsigned_abs().into(),
            civil.second().unsigned_abs().into(),
        )
    };
    date.and_then(time).map(|naive| naive.and_utc()).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

fn civil_of(wall: DateTime<Utc>) -> Option<civil::DateTime> {
    let small = |number: u32| i8::try_from(number).ok();
    civil::DateTime::new(
        i16::try_from(wall.year()).ok()?,
        small(wall.month())?,
        small(wall.day())?,
        small(wall.hour())?,
        small(wall.minute())?,
        small(wall.second())?,
        0,
    )
    .ok()
}
