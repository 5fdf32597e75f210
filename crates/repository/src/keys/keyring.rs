//! The repository's secrets, and which of them seals.
//!
//! * The *identity secret* makes the ids of chunks. It stands apart from the epochs because ids must not change when
//!   the master key does: a rotation that forgot every stored chunk would cost a full upload of everything.
//! * Each *epoch* has a master key. It seals what describes data (journal, checkpoints, index, maps, tables of packs); in
//!   an *open* epoch the data as well. In a *split* epoch, data is sealed to a public key: whoever holds only that writes
//!   data and cannot read it.
//! * The *owner secret* is what a ring for everything has and a write-only ring lacks: it says which slots may be
//!   given new keys, and lets a slot know that its keys came from an owner.
//!
//! In a *shared* repository (`keyring/domains.rs`) there is a ring for each key domain, and the journal has keys of its own.
//!
//! A ring only grows, and its clones share what they hold: when the keys are rotated while an agent runs, the agent's ring
//! takes the new epoch in and all of its parts seal with it. Which epoch seals is what the journal says, never what a slot
//! says: the slot of a rotation that was interrupted holds an epoch that nobody else knows.

mod domains;
mod stored;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use strongroom_model::Entropy;
use zeroize::Zeroizing;

use crate::seal::agreement::PrivateKey;
use crate::seal::{Cipher, PublicKey};

pub(crate) use domains::{MOST_DOMAINS, domain_of};

/// More rotations than a repository sees in its life.
const MAX_EPOCHS: usize = 1024;

/// Epochs ascend by a random step up to this, so that two rotations that know nothing of each other do not give one
/// number to two keys. A thousand of them stay within 32 bits.
const LARGEST_STEP: u32 = 1 << 20;

/// 32 secret bytes.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// The secrets of a repository. Clones share what they hold.
#[derive(Clone)]
pub struct Keyring {
    /// Zeros in a ring of the journal or of structure alone.
    identity: Secret,
    /// In a shared repository: whose ring it is.
    member: Option<Member>,
    held: Arc<RwLock<Held>>,
    cipher: Cipher,
}

/// What a ring of a shared repository has besides.
#[derive(Clone)]
struct Member {
    /// 0 is the operator's own.
    domain: u32,
    /// Of a domain: what the journal's keys are sealed to. Of the operator: what the domains' structure keys are sealed to.
    letters: Option<PrivateKey>,
}

struct Held {
    owner: Option<Secret>,
    epochs: BTreeMap<u32, Epoch>,
    /// What was learned of other domains. It never seals, and is not written down.
    foreign: BTreeMap<u32, Epoch>,
    /// The epoch that seals.
    sealing: u32,
}

#[derive(Clone)]
struct Epoch {
    master: Secret,
    data: DataKey,
}

/// Under what the entries of data packs are sealed in an epoch.
#[derive(Debug, Clone)]
pub(crate) enum DataKey {
    /// An open epoch: the master key.
    Master,
    /// A split epoch, and this ring reads what is sealed in it.
    Private(PrivateKey),
    /// A split epoch, and this ring can only seal.
    Public(PublicKey),
    /// The key of the journal alone.
    Journal,
}

/// What a key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grants {
    /// Data and what describes it.
    Everything,
    /// What describes data; data only to be written.
    WriteOnly,
    /// In a shared repository: the journal alone, without the names in it.
    Journal,
    /// Maps and tables of packs of one domain, for whoever sweeps: neither data nor names nor chunk ids' key.
    Structure,
}

impl Grants {
    /// As it is written in a slot.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::WriteOnly => "write-only",
            Self::Journal => "journal",
            Self::Structure => "structure",
        }
    }
}

/// How data is sealed in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSeal {
    /// Under the master key: whoever can write can read.
    Open,
    /// To a public key: write-only keys can be given out.
    Split,
}

