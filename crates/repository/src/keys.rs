//! Keys: what opens a repository, and what its secrets are.
//!
//! * A [`Keyring`] holds the repository's secrets: one *master key* per epoch (one seals, every one opens) and
//!   the *identity secret*, from which the keys of chunk ids are derived. They never leave memory in the clear.
//! * A [`KeySlot`] (`keys/<slot>`) holds the keyring, locked with one thing that a person keeps: a [`KeyFile`], a
//!   [`Passphrase`] made expensive by argon2id, or a [`RecipientKey`]. A slot [grants](Grants) everything, or only to
//!   write; losing all slots that grant everything loses the repository.
//! * Secrets are zeroed when dropped, and their `Debug` never shows them.
//!
//! Subkeys are made with `blake3::derive_key` and a context string of their own (docs/format.md, section 3), so that no
//! two uses ever share a key.

mod error;
mod file;
mod keyring;
mod paper;
mod passphrase;
mod recipient;
mod slot;
mod text;

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use zeroize::Zeroizing;

pub use error::KeyError;
pub use file::KeyFile;
pub(crate) use keyring::{DataKey, MOST_DOMAINS, domain_of};
pub use keyring::{DataSeal, Grants, Keyring};
pub use passphrase::{Passphrase, PassphraseCost};
pub use recipient::{Recipient, RecipientKey};
pub use slot::{KeySlot, SlotKind, open_any};

/// More than a person types.
const MAX_TYPED_BYTES: u64 = 16 << 10;

/// What a person hands over to open a repository.
#[derive(Debug, Clone)]
pub enum Unlock {
    /// A key file.
    KeyFile(KeyFile),
    /// A passphrase.
    Passphrase(Passphrase),
    /// The private key of a recipient.
    Recipient(RecipientKey),
}

impl Unlock {
    /// Reads a file that holds a key file's text or a recipient's private key; refuses one that others may read or
    /// write.
    ///
    /// # Errors
    /// When it cannot be read, is open to others, or holds no key.
    pub fn read_key(path: &Path) -> Result<Self, KeyError> {
        let text = text::read_private(path)?;
        Self::parse_key(&text).map_err(|error| match error {
            KeyError::NotAKey { why, .. } => KeyError::NotAKey { path: Some(path.to_owned()), why },
            other => other,
        })
    }

    /// Reads a key that a person types, until it is complete or the input ends.
    ///
    /// # Errors
    /// When the input cannot be read, or what was typed is no key.
    pub fn read_typed(input: impl Read) -> Result<Self, KeyError> {
        let failed = |cause| KeyError::File { path: "standard input".into(), cause };
        let mut input = BufReader::new(input.take(MAX_TYPED_BYTES));
        // The whole size at once: growing would leave copies behind in freed memory.
        let mut typed = Zeroizing::new(String::with_capacity(usize::try_from(MAX_TYPED_BYTES).unwrap_or(0)));
        loop {
            let ended = input.read_line(&mut typed).map_err(failed)? == 0;
            let is_whole = ended || (paper::is_meant(&typed) && paper::is_complete(&typed));
            match Self::parse_key(&typed) {
                Err(_) if !is_whole => {}
                answer => return answer,
            }
        }
    }

    /// Reads the text of a key file or of a recipient's private key, or the lines of a recovery kit. White space and
    /// upper or lower case do not matter.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn parse_key(text: &str) -> Result<Self, KeyError> {
        let mut condensed = Zeroizing::new(String::with_capacity(text.len()));
        condensed
            .extend(text.chars().filter(|letter| !letter.is_whitespace()).map(|c| c.to_ascii_lowercase()));
        if condensed.starts_with(recipient::PRIVATE) {
            RecipientKey::parse(&condensed).map(Self::Recipient)
        } else if paper::is_meant(text) {
            KeyFile::parse_paper(text).map(Self::KeyFile)
        } else {
            KeyFile::parse(&condensed).map(Self::KeyFile)
        }
    }

    /// The kind of slot that it can open.
    #[must_use]
    pub const fn slot_kind(&self) -> SlotKind {
        match self {
            Self::KeyFile(_) => SlotKind::KeyFile,
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::Recipient(_) => SlotKind::Recipient,
        }
    }

    /// What people call it.
    const fn words(&self) -> &'static str {
        match self {
            Self::KeyFile(_) => "key file",
            Self::Passphrase(_) => "passphrase",
            Self::Recipient(_) => "private key",
        }
    }
}

/// For whom a slot is made.
#[derive(Debug, Clone)]
pub enum NewKey {
    /// Whoever holds this key file or passphrase.
    Holder(Unlock),
    /// Whoever has the private key to this public key.
    Recipient(Recipient),
}

impl NewKey {
    /// The kind of slot that is made for it.
    #[must_use]
    pub const fn slot_kind(&self) -> SlotKind {
        match self {
            Self::Holder(unlock) => unlock.slot_kind(),
            Self::Recipient(_) => SlotKind::Recipient,
        }
    }
}
