//! Rings of a shared repository: one for each key domain, and what is given out of them.
//!
//! * The **operator's** ring is that of domain 0. Of each of its epochs, the *journal key* follows from the master key:
//!   whoever shares the repository gets the journal keys, and never a master.
//! * A **domain's** ring has an identity secret, an owner secret and master keys of its own, so nothing that is sealed or named
//!   in one domain can be opened or compared in another. Its epochs are always split.
//! * Two parts are passed on, each sealed to a public key: [`Keyring::journal`] by the operator to every domain, and
//!   [`Keyring::structure`] by every domain to the operator. The latter opens maps and tables of packs, so that what
//!   is needed by nobody can be swept; without the identity secret it opens no names and tests no content, and without private
//!   data keys it reads no data.
//!
//! Epochs of domain *d* are numbered from *d* x 2^20, so that no two domains ever use one number, and the epoch that stands in
//! each header says whose the object is.

use std::collections::BTreeMap;

use strongroom_model::Entropy;
use zeroize::Zeroizing;

use super::{DataKey, DataSeal, Epoch, Grants, Keyring, LARGEST_STEP, Member, Secret, secret};
use crate::seal::PublicKey;
use crate::seal::agreement::PrivateKey;
use crate::seal::key::derive;

/// How many bits of an epoch's number count within its domain.
const EPOCH_BITS: u32 = 20;

/// The highest number of a domain: 12 bits.
pub(crate) const MOST_DOMAINS: u32 = 4095;

/// In a shared repository, a thousand rotations have to stay within 20 bits.
const SMALLEST_RANGE_STEP: u32 = 1 << 10;

const JOURNAL_CONTEXT: &str = "strongroom 2026-11-21 format 1 journal key";
const NAMES_CONTEXT: &str = "strongroom 2026-11-21 format 1 domain names key";

/// Whose epoch this is, in a shared repository.
pub(crate) const fn domain_of(epoch: u32) -> u32 {
    epoch >> EPOCH_BITS
}

impl Keyring {
    /// Fresh secrets for the operator of a new shared repository.
    pub(crate) fn fresh_operator(seal: DataSeal, entropy: &dyn Entropy) -> Self {
        Self::fresh_member(0, seal, entropy)
    }

    /// Fresh secrets for a new domain, 1 to [`MOST_DOMAINS`].
    pub(crate) fn fresh_domain(domain: u32, entropy: &dyn Entropy) -> Self {
        Self::fresh_member(domain, DataSeal::Split, entropy)
    }

    fn fresh_member(domain: u32, seal: DataSeal, entropy: &dyn Entropy) -> Self {
        let (identity, owner) = (secret(entropy), secret(entropy));
        let letters = Some(PrivateKey::generate(entropy));
        let first = (domain << EPOCH_BITS) + 1;
        let mut ring =
            Self::of(identity, Some(owner), BTreeMap::from([(first, Epoch::fresh(seal, entropy))]));
        ring.member = Some(Member { domain, letters });
        ring
    }

    /// The domain that it is of: 0 for the operator's, and in a repository that is not shared.
    #[must_use]
    pub fn domain(&self) -> u32 {
        self.member.as_ref().map_or(0, |member| member.domain)
    }

    /// Whether the repository is shared: names are sealed in its journal.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.member.is_some()
    }

    /// What keys are sent to it under.
    pub(crate) fn letters(&self) -> Option<&PrivateKey> {
        self.member.as_ref()?.letters.as_ref()
    }

    pub(super) const fn largest_step(&self) -> u32 {
        if self.is_shared() { SMALLEST_RANGE_STEP } else { LARGEST_STEP }
    }

    /// A write-only ring of the operator's does not open what the domains sent.
    pub(super) fn without_operator(mut self) -> Self {
        if let Some(Member { domain: 0, letters }) = &mut self.member {
            *letters = None;
        }
        self
    }

    /// The journal's keys, for a domain. `None` from a ring that has no masters of the operator's.
    pub(crate) fn journal(&self) -> Option<Self> {
        if !self.is_shared() || self.domain() != 0 {
            return None;
        }
        if self.grants() == Grants::Journal {
            return Some(self.clone());
        }
        let held = self.read();
        let key = |epoch: &Epoch| Epoch {
            master: derive(JOURNAL_CONTEXT, &epoch.master, &[]),
            data: DataKey::Journal,
        };
        let epochs = held.epochs.iter().map(|(number, epoch)| (*number, key(epoch))).collect();
        let sealing = held.sealing;
        drop(held);
        let ring = self.bare(epochs);
        ring.settle(sealing);
        Some(ring)
    }

    /// What the operator needs of a domain to sweep and to check. `None` where there is nothing to give.
    pub(crate) fn structure(&self) -> Option<Self> {
        if self.domain() == 0 {
            return None;
        }
        let held = self.read();
        let mut epochs = BTreeMap::new();
        for (number, epoch) in &held.epochs {
            let DataKey::Private(key) = &epoch.data else { return None };
            epochs
                .insert(*number, Epoch { master: epoch.master.clone(), data: DataKey::Public(key.public()) });
        }
        drop(held);
        Some(self.bare(epochs))
    }

    /// A ring of these epochs without any other secret.
    fn bare(&self, epochs: BTreeMap<u32, Epoch>) -> Self {
        let mut ring = Self::of(Zeroizing::new([0; 32]), None, epochs);
        ring.member = Some(Member { domain: self.domain(), letters: None });
        ring.cipher = self.cipher;
        ring
    }

    /// What the names of this domain are sealed under in an epoch: neither its master alone opens them (the operator has it)
    /// nor the identity secret alone (whoever once had a key has it).
    pub(crate) fn names(&self, epoch: u32) -> Option<Secret> {
        if *self.identity == [0; 32] || !self.is_shared() {
            return None;
        }
        let held = self.read();
        let master = &held.epochs.get(&epoch)?.master;
        Some(derive(NAMES_CONTEXT, master, &*self.identity))
    }

    /// Takes in the structure keys of another domain: they open and never seal by themselves.
    pub(crate) fn learn(&self, structure: &Self) {
        if structure.domain() == self.domain() {
            return;
        }
        let epochs = structure.read().epochs.clone();
        self.write().foreign.extend(epochs);
    }

    /// Whether an epoch is one of another domain, learned from it.
    pub(crate) fn is_foreign(&self, epoch: u32) -> bool {
        let held = self.read();
        !held.epochs.contains_key(&epoch) && held.foreign.contains_key(&epoch)
    }

    /// The keys that seal a footer of a pack: those of its own domain.
    pub(crate) fn sealing_for(&self, epoch: u32) -> (u32, Secret) {
        match self.master(epoch).filter(|_| self.is_foreign(epoch)) {
            Some(master) => (epoch, master),
            None => self.sealing(),
        }
    }

    /// The public key that is the address of [`Self::letters`].
    pub(crate) fn address(&self) -> Option<PublicKey> {
        self.letters().map(PrivateKey::public)
    }
}

#[cfg(test)]
mod tests;
