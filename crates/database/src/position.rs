//! A place in the log of a database.
//!
//! Every engine writes its changes into one growing log. A position is an offset in it, as one number that only grows
//! within a lineage: PostgreSQL's LSN as it is; of a binary log, the number of the file in the upper half and the
//! offset in the file in the lower. Positions are compared and printed here; what is between two of them in bytes only
//! the engine knows.

use std::fmt;
use std::str::FromStr;

/// A place in the log: `16/B374D848`, both halves in hexadecimal digits, as PostgreSQL writes an LSN.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// Before everything.
    pub const START: Self = Self(0);
    /// After everything.
    pub const END: Self = Self(u64::MAX);

    /// The position with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// `bytes` further on; stays at the end where there is nothing further.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// The beginning of the segment that holds it.
    ///
    /// # Panics
    /// When segments have no bytes.
    #[must_use]
    pub const fn segment_start(self, segment_bytes: u64) -> Self {
        Self(self.0 - self.0 % segment_bytes)
    }

    /// How far it is from `earlier` to here; zero when that is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a position of a log, such as 16/B374D848")]
pub struct NotAPosition {
    /// What was given, cut to 40 characters.
    pub text: String,
}

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let half = |digits: &str| {
            let right =
                (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            if right { u64::from_str_radix(digits, 16).ok() } else { None }
        };
        text.split_once('/')
            .and_then(|(upper, lower)| Some(Self(half(upper)? << 32 | half(lower)?)))
            .ok_or_else(|| NotAPosition { text: text.chars().take(40).collect() })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_written_and_read_as_postgresql_writes_it() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "0/1509A40"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for (text, number) in [("0/0", 0), ("16/B374D848", 0x16_B374_D848), ("1/2", (1 << 32) + 2)] {
            assert_eq!(text.parse::<Position>().unwrap().number(), number);
        }
        assert_eq!(Position::new(u64::MAX).to_string(), "FFFFFFFF/FFFFFFFF");
    }

    #[test]
    fn what_is_not_quite_a_position_is_refused() {
        for text in [
            "",
            "0",
            "/",
            "0/",
            "/0",
            "+1/0",
            "0/+1",
            "g/0",
            "0/100000000",
            "0/123456789",
            "0/1/2",
            "1/2/3",
            "0x1/2",
            " 0/1",
            "123",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
    }
}
