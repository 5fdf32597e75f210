//! Rotation: a new epoch for all that is sealed from now on.
//!
//! What was sealed before stays readable and as it is. Every slot that an owner approved is replaced by one that holds the
//! new epoch; nobody's passphrase is needed for that (`keys/slot/paired.rs`). The order:
//!
//! 1. The new slots are written, under new ids. A crash leaves objects that no record names: their epoch never seals.
//! 2. One record, the first that is sealed under the new epoch, puts the new slots in the place of the old: the commit.
//!    Whoever reads it without the new keys looks into its slot again, and finds the new one.
//! 3. A checkpoint under the new epoch: older ones are no longer believed.
//! 4. The old slots' objects are deleted. What is left of them opens nothing new.
//!
//! In a shared repository each domain rotates for itself: its record names the domain, and the journal's epoch stays. Only the
//! operator's rotation gives the journal new keys; the slots in which the domains get them are the operator's own.

use std::collections::BTreeSet;

use super::Repository;
use crate::errors::{JournalError, KeysError, LeftBehind};
use crate::fold::Fold;
use crate::journal::Attempt;
use crate::keys::{DataSeal, Grants, KeyError, KeySlot, Keyring, NewKey, PassphraseCost, Unlock};
use crate::layout::ObjectName;
use crate::record::{DomainRotated, Event, KeysRotated};

/// What is asked of a rotation.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    /// How data is sealed from now on; `None`: as it is.
    pub data_seal: Option<DataSeal>,
    /// Slots that do not get the new keys and are removed.
    pub remove: BTreeSet<[u8; 8]>,
    /// Keys of slots of version 1, which only they can renew. The key in use is always one of them.
    pub keys: Vec<Unlock>,
    /// Slots that cannot be renewed stay behind with the old keys: their holders open the repository no more.
    pub leave_behind: bool,
    /// What argon2id costs where a slot of version 1 with a passphrase is renewed.
    pub cost: PassphraseCost,
}

/// What a rotation did.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// The new epoch.
    pub epoch: u32,
    /// The slots that hold it.
    pub slots: Vec<KeySlot>,
    /// The slots that do not, and why.
    pub left_behind: Vec<LeftBehind>,
    /// Objects of old slots that could not be deleted: their holders can still read what was sealed before.
    pub undeleted: Vec<String>,
}

/// What shall be done, before anything is.
struct Plan {
    slots: Vec<KeySlot>,
    replaced: BTreeSet<[u8; 8]>,
    left_behind: Vec<LeftBehind>,
}

impl Repository {
    /// Makes a new epoch that seals from now on, and gives it to every slot that an owner made.
    ///
    /// # Errors
    /// When this key does not grant everything, a slot would be left behind, or the store or the journal fails. Nothing has
    /// changed then, unless [`JournalError::Unclear`] says that it may have.
    pub async fn rotate_keys(&self, rotation: Rotation) -> Result<Rotated, KeysError> {
        let fold = self.fold().await?;
        let context = &self.inner.context;
        let old_epoch = context.keyring.sealing().0;
        let data_seal = rotation.data_seal.unwrap_or_else(|| context.keyring.data_seal());
        let next = context.keyring.next(data_seal, &*context.entropy);
        let next = next.ok_or(KeysError::Key { slot: "new".to_owned(), cause: KeyError::NotOwner })?;
        let plan = self.plan_rotation(&fold, &next, &rotation).await?;
        if !plan.left_behind.is_empty() && !rotation.leave_behind {
            return Err(KeysError::LeftBehind { slots: plan.left_behind });
        }
        let mut added = Vec::new();
        for slot in &plan.slots {
            match self.store_slot(slot, self.slots_of()).await {
                Ok(record) => added.push(record),
                Err(error) => {
                    self.delete_slots(plan.slots.iter().map(KeySlot::id)).await;
                    return Err(error);
                }
            }
        }
        let removed: BTreeSet<_> = plan.replaced.union(&rotation.remove).copied().collect();
        let epoch = next.newest_epoch();
        let event = match self.slots_of() {
            None => Event::KeysRotated(KeysRotated { epoch, added, removed: removed.clone() }),
            Some(domain) => {
                Event::DomainRotated(DomainRotated { domain, epoch, added, removed: removed.clone() })
            }
        };
        self.take_up(&next);
        if let Err(error) = self.commit_rotation(fold.as_ref(), old_epoch, &next, event).await {
            // Where the record may be in, the slots that it names must be there; what is left lying does no harm.
            if is_certain(&error) {
                self.delete_slots(plan.slots.iter().map(KeySlot::id)).await;
            }
            return Err(error);
        }
        self.journal().checkpoint_now().await;
        let undeleted = self.delete_slots(removed.into_iter()).await;
        Ok(Rotated {
            epoch: next.newest_epoch(),
            slots: plan.slots,
            left_behind: plan.left_behind,
            undeleted,
        })
    }

    /// Holds a new epoch, which does not seal before the journal says so.
    fn take_up(&self, next: &Keyring) {
        self.inner.context.keyring.adopt(next);
        if let Some(journal) = next.journal() {
            self.journal().keyring.adopt(&journal);
        }
    }

