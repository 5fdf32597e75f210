//! Keys: what opens a repository, and what its secrets are.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_model::{Entropy, Failure, Remedy, RepositoryId};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes that a person keeps in a file.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyFile([u8; 32]);

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile(secret)")
    }
}

impl KeyFile {
    /// A fresh random key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut secret = [0; 32];
        entropy.fill(&mut secret);
        Self(secret)
    }
    /// Reads the text form.
    ///
    /// # Errors
    /// [`KeyError::NotAKeyFile`].
    pub fn parse(_text: &str) -> Result<Self, KeyError> {
        todo!()
    }
    /// Reads a key file; refuses one that others may read.
    ///
    /// # Errors
    /// When it cannot be read, is readable by others, or is no key.
    pub fn read(_path: &Path) -> Result<Self, KeyError> {
        todo!()
    }
    /// Writes a new key file, mode 0600, durable; refuses to replace a file.
    ///
    /// # Errors
    /// When it exists or cannot be written.
    pub fn write_new(&self, _path: &Path) -> Result<(), KeyError> {
        todo!()
    }
}

/// A passphrase. Zeroed when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(String);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(secret)")
    }
}

impl Passphrase {
    /// The passphrase as typed; bytes count as they are.
    ///
    /// # Errors
    /// When it is empty.
    pub fn new(text: String) -> Result<Self, KeyError> {
        Ok(Self(text))
    }
    /// The first line of a file; refuses one that others may read.
    ///
    /// # Errors
    /// When it cannot be read, is readable by others, or is empty.
    pub fn read(_path: &Path) -> Result<Self, KeyError> {
        todo!()
    }
}

/// What a person hands over to open a repository.
#[derive(Debug, Clone)]
pub enum Unlock {
    /// A key file.
    KeyFile(KeyFile),
    /// A passphrase.
    Passphrase(Passphrase),
}

/// The secrets of a repository: one master key per epoch (the newest seals, all open) and the identity secret.
#[derive(Clone)]
pub struct Keyring {}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(secret)")
    }
}

impl Keyring {
    /// Fresh secrets for a new repository: epoch 1.
    pub fn generate(_entropy: &dyn Entropy) -> Self {
        todo!()
    }
}

/// What argon2id costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl PassphraseCost {
    /// 64 MiB, 3 passes, 1 lane.
    pub const DEFAULT: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// The least that is accepted: for tests.
    pub const TEST: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };
}

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A key file.
    KeyFile,
    /// A passphrase.
    Passphrase,
}

/// `keys/<slot>`: the keyring, wrapped under one key or passphrase.
#[derive(Debug, Clone)]
pub struct KeySlot {
    /// The slot's id: what follows `keys/`.
    pub id: [u8; 8],
    /// What opens it.
    pub kind: SlotKind,
    /// What a person calls it.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl KeySlot {
    /// Wraps `keyring` under `unlock`, with an id drawn from `entropy`.
    ///
    /// # Errors
    /// When a cost is out of bounds or a label too long.
    pub fn wrap(
        _repository: RepositoryId,
        _keyring: &Keyring,
        _unlock: &Unlock,
        _label: &str,
        _created_at: Timestamp,
        _cost: PassphraseCost,
        _entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        todo!()
    }
    /// The object's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        todo!()
    }
    /// Reads the object `keys/<id>`.
    ///
    /// # Errors
    /// When it is no slot, or of an unknown version or kind.
    pub fn parse(_id: [u8; 8], _bytes: &[u8]) -> Result<Self, KeyError> {
        todo!()
    }
    /// The keyring inside. Takes as long as argon2id takes when it is a passphrase's.
    ///
    /// # Errors
    /// [`KeyError::Wrong`] when the slot is of another kind or the key is not its key.
    pub fn open(&self, _repository: RepositoryId, _unlock: &Unlock) -> Result<Keyring, KeyError> {
        todo!()
    }
}

/// Why a key, a key file or a slot could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no key.
    #[error("{what} is not a Strongroom key file")]
    NotAKeyFile {
        /// Which file, or `text`.
        what: String,
    },
    /// The file cannot be read or written.
    #[error("key file {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The key does not open this slot.
    #[error("the key does not open key slot {slot}")]
    Wrong {
        /// Which slot.
        slot: String,
    },
}

impl Failure for KeyError {
    fn code(&self) -> &'static str {
        "key.wrong"
    }
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn advice(&self) -> String {
        String::new()
    }
}
