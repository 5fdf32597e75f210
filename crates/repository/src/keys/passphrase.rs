//! Passphrases, and how argon2id makes guessing them expensive.

use std::fmt;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::KeyError;
use super::text::read_private;

/// A passphrase. Its UTF-8 bytes count as they are: no normalization, no trimming but of the line's end.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(String);

impl Passphrase {
    /// The passphrase as it was typed.
    ///
    /// # Errors
    /// [`KeyError::EmptyPassphrase`].
    pub fn new(text: String) -> Result<Self, KeyError> {
        if text.is_empty() { Err(KeyError::EmptyPassphrase) } else { Ok(Self(text)) }
    }

    /// The first line of a file that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be read, is open to others, or its first line is empty.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read_private(path)?;
        Self::new(text.lines().next().unwrap_or_default().to_owned())
    }

    pub(super) fn stretch(
        &self,
        cost: PassphraseCost,
        salt: &[u8; 32],
    ) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.params()?)
            .hash_password_into(self.0.as_bytes(), salt, key.as_mut())
            .map_err(|_| cost.refused())?;
        Ok(key)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(secret)")
    }
}

/// What one guess at a passphrase costs: the parameters of argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl PassphraseCost {
    /// 64 MiB, 3 passes, 1 lane: within the memory budget of every command, and about a fifth of a second.
    pub const DEFAULT: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// Next to nothing: for tests.
    pub const TEST: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };
    /// The most that is accepted, so that a slot somebody else wrote cannot exhaust the machine that tries it.
    const MOST: Self = Self { memory_kib: 1 << 20, passes: 64, lanes: 16 };

    const fn refused(self) -> KeyError {
        KeyError::Cost { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes }
    }

    fn params(self) -> Result<Params, KeyError> {
        let most = Self::MOST;
        if self.memory_kib > most.memory_kib || self.passes > most.passes || self.lanes > most.lanes {
            return Err(self.refused());
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(|_| self.refused())
    }
}

impl Default for PassphraseCost {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_line_of_a_private_file_is_the_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        std::fs::write(&path, " correct horse \r\nsecond line\n").unwrap();
        assert!(matches!(Passphrase::read(&path), Err(KeyError::Exposed { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(Passphrase::read(&path).unwrap().0, " correct horse ");
        assert!(matches!(Passphrase::new(String::new()), Err(KeyError::EmptyPassphrase)));
    }

    #[test]
    fn a_hostile_cost_is_refused_before_any_memory_is_taken() {
        let passphrase = Passphrase::new("x".into()).unwrap();
        for cost in [
            PassphraseCost { memory_kib: u32::MAX, ..PassphraseCost::TEST },
            PassphraseCost { passes: 0, ..PassphraseCost::TEST },
            PassphraseCost { passes: u32::MAX, ..PassphraseCost::TEST },
            PassphraseCost { lanes: 0, ..PassphraseCost::TEST },
            PassphraseCost { memory_kib: 0, ..PassphraseCost::TEST },
        ] {
            assert!(matches!(passphrase.stretch(cost, &[0; 32]), Err(KeyError::Cost { .. })), "{cost:?}");
        }
    }
}
