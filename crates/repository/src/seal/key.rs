//! Keys of single objects: a fresh one seals, a stored one only opens.
//!
//! ```text
//! key        = BLAKE3-derive-key(context of the purpose, secret 32 || salt 32)
//! commitment = BLAKE3-derive-key(context of commitments, key 32)
//!
//! key of a pack that is sealed to a public key = the secret of `agreement`; its salt is the fresh public key
//!
//! nonce      = number u32 little-endian || 8 zero bytes
//! ```

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
use strongroom_model::Entropy;
use zeroize::Zeroizing;

use super::agreement::{self, PrivateKey, PublicKey};
use super::header::Header;
use super::{Cipher, SealError};

pub(crate) const TAG_BYTES: usize = 16;

/// What a key is for: no two purposes share a key, even under one salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// One sealed blob.
    Blob,
    /// The entries of a pack.
    Pack,
}

impl Purpose {
    const fn context(self) -> &'static str {
        match self {
            Self::Blob => "strongroom 2026-11-21 format 1 blob key",
            Self::Pack => "strongroom 2026-11-21 format 1 pack key",
        }
    }
}

const SEALED_PACK_CONTEXT: &str = "strongroom 2026-11-21 format 1 sealed pack key";
const COMMITMENT_CONTEXT: &str = "strongroom 2026-11-21 format 1 key commitment";

/// A subkey of `secret`; `rest` says which.
pub(crate) fn derive(context: &'static str, secret: &[u8; 32], rest: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(secret);
    hasher.update(rest);
    let mut key = Zeroizing::new([0; 32]);
    hasher.finalize_xof().fill(key.as_mut());
    key
}

fn object_key(
    purpose: Purpose,
    cipher: Cipher,
    secret: &[u8; 32],
    salt: &[u8; 32],
) -> (LessSafeKey, [u8; 32]) {
    committed(cipher, &derive(purpose.context(), secret, salt))
}

fn committed(cipher: Cipher, key: &[u8; 32]) -> (LessSafeKey, [u8; 32]) {
    let commitment = *derive(COMMITMENT_CONTEXT, key, &[]);
    let unbound =
        UnboundKey::new(cipher.algorithm(), key.as_slice()).expect("both ciphers take keys of 32 bytes");
    (LessSafeKey::new(unbound), commitment)
}

fn nonce(number: u32) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// A fresh key that seals numbered messages, each number once.
///
/// There is no way to make one for a salt that exists, and none to set the number: this is why no nonce can repeat.
pub(crate) struct Sealer {
    key: LessSafeKey,
    next: u32,
}

impl Sealer {
    /// Draws a salt, and gives the header that belongs to it.
    pub(crate) fn fresh(
        purpose: Purpose,
        magic: &[u8; 8],
        cipher: Cipher,
        flags: u8,
        epoch: u32,
        secret: &[u8; 32],
        entropy: &dyn Entropy,
    ) -> (Header, Self) {
        let mut salt = [0; 32];
        entropy.fill(&mut salt);
        let (key, commitment) = object_key(purpose, cipher, secret, &salt);
        (Header { magic: *magic, cipher, flags, epoch, salt, commitment }, Self { key, next: 0 })
    }

    /// The key of a pack whose entries only the private key to `recipient` opens: not even whoever seals them, once this
    /// sealer is dropped. `None` when nothing can be sealed to `recipient`.
    pub(crate) fn fresh_to(
        recipient: &PublicKey,
        magic: &[u8; 8],
        cipher: Cipher,
        flags: u8,
        epoch: u32,
        entropy: &dyn Entropy,
    ) -> Option<(Header, Self)> {
        let (fresh, key) = agreement::seal_to(SEALED_PACK_CONTEXT, recipient, &[], entropy)?;
        let (key, commitment) = committed(cipher, &key);
        let salt = *fresh.bytes();
        Some((Header { magic: *magic, cipher, flags, epoch, salt, commitment }, Self { key, next: 0 }))
    }

    /// The number that the next message gets.
    pub(crate) const fn next(&self) -> u32 {
        self.next
    }

    /// Appends ciphertext and tag to `out`, and says the message's number.
    pub(crate) fn seal<A: AsRef<[u8]>>(
        &mut self,
        associated: impl FnOnce(u32) -> A,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> u32 {
        let number = self.next;
        self.next = number.checked_add(1).expect("objects have far fewer than 2^32 entries");
        let start = out.len();
        out.resize(start + plain.len() + TAG_BYTES, 0);
        let (ciphertext, tag) = out[start..].split_at_mut(plain.len());
        self.key
            .seal_out_of_place_scatter(
                nonce(number),
                Aad::from(associated(number)),
                plain,
                ciphertext,
                &[],
                tag,
            )
            .expect("the lengths fit, and no message comes near the cipher's 64 GiB");
        number
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("next", &self.next).finish_non_exhaustive()
    }
}

/// The key of a stored object. It opens and cannot seal.
pub(crate) struct Opener {
    key: LessSafeKey,
}

impl Opener {
    /// The key that `header` commits to.
    pub(crate) fn derive(purpose: Purpose, header: &Header, secret: &[u8; 32]) -> Result<Self, SealError> {
        let (key, commitment) = object_key(purpose, header.cipher, secret, &header.salt);
        if commitment == header.commitment { Ok(Self { key }) } else { Err(SealError::WrongKey) }
    }

    /// The key of a pack that was sealed to the public half of `private`.
    pub(crate) fn agree(header: &Header, private: &PrivateKey) -> Result<Self, SealError> {
        let fresh = PublicKey::from_bytes(header.salt);
        let key =
            agreement::open_from(SEALED_PACK_CONTEXT, private, &fresh, &[]).ok_or(SealError::WrongKey)?;
        let (key, commitment) = committed(header.cipher, &key);
        if commitment == header.commitment { Ok(Self { key }) } else { Err(SealError::WrongKey) }
    }

    /// Opens message `number`: ciphertext and tag. `None` when it is not authentic.
    pub(crate) fn open(&self, number: u32, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (ciphertext, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        let mut plain = vec![0; ciphertext.len()];
        self.key
            .open_separate_gather(nonce(number), Aad::from(associated), ciphertext, tag, &mut plain)
            .is_ok()
            .then_some(plain)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededEntropy;

    #[test]
    fn a_sealer_never_uses_a_number_twice_and_two_sealers_never_share_a_key() {
        let entropy = SeededEntropy::new(1);
        let make = || Sealer::fresh(Purpose::Pack, b"MAGIC___", Cipher::Aes256Gcm, 0, 1, &[1; 32], &entropy);
        let ((first, mut sealer), (second, _)) = (make(), make());
        assert_ne!(first.salt, second.salt);
        assert_ne!(first.commitment, second.commitment);
        let mut out = Vec::new();
        let numbers: Vec<u32> = (0..5).map(|_| sealer.seal(|_| [], b"same", &mut out)).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        let messages: std::collections::BTreeSet<&[u8]> = out.chunks(4 + TAG_BYTES).collect();
        assert_eq!(messages.len(), 5);
    }

    #[test]
    fn purposes_do_not_share_keys() {
        let header = |purpose| {
            Sealer::fresh(purpose, b"MAGIC___", Cipher::Aes256Gcm, 0, 1, &[1; 32], &SeededEntropy::new(1)).0
        };
        assert_eq!(header(Purpose::Blob).salt, header(Purpose::Pack).salt);
        assert_ne!(header(Purpose::Blob).commitment, header(Purpose::Pack).commitment);
    }
}
