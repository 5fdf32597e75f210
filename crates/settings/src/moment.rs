//! Moments as people write them: TIME on the command line.
//!
//! ```text
//! 2026-11-21T14:03:20Z   2026-11-21T14:03:20+01:00      RFC 3339: one moment, whoever reads it
//! today 14:03:20   yesterday 23:00   2026-11-21 14:03:20   local time
//! today 14:03:20 Europe/Berlin                           local time there
//! now
//! ```
//! What can mean two moments, or none, is refused with the candidates: on the day the clocks go back 02:30 happens
//! twice, and a restore to the wrong one of them loses an hour.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};
use strongroom_model::{Failure, Remedy};

/// A moment, and the time zone in which a person thinks of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// The moment.
    pub at: Timestamp,
    /// Where the person is.
    pub zone: TimeZone,
}

/// Why a text is not one moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// Not understood.
    #[error("{text:?} is not a time that is understood here")]
    NotATime {
        /// What was given.
        text: String,
    },
    /// A day without a time of day.
    #[error("{text:?} names a day, not a moment")]
    OnlyADay {
        /// What was given.
        text: String,
    },
    /// The clocks went back over it.
    #[error("{text:?} happened twice in {zone}: the clocks were set back over it")]
    Twice {
        /// What was given.
        text: String,
        /// Where.
        zone: String,
        /// The first time, in RFC 3339.
        first: String,
        /// The second time, in RFC 3339.
        second: String,
    },
    /// The clocks went forward over it.
    #[error("{text:?} never happened in {zone}: the clocks were set forward over it")]
    Never {
        /// What was given.
        text: String,
        /// Where.
        zone: String,
        /// What it would be by the clocks before, in RFC 3339.
        earlier: String,
        /// What it would be by the clocks after, in RFC 3339.
        later: String,
    },
}

impl Failure for MomentError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotATime { .. } | Self::OnlyADay { .. } => "time.not-understood",
            Self::Twice { .. } => "time.ambiguous",
            Self::Never { .. } => "time.nonexistent",
        }
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        match self {
            Self::NotATime { .. } => {
                "Write it like \"today 14:03:20\", \"yesterday 23:00\", \"2026-11-21 14:03:20\" or 2026-11-21T14:03:20+01:00."
                    .into()
            }
            Self::OnlyADay { text } => format!("Say the time too, like \"{text} 23:59:59\"."),
            Self::Twice { first, second, .. } => format!("Write {first} for the first time or {second} for the second."),
            Self::Never { earlier, later, .. } => format!("Write {earlier} or {later}, whichever you mean."),
        }
    }
}

impl Moment {
    /// Understands TIME; `now` and `zone` are those of the person who wrote it.
    ///
    /// # Errors
    /// When the text does not name exactly one moment.
    pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Self, MomentError> {
        let given: String = text.trim().chars().take(80).collect();
        let text = text.trim();
        if text.eq_ignore_ascii_case("now") {
            return Ok(Self { at: now, zone: zone.clone() });
        }
        // A zone in brackets and its offset must agree; jiff refuses the text where they do not.
        if text.contains('[') {
            let zoned: Zoned = text.parse().map_err(|_| MomentError::NotATime { text: given.clone() })?;
            return Ok(Self { at: zoned.timestamp(), zone: zoned.time_zone().clone() });
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self { at, zone: zone.clone() });
        }
        let (local, zone) = match text.rsplit_once(' ').map(|(local, name)| (local, TimeZone::get(name))) {
            Some((local, Ok(named))) => (local.trim_end(), named),
            _ => (text, zone.clone()),
        };
        Self::local(civil(local, &given, now, &zone)?, given, zone)
    }

    fn local(civil: DateTime, text: String, zone: TimeZone) -> Result<Self, MomentError> {
        let name = || zone.iana_name().unwrap_or("the local time zone").to_owned();
        let written = |offset: Offset| offset.to_timestamp(civil).map(|at| rfc3339(at, &zone));
        let impossible = |_| MomentError::NotATime { text: text.clone() };
        match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                Ok(Self { at: offset.to_timestamp(civil).map_err(impossible)?, zone })
            }
            AmbiguousOffset::Fold { before, after } => Err(MomentError::Twice {
                first: written(before).map_err(impossible)?,
                second: written(after).map_err(impossible)?,
                zone: name(),
                text,
            }),
            AmbiguousOffset::Gap { before, after } => Err(MomentError::Never {
                earlier: written(after).map_err(impossible)?,
                later: written(before).map_err(impossible)?,
                zone: name(),
                text,
            }),
        }
    }
}

