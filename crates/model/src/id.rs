//! One type per kind of thing that has an identity.
//!
//! Every id is 16 random bytes, shown as 32 lower-case hexadecimal digits behind a prefix that names its kind.
//! An id from outside is parsed here, once, so that no raw string is ever joined into a path or an object name.

use std::fmt;
use std::str::FromStr;

use crate::Entropy;

/// The text is not an id of the kind that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: it should be {prefix:?} and 32 hexadecimal digits")]
pub struct IdError {
    /// What kind of id was expected.
    pub kind: &'static str,
    /// What an id of that kind begins with.
    pub prefix: &'static str,
    /// What was given, cut to 64 characters.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// What the text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh random id.
            pub fn random(entropy: &dyn Entropy) -> Self {
                let mut bytes = [0; 16];
                entropy.fill(&mut bytes);
                Self(bytes)
            }

            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes as they are stored.
            #[must_use]
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The 32 hexadecimal digits without the prefix.
            #[must_use]
            pub fn hex(&self) -> String {
                self.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text, $prefix).map(Self).ok_or_else(|| IdError {
                    kind: $kind,
                    prefix: $prefix,
                    text: text.chars().take(64).collect(),
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn parse_hex(text: &str, prefix: &str) -> Option<[u8; 16]> {
    let digits = text.strip_prefix(prefix)?.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Only lower-case digits are accepted, so that an id has one text form.
const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

id!(
    /// A volume of the driver.
    VolumeId, "vol-", "volume id"
);
id!(
    /// A snapshot of a volume of the driver.
    SnapshotId, "snap-", "snapshot id"
);
id!(
    /// Snapshots of several volumes that were taken at one moment.
    GroupId, "group-", "group id"
);
id!(
    /// A recovery point in a repository.
    RecoveryPointId, "rp-", "recovery point id"
);
id!(
    /// A repository: chosen once, at `init`.
    RepositoryId, "repo-", "repository id"
);
id!(
    /// A logical pack: what maps name for ever, wherever its bytes lie now.
    PackId, "pack-", "pack id"
);
id!(
    /// The log of one history of a database, archived without a gap.
    LogId, "log-", "log id"
);
id!(
    /// One run of a restore.
    RunId, "run-", "restore run id"
);
id!(
    /// A machine that runs a driver or an agent, as its operator named it, hashed to an id.
    NodeId, "node-", "node id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_read_back_and_nothing_else_is() {
        let id = VolumeId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse::<VolumeId>(), Ok(id));
        for wrong in [
            "",
            "vol-",
            "vol-../../etc/passwd",
            "snap-abababababababababababababababab",
            "vol-ABABABABABABABABABABABABABABABAB",
        ] {
            assert!(wrong.parse::<VolumeId>().is_err(), "{wrong}");
        }
    }
}
