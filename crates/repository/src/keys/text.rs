//! Keys as lines of text and as private files: what the kinds of keys share.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::KeyError;

/// More than any key file, recovery kit or sensible passphrase file has.
const MAX_FILE_BYTES: u64 = 16 << 10;

/// `<prefix><64 hexadecimal digits>-<8 hexadecimal digits>`.
pub(super) fn show(prefix: &str, bytes: &[u8; 32]) -> Zeroizing<String> {
    // The whole size at once: growing would leave copies behind in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 64 + 1 + 8 + 1));
    text.push_str(prefix);
    text.push_str(&Zeroizing::new(hex::encode(bytes)));
    let checksum = blake3::hash(text.as_bytes());
    text.push('-');
    text.push_str(&hex::encode(&checksum.as_bytes()[..4]));
    text
}

/// Reads what [`show`] wrote; white space around it does not matter.
pub(super) fn parse(prefix: &str, text: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    let body = text.trim().strip_prefix(prefix).ok_or("it does not begin as such a key does")?;
    let (secret, checksum) = body.split_once('-').ok_or("its end is missing")?;
    if secret.len() != 64 || checksum.len() != 8 {
        return Err("its length is wrong");
    }
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(secret, &mut bytes[..]).map_err(|_| "it has other characters than 0-9 and a-f")?;
    // Compared as text: upper-case digits are another text, and none that `show` writes.
    if show(prefix, &bytes).as_str() == text.trim() {
        Ok(bytes)
    } else {
        Err("its checksum does not fit: a character is wrong")
    }
}

/// Writes a new file that only its owner may touch, durable when it returns; never replaces a file.
pub(super) fn write_new_private(path: &Path, text: &str) -> Result<(), KeyError> {
    let failed = |cause: std::io::Error| match cause.kind() {
        ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
        _ => KeyError::File { path: path.to_owned(), cause },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    });
    written.map_err(|cause| {
        // We created it a moment ago, and half a key is worse than none.
        let _ = std::fs::remove_file(path);
        KeyError::File { path: path.to_owned(), cause }
    })
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
