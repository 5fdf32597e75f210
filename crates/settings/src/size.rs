//! Sizes with their unit: "128MiB", "10GiB", "500MB", "4096B".
//!
//! Binary units (KiB, MiB, GiB, TiB, PiB) and decimal ones (kB, MB, GB, TB, PB) are both known and never mixed up; a
//! lone "M" or "G" is refused, because half of the world reads it one way and half the other.

use std::fmt;
use std::str::FromStr;

/// A number of bytes that a person wrote: more than zero, at most 2^63 - 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// A number without a unit, or one that can be read in two ways.
    #[error(
        "{text:?} has no unit that says how many bytes it means: write it like \"128MiB\", \"10GiB\" or \"4096B\""
    )]
    NoUnit {
        /// What was given.
        text: String,
    },
    /// Something else than a number and a unit.
    #[error("{text:?} is not a size: write it like \"128MiB\", \"10GiB\" or \"4096B\"")]
    NotASize {
        /// What was given.
        text: String,
    },
    /// Zero or less.
    #[error("{text:?} is not more than zero")]
    NotPositive {
        /// What was given.
        text: String,
    },
    /// More bytes than a file can have.
    #[error("{text:?} is more than any file can hold")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

/// The units that are written out, from the largest to the smallest, and those that are only read.
const BINARY: [(&str, u64); 6] =
    [("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const DECIMAL: [(&str, u64); 6] = [
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
];

impl Size {
    /// How many bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// A constant of the program. `mib` is more than zero.
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        assert!(mib > 0, "a constant of the program is more than zero");
        Self(mib << 20)
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let given = || text.chars().take(64).collect::<String>();
        let rest = text.trim();
        if rest.starts_with('-') {
            return Err(SizeError::NotPositive { text: given() });
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        if number.is_empty() {
            return Err(SizeError::NotASize { text: given() });
        }
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        if unit.is_empty() || ["k", "K", "M", "G", "T", "P"].contains(&unit) {
            return Err(SizeError::NoUnit { text: given() });
        }
        let Some((_, unit_bytes)) = BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == unit) else {
            return Err(SizeError::NotASize { text: given() });
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*unit_bytes))
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .ok_or_else(|| SizeError::TooLarge { text: given() })?;
        if bytes == 0 { Err(SizeError::NotPositive { text: given() }) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, unit_bytes) = BINARY
            .iter()
            .find(|(_, unit_bytes)| self.0.is_multiple_of(*unit_bytes))
            .expect("every size is a multiple of one byte");
        write!(f, "{}{unit}", self.0 / unit_bytes)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> serde::Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size with its unit, like \"128MiB\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl serde::Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_carry_their_units() {
        for (text, bytes) in [
            ("128MiB", 128 << 20),
            ("10 GiB", 10 << 30),
            ("500MB", 500_000_000),
            ("4096B", 4096),
            ("64KiB", 65_536),
        ] {
            assert_eq!(text.parse::<Size>().map(Size::bytes), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn zero_negative_overflow_and_guesses_are_refused() {
        for text in ["128", "128M", "5k"] {
            assert!(matches!(text.parse::<Size>(), Err(SizeError::NoUnit { .. })), "{text}");
        }
        for text in ["0MiB", "-1MiB"] {
            assert!(matches!(text.parse::<Size>(), Err(SizeError::NotPositive { .. })), "{text}");
        }
        for text in ["99999999999999999999B", "9223372036854775808B", "9000PiB"] {
            assert!(matches!(text.parse::<Size>(), Err(SizeError::TooLarge { .. })), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "1mib", "1GiBs", "0x10B"] {
            assert!(matches!(text.parse::<Size>(), Err(SizeError::NotASize { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in 1..i64::MAX.unsigned_abs()) {
            prop_assert_eq!(Size(bytes).to_string().parse::<Size>(), Ok(Size(bytes)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Size>();
        }
    }
}
