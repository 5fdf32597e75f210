//! Sizes as people write and read them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, written `64MiB`, `10G` or `1.5 TiB`.
///
/// `K`, `M`, `G`, `T`, `P` alone mean 1024, as they do for truncate, lvcreate and mkfs; `KB`, `MB`, … mean 1000. A size without
/// a unit is refused except for 0: `--size 10` has been a mistake more often than a wish.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseSizeError {
    /// It does not begin with a number.
    Number(String),
    /// It has no unit.
    NoUnit(String),
    /// The unit is unknown.
    Unit(String),
    /// It is not a whole number of bytes.
    Fraction(String),
    /// It is 16 EiB or more.
    TooLarge(String),
}

impl fmt::Display for ParseSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(text) => {
                write!(f, "{text:?} is not a size: it should be a number and a unit, such as 64MiB")
            }
            Self::NoUnit(text) => write!(f, "{text:?} has no unit: write {text}B, {text}MiB or {text}GiB"),
            Self::Unit(text) => write!(
                f,
                "the unit of {text:?} is unknown: B, KiB, MiB, GiB, TiB, PiB (or K, M, G, T, P), KB, MB, GB, TB, PB"
            ),
            Self::Fraction(text) => write!(f, "{text:?} is not a whole number of bytes"),
            Self::TooLarge(text) => write!(f, "{text:?} is too large"),
        }
    }
}

impl std::error::Error for ParseSizeError {}

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // 18 digits keep the arithmetic below within 128 bits, and no size needs more.
        let malformed =
            whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty());
        if malformed || fraction.len() > 18 {
            return Err(ParseSizeError::Number(text.to_owned()));
        }
        let whole: u64 = whole.parse().map_err(|_| ParseSizeError::TooLarge(text.to_owned()))?;
        let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" if whole == 0 => 1,
            "" => return Err(ParseSizeError::NoUnit(text.to_owned())),
            "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "p" | "pib" => 1 << 50,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "pb" => 1_000_000_000_000_000,
            _ => return Err(ParseSizeError::Unit(text.to_owned())),
        };
        let scale = 10_u128.pow(u32::try_from(fraction.len()).expect("at most 18 digits"));
        let parts: u128 =
            if fraction.is_empty() { 0 } else { fraction.parse().expect("only digits, at most 18") };
        let scaled = parts * u128::from(factor);
        if !scaled.is_multiple_of(scale) {
            return Err(ParseSizeError::Fraction(text.to_owned()));
        }
        let bytes = u128::from(whole) * u128::from(factor) + scaled / scale;
        u64::try_from(bytes).map(Self).map_err(|_| ParseSizeError::TooLarge(text.to_owned()))
    }
}

/// Three figures and a binary unit: `512 B`, `1.5 GiB`, `10 TiB`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut unit = if self.0 == 0 { 0 } else { self.0.ilog2() / 10 };
        let in_tenths = |unit: u32| {
            let divisor = 1_u128 << (10 * unit);
            (u128::from(self.0) * 10 + divisor / 2) / divisor
        };
        let mut tenths = in_tenths(unit);
        if tenths >= 10_240 {
            unit += 1;
            tenths = in_tenths(unit);
        }
        let name = UNITS[unit as usize];
        let text = if unit == 0 || tenths >= 1_000 || tenths.is_multiple_of(10) {
            format!("{} {name}", (tenths + 5) / 10)
        } else {
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        };
        f.pad(&text)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

/// In JSON results a size is its number of bytes.
impl serde::Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// In settings a size is text with a unit.
impl<'de> serde::Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("10G", 10 << 30),
            ("1.5 TiB", 3 << 39),
            ("0", 0),
            ("512B", 512),
            ("1kb", 1_000),
            ("0.5k", 512),
            (" 7 GB ", 7_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "G",
            "10",
            "-1G",
            "1.G",
            ".5G",
            "1..5G",
            "1.5.5G",
            "10 Gigs",
            "0.3B",
            "16EiB",
            "16384PiB",
            "99999999999999999999G",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_three_figures() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1 MiB"),
            (10 << 30, "10 GiB"),
            ((10 << 30) + (1 << 28), "10.3 GiB"),
            (123 << 20, "123 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text, "{bytes}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whole_units_are_read_back(number in 1_u64..1000, unit in 0_u32..5) {
            let size = Size(number << (10 * unit));
            proptest::prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Size>();
        }
    }
}
