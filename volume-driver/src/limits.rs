//! How far a pool may be filled, and what happens then.
//!
//! ```text
//! 0 ─────────── 80 % ────────── high-water mark ───────────── full ── reserve ── end
//!   all is well │ status warns  │ nothing new is taken in     │ writers wait (or fail)
//! ```

use std::str::FromStr;
use std::time::Duration;

use strongroom_console::Size;

/// How far the pool may be filled, and how long a snapshot may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// New volumes and snapshots are refused when more than this share of the pool is taken, in percent.
    pub high_water_percent: u8,
    /// The sum of the sizes of all volumes may reach this share of the pool, in percent; above 100 is
    /// overcommit.
    pub provision_percent: u32,
    /// What is kept back, so that deleting works in a pool that is full.
    pub reserve: Reserve,
    /// What writers meet in a pool that is full.
    pub when_full: WhenFull,
    /// How long a filesystem may stay frozen for a snapshot before the watchdog thaws it.
    pub freeze: Duration,
    /// How many volumes may be attached to this node; 0: as many as there are.
    pub max_volumes: u64,
    /// From how many extents on the image of a volume is tidied after a snapshot; 0: never.
    pub tidy_above: u64,
    /// How often what is free inside mounted filesystems is given back to the pool; zero: never.
    pub trim_every: Duration,
}

impl Default for Limits {
    /// 90 percent full; four times overcommitted, since most volumes stay far below their size; 30 seconds
    /// frozen, which is a snapshot of about 2.5 million extents; tidied from 5,000 extents on, whose snapshot
    /// takes about 50 milliseconds; trimmed once a week, as Linux distributions do.
    fn default() -> Self {
        Self {
            high_water_percent: 90,
            provision_percent: 400,
            reserve: Reserve::Usual,
            when_full: WhenFull::Wait,
            freeze: Duration::from_secs(30),
            max_volumes: 0,
            tidy_above: 5000,
            trim_every: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// How much of a pool is kept back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// One percent, between 8 MiB and 1 GiB.
    Usual,
    /// This share of the pool, in percent.
    Percent(u8),
    /// This much.
    Bytes(u64),
}

impl Reserve {
    /// How much that is of a pool of `total` bytes: whole MiB, and never more than a quarter.
    #[must_use]
    pub fn bytes(self, total: u64) -> u64 {
        let wanted = match self {
            Self::Usual => (total / 100).clamp(8 << 20, 1 << 30),
            Self::Percent(percent) => total / 100 * u64::from(percent),
            Self::Bytes(bytes) => bytes,
        };
        wanted.min(total / 4) >> 20 << 20
    }
}

/// Neither a size nor a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither a size, such as 2GiB, nor a share of the pool, such as 3%")]
pub struct ReserveError {
    text: String,
}

impl FromStr for Reserve {
    type Err = ReserveError;

    fn from_str(text: &str) -> Result<Self, ReserveError> {
        let wrong = || ReserveError { text: text.chars().take(64).collect() };
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 0..=25) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => text.parse::<Size>().map(|size| Self::Bytes(size.0)).map_err(|_| wrong()),
        }
    }
}

/// What those meet who write to a volume when the pool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Filesystems are frozen shortly before the end: writers wait until there is space, and lose nothing.
    /// Raw volumes cannot be frozen: their writes fail.
    Wait,
    /// Writes fail. An ext4 whose journal meets the end stops writing until it is mounted again.
    Fail,
}

impl FromStr for WhenFull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wait" => Ok(Self::Wait),
            "fail" => Ok(Self::Fail),
            other => {
                Err(format!("{:?} is neither `wait` nor `fail`", other.chars().take(64).collect::<String>()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_a_size_or_a_share_and_never_most_of_a_pool() {
        let gib = 1 << 30;
        for (text, of_10_gib) in
            [("2GiB", 2 * gib), ("3%", (10 * gib / 100 * 3) >> 20 << 20), ("0", 0), ("1TiB", 10 * gib / 4)]
        {
            assert_eq!(text.parse::<Reserve>().unwrap().bytes(10 * gib), of_10_gib, "{text}");
        }
        assert_eq!(Reserve::Usual.bytes(200 << 20), 8 << 20);
        assert_eq!(Reserve::Usual.bytes(1 << 50), gib);
        for wrong in ["", "%", "26%", "-1%", "much"] {
            assert!(wrong.parse::<Reserve>().is_err(), "{wrong}");
        }
        assert!("perhaps".parse::<WhenFull>().is_err());
    }
}