    async fn plan_rotation(
        &self,
        fold: &Fold,
        next: &Keyring,
        rotation: &Rotation,
    ) -> Result<Plan, KeysError> {
        let own = self.slots_of();
        let is_ours = |slot: &[u8; 8]| fold.keys.get(slot).is_some_and(|key| key.domain == own);
        if let Some(slot) = rotation.remove.iter().find(|slot| !is_ours(slot)) {
            return Err(KeysError::NoSuchSlot { slot: hex::encode(slot) });
        }
        let (repository, ring) = (self.id(), &self.inner.context.keyring);
        let mut plan = Plan { slots: Vec::new(), replaced: BTreeSet::new(), left_behind: Vec::new() };
        let slots = fold.keys.iter().filter(|(_, key)| key.domain == own);
        for (id, state) in slots.filter(|(id, _)| !rotation.remove.contains(*id)) {
            let mut leave = |label: &str, why| {
                plan.left_behind.push(LeftBehind { slot: hex::encode(id), label: label.to_owned(), why });
            };
            let Ok(bytes) = self.journal().get(&ObjectName::key_slot(*id)).await else {
                leave("", "its object is missing");
                continue;
            };
            if *blake3::hash(&bytes).as_bytes() != state.hash {
                leave("", "its object was changed");
                continue;
            }
            let Ok(slot) = KeySlot::parse(*id, &bytes) else {
                leave("", "it cannot be read");
                continue;
            };
            if slot.epoch().is_none() {
                match self.upgrade(&slot, next, rotation).await {
                    Some(upgraded) => {
                        plan.slots.push(upgraded);
                        plan.replaced.insert(*id);
                    }
                    None => leave(slot.label(), "it is of the first version, and its key was not given"),
                }
            } else if !slot.is_approved(repository, ring) {
                leave(slot.label(), "no owner made it since the last rotation");
            } else {
                match slot.renewed(repository, next, &*self.inner.context.entropy) {
                    Some(renewed) => {
                        plan.slots.push(renewed);
                        plan.replaced.insert(*id);
                    }
                    None => leave(slot.label(), "it is write-only, and write-only keys are switched off"),
                }
            }
        }
        if plan.slots.iter().any(|slot| slot.grants() == Grants::Everything) {
            return Ok(plan);
        }
        let slot = rotation.remove.first().map_or_else(|| "of this key".to_owned(), hex::encode);
        Err(KeysError::Last { slot })
    }

    /// A slot of version 1 in its new form, where one of the keys at hand opens it.
    async fn upgrade(&self, slot: &KeySlot, next: &Keyring, rotation: &Rotation) -> Option<KeySlot> {
        let own = self.journal().renewal.as_ref().map(|renewal| renewal.unlock().clone());
        let keys: Vec<Unlock> = own.into_iter().chain(rotation.keys.iter().cloned()).collect();
        let (repository, slot, next, cost) = (self.id(), slot.clone(), next.clone(), rotation.cost);
        let entropy = self.inner.context.entropy.clone();
        let upgraded = crate::off_thread::run(move || {
            let key = keys.into_iter().find(|key| slot.open(repository, key).is_ok())?;
            let (label, created_at, key) = (slot.label(), slot.created_at(), NewKey::Holder(key));
            KeySlot::make(repository, &next, &key, Grants::Everything, label, created_at, cost, &*entropy)
                .ok()
        });
        upgraded.await.expect("opening and making a slot do not panic")
    }

    /// Appends the record, on a fold whose slots are those that were planned for.
    async fn commit_rotation(
        &self,
        planned: &Fold,
        old_epoch: u32,
        next: &Keyring,
        event: Event,
    ) -> Result<(), KeysError> {
        // Only the operator's rotation is a new epoch of the journal.
        let sealing = match self.slots_of() {
            None => next.journal().unwrap_or_else(|| next.clone()),
            Some(_) => (*self.journal().keyring).clone(),
        };
        loop {
            let fold = self.fold().await?;
            if fold.keys != planned.keys || self.sealing_epoch() != old_epoch {
                return Err(KeysError::Raced);
            }
            match self.journal().attempt_with(&sealing, fold, event.clone()).await? {
                Attempt::In(_) => return Ok(()),
                // Whoever was faster said something else than the keys, or the look above ends it.
                Attempt::Lost => {}
            }
        }
    }

    /// Deletes objects of slots, and says which are left.
    pub(super) async fn delete_slots(&self, slots: impl Iterator<Item = [u8; 8]>) -> Vec<String> {
        let mut left = Vec::new();
        for slot in slots {
            let name = ObjectName::key_slot(slot);
            if let Err(error) = self.store().delete(&name).await {
                let cause = strongroom_model::chain(&error);
                tracing::warn!(object = %name, cause, "the object of a key slot was not deleted");
                left.push(name.to_string());
            }
        }
        left
    }
}

/// Whether the record is certainly not in the journal.
const fn is_certain(error: &KeysError) -> bool {
    matches!(
        error,
        KeysError::Raced
            | KeysError::Journal(
                JournalError::Refused { .. }
                    | JournalError::OnlyReader { .. }
                    | JournalError::NeedsState
                    | JournalError::TooSoon { .. }
            )
    )
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod write_only;
