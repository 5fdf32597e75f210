//! What holds at some times of the day: rate limits of the line, and windows in which backups begin.

use std::fmt;
use std::str::FromStr as _;

use jiff::civil::Time;
use serde::Deserialize;
use serde::de::Error as _;
use strongroom_model::DayWindow;
use strongroom_object_store::throttle::RateLimit;

use crate::Size;

/// The slowest rate that can be asked for: a part of 8 MiB takes two minutes then, which is as long as a backup may stand
/// still without being taken for stuck in its strictest setting.
const SLOWEST_BYTES: u64 = 64 << 10;

/// A time of day: "08:00". "24:00" is the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayTime(Time);

impl<'de> Deserialize<'de> for DayTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "24:00" {
            return Ok(Self(Time::midnight()));
        }
        let looks = text.len() == 5 && text.as_bytes()[2] == b':';
        let time = Time::strptime("%H:%M", &text).ok().filter(|_| looks);
        time.map(Self).ok_or_else(|| {
            D::Error::custom(format_args!("{text:?} is no time of day: write it like \"08:00\" or \"22:30\""))
        })
    }
}

/// Bytes a second: "20 MiB/s".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |why: &dyn fmt::Display| {
            D::Error::custom(format_args!("{text:?} is no rate ({why}): write it like \"20 MiB/s\""))
        };
        let size = text.strip_suffix("/s").ok_or_else(|| wrong(&"it does not end in /s"))?;
        let bytes = Size::from_str(size.trim()).map_err(|error| wrong(&error))?.bytes();
        if bytes < SLOWEST_BYTES { Err(wrong(&"the slowest is 64 KiB/s")) } else { Ok(Self(bytes)) }
    }
}

/// One entry of `limits`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// From when on.
    pub from: DayTime,
    /// Until when.
    pub to: DayTime,
    /// Towards the store.
    pub upload: Option<Rate>,
    /// From the store.
    pub download: Option<Rate>,
}

impl LimitConfig {
    /// What the store's wrapper wants to know.
    #[must_use]
    pub fn limit(&self) -> RateLimit {
        let bytes = |rate: Option<Rate>| rate.map(|rate| rate.0);
        let window = DayWindow { from: self.from.0, to: self.to.0 };
        RateLimit { window, upload: bytes(self.upload), download: bytes(self.download) }
    }
}

/// One entry of `windows`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// From when on.
    pub from: DayTime,
    /// Until when.
    pub to: DayTime,
}

impl WindowConfig {
    /// The window.
    #[must_use]
    pub const fn window(&self) -> DayWindow {
        DayWindow { from: self.from.0, to: self.to.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Result<LimitConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn times_and_rates_are_read_with_their_units_or_refused() {
        let read = limit("from = \"08:00\"\nto = \"24:00\"\nupload = \"20 MiB/s\"").unwrap().limit();
        assert_eq!((read.upload, read.download), (Some(20 << 20), None));
        assert_eq!(read.window.to, Time::midnight());
        for wrong in [
            "from = \"8\"\nto = \"18:00\"",
            "from = \"08:00\"\nto = \"25:00\"",
            "from = \"08:00\"\nto = \"18:00\"\nupload = \"20MiB\"",
            "from = \"08:00\"\nto = \"18:00\"\nupload = \"1 KiB/s\"",
            "from = \"08:00\"\nto = \"18:00\"\nup = \"20 MiB/s\"",
        ] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
