//! Positions in the write-ahead log, as PostgreSQL counts and writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A byte's place in the log of one timeline, counted from the beginning of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

/// One history of a cluster: it changes with each promotion and each recovery to a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(pub u32);

/// Not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no position in the log: it looks like 16/B374D848")]
pub struct NotALsn(String);

impl Lsn {
    /// The beginning of the segment that holds this byte.
    #[must_use]
    pub const fn segment_start(self, segment_bytes: u64) -> Self {
        Self(self.0 - self.0 % segment_bytes)
    }

    /// How many bytes lie from `earlier` to here; none when it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// So many bytes further.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl TimelineId {
    /// The name of the file that says from which timelines this one comes.
    #[must_use]
    pub fn history_file(self) -> String {
        format!("{:08X}.history", self.0)
    }

    /// The name of the segment of this timeline that holds a byte.
    #[must_use]
    pub fn segment_file(self, at: Lsn, segment_bytes: u64) -> String {
        let number = at.0 / segment_bytes;
        let per_file = 0x1_0000_0000 / segment_bytes;
        format!("{:08X}{:08X}{:08X}", self.0, number / per_file, number % per_file)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Lsn {
    type Err = NotALsn;

    fn from_str(text: &str) -> Result<Self, NotALsn> {
        let wrong = || NotALsn(text.chars().take(40).collect());
        let half = |digits: &str| {
            let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten().ok_or_else(wrong)
        };
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_written_and_read_as_postgresql_does() {
        for (number, text) in [(0, "0/0"), (0x16_B374_D848, "16/B374D848"), (u64::MAX, "FFFFFFFF/FFFFFFFF")] {
            assert_eq!(Lsn(number).to_string(), text);
            assert_eq!(text.parse(), Ok(Lsn(number)));
        }
        for wrong in ["", "0", "/", "0/", "+1/0", "0/100000000", "g/0", "1/2/3"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn segments_are_named_as_in_the_servers_folder() {
        let timeline = TimelineId(3);
        assert_eq!(timeline.segment_file(Lsn(0x1_0200_0010), 16 << 20), "000000030000000100000002");
        assert_eq!(timeline.segment_file(Lsn(0x1_8000_0000), 1 << 30), "000000030000000100000002");
        assert_eq!(timeline.history_file(), "00000003.history");
    }
}
