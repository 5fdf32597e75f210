//! X25519 (RFC 7748): what is sealed to a public key, only its private key opens.
//!
//! The curve is aws-lc's. A fresh key pair is drawn for each thing that is sealed, and its private half is gone when
//! sealing ends: so who seals cannot open again what they sealed.
//!
//! ```text
//! secret = BLAKE3-derive-key(context, X25519(own private, other's public) 32 || fresh public 32 || recipient's public 32 || …)
//! ```
//! Both public keys go into the secret, so that it belongs to this pair alone. An agreement of zeros, which a public
//! key of small order would force, is refused.

use std::fmt;

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use strongroom_model::Entropy;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::key::derive;

/// A public key of X25519: 32 bytes, no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether anything can be sealed to it: it is not of small order.
    pub(crate) fn takes_seals(&self) -> bool {
        PrivateKey([7; 32]).agree(self).is_some()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A private key of X25519: 32 secret bytes. Zeroed when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct PrivateKey([u8; 32]);

impl PrivateKey {
    pub(crate) fn generate(entropy: &dyn Entropy) -> Self {
        let mut key = Self([0; 32]);
        entropy.fill(&mut key.0);
        key
    }

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn public(&self) -> PublicKey {
        let public = self.curve().compute_public_key().expect("every 32 bytes are a private key of X25519");
        PublicKey(public.as_ref().try_into().expect("public keys of X25519 have 32 bytes"))
    }

    fn curve(&self) -> agreement::PrivateKey {
        agreement::PrivateKey::from_private_key(&X25519, &self.0).expect("X25519 takes every 32 bytes")
    }

    /// What both sides compute; `None` when it is zeros, which says nothing of either.
    fn agree(&self, other: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
        let other = UnparsedPublicKey::new(&X25519, &other.0);
        let shared = agreement::agree(&self.curve(), other, (), |shared| {
            let mut copy = Zeroizing::new([0; 32]);
            copy.copy_from_slice(shared);
            Ok(copy)
        })
        .ok()?;
        // aws-lc refuses it as well; this does not rest on that.
        shared.iter().any(|byte| *byte != 0).then_some(shared)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(secret)")
    }
}

/// A fresh public key, and the secret that its dropped private half shares with `recipient`. `rest` goes in as well.
///
/// `None` when `recipient` is no key that anything can be sealed to.
pub(crate) fn seal_to(
    context: &'static str,
    recipient: &PublicKey,
    rest: &[u8],
    entropy: &dyn Entropy,
) -> Option<(PublicKey, Zeroizing<[u8; 32]>)> {
    let own = PrivateKey::generate(entropy);
    let fresh = own.public();
    let shared = own.agree(recipient)?;
    Some((fresh, secret(context, &shared, &fresh, recipient, rest)))
}

/// The secret of [`seal_to`], from the other side.
pub(crate) fn open_from(
    context: &'static str,
    own: &PrivateKey,
    fresh: &PublicKey,
    rest: &[u8],
) -> Option<Zeroizing<[u8; 32]>> {
    let shared = own.agree(fresh)?;
    Some(secret(context, &shared, fresh, &own.public(), rest))
}

fn secret(
    context: &'static str,
    shared: &[u8; 32],
    fresh: &PublicKey,
    recipient: &PublicKey,
    rest: &[u8],
) -> Zeroizing<[u8; 32]> {
    derive(context, shared, &[&fresh.0[..], &recipient.0, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededEntropy;

    const CONTEXT: &str = "a test";

    fn bytes(text: &str) -> [u8; 32] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_curve_is_that_of_rfc_7748() {
        // Section 6.1: Bob's private and public key, Alice's public key, and what they share.
        let bob = PrivateKey(bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
        let alice = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        assert_eq!(bob.public().0, bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
        assert_eq!(
            *bob.agree(&PublicKey(alice)).unwrap(),
            bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
        );
    }

    #[test]
    fn only_the_recipient_finds_the_secret_and_each_sealing_has_its_own() {
        let entropy = SeededEntropy::new(1);
        let (owner, other) = (PrivateKey::generate(&entropy), PrivateKey::generate(&entropy));
        let (fresh, secret) = seal_to(CONTEXT, &owner.public(), b"rest", &entropy).unwrap();
        let (fresh_again, secret_again) = seal_to(CONTEXT, &owner.public(), b"rest", &entropy).unwrap();
        assert_eq!(*open_from(CONTEXT, &owner, &fresh, b"rest").unwrap(), *secret);
        assert_ne!((fresh, *secret), (fresh_again, *secret_again));
        assert_ne!(*open_from(CONTEXT, &other, &fresh, b"rest").unwrap(), *secret);
        assert_ne!(*open_from(CONTEXT, &owner, &fresh, b"").unwrap(), *secret);
        assert_ne!(*open_from("another", &owner, &fresh, b"rest").unwrap(), *secret);
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        let entropy = SeededEntropy::new(1);
        let mut one = [0; 32];
        one[0] = 1;
        // Two of the points whose every multiple by a clamped scalar is zero.
        for weak in [[0; 32], one] {
            assert!(seal_to(CONTEXT, &PublicKey(weak), b"", &entropy).is_none());
            assert!(open_from(CONTEXT, &PrivateKey::generate(&entropy), &PublicKey(weak), b"").is_none());
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert_eq!(format!("{:?}", PrivateKey([0xab; 32])), "PrivateKey(secret)");
    }
}
