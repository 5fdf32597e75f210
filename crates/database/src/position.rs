//! A place in the log of a database.
//!
//! Every engine writes its changes into one growing log. A position is an offset in it, as one number that only grows
//! within a lineage: PostgreSQL's LSN as it is; of a binary log, the number of the file in the upper half and the
//! offset in the file in the lower. Positions are compared and printed here; what is between two of them in bytes only
//! the engine knows.

use std::fmt;
use std::ops::Range;
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

    /// Whether bytes at `next` come right behind those that end here: here, or, in a log of files, at the beginning of the next.
    #[must_use]
    pub const fn is_followed_by(self, next: Self) -> bool {
        self.0 == next.0 || next.0 == ((self.0 >> 32) + 1) << 32
    }

    /// Where the bytes of a stretch of log from here to `to` belong: the position of the first of each part, and the part.
    ///
    /// Where there are as many bytes as positions, that is one. Else it is a log of files, and the stretch goes from one file into
    /// the next: the last of its bytes, as many as the offset of `to`, are that file's. `None`: the bytes do not fit.
    #[must_use]
    pub fn split(self, to: Self, bytes: usize) -> Option<Vec<(Self, Range<usize>)>> {
        if to.0.checked_sub(self.0)? == bytes as u64 {
            return Some(vec![(self, 0..bytes)]);
        }
        let ends = usize::try_from(to.0 & 0xFFFF_FFFF).ok()?;
        let next = Self(((self.0 >> 32) + 1) << 32);
        let rest = bytes.checked_sub(ends).filter(|_| to.0 >> 32 == next.0 >> 32)?;
        let parts = [(self, 0..rest), (next, rest..bytes)];
        Some(parts.into_iter().filter(|(_, part)| !part.is_empty()).collect())
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
    fn a_stretch_is_split_where_the_next_file_begins() {
        let place = |file: u64, offset: u64| Position::new(file << 32 | offset);
        assert!(place(3, 100).is_followed_by(place(3, 100)) && place(3, 100).is_followed_by(place(4, 0)));
        assert!(!place(3, 100).is_followed_by(place(5, 0)) && !place(3, 100).is_followed_by(place(4, 4)));
        let split = |from: Position, to, bytes| from.split(to, bytes);
        assert_eq!(split(place(3, 100), place(3, 150), 50).unwrap(), [(place(3, 100), 0..50)]);
        let over = split(place(3, 100), place(4, 20), 50).unwrap();
        assert_eq!(over, [(place(3, 100), 0..30), (place(4, 0), 30..50)]);
        assert_eq!(split(place(3, 100), place(4, 20), 20).unwrap(), [(place(4, 0), 0..20)]);
        assert_eq!(split(place(3, 100), place(4, 0), 20).unwrap(), [(place(3, 100), 0..20)]);
        for (from, to, bytes) in
            [(place(3, 100), place(3, 150), 49), (place(3, 0), place(5, 9), 9), (place(3, 0), place(4, 9), 8)]
        {
            assert_eq!(split(from, to, bytes), None);
        }
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
