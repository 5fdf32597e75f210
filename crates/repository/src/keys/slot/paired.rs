//! Slots of version 2: a key pair, and the keyring sealed to its public half.
//!
//! So whoever rotates the keys can give every slot the new ring without knowing anybody's passphrase. Three things keep
//! that from being a way in:
//!
//! * `approval` is made with the owner secret and the master key of the slot's epoch, over everything in the slot. Only
//!   what an owner approved under the current epoch is given new keys: not a slot that somebody with access to the
//!   bucket put there, nor one of a write-only agent's making, nor one whose owner was removed before.
//! * `private_key` holds, beside the private key, a *trust key* that follows from the owner secret and the public key. It
//!   goes into the secret that the ring is sealed with: so the holder of a key file or passphrase knows that the ring comes
//!   from an owner, and a stranger who knows the public key cannot give them a ring of their own. A recipient's slot has
//!   none: its owner knows only that the ring was sealed to them.
//! * The trust key and the private key are sealed under the holder's own secret with the slot's kind, label, time and
//!   public key; a rotation copies them unchanged.

use bytes::Bytes;
use strongroom_model::{Entropy, RepositoryId};
use zeroize::Zeroizing;

use super::written::Stretching;
use super::{KeySlot, SlotKind};
use crate::keys::keyring::Secret;
use crate::keys::{Grants, KeyError, Keyring};
use crate::seal::agreement::{PrivateKey, open_from, seal_to};
use crate::seal::key::derive;
use crate::seal::{self, PublicKey, SealError};

const KEYRING_CONTEXT: &str = "strongroom 2026-11-21 format 1 slot keyring key";
const TRUST_CONTEXT: &str = "strongroom 2026-11-21 format 1 slot trust key";
const APPROVAL_CONTEXT: &str = "strongroom 2026-11-21 format 1 slot approval key";

#[derive(Debug, Clone)]
pub(super) struct Paired {
    pub(super) grants: Grants,
    pub(super) epoch: u32,
    pub(super) public_key: PublicKey,
    pub(super) stretching: Option<Stretching>,
    pub(super) private_key: Bytes,
    pub(super) fresh_key: PublicKey,
    pub(super) keyring: Bytes,
    pub(super) approval: [u8; 32],
}

/// What a slot's holder knows.
pub(super) struct Holder {
    private: PrivateKey,
    /// Zeros for a recipient.
    trust: Secret,
}

impl Holder {
    /// The holder of a recipient's private key.
    pub(super) fn recipient(private: &PrivateKey) -> Self {
        Self { private: private.clone(), trust: Zeroizing::new([0; 32]) }
    }
}