impl Keyring {
    /// Fresh secrets of version 1: one open epoch, no owner secret.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let identity = secret(entropy);
        let epoch = Epoch { master: secret(entropy), data: DataKey::Master };
        Self::of(identity, None, BTreeMap::from([(1, epoch)]))
    }

    /// Fresh secrets for a new repository.
    pub fn fresh(seal: DataSeal, entropy: &dyn Entropy) -> Self {
        let (identity, owner) = (secret(entropy), secret(entropy));
        Self::of(identity, Some(owner), BTreeMap::from([(1, Epoch::fresh(seal, entropy))]))
    }

    fn of(identity: Secret, owner: Option<Secret>, epochs: BTreeMap<u32, Epoch>) -> Self {
        let sealing = *epochs.last_key_value().expect("a ring has at least one epoch").0;
        let held = Arc::new(RwLock::new(Held { owner, epochs, foreign: BTreeMap::new(), sealing }));
        Self { identity, member: None, held, cipher: Cipher::fastest_here() }
    }

    /// A ring of the same repository and domain with other epochs.
    fn like(&self, owner: Option<Secret>, epochs: BTreeMap<u32, Epoch>) -> Self {
        let mut ring = Self::of(self.identity.clone(), owner, epochs);
        ring.member.clone_from(&self.member);
        ring.cipher = self.cipher;
        ring
    }

    /// The same secrets and a new open epoch, the next number, which seals from now on.
    #[must_use]
    pub fn rotated(&self, entropy: &dyn Entropy) -> Self {
        self.with_epoch(1, Epoch { master: secret(entropy), data: DataKey::Master })
    }

    /// The same secrets and a new epoch that seals from now on; an owner secret, where there is none yet. `None` when this
    /// ring is no owner's, or has as many epochs as a ring may have.
    pub(crate) fn next(&self, seal: DataSeal, entropy: &dyn Entropy) -> Option<Self> {
        if self.grants() != Grants::Everything || self.read().epochs.len() >= MAX_EPOCHS {
            return None;
        }
        // The operator holds the masters of every domain: what they open must not be data.
        let seal = if self.domain() == 0 { seal } else { DataSeal::Split };
        let mut step = [0; 4];
        entropy.fill(&mut step);
        let step = 1 + u32::from_le_bytes(step) % self.largest_step();
        let ring = self.with_epoch(step, Epoch::fresh(seal, entropy));
        ring.write().owner.get_or_insert_with(|| secret(entropy));
        Some(ring)
    }

    fn with_epoch(&self, step: u32, epoch: Epoch) -> Self {
        let newest = self.newest_epoch();
        let (owner, mut epochs) = {
            let held = self.read();
            (held.owner.clone(), held.epochs.clone())
        };
        epochs.insert(newest.saturating_add(step), epoch);
        self.like(owner, epochs)
    }

    /// What a write-only key holds of it: no owner secret, no open epoch (its master reads data), no private key.
    /// `None` when nothing is left that seals.
    pub(crate) fn write_only(&self) -> Option<Self> {
        let held = self.read();
        let mut epochs = BTreeMap::new();
        for (number, epoch) in &held.epochs {
            let public = match &epoch.data {
                DataKey::Master | DataKey::Journal => continue,
                DataKey::Private(key) => key.public(),
                DataKey::Public(key) => *key,
            };
            let epoch = Epoch { master: epoch.master.clone(), data: DataKey::Public(public) };
            epochs.insert(*number, epoch);
        }
        let kept = epochs.contains_key(&held.sealing);
        drop(held);
        kept.then(|| self.like(None, epochs).without_operator())
    }

    /// The same secrets, sealing with `cipher` instead of this machine's fastest: so that test vectors are the same
    /// everywhere. Opening follows what each object says.
    #[must_use]
    pub fn with_cipher(mut self, cipher: Cipher) -> Self {
        self.cipher = cipher;
        self
    }

    /// The newest epoch that it holds. It need not be the one that seals.
    #[must_use]
    pub fn newest_epoch(&self) -> u32 {
        *self.read().epochs.last_key_value().expect("a ring has at least one epoch").0
    }

    /// What it opens.
    #[must_use]
    pub fn grants(&self) -> Grants {
        let held = self.read();
        let any = |is: fn(&DataKey) -> bool| held.epochs.values().any(|epoch| is(&epoch.data));
        if any(|data| matches!(data, DataKey::Journal)) {
            Grants::Journal
        } else if *self.identity == [0; 32] {
            Grants::Structure
        } else if any(|data| matches!(data, DataKey::Public(_))) {
            Grants::WriteOnly
        } else {
            Grants::Everything
        }
    }

    /// How data is sealed now.
    #[must_use]
    pub fn data_seal(&self) -> DataSeal {
        match self.sealing_data().2 {
            None => DataSeal::Open,
            Some(_) => DataSeal::Split,
        }
    }

    pub(crate) const fn cipher(&self) -> Cipher {
        self.cipher
    }

    pub(crate) fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    pub(crate) fn owner(&self) -> Option<Secret> {
        self.read().owner.clone()
    }

    /// The epoch that seals, and its master key.
    pub(crate) fn sealing(&self) -> (u32, Secret) {
        let (epoch, master, _) = self.sealing_data();
        (epoch, master)
    }

    /// The epoch that seals, its master key, and in a split epoch what data is sealed to.
    pub(crate) fn sealing_data(&self) -> (u32, Secret, Option<PublicKey>) {
        let held = self.read();
        let epoch = held.epochs.get(&held.sealing).expect("only an epoch that is held is made to seal");
        let public = match &epoch.data {
            DataKey::Master | DataKey::Journal => None,
            DataKey::Private(key) => Some(key.public()),
            DataKey::Public(key) => Some(*key),
        };
        (held.sealing, epoch.master.clone(), public)
    }

    pub(crate) fn master(&self, epoch: u32) -> Option<Secret> {
        let held = self.read();
        held.epochs.get(&epoch).or_else(|| held.foreign.get(&epoch)).map(|epoch| epoch.master.clone())
    }

    pub(crate) fn data_key(&self, epoch: u32) -> Option<DataKey> {
        let held = self.read();
        held.epochs.get(&epoch).or_else(|| held.foreign.get(&epoch)).map(|epoch| epoch.data.clone())
    }

    /// From now on this epoch seals, if it is held: the journal says so.
    pub(crate) fn settle(&self, epoch: u32) {
        let mut held = self.write();
        if held.epochs.contains_key(&epoch) {
            held.sealing = epoch;
        }
    }

    /// Takes in the epochs of a ring of the same repository. What seals does not change.
    pub(crate) fn adopt(&self, other: &Self) {
        // An owner's ring and a write-only one of the same holder stay apart: what is mixed could not be written down.
        let alike = self.identity == other.identity
            && self.grants() == other.grants()
            && self.domain() == other.domain();
        if !alike || Arc::ptr_eq(&self.held, &other.held) {
            return;
        }
        let (owner, epochs) = {
            let held = other.read();
            (held.owner.clone(), held.epochs.clone())
        };
        let mut held = self.write();
        if held.owner.is_none() {
            held.owner = owner;
        }
        for (number, epoch) in epochs {
            held.epochs.entry(number).or_insert(epoch);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        // Each change is one insertion or assignment, so a poisoned lock still guards a sound ring.
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Epoch {
    fn fresh(seal: DataSeal, entropy: &dyn Entropy) -> Self {
        let master = secret(entropy);
        let data = match seal {
            DataSeal::Open => DataKey::Master,
            DataSeal::Split => DataKey::Private(PrivateKey::generate(entropy)),
        };
        Self { master, data }
    }
}

fn secret(entropy: &dyn Entropy) -> Secret {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(bytes.as_mut());
    bytes
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("epochs", &self.read().epochs.len())
            .field("grants", &self.grants())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
