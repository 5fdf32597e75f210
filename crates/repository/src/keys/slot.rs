//! A key slot: the keyring, wrapped under one key.
//!
//! The object `keys/<16 hexadecimal digits>` is JSON, so that it can be told by eye in any bucket browser what opens a
//! repository. Its plain fields are authenticated: they are part of the binding of the sealed keyring.

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_model::{Entropy, RepositoryId};
use zeroize::Zeroizing;

use super::{KeyError, Keyring, PassphraseCost, Unlock};
use crate::seal::{self, SealError};

const FORMAT: &str = "strongroom-key-slot";
const VERSION: u32 = 1;
/// A slot has less than 1 KiB and 72 bytes more for each epoch.
const MAX_BYTES: usize = 128 << 10;

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotKind {
    /// A key file.
    KeyFile,
    /// A passphrase.
    Passphrase,
}

impl SlotKind {
    /// As it is written in the slot.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyFile => "key-file",
            Self::Passphrase => "passphrase",
        }
    }
}

/// `keys/<slot>`: the keyring, wrapped under one key or passphrase.
#[derive(Debug, Clone)]
pub struct KeySlot {
    id: [u8; 8],
    kind: SlotKind,
    label: String,
    created_at: Timestamp,
    stretching: Option<Stretching>,
    wrapped: Bytes,
}

/// How the passphrase becomes a key.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Stretching {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "hexadecimal")]
    salt: [u8; 32],
}

/// The JSON object.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    version: u32,
    kind: SlotKind,
    label: String,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argon2id: Option<Stretching>,
    #[serde(with = "hexadecimal")]
    wrapped: Vec<u8>,
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

impl KeySlot {
    /// Wraps `keyring` under `unlock`, with an id drawn from `entropy`. `cost` counts for a passphrase only.
    ///
    /// # Errors
    /// When the cost is out of bounds or the label cannot be written down.
    pub fn wrap(
        repository: RepositoryId,
        keyring: &Keyring,
        unlock: &Unlock,
        label: &str,
        created_at: Timestamp,
        cost: PassphraseCost,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        if label.len() > 128 || label.chars().any(char::is_control) {
            return Err(KeyError::BadLabel);
        }
        let mut id = [0; 8];
        entropy.fill(&mut id);
        let stretching = match unlock {
            Unlock::KeyFile(_) => None,
            Unlock::Passphrase(_) => {
                let mut salt = [0; 32];
                entropy.fill(&mut salt);
                let PassphraseCost { memory_kib, passes, lanes } = cost;
                Some(Stretching { memory_kib, passes, lanes, salt })
            }
        };
        let mut slot = Self {
            id,
            kind: unlock.slot_kind(),
            label: label.to_owned(),
            created_at,
            stretching,
            wrapped: Bytes::new(),
        };
        let secret = slot.secret(unlock)?;
        slot.wrapped =
            seal::wrap(&secret, keyring.cipher(), repository, &slot.binding(), &keyring.encode(), entropy);
        Ok(slot)
    }

    /// The slot's id: what follows `keys/`.
    #[must_use]
    pub const fn id(&self) -> [u8; 8] {
        self.id
    }

    /// What opens it.
    #[must_use]
    pub const fn kind(&self) -> SlotKind {
        self.kind
    }

    /// What a person calls it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// When it was made.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The object's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let written = Written {
            format: FORMAT.to_owned(),
            version: VERSION,
            kind: self.kind,
            label: self.label.clone(),
            created_at: self.created_at,
            argon2id: self.stretching.clone(),
            wrapped: self.wrapped.to_vec(),
        };
        let mut text = serde_json::to_string_pretty(&written).expect("only strings and numbers");
        text.push('\n');
        text.into()
    }

    /// Reads the object `keys/<id>`.
    ///
    /// # Errors
    /// [`KeyError::Slot`] when it is no slot, or of a version or kind that is unknown.
    pub fn parse(id: [u8; 8], bytes: &[u8]) -> Result<Self, KeyError> {
        let refused = |why: String| KeyError::Slot { slot: hex::encode(id), why };
        if bytes.len() > MAX_BYTES {
            return Err(refused(format!("it has {} bytes", bytes.len())));
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
        if written.format != FORMAT || written.version != VERSION {
            return Err(refused(format!("it is {:?} version {}", written.format, written.version)));
        }
        if (written.kind == SlotKind::Passphrase) != written.argon2id.is_some() {
            return Err(refused("argon2id belongs to a passphrase, and only there".to_owned()));
        }
        Ok(Self {
            id,
            kind: written.kind,
            label: written.label,
            created_at: written.created_at,
            stretching: written.argon2id,
            wrapped: written.wrapped.into(),
        })
    }

    /// The keyring inside. Takes as long as argon2id takes, for a passphrase: call it from a thread that may block.
    ///
    /// # Errors
    /// [`KeyError::Wrong`] when the slot is of another kind or this is not its key.
    pub fn open(&self, repository: RepositoryId, unlock: &Unlock) -> Result<Keyring, KeyError> {
        let slot = || hex::encode(self.id);
        let secret = self.secret(unlock)?;
        let plain =
            seal::unwrap(&secret, repository, &self.binding(), &self.wrapped).map_err(
                |error| match error {
                    SealError::WrongKey => KeyError::Wrong { slot: slot() },
                    other => KeyError::Slot { slot: slot(), why: other.to_string() },
                },
            )?;
        Keyring::decode(&plain).map_err(|why| KeyError::Keyring { slot: slot(), why })
    }

    fn secret(&self, unlock: &Unlock) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        match (unlock, &self.stretching) {
            (Unlock::KeyFile(key), None) => Ok(Zeroizing::new(*key.secret())),
            (Unlock::Passphrase(passphrase), Some(Stretching { memory_kib, passes, lanes, salt })) => {
                let cost = PassphraseCost { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
                passphrase.stretch(cost, salt)
            }
            _ => Err(KeyError::Wrong { slot: hex::encode(self.id) }),
        }
    }

    /// The slot's id, then its kind, label and time as they are written, each ended by a zero byte (none can hold one).
    fn binding(&self) -> Vec<u8> {
        let mut binding = self.id.to_vec();
        for text in [self.kind.as_str(), &self.label, &self.created_at.to_string()] {
            binding.extend_from_slice(text.as_bytes());
            binding.push(0);
        }
        binding
    }
}

/// Tries every slot that `unlock` may open, and says which one it was.
///
/// # Errors
/// [`KeyError::NoneFits`], or what was wrong with a slot when one of the right kind could not be tried.
pub fn open_any<'a>(
    repository: RepositoryId,
    slots: &'a [KeySlot],
    unlock: &Unlock,
) -> Result<(Keyring, &'a KeySlot), KeyError> {
    let mut trouble = None;
    for slot in slots.iter().filter(|slot| slot.kind == unlock.slot_kind()) {
        match slot.open(repository, unlock) {
            Ok(keyring) => return Ok((keyring, slot)),
            Err(KeyError::Wrong { .. }) => {}
            Err(other) => trouble = Some(other),
        }
    }
    let kind = match unlock {
        Unlock::KeyFile(_) => "key file",
        Unlock::Passphrase(_) => "passphrase",
    };
    Err(trouble.unwrap_or(KeyError::NoneFits { kind, slots: slots.len() }))
}

#[cfg(test)]
mod tests;
