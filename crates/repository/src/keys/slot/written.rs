//! The JSON of key slots: version 1 has `wrapped`, version 2 a key pair.

use jiff::Timestamp;

use super::SlotKind;
use crate::keys::{Grants, PassphraseCost};

/// How the passphrase becomes a key.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stretching {
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
    #[serde(with = "hexadecimal")]
    pub(super) salt: [u8; 32],
}

impl Stretching {
    pub(super) const fn cost(&self) -> PassphraseCost {
        PassphraseCost { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes }
    }
}

/// What tells the versions apart.
#[derive(serde::Deserialize)]
pub(super) struct Version {
    pub(super) format: String,
    pub(super) version: u32,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) kind: SlotKind,
    pub(super) label: String,
    pub(super) created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) argon2id: Option<Stretching>,
    #[serde(with = "hexadecimal")]
    pub(super) wrapped: Vec<u8>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Second {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) kind: SlotKind,
    pub(super) grants: Grants,
    pub(super) label: String,
    pub(super) created_at: Timestamp,
    pub(super) epoch: u32,
    #[serde(with = "hexadecimal")]
    pub(super) public_key: [u8; 32],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) argon2id: Option<Stretching>,
    /// Sealed; empty for a recipient, whose private key stays at home.
    #[serde(with = "hexadecimal")]
    pub(super) private_key: Vec<u8>,
    #[serde(with = "hexadecimal")]
    pub(super) fresh_key: [u8; 32],
    #[serde(with = "hexadecimal")]
    pub(super) keyring: Vec<u8>,
    #[serde(with = "hexadecimal")]
    pub(super) approval: [u8; 32],
}

/// Bytes as lower-case hexadecimal digits.
mod hexadecimal {
    use serde::de::{Deserialize as _, Error as _};

    pub(super) fn serialize<S: serde::Serializer>(bytes: impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: TryFrom<Vec<u8>>,
        D: serde::Deserializer<'de>,
    {
        let bytes = hex::decode(String::deserialize(from)?).map_err(D::Error::custom)?;
        let count = bytes.len();
        T::try_from(bytes)
            .map_err(|_| D::Error::custom(format!("{count} bytes are not as many as there should be")))
    }
}