/// `2026-11-21 14:03:20 Europe/Berlin (2026-11-21T13:03:20Z)`
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.at.to_zoned(self.zone.clone()).datetime();
        write!(f, "{} {}", local.date(), local.time())?;
        match self.zone.iana_name() {
            Some(name) => write!(f, " {name}")?,
            None => write!(f, " {}", self.zone.to_offset(self.at))?,
        }
        write!(f, " ({})", self.at)
    }
}

fn rfc3339(at: Timestamp, zone: &TimeZone) -> String {
    at.display_with_offset(zone.to_offset(at)).to_string()
}

fn civil(text: &str, given: &str, now: Timestamp, zone: &TimeZone) -> Result<DateTime, MomentError> {
    let not_a_time = || MomentError::NotATime { text: given.to_owned() };
    let rfc3339_like = || Some((text.get(..10)?, text.get(10..)?.strip_prefix('T')?));
    let (day, time) = match text.split_once(' ').or_else(rfc3339_like) {
        Some((day, time)) => (day, Some(time.trim_start())),
        None => (text, None),
    };
    let today = now.to_zoned(zone.clone()).date();
    let date = match day.to_ascii_lowercase().as_str() {
        "today" => today,
        "yesterday" => today.checked_sub(SignedDuration::from_hours(24)).map_err(|_| not_a_time())?,
        // Only the full form: jiff also reads 20261121, which a person may have meant as something else.
        _ if day.len() == 10 => day.parse::<Date>().map_err(|_| not_a_time())?,
        _ => return Err(not_a_time()),
    };
    let time = time.ok_or_else(|| MomentError::OnlyADay { text: given.to_owned() })?;
    if !time.contains(':') {
        return Err(not_a_time());
    }
    Ok(date.to_datetime(time.parse::<Time>().map_err(|_| not_a_time())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, MomentError> {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        Moment::parse(text, "2026-11-21T22:30:00Z".parse().unwrap(), &berlin).map(|moment| moment.to_string())
    }

    #[test]
    fn a_moment_is_echoed_in_local_time_and_utc() {
        let expected = "2026-11-21 14:03:20 Europe/Berlin (2026-11-21T13:03:20Z)";
        for text in [
            "2026-11-21T13:03:20Z",
            "2026-11-21T14:03:20+01:00",
            "today 14:03:20",
            "Today 14:03:20 Europe/Berlin",
            "2026-11-21 14:03:20",
            "2026-11-21T14:03:20",
            " 2026-11-21T14:03:20+01:00[Europe/Berlin] ",
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(
            parse("yesterday 23:00").as_deref(),
            Ok("2026-11-20 23:00:00 Europe/Berlin (2026-11-20T22:00:00Z)")
        );
        assert_eq!(parse("now").as_deref(), Ok("2026-11-21 23:30:00 Europe/Berlin (2026-11-21T22:30:00Z)"));
        assert_eq!(
            parse("2026-07-01 12:00 America/New_York").as_deref(),
            Ok("2026-07-01 12:00:00 America/New_York (2026-07-01T16:00:00Z)")
        );
    }

    #[test]
    fn today_is_the_day_where_the_person_is() {
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        let moment = Moment::parse("today 01:00", "2026-11-21T22:30:00Z".parse().unwrap(), &tokyo).unwrap();
        assert_eq!(moment.to_string(), "2026-11-22 01:00:00 Asia/Tokyo (2026-11-21T16:00:00Z)");
    }

    #[test]
    fn a_time_that_happened_twice_is_refused_with_both_candidates() {
        let error = parse("2026-10-25 02:30:00").unwrap_err();
        assert_eq!(
            (error.code(), error.advice().as_str()),
            (
                "time.ambiguous",
                "Write 2026-10-25T02:30:00+02:00 for the first time or 2026-10-25T02:30:00+01:00 for the second."
            )
        );
        assert!(parse("2026-10-25T02:30:00+02:00").is_ok() && parse("2026-10-25T02:30:00+01:00").is_ok());
    }

    #[test]
    fn a_time_that_never_happened_is_refused_with_both_candidates() {
        let error = parse("2026-03-29 02:30:00").unwrap_err();
        assert_eq!(
            (error.code(), error.advice().as_str()),
            (
                "time.nonexistent",
                "Write 2026-03-29T01:30:00+01:00 or 2026-03-29T03:30:00+02:00, whichever you mean."
            )
        );
    }

    #[test]
    fn what_is_not_one_moment_is_refused() {
        for text in [
            "",
            "soon",
            "14:03",
            "today",
            "2026-11-21",
            "11/21/2026 10:00",
            "2026-13-01 10:00",
            "today 25:00",
            "20261121 10:00",
            "today 14",
            "2026-11-21T14:03:20+05:00[Europe/Berlin]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            parse("2026-11-21").unwrap_err().advice(),
            "Say the time too, like \"2026-11-21 23:59:59\"."
        );
    }
}
