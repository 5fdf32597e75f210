//! The name a person gave to a volume.

use std::fmt;
use std::str::FromStr;

/// The name of a volume: 1 to 128 bytes of Unicode without the control characters that CSI forbids. Tab, line feed
/// and carriage return are allowed.
///
/// It is a label, never a path: nothing joins it into a file name or an object name. The limits are those of CSI
/// for names that come from outside. [`VolumeName::as_str`] is the name as it was given, for whatever stores or
/// sends it; shown to people it stays on one line, with its control characters escaped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

/// The text cannot be the name of a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a volume name cannot be empty")]
    Empty,
    /// More than 128 bytes.
    #[error("a volume name has at most 128 bytes, this one has {bytes}")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// A control character other than tab, line feed and carriage return.
    #[error("a volume name cannot contain this control character, which stands at byte {at}")]
    Control {
        /// Where it stands.
        at: usize,
    },
}

impl VolumeName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 128 {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| is_forbidden_in_names(*c)) {
            return Err(NameError::Control { at });
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether CSI forbids this character in names that come from outside: U+0000-0008, 000B, 000C, 000E-001F, 007F-009F.
#[must_use]
pub const fn is_forbidden_in_names(letter: char) -> bool {
    letter.is_ascii_control() && !matches!(letter, '\t' | '\n' | '\r')
        || matches!(letter, '\u{80}'..='\u{9f}')
}

impl fmt::Display for VolumeName {
    /// On one line, whatever the name holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.contains(char::is_control) {
            return f.pad(&self.0);
        }
        let shown: String = self
            .0
            .chars()
            .flat_map(|letter| {
                let escaped = letter.is_control().then(|| letter.escape_default());
                let plain = escaped.is_none().then_some(letter);
                escaped.into_iter().flatten().chain(plain)
            })
            .collect();
        f.pad(&shown)
    }
}

impl fmt::Debug for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl serde::Serialize for VolumeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for VolumeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_may_look_like_paths() {
        for fine in ["db", "../../etc", "größe", "a b", "-rf"] {
            assert_eq!(fine.parse::<VolumeName>().map(|name| name.to_string()), Ok(fine.to_owned()));
        }
    }

    #[test]
    fn a_name_of_several_lines_is_kept_and_shown_on_one() {
        let name: VolumeName = "a\tb\r\nc\u{2028}d".parse().unwrap();
        assert_eq!(name.as_str(), "a\tb\r\nc\u{2028}d");
        assert_eq!(name.to_string(), "a\\tb\\r\\nc\u{2028}d");
    }

    #[test]
    fn what_csi_forbids_is_refused() {
        assert_eq!("".parse::<VolumeName>(), Err(NameError::Empty));
        let forbidden = (0..=8).chain([0xb, 0xc]).chain(0xe..=0x1f).chain(0x7f..=0x9f);
        for code in forbidden {
            let letter = char::from_u32(code).unwrap();
            assert_eq!(
                format!("a{letter}").parse::<VolumeName>(),
                Err(NameError::Control { at: 1 }),
                "{code:#x}"
            );
        }
        assert_eq!("x".repeat(129).parse::<VolumeName>(), Err(NameError::TooLong { bytes: 129 }));
    }
}
