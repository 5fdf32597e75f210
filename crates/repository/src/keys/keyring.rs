//! The repository's secrets, and how they are written inside a slot.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | version, u16 = 1 |
//! | 2 | 2 | how many epochs, u16, 1 to 1024 |
//! | 4 | 32 | identity secret |
//! | 36 | 36 each | epoch, u32 (from 1, ascending); master key, 32 |
//!
//! The identity secret stands apart from the epochs because chunk ids must not change when the master key does: a
//! rotation that forgot every stored chunk would cost a full upload of everything.

use std::collections::BTreeMap;
use std::fmt;

use strongroom_model::Entropy;
use zeroize::Zeroizing;

use crate::seal::Cipher;

const VERSION: u16 = 1;
const MAX_EPOCHS: usize = 1024;

/// The secrets of a repository: one master key per epoch (the newest seals, every one opens) and the identity secret.
#[derive(Clone)]
pub struct Keyring {
    identity: Zeroizing<[u8; 32]>,
    masters: BTreeMap<u32, Zeroizing<[u8; 32]>>,
    cipher: Cipher,
}

impl Keyring {
    /// Fresh secrets for a new repository: epoch 1.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let identity = secret(entropy);
        Self { identity, masters: BTreeMap::from([(1, secret(entropy))]), cipher: Cipher::fastest_here() }
    }

    /// The same secrets and a new master key, which seals from now on.
    #[must_use]
    pub fn rotated(&self, entropy: &dyn Entropy) -> Self {
        let mut ring = self.clone();
        ring.masters.insert(self.newest_epoch() + 1, secret(entropy));
        ring
    }

    /// The same secrets, sealing with `cipher` instead of this machine's fastest: so that test vectors are the same
    /// everywhere. Opening follows what each object says.
    #[must_use]
    pub fn with_cipher(mut self, cipher: Cipher) -> Self {
        self.cipher = cipher;
        self
    }

    /// The epoch whose master key seals.
    #[must_use]
    pub fn newest_epoch(&self) -> u32 {
        *self.masters.last_key_value().expect("a keyring has at least one epoch").0
    }

    pub(crate) const fn cipher(&self) -> Cipher {
        self.cipher
    }

    pub(crate) fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    pub(crate) fn newest(&self) -> (u32, &[u8; 32]) {
        let (epoch, master) = self.masters.last_key_value().expect("a keyring has at least one epoch");
        (*epoch, master)
    }

    pub(crate) fn master(&self, epoch: u32) -> Option<&[u8; 32]> {
        self.masters.get(&epoch).map(|master| &**master)
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // The whole size at once: growing would leave copies of secrets behind in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(36 + 36 * self.masters.len()));
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let count = u16::try_from(self.masters.len()).expect("a rotation a day for a century is 36,500");
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&*self.identity);
        for (epoch, master) in &self.masters {
            bytes.extend_from_slice(&epoch.to_le_bytes());
            bytes.extend_from_slice(&**master);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or("it is too short")?;
        if u16::from_le_bytes([head[0], head[1]]) != VERSION {
            return Err("its version is unknown");
        }
        let count = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (identity, rest) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
        if count == 0 || count > MAX_EPOCHS || rest.len() != 36 * count {
            return Err("its length does not fit its count");
        }
        let mut masters = BTreeMap::new();
        for row in rest.chunks_exact(36) {
            let (epoch, master) = row.split_first_chunk::<4>().expect("a row has 36 bytes");
            let epoch = u32::from_le_bytes(*epoch);
            if masters.last_key_value().map_or(0, |(last, _)| *last) >= epoch {
                return Err("its epochs are not ascending");
            }
            masters.insert(epoch, Zeroizing::new(master.try_into().expect("36 less 4 are 32")));
        }
        Ok(Self { identity: Zeroizing::new(*identity), masters, cipher: Cipher::fastest_here() })
    }
}

fn secret(entropy: &dyn Entropy) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(bytes.as_mut());
    bytes
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("epochs", &self.masters.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededEntropy;

    #[test]
    fn a_keyring_is_read_back_with_every_epoch() {
        let entropy = SeededEntropy::new(1);
        let ring = Keyring::generate(&entropy).rotated(&entropy).rotated(&entropy);
        let read = Keyring::decode(&ring.encode()).unwrap();
        assert_eq!(read.newest_epoch(), 3);
        assert_eq!(read.identity(), ring.identity());
        for epoch in 1..=3 {
            assert_eq!(read.master(epoch), ring.master(epoch));
        }
        assert_eq!(read.master(4), None);
    }

    #[test]
    fn what_is_no_keyring_is_refused() {
        let bytes = Keyring::generate(&SeededEntropy::new(1)).encode();
        for cut in 0..bytes.len() {
            assert!(Keyring::decode(&bytes[..cut]).is_err());
        }
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        assert_eq!(Keyring::decode(&newer).err(), Some("its version is unknown"));
        let mut zero = bytes.to_vec();
        zero[36..40].fill(0);
        assert_eq!(Keyring::decode(&zero).err(), Some("its epochs are not ascending"));
    }
}
