//! The ways to unlock a repository: adding, listing, removing.
//!
//! The journal's fold says which slots there are; an object `keys/…` that no record names is the leftover of an
//! interrupted command. So the last slot is never removed, whoever races: the second remover's record is
//! refused.

use super::Repository;
use crate::errors::{JournalError, KeysError};
use crate::fold::RuleError;
use crate::keys::{Grants, KeyError, KeySlot, NewKey, PassphraseCost, Unlock};
use crate::layout::ObjectName;
use crate::record::{Event, KeyAdded, KeyRemoved};
use crate::seal::SealError;
use crate::store::StoreError;

impl Repository {
    /// Adds a key file, passphrase or private key that opens everything.
    ///
    /// # Errors
    /// As [`Self::add_slot`].
    pub async fn add_key(
        &self,
        unlock: &Unlock,
        label: &str,
        cost: PassphraseCost,
    ) -> Result<KeySlot, KeysError> {
        self.add_slot(&NewKey::Holder(unlock.clone()), Grants::Everything, label, cost).await
    }

    /// Adds a way to unlock the repository.
    ///
    /// # Errors
    /// When this key does not grant everything, or the slot or its record cannot be written.
    pub async fn add_slot(
        &self,
        key: &NewKey,
        grants: Grants,
        label: &str,
        cost: PassphraseCost,
    ) -> Result<KeySlot, KeysError> {
        self.journal().may_append()?;
        let context = &self.inner.context;
        let now = self.inner.world.clock.now();
        // The epoch that seals may have changed since the repository was opened.
        self.fold().await?;
        let (repository, keyring, entropy) = (self.id(), context.keyring.clone(), context.entropy.clone());
        let (key, label) = (key.clone(), label.to_owned());
        let made = crate::off_thread::run(move || match &key {
            // A ring of the first version has no owner secret; its slots are as they always were.
            NewKey::Holder(unlock @ (Unlock::KeyFile(_) | Unlock::Passphrase(_)))
                if keyring.owner().is_none() && grants == keyring.grants() =>
            {
                KeySlot::wrap(repository, &keyring, unlock, &label, now, cost, &*entropy)
            }
            key => KeySlot::make(repository, &keyring, key, grants, &label, now, cost, &*entropy),
        });
        let slot = made.await.expect("making a slot does not panic");
        let slot = slot.map_err(|cause| KeysError::Key { slot: "new".to_owned(), cause })?;
        let added = self.store_slot(&slot, self.slots_of()).await?;
        self.journal().say(Event::KeyAdded(added)).await?;
        Ok(slot)
    }

    /// Writes the object of a slot; the record that makes it count comes after.
    pub(super) async fn store_slot(
        &self,
        slot: &KeySlot,
        domain: Option<u32>,
    ) -> Result<KeyAdded, KeysError> {
        let (id, body) = (slot.id(), slot.encode());
        let hash = *blake3::hash(&body).as_bytes();
        create_owned(self.store().as_ref(), &ObjectName::key_slot(id), body)
            .await
            .map_err(|cause| KeysError::Store { slot: hex::encode(id), cause })?;
        Ok(KeyAdded { slot: id, kind: slot.kind_in_journal(), hash, domain })
    }

    /// Whether this key opens what a check has to look at: with `read_data` all data, without it what describes the data.
    /// What cannot be opened would else be taken for damage.
    ///
    /// # Errors
    /// [`KeyError::NotOwner`], or when the journal cannot be read.
    pub async fn may_check(&self, read_data: bool) -> Result<(), KeysError> {
        let refused = Err(KeysError::Key { slot: "in use".to_owned(), cause: KeyError::NotOwner });
        if self.grants() == Grants::Everything {
            return Ok(());
        }
        if read_data {
            return refused;
        }
        // Where write-only keys were switched on later, this key opens nothing that is older: not even the first record.
        match self.journal().fetch(1).await {
            Err(JournalError::Sealed { cause: SealError::UnknownEpoch { .. }, .. }) => refused,
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// In whose name slots are recorded: `None` is the operator, and everybody where the repository is not shared.
    pub(super) fn slots_of(&self) -> Option<u32> {
        Some(self.domain()).filter(|domain| *domain != 0)
    }

    /// The epoch that seals now: a slot that holds it is up to date.
    #[must_use]
    pub fn sealing_epoch(&self) -> u32 {
        self.inner.context.keyring.sealing().0
    }

    /// The key slots; in a shared repository those of this key's domain.
    ///
    /// # Errors
    /// When the store fails or a slot is malformed.
    pub async fn list_keys(&self) -> Result<Vec<KeySlot>, KeysError> {
        let fold = self.fold().await?;
        let mut slots = Vec::new();
        for (id, _) in fold.keys.iter().filter(|(_, key)| key.domain == self.slots_of()) {
            let slot = || hex::encode(id);
            let bytes = self.journal().get(&ObjectName::key_slot(*id)).await;
            let bytes = bytes.map_err(|cause| KeysError::Store { slot: slot(), cause })?;
            slots.push(KeySlot::parse(*id, &bytes).map_err(|cause| KeysError::Key { slot: slot(), cause })?);
        }
        Ok(slots)
    }

    /// Removes a key slot; never the last that grants everything. Who has the key and a copy of the slot can still open old copies of
    /// the repository.
    ///
    /// # Errors
    /// When there is no such slot, it is the last, or the journal or the store fails.
    pub async fn remove_key(&self, slot: [u8; 8]) -> Result<(), KeysError> {
        let text = hex::encode(slot);
        let is_ours = |key: &crate::fold::KeyState| key.domain == self.slots_of();
        if !self.fold().await?.keys.get(&slot).is_some_and(is_ours) {
            return Err(KeysError::NoSuchSlot { slot: text });
        }
        let removed = self.journal().say(Event::KeyRemoved(KeyRemoved { slot })).await;
        match removed {
            Err(JournalError::Refused { cause: RuleError::KeyNotRemovable(_), .. }) => {
                let last = self.known_fold().keys.contains_key(&slot);
                return Err(if last {
                    KeysError::Last { slot: text }
                } else {
                    KeysError::NoSuchSlot { slot: text }
                });
            }
            other => drop(other?),
        }
        match self.store().delete(&ObjectName::key_slot(slot)).await {
            Ok(_) => Ok(()),
            Err(cause) => Err(KeysError::Store { slot: text, cause }),
        }
    }
}

/// "412" does not mean "I lost": the object is read back, and ours when it has our bytes.
pub(crate) async fn create_owned(
    store: &dyn crate::store::ObjectStore,
    name: &ObjectName,
    body: bytes::Bytes,
) -> Result<(), StoreError> {
    let Err(cause) = store.create(name, body.clone()).await else { return Ok(()) };
    match store.get(name).await {
        Ok(found) if found == body => Ok(()),
        _ => Err(cause),
    }
}
