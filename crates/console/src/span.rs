//! Lengths of time as people write and read them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time, written `90s`, `5m`, `1h30m` or `7d`.
///
/// A day is 24 hours and a week is seven of them: this measures, it does not look at a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimeSpan(pub Duration);

/// The text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseSpanError(String);

impl fmt::Display for ParseSpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a length of time: write it as 500ms, 90s, 5m, 1h30m, 7d or 2w", self.0)
    }
}

impl std::error::Error for ParseSpanError {}

const UNITS_MS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

impl FromStr for TimeSpan {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, ParseSpanError> {
        let refused = || ParseSpanError(text.to_owned());
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(refused());
        }
        let mut total_ms = 0_u64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
            let (number, after) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| refused())?;
            let after = after.trim_start();
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            let (_, unit_ms) = UNITS_MS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
            total_ms =
                number.checked_mul(*unit_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(refused)?;
            rest = after.trim_start();
        }
        Ok(Self(Duration::from_millis(total_ms)))
    }
}

/// The two largest units that say something: `850 ms`, `12.3 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`.
impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |first: u64, first_unit: &str, second: u64, second_unit: &str| {
            if second == 0 {
                format!("{first} {first_unit}")
            } else {
                format!("{first} {first_unit} {second} {second_unit}")
            }
        };
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let seconds = ms / 1_000;
        let text = match seconds {
            0 => format!("{ms} ms"),
            1..60 => format!("{seconds}.{} s", ms % 1_000 / 100),
            60..3_600 => pair(seconds / 60, "min", seconds % 60, "s"),
            3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
            _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
        };
        f.pad(&text)
    }
}

/// In JSON results a length of time is its number of seconds.
impl serde::Serialize for TimeSpan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

/// In settings a length of time is text with a unit.
impl<'de> serde::Deserialize<'de> for TimeSpan {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        for (text, ms) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("0", 0),
            ("1 h 5 m", 3_900_000),
        ] {
            assert_eq!(text.parse(), Ok(TimeSpan(Duration::from_millis(ms))), "{text}");
        }
        for text in ["", "5", "m", "5 minutes", "-5m", "5m-", "99999999999999999999d", "99999999999999999w"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_shown_by_their_two_largest_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (850, "850 ms"),
            (12_345, "12.3 s"),
            (250_000, "4 min 10 s"),
            (7_500_000, "2 h 5 min"),
            (86_400_000, "1 d"),
        ] {
            assert_eq!(TimeSpan(Duration::from_millis(ms)).to_string(), text);
        }
    }
}
