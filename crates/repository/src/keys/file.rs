//! The key file: 32 secret bytes as one line of text.
//!
//! ```text
//! strongroom-key-1-<64 hexadecimal digits>-<8 hexadecimal digits>\n
//! ```
//! The last 8 digits are the first 4 bytes of the BLAKE3 of everything before their dash, so that a key typed from
//! paper is known to be mistyped before it is tried.

use std::fmt;
use std::path::Path;

use strongroom_model::Entropy;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::KeyError;
use super::paper;
use super::text::{self, read_private, write_new_private};

pub(super) const PREFIX: &str = "strongroom-key-1-";

/// 32 secret bytes that a person keeps in a file.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyFile([u8; 32]);

impl KeyFile {
    /// A fresh random key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut key = Self([0; 32]);
        entropy.fill(&mut key.0);
        key
    }

    /// Reads the text form; white space around it does not matter.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = text::parse(PREFIX, text).map_err(|why| KeyError::NotAKey { path: None, why })?;
        Ok(Self(*bytes))
    }

    /// Reads the lines of a recovery kit.
    pub(super) fn parse_paper(text: &str) -> Result<Self, KeyError> {
        let bytes = paper::parse(text).map_err(|why| KeyError::NotAKey { path: None, why })?;
        Ok(Self(*bytes))
    }

    /// The four lines of a recovery kit: for paper, nowhere else.
    #[must_use]
    pub fn paper(&self) -> [Zeroizing<String>; 4] {
        paper::lines(&self.0)
    }

    /// Reads a key file; refuses one that others may read or write.
    ///
    /// # Errors
    /// When it cannot be read, is open to others, or is no key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read_private(path)?;
        Self::parse(&text).map_err(|error| match error {
            KeyError::NotAKey { why, .. } => KeyError::NotAKey { path: Some(path.to_owned()), why },
            other => other,
        })
    }

    /// Writes a new key file, mode 0600, durable when it returns; never replaces a file.
    ///
    /// # Errors
    /// When it exists or cannot be written; then nothing is left behind.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        write_new_private(path, &self.text())
    }

    /// The text form with its newline: for the key file and the recovery kit, nowhere else.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut shown = text::show(PREFIX, &self.0);
        shown.push('\n');
        shown
    }

    pub(super) const fn secret(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile(secret)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::SeededEntropy;

    fn key() -> KeyFile {
        KeyFile([0xab; 32])
    }

    #[test]
    fn the_text_form_is_fixed_and_read_back() {
        let text = key().text();
        assert_eq!(
            *text,
            "strongroom-key-1-abababababababababababababababababababababababababababababababab-CHECKSUM\n"
                .replace("CHECKSUM", &text[text.len() - 9..text.len() - 1])
        );
        assert_eq!(KeyFile::parse(&text).unwrap().0, key().0);
    }

    #[test]
    fn a_mistyped_key_is_noticed_before_it_is_tried() {
        let text = key().text();
        for at in 0..text.len() - 1 {
            let mut wrong = text.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'1' { b'2' } else { b'1' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(KeyFile::parse(&wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "strongroom-key-1-", "strongroom-key-1-ab-cd", "strongroom-key-2-ab", "é"] {
            assert!(KeyFile::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_written_key_is_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = KeyFile::generate(&SeededEntropy::new(1));
        key.write_new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(KeyFile::read(&path).unwrap().0, key.0);
        assert!(matches!(key.write_new(&path), Err(KeyError::Exists { .. })));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        key().write_new(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(KeyFile::read(&path), Err(KeyError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert!(!format!("{:?}", key()).contains("ab"));
    }
}
