//! Lengths of time with their unit: "90s", "5m", "1h30m", "2d", "4w".
//!
//! A number without a unit is refused: whoever writes `rpo = 60` means seconds, minutes or hours, and we do not guess.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time that a person wrote: whole milliseconds, more than zero, at most a hundred years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(Duration);

/// The text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number without a unit.
    #[error("{text:?} has no unit: write it like \"90s\", \"5m\", \"2h\", \"1d\" or \"1h30m\"")]
    NoUnit {
        /// What was given.
        text: String,
    },
    /// Something else than numbers and units.
    #[error("{text:?} is not a length of time: write it like \"90s\", \"5m\", \"2h\", \"1d\" or \"1h30m\"")]
    NotADuration {
        /// What was given.
        text: String,
    },
    /// Zero or less.
    #[error("{text:?} is not more than zero: leave the key out where nothing is wanted")]
    NotPositive {
        /// What was given.
        text: String,
    },
    /// More than a hundred years.
    #[error("{text:?} is more than a hundred years")]
    TooLong {
        /// What was given.
        text: String,
    },
}

/// The units from the longest to the shortest, in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const LONGEST_MS: u64 = 100 * 366 * 86_400_000;

impl Interval {
    /// The same as the standard library has it.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// A constant of the program. `seconds` is more than zero.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        assert!(seconds > 0, "a constant of the program is more than zero");
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Interval {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let given = || text.chars().take(64).collect::<String>();
        let mut rest = text.trim();
        if rest.starts_with('-') {
            return Err(DurationError::NotPositive { text: given() });
        }
        if rest.is_empty() {
            return Err(DurationError::NotADuration { text: given() });
        }
        let mut milliseconds = 0_u64;
        // Units come from the longest to the shortest and each at most once, so that "5m1h" or "1m1m" is a question.
        let mut units = UNITS.iter();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = tail.split_at(letters);
            if number.is_empty() {
                return Err(DurationError::NotADuration { text: given() });
            }
            if unit.is_empty() && after.is_empty() {
                let zero = number.bytes().all(|digit| digit == b'0');
                return Err(if zero {
                    DurationError::NotPositive { text: given() }
                } else {
                    DurationError::NoUnit { text: given() }
                });
            }
            let Some((_, unit_ms)) = units.find(|(name, _)| *name == unit) else {
                return Err(DurationError::NotADuration { text: given() });
            };
            milliseconds = number
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(*unit_ms))
                .and_then(|more| milliseconds.checked_add(more))
                .filter(|sum| *sum <= LONGEST_MS)
                .ok_or_else(|| DurationError::TooLong { text: given() })?;
            rest = after;
        }
        if milliseconds == 0 {
            return Err(DurationError::NotPositive { text: given() });
        }
        Ok(Self(Duration::from_millis(milliseconds)))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).expect("an interval is at most a hundred years");
        for (unit, unit_ms) in UNITS {
            if rest >= unit_ms {
                write!(f, "{}{unit}", rest / unit_ms)?;
                rest %= unit_ms;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> serde::Deserialize<'de> for Interval {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Interval;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time with its unit, like \"5m\" or \"2h\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Interval, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl serde::Serialize for Interval {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_carry_their_units() {
        for (text, seconds) in
            [("90s", 90), ("5m", 300), ("2h", 7200), ("1h30m", 5400), ("1d", 86_400), ("1w", 604_800)]
        {
            assert_eq!(
                text.parse::<Interval>().map(Interval::get),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!("250ms".parse::<Interval>().map(Interval::get), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn zero_negative_overflow_and_guesses_are_refused() {
        use DurationError as E;
        assert!(matches!("60".parse::<Interval>(), Err(E::NoUnit { .. })));
        for text in ["0", "0s", "0h0m", "-5m"] {
            assert!(matches!(text.parse::<Interval>(), Err(E::NotPositive { .. })), "{text}");
        }
        for text in ["101y", "", "m", "5 minutes", "1.5h", "5m1h", "1m1m", "5M", "1h30", "∞"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
        for text in ["99999999999999999999s", "18446744073709551615w", "40000d"] {
            assert!(matches!(text.parse::<Interval>(), Err(E::TooLong { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(milliseconds in 1..LONGEST_MS) {
            let interval = Interval(Duration::from_millis(milliseconds));
            prop_assert_eq!(interval.to_string().parse::<Interval>(), Ok(interval));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Interval>();
        }
    }
}
