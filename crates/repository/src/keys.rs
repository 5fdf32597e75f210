//! Keys: what opens a repository, and what its secrets are.
//!
//! * A [`Keyring`] holds the repository's secrets: one *master key* per epoch (the newest seals, every one opens) and
//!   the *identity secret*, from which the keys of chunk ids are derived. Both are drawn at `init` and never leave
//!   memory in the clear.
//! * A [`KeySlot`] (`keys/<slot>`) holds the keyring wrapped under one thing that a person keeps: a [`KeyFile`], or a
//!   [`Passphrase`] made expensive by argon2id. Any slot opens everything; losing all of them loses the repository.
//! * Secrets are zeroed when dropped, and their `Debug` never shows them.
//!
//! Subkeys are made with `blake3::derive_key` and a context string of their own (docs/format.md, section 3), so that no
//! two uses ever share a key.

mod error;
mod file;
mod keyring;
mod passphrase;
mod slot;

pub use error::KeyError;
pub use file::KeyFile;
pub use keyring::Keyring;
pub use passphrase::{Passphrase, PassphraseCost};
pub use slot::{KeySlot, SlotKind, open_any};

/// What a person hands over to open a repository.
#[derive(Debug, Clone)]
pub enum Unlock {
    /// A key file.
    KeyFile(KeyFile),
    /// A passphrase.
    Passphrase(Passphrase),
}

impl Unlock {
    /// The kind of slot that it can open.
    #[must_use]
    pub const fn slot_kind(&self) -> SlotKind {
        match self {
            Self::KeyFile(_) => SlotKind::KeyFile,
            Self::Passphrase(_) => SlotKind::Passphrase,
        }
    }
}
