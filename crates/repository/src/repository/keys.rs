//! The ways to unlock a repository: adding, listing, removing.
//!
//! The journal's fold says which slots there are; an object `keys/…` that no record names is the leftover of an
//! interrupted command. So the last slot is never removed, whoever races: the second remover's record is
//! refused.

use super::Repository;
use crate::errors::{JournalError, KeysError};
use crate::fold::RuleError;
use crate::keys::{KeySlot, PassphraseCost, Unlock};
use crate::layout::ObjectName;
use crate::record::{Event, KeyAdded, KeyRemoved};
use crate::store::StoreError;

impl Repository {
    /// Adds a way to unlock the repository.
    ///
    /// # Errors
    /// When the slot or its record cannot be written.
    pub async fn add_key(
        &self,
        unlock: &Unlock,
        label: &str,
        cost: PassphraseCost,
    ) -> Result<KeySlot, KeysError> {
        self.journal().may_append()?;
        let context = &self.inner.context;
        let now = self.inner.world.clock.now();
        let (repository, keyring, entropy) = (self.id(), context.keyring.clone(), context.entropy.clone());
        let (unlock, label) = (unlock.clone(), label.to_owned());
        let made = crate::off_thread::run(move || {
            KeySlot::wrap(repository, &keyring, &unlock, &label, now, cost, &*entropy)
        });
        let slot = made.await.expect("wrapping a key does not panic");
        let slot = slot.map_err(|cause| KeysError::Key { slot: "new".to_owned(), cause })?;
        let id = slot.id();
        let body = slot.encode();
        let hash = *blake3::hash(&body).as_bytes();
        create_owned(self.store().as_ref(), &ObjectName::key_slot(id), body)
            .await
            .map_err(|cause| KeysError::Store { slot: hex::encode(id), cause })?;
        let added = KeyAdded { slot: id, kind: slot.kind().as_str().to_owned(), hash };
        self.journal().say(Event::KeyAdded(added)).await?;
        Ok(slot)
    }

    /// The key slots.
    ///
    /// # Errors
    /// When the store fails or a slot is malformed.
    pub async fn list_keys(&self) -> Result<Vec<KeySlot>, KeysError> {
        let fold = self.fold().await?;
        let mut slots = Vec::new();
        for id in fold.keys.keys() {
            let slot = || hex::encode(id);
            let bytes = self.journal().get(&ObjectName::key_slot(*id)).await;
            let bytes = bytes.map_err(|cause| KeysError::Store { slot: slot(), cause })?;
            slots.push(KeySlot::parse(*id, &bytes).map_err(|cause| KeysError::Key { slot: slot(), cause })?);
        }
        Ok(slots)
    }

    /// Removes a key slot; never the last. Who has the key and a copy of the slot can still open old copies of
    /// the repository.
    ///
    /// # Errors
    /// When there is no such slot, it is the last, or the journal or the store fails.
    pub async fn remove_key(&self, slot: [u8; 8]) -> Result<(), KeysError> {
        let text = hex::encode(slot);
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
