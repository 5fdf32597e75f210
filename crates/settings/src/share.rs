//! A part of something, in percent: "10%", "2.5%".

use std::fmt;
use std::str::FromStr;

/// More than nothing, at most all.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

/// The text is not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a share: write it like \"10%\" or \"2.5%\", more than zero and at most 100%")]
pub struct ShareError {
    /// What was given.
    pub text: String,
}

impl Share {
    /// From 0 to 1.
    #[must_use]
    pub const fn fraction(self) -> f64 {
        self.0
    }

    /// A constant of the program.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        assert!(percent > 0 && percent <= 100, "a constant of the program is a share");
        Self(percent as f64 / 100.0)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError { text: text.chars().take(64).collect() };
        let digits = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let percent =
            digits.parse::<f64>().ok().filter(|percent| plain && *percent > 0.0 && *percent <= 100.0);
        Ok(Self(percent.ok_or_else(wrong)? / 100.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> serde::Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percents_above_zero() {
        for (text, fraction) in [("10%", 0.1), ("100%", 1.0), ("2.5 %", 0.025), ("0.5%", 0.005)] {
            assert_eq!(text.parse::<Share>().map(Share::fraction), Ok(fraction), "{text}");
        }
        for text in ["", "10", "0%", "-1%", "101%", "nan%", "inf%", "1e1%", "%", "ten%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
