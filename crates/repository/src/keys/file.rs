//! The key file: 32 secret bytes as one line of text.
//!
//! ```text
//! strongroom-key-1-<64 hexadecimal digits>-<8 hexadecimal digits>\n
//! ```
//! The last 8 digits are the first 4 bytes of the BLAKE3 of everything before their dash, so that a key typed from
//! paper is known to be mistyped before it is tried.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use strongroom_model::Entropy;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::KeyError;

const PREFIX: &str = "strongroom-key-1-";
/// More than any key file or sensible passphrase file has.
const MAX_FILE_BYTES: u64 = 4096;

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
        let wrong = |why| KeyError::NotAKey { path: None, why };
        let text = text.trim();
        let body =
            text.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin with strongroom-key-1-"))?;
        let (secret, checksum) = body.split_once('-').ok_or_else(|| wrong("its end is missing"))?;
        if secret.len() != 64 || checksum.len() != 8 {
            return Err(wrong("its length is wrong"));
        }
        let mut key = Self([0; 32]);
        hex::decode_to_slice(secret, &mut key.0)
            .map_err(|_| wrong("it has other characters than 0-9 and a-f"))?;
        if checksum != key.checksum() {
            return Err(wrong("its checksum does not fit: a character is wrong"));
        }
        Ok(key)
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
        let failed = |cause: std::io::Error| match cause.kind() {
            ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::File { path: path.to_owned(), cause },
        };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let written = file.write_all(self.text().as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        });
        written.map_err(|cause| {
            // We created it a moment ago, and half a key is worse than none.
            let _ = std::fs::remove_file(path);
            KeyError::File { path: path.to_owned(), cause }
        })
    }

    /// The text form with its newline: for the key file and the recovery kit, nowhere else.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex::encode(self.0));
        Zeroizing::new(format!("{PREFIX}{}-{}\n", *secret, self.checksum()))
    }

    pub(super) const fn secret(&self) -> &[u8; 32] {
        &self.0
    }

    fn checksum(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(PREFIX.as_bytes());
        hasher.update(Zeroizing::new(hex::encode(self.0)).as_bytes());
        hex::encode(&hasher.finalize().as_bytes()[..4])
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile(secret)")
    }
}

/// The text of a small file that only its owner may touch.
pub(super) fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let failed = |cause| KeyError::File { path: path.to_owned(), cause };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, so that nobody can exchange it between the look and the read.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
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
                .replace("CHECKSUM", &key().checksum())
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
