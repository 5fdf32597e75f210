//! The name a person gave to a volume.

use std::fmt;
use std::str::FromStr;

/// The name of a volume: 1 to 128 bytes of Unicode without control characters.
///
/// It is a label, never a path: nothing joins it into a file name or an object name. The limits are those of CSI
/// for names that come from outside.
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
    /// A control character.
    #[error("a volume name cannot contain control characters; this one has one at byte {at}")]
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
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(NameError::Control { at });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
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
    fn what_csi_forbids_is_refused() {
        assert_eq!("".parse::<VolumeName>(), Err(NameError::Empty));
        assert_eq!("a\nb".parse::<VolumeName>(), Err(NameError::Control { at: 1 }));
        assert_eq!("x".repeat(129).parse::<VolumeName>(), Err(NameError::TooLong { bytes: 129 }));
    }
}