impl KeySlot {
    /// Draws a key pair for a slot and seals its private half under the holder's secret.
    pub(super) fn draw_pair(
        &self,
        repository: RepositoryId,
        ring: &Keyring,
        secret: &[u8; 32],
        entropy: &dyn Entropy,
    ) -> Option<(PublicKey, Bytes)> {
        let private = PrivateKey::generate(entropy);
        let public = private.public();
        let trust = trust_key(ring, &public)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(64));
        plain.extend_from_slice(private.bytes());
        plain.extend_from_slice(&*trust);
        let binding = self.holder_binding(&public);
        Some((public, seal::wrap(secret, ring.cipher(), repository, &binding, &plain, entropy)))
    }

    /// What [`Self::draw_pair`] sealed.
    pub(super) fn open_pair(
        &self,
        repository: RepositoryId,
        paired: &Paired,
        secret: &[u8; 32],
    ) -> Result<Holder, KeyError> {
        let binding = self.holder_binding(&paired.public_key);
        let plain = seal::unwrap(secret, repository, &binding, &paired.private_key)
            .map_err(|error| self.refused(error))?;
        let halves = plain.split_first_chunk::<32>().and_then(|(private, rest)| {
            Some((PrivateKey::from_bytes(*private), Zeroizing::new(<[u8; 32]>::try_from(rest).ok()?)))
        });
        match halves {
            Some((private, trust)) if private.public() == paired.public_key => Ok(Holder { private, trust }),
            _ => {
                Err(KeyError::Slot { slot: self.name(), why: "its key pair does not belong together".into() })
            }
        }
    }

    /// Seals `ring` into the slot, as an owner. `None` when `ring` is no owner's, or its public key takes nothing.
    pub(super) fn give(
        mut self,
        repository: RepositoryId,
        owner: &Keyring,
        mut paired: Paired,
        entropy: &dyn Entropy,
    ) -> Option<Self> {
        let ring = match paired.grants {
            Grants::Everything => owner.clone(),
            Grants::WriteOnly => owner.write_only()?,
            Grants::Journal => owner.journal()?,
            Grants::Structure => owner.structure()?,
        };
        paired.epoch = owner.sealing().0;
        let trust = if self.kind == SlotKind::Recipient {
            Zeroizing::new([0; 32])
        } else {
            trust_key(owner, &paired.public_key)?
        };
        let (fresh, secret) = seal_to(KEYRING_CONTEXT, &paired.public_key, &*trust, entropy)?;
        paired.fresh_key = fresh;
        let binding = self.full_binding(&paired);
        paired.keyring = seal::wrap(&secret, owner.cipher(), repository, &binding, &ring.encode(), entropy);
        paired.approval = self.approval(repository, owner, &paired)?;
        self.form = super::Form::Paired(Box::new(paired));
        Some(self)
    }

    /// The ring inside.
    pub(super) fn take(
        &self,
        repository: RepositoryId,
        paired: &Paired,
        holder: &Holder,
    ) -> Result<Keyring, KeyError> {
        let secret = open_from(KEYRING_CONTEXT, &holder.private, &paired.fresh_key, &*holder.trust);
        let secret = secret.ok_or_else(|| self.forged())?;
        let plain = seal::unwrap(&secret, repository, &self.full_binding(paired), &paired.keyring)
            .map_err(|_| self.forged())?;
        let ring = Keyring::decode(&plain).map_err(|why| KeyError::Keyring { slot: self.name(), why })?;
        if ring.grants() != paired.grants || ring.newest_epoch() < paired.epoch {
            return Err(self.forged());
        }
        Ok(ring)
    }

    /// Whether an owner who knew `ring`'s epoch of the slot made it as it stands.
    pub(super) fn approved(&self, repository: RepositoryId, ring: &Keyring, paired: &Paired) -> bool {
        // Not compared in constant time: whoever could measure it holds the owner secret already.
        self.approval(repository, ring, paired) == Some(paired.approval)
    }

    fn approval(&self, repository: RepositoryId, ring: &Keyring, paired: &Paired) -> Option<[u8; 32]> {
        let master = ring.master(paired.epoch)?;
        let owner = ring.owner()?;
        let key = derive(APPROVAL_CONTEXT, &owner, &*master);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(repository.bytes());
        hasher.update(&self.full_binding(paired));
        hasher.update(blake3::hash(&paired.keyring).as_bytes());
        Some(*hasher.finalize().as_bytes())
    }

    fn forged(&self) -> KeyError {
        KeyError::Forged { slot: self.name() }
    }

    fn refused(&self, error: SealError) -> KeyError {
        match error {
            SealError::WrongKey => KeyError::Wrong { slot: self.name() },
            other => KeyError::Slot { slot: self.name(), why: other.to_string() },
        }
    }

    /// Kind, label and time, each ended by a zero byte, and the public key: what never changes while the slot is passed on.
    fn holder_binding(&self, public: &PublicKey) -> Vec<u8> {
        let mut binding = Vec::new();
        for text in [self.kind.as_str(), &self.label, &self.created_at.to_string()] {
            binding.extend_from_slice(text.as_bytes());
            binding.push(0);
        }
        binding.extend_from_slice(public.bytes());
        binding
    }

    /// Everything in the slot but the ring and its approval.
    fn full_binding(&self, paired: &Paired) -> Vec<u8> {
        let mut binding = self.id.to_vec();
        binding.extend_from_slice(paired.grants.as_str().as_bytes());
        binding.push(0);
        binding.extend_from_slice(&self.holder_binding(&paired.public_key));
        binding.extend_from_slice(&paired.epoch.to_le_bytes());
        binding.extend_from_slice(blake3::hash(&paired.private_key).as_bytes());
        if let Some(Stretching { memory_kib, passes, lanes, salt }) = &paired.stretching {
            for number in [memory_kib, passes, lanes] {
                binding.extend_from_slice(&number.to_le_bytes());
            }
            binding.extend_from_slice(salt);
        }
        binding.extend_from_slice(paired.fresh_key.bytes());
        binding
    }
}

fn trust_key(owner: &Keyring, public: &PublicKey) -> Option<Secret> {
    let owner = owner.owner()?;
    Some(derive(TRUST_CONTEXT, &owner, public.bytes()))
}
