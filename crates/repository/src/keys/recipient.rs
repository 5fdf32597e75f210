//! Key pairs of recipients, as text: the public key is given to whoever adds the slot, the private key stays at home.
//!
//! ```text
//! strongroom-recipient-1-<64 hexadecimal digits>-<8 hexadecimal digits>     the public key: no secret
//! strongroom-private-1-<64 hexadecimal digits>-<8 hexadecimal digits>\n     the private key
//! ```
//! The last 8 digits are the first 4 bytes of the BLAKE3 of everything before their dash, as in a key file.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use strongroom_model::Entropy;
use zeroize::Zeroizing;

use super::KeyError;
use super::text::{self, write_new_private};
use crate::seal::PublicKey;
use crate::seal::agreement::PrivateKey;

const PUBLIC: &str = "strongroom-recipient-1-";
pub(super) const PRIVATE: &str = "strongroom-private-1-";

/// Whom a slot is made for: a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient(PublicKey);

impl Recipient {
    /// The holder of the private half of `key`.
    pub(crate) const fn of(key: PublicKey) -> Self {
        Self(key)
    }

    pub(super) const fn public(self) -> PublicKey {
        self.0
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(given: &str) -> Result<Self, KeyError> {
        if given.trim().starts_with(PRIVATE) {
            return Err(KeyError::NotARecipient {
                why: "it is a private key, which nobody else should see: give the public key",
            });
        }
        let bytes = text::parse(PUBLIC, given).map_err(|why| KeyError::NotARecipient { why })?;
        Ok(Self(PublicKey::from_bytes(*bytes)))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::show(PUBLIC, self.0.bytes()))
    }
}

/// The private key of a recipient: opens the slots that were made for its public key.
#[derive(Debug, Clone)]
pub struct RecipientKey(PrivateKey);

impl RecipientKey {
    /// A fresh random key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(PrivateKey::generate(entropy))
    }

    /// Reads the text form; white space around it does not matter.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn parse(given: &str) -> Result<Self, KeyError> {
        let bytes = text::parse(PRIVATE, given).map_err(|why| KeyError::NotAKey { path: None, why })?;
        Ok(Self(PrivateKey::from_bytes(*bytes)))
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.public())
    }

    /// Writes a new file, mode 0600, durable when it returns; never replaces a file.
    ///
    /// # Errors
    /// When it exists or cannot be written; then nothing is left behind.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        write_new_private(path, &self.text())
    }

    /// The text form with its newline: for the file, nowhere else.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut shown = text::show(PRIVATE, self.0.bytes());
        shown.push('\n');
        shown
    }

    /// The holder of a key that was not read from a file.
    pub(crate) const fn of(key: PrivateKey) -> Self {
        Self(key)
    }

    pub(super) const fn private(&self) -> &PrivateKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededEntropy;

    #[test]
    fn both_keys_are_read_back_from_their_text() {
        let key = RecipientKey::generate(&SeededEntropy::new(1));
        let read = RecipientKey::parse(&key.text()).unwrap();
        assert_eq!(read.recipient(), key.recipient());
        assert_eq!(key.recipient().to_string().parse::<Recipient>().unwrap(), key.recipient());
    }

    #[test]
    fn a_private_key_given_as_a_recipient_is_refused_without_showing_it() {
        let key = RecipientKey::generate(&SeededEntropy::new(1));
        let error = key.text().parse::<Recipient>().unwrap_err();
        assert!(error.to_string().contains("private key"), "{error}");
        assert!(!format!("{error:?} {key:?}").contains(&hex::encode(key.0.bytes())));
    }

    #[test]
    fn a_mistyped_recipient_is_noticed() {
        let text = RecipientKey::generate(&SeededEntropy::new(1)).recipient().to_string();
        for at in 0..text.len() {
            let mut wrong = text.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'1' { b'2' } else { b'1' };
            assert!(String::from_utf8(wrong).unwrap().parse::<Recipient>().is_err());
        }
    }
}
