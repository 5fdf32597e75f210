//! Key domains: tenants who share a repository and see neither data nor equality of each other.
//!
//! Adding one draws all its secrets and gives them to its first key alone. Two slots go both ways: the operator's for the domain
//! (the journal's keys, sealed to the domain's letters) and the domain's for the operator (its structure, sealed to the
//! operator's). A rotation of either side renews the slot that is its own like any other.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_model::VolumeName;

use super::{Repository, Rotated, Rotation};
use crate::errors::{DomainError, KeysError};
use crate::fold::{Fold, SealedPoint};
use crate::journal::Attempt;
use crate::journal::state;
use crate::keys::{Grants, KeyError, KeySlot, Keyring, MOST_DOMAINS, NewKey, PassphraseCost};
use crate::keys::{Recipient, RecipientKey, Unlock};
use crate::layout::ObjectName;
use crate::names;
use crate::record::{DomainAdded, Event, Forgotten, STRUCTURE_ONLY};

/// In which domain this machine backed up a volume; beside the repository's state folders.
const VOLUMES_FILE: &str = "volumes-of-domains.json";

/// A domain as this key sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its number; 0 is the operator.
    pub number: u32,
    /// What the operator calls it; only the operator knows.
    pub name: Option<String>,
    /// Whether it is the one of the key in use.
    pub own: bool,
    /// When it was added.
    pub added_at: Option<jiff::Timestamp>,
    /// How many points it has.
    pub points: u64,
    /// When its newest point was published.
    pub newest: Option<jiff::Timestamp>,
}

impl Repository {
    /// The domain of the key in use: 0 is the operator, and everybody where the repository is not shared.
    #[must_use]
    pub fn domain(&self) -> u32 {
        self.inner.context.keyring.domain()
    }

