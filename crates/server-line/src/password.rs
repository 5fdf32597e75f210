//! Files with passwords: private, small, and never shown.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A file with passwords is not longer than this.
const LARGEST_BYTES: u64 = 1 << 20;

/// A password, wiped from memory when it is dropped.
pub type Password = Zeroizing<String>;

/// The file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordFileError {
    /// The file.
    pub path: PathBuf,
    /// Why not; never what is in it.
    pub reason: String,
}

/// The password in the first line of a file.
///
/// # Errors
/// When it cannot be read, others than its owner may read it, or its first line is empty.
pub fn first_line(path: &Path) -> Result<Password, PasswordFileError> {
    let text = read(path)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(refused(path, "its first line is empty"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// All of a file with passwords.
///
/// # Errors
/// When it cannot be read, or others than its owner may read it.
pub fn read(path: &Path) -> Result<Zeroizing<String>, PasswordFileError> {
    let failed = |cause: std::io::Error| refused(path, cause.to_string());
    let found = std::fs::metadata(path).map_err(failed)?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(refused(path, "others than its owner may read it"));
    }
    if found.len() > LARGEST_BYTES {
        return Err(refused(path, "it is too large for a file of passwords"));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(failed)
}

fn refused(path: &Path, reason: impl Into<String>) -> PasswordFileError {
    PasswordFileError { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_that_others_may_read_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = first_line(&path).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(first_line(&path).unwrap().as_str(), "hunter2");
    }
}