    /// Whether key domains can share it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.inner.context.keyring.is_shared()
    }

    /// Whether this key's holder sweeps: in a shared repository the operator alone.
    #[must_use]
    pub fn sweeps(&self) -> bool {
        self.domain() == 0
    }

    /// A text of the journal, such as the agent of a session: opened where this key may read it.
    #[must_use]
    pub fn unveil(&self, text: &str) -> String {
        self.journal().unveil(text)
    }

    /// Shares the repository with one more domain, whose first keys are these. Answers its number and their slots.
    ///
    /// # Errors
    /// When this is not the operator's key, the repository is not shared, the name is in use, or the store or the journal fails.
    pub async fn add_domain(
        &self,
        name: &str,
        keys: &[(NewKey, String)],
        cost: PassphraseCost,
    ) -> Result<(u32, Vec<KeySlot>), DomainError> {
        self.may_operate()?;
        let fold = self.fold().await?;
        if self.domains_in(&fold).iter().any(|domain| domain.name.as_deref() == Some(name)) {
            return Err(DomainError::NameTaken { name: name.to_owned() });
        }
        let number = fold.domains.last_key_value().map_or(1, |(last, _)| last + 1);
        if number > MOST_DOMAINS {
            return Err(DomainError::TooMany);
        }
        let made = self.make_domain(number, keys, cost).await?;
        let (epoch, (journal, own)) =
            (made.epoch, made.slots.split_first().expect("the journal's comes first"));
        let event = Event::DomainAdded(DomainAdded {
            domain: number,
            epoch,
            journal: self.store_slot(journal, None).await?,
            added: {
                let mut added = Vec::new();
                for slot in own {
                    added.push(self.store_slot(slot, Some(number)).await?);
                }
                added
            },
            name: {
                let context = &self.inner.context;
                names::seal_domain_name(&context.keyring, self.id(), number, name, &*context.entropy)
                    .map_err(|_| DomainError::NameTooLong)?
            },
        });
        loop {
            let now = self.fold().await?;
            if now.domains != fold.domains || now.keys != fold.keys {
                self.delete_slots(made.slots.iter().map(KeySlot::id)).await;
                return Err(KeysError::Raced.into());
            }
            if let Attempt::In(_) = self.journal().attempt(now, event.clone()).await? {
                return Ok((number, own[1..].to_vec()));
            }
        }
    }

    async fn make_domain(
        &self,
        number: u32,
        keys: &[(NewKey, String)],
        cost: PassphraseCost,
    ) -> Result<MadeDomain, DomainError> {
        let context = &self.inner.context;
        let (operator, entropy) = (context.keyring.clone(), context.entropy.clone());
        let (repository, now, keys) = (self.id(), self.inner.world.clock.now(), keys.to_vec());
        let made = crate::off_thread::run(move || -> Result<MadeDomain, KeyError> {
            let ring = Keyring::fresh_domain(number, &*entropy);
            let to = |ring: &Keyring| ring.address().map(Recipient::of).map(NewKey::Recipient);
            let make = |ring: &Keyring, key: &NewKey, grants, label: &str| {
                KeySlot::make(repository, ring, key, grants, label, now, cost, &*entropy)
            };
            let domain = to(&ring).ok_or(KeyError::NotOwner)?;
            let to_operator = to(&operator).ok_or(KeyError::NotOwner)?;
            let mut slots = vec![
                make(&operator, &domain, Grants::Journal, &journal_label(number))?,
                make(&ring, &to_operator, Grants::Structure, "structure for the operator")?,
            ];
            for (key, label) in &keys {
                slots.push(make(&ring, key, Grants::Everything, label)?);
            }
            Ok(MadeDomain { epoch: ring.newest_epoch(), slots })
        });
        let made = made.await.expect("making a slot does not panic");
        Ok(made.map_err(|cause| KeysError::Key { slot: "new".to_owned(), cause })?)
    }

    fn may_operate(&self) -> Result<(), DomainError> {
        if !self.is_shared() {
            return Err(DomainError::NotShared);
        }
        if self.domain() != 0 || self.grants() != Grants::Everything {
            return Err(DomainError::NotOperator { domain: self.domain() });
        }
        Ok(())
    }

    /// The domains that share the repository.
    ///
    /// # Errors
    /// When the repository is not shared, or the journal fails.
    pub async fn list_domains(&self) -> Result<Vec<Domain>, DomainError> {
        if !self.is_shared() {
            return Err(DomainError::NotShared);
        }
        Ok(self.domains_in(&*self.fold().await?))
    }

    fn domains_in(&self, fold: &Fold) -> Vec<Domain> {
        let mut of: BTreeMap<u32, (u64, Option<jiff::Timestamp>)> = BTreeMap::new();
        for point in fold.sealed.values() {
            let (points, newest) = of.entry(point.domain).or_default();
            *points += 1;
            *newest = (*newest).max(Some(point.at));
        }
        let ring = &self.inner.context.keyring;
        let mut domains = Vec::new();
        for number in std::iter::once(0).chain(fold.domains.keys().copied()) {
            let state = fold.domains.get(&number);
            let (points, newest) = of.remove(&number).unwrap_or_default();
            let name = state.and_then(|state| names::open_domain_name(ring, self.id(), number, &state.name));
            let own = number == ring.domain();
            let added_at = state.map(|state| state.added_at);
            domains.push(Domain { number, name, own, added_at, points, newest });
        }
        domains
    }

    /// Whether a domain shares the repository.
    ///
    /// # Errors
    /// [`DomainError::Unknown`], or when the repository is not shared or the journal fails.
    pub async fn find_domain(&self, asked: &str) -> Result<Domain, DomainError> {
        let domains = self.list_domains().await?;
        let is_meant =
            |domain: &&Domain| domain.name.as_deref() == Some(asked) || asked.parse() == Ok(domain.number);
        let found = domains.iter().find(is_meant).cloned();
        found.ok_or_else(|| DomainError::Unknown { asked: asked.to_owned() })
    }

    /// Takes the journal away from a domain: a rotation that leaves it out. Its points stay, and can be read with its keys and a copy
    /// of the journal as it was.
    ///
    /// # Errors
    /// When this is not the operator's key, there is no such domain, it is closed already, or the rotation fails.
    pub async fn close_domain(&self, domain: u32, leave_behind: bool) -> Result<Rotated, DomainError> {
        self.may_operate()?;
        self.find_domain(&domain.to_string()).await?;
        let label = journal_label(domain);
        let slots = self.list_keys().await?;
        let its = slots.iter().filter(|slot| slot.grants() == Grants::Journal && slot.label() == label);
        let remove: BTreeSet<[u8; 8]> = its.map(KeySlot::id).collect();
        if domain == 0 || remove.is_empty() {
            return Err(DomainError::Unknown { asked: format!("{domain} (closed)") });
        }
        Ok(self.rotate_keys(Rotation { remove, leave_behind, ..Rotation::default() }).await?)
    }

    /// Forgets every point of a domain that is not held, by their ids: their names stay sealed. Answers how many.
    ///
    /// # Errors
    /// When this is neither the operator's key nor the domain's, or the journal fails.
    pub async fn forget_domain(&self, domain: u32, reason: &str) -> Result<u64, DomainError> {
        if self.domain() != domain {
            self.may_operate()?;
        }
        let fold = self.fold().await?;
        let of = |point: &&SealedPoint| point.domain == domain && point.held.is_empty();
        let mut forgotten = 0;
        for point in fold.sealed.values().filter(of) {
            let event = Event::Forgotten(Forgotten { point: point.id, reason: reason.to_owned() });
            let may_go = |fold: &Fold| fold.sealed.get(&point.id).is_some_and(|point| point.held.is_empty());
            let said = self.journal().append(|fold| may_go(fold).then(|| event.clone())).await?;
            forgotten += u64::from(said.is_some());
        }
        Ok(forgotten)
    }

    /// Takes in the structure keys of every domain, so that its maps and tables of packs can be read. Nothing is to be done where
    /// the repository has no domains.
    ///
    /// # Errors
    /// When this is not the operator's key, or a domain's structure cannot be had: what it needs would not be known.
    pub(crate) async fn learn_domains(&self) -> Result<(), DomainError> {
        let fold = self.fold().await?;
        if fold.domains.is_empty() {
            return Ok(());
        }
        let ring = &self.inner.context.keyring;
        let letters = ring.letters().filter(|_| ring.domain() == 0);
        let letters = letters.ok_or(DomainError::NotOperator { domain: self.domain() })?.clone();
        let unlock = Unlock::Recipient(RecipientKey::of(letters));
        let unknown = fold.domains.iter().filter(|(_, state)| ring.master(state.epoch).is_none());
        for (domain, state) in unknown {
            let slots = fold.keys.iter().filter(|(_, key)| key.domain == Some(*domain));
            for (id, key) in slots.filter(|(_, key)| key.kind.ends_with(STRUCTURE_ONLY)) {
                let Ok(bytes) = self.journal().get(&ObjectName::key_slot(*id)).await else { continue };
                // What stands in the journal is the domain's; an object of the same name need not be.
                if *blake3::hash(&bytes).as_bytes() != key.hash {
                    continue;
                }
                let opened = KeySlot::parse(*id, &bytes).and_then(|slot| slot.open(self.id(), &unlock));
                if let Ok(structure) = opened.map_err(|cause| warn(*domain, &cause))
                    && structure.domain() == *domain
                {
                    ring.learn(&structure);
                }
            }
            if ring.master(state.epoch).is_none() {
                return Err(DomainError::NoStructure { domain: *domain });
            }
        }
        Ok(())
    }

    /// Notes that this machine backs a volume up in the domain of its key. `origin` says which volume it is, whatever it is called.
    ///
    /// # Errors
    /// [`DomainError::Moved`] when it was another domain before: its older points would be left to the other key.
    pub fn assign_volume(&self, volume: &VolumeName, origin: &str) -> Result<(), DomainError> {
        let folder = self.journal().state.as_ref().and_then(|state| state.path().parent());
        let (true, Some(folder)) = (self.is_shared(), folder) else { return Ok(()) };
        let path = folder.join(format!("{}-{VOLUMES_FILE}", self.id()));
        let mut volumes: BTreeMap<String, u32> = state::read_json(&path)?.unwrap_or_default();
        match volumes.insert(origin.to_owned(), self.domain()) {
            Some(before) if before == self.domain() => Ok(()),
            Some(before) => Err(DomainError::Moved {
                volume: volume.clone(),
                from: before,
                to: self.domain(),
                note: path.display().to_string(),
            }),
            None => Ok(state::write_json(&path, &volumes)?),
        }
    }
}

/// What the slot is called that gives a domain the journal: how the operator finds it again.
fn journal_label(domain: u32) -> String {
    format!("journal of domain {domain}")
}

/// The slots of a domain that is about to be added: the journal's, the operator's, then its keys'.
struct MadeDomain {
    epoch: u32,
    slots: Vec<KeySlot>,
}

fn warn(domain: u32, cause: &KeyError) {
    tracing::warn!(
        domain,
        cause = strongroom_model::chain(cause),
        "the structure of a domain cannot be opened"
    );
}

#[cfg(test)]
mod tests;
