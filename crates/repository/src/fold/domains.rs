//! What the fold knows of key domains.
//!
//! Everybody who shares the repository folds the same journal and comes to the same state: what points there are, which map
//! each has, and whose it is. Only who has a domain's key can [reveal](Fold::reveal) its points: what they are of, and when.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_model::{PackId, RecoveryPointId, RepositoryId};

use super::{Fold, RuleError};
use crate::keys::{Keyring, MOST_DOMAINS, domain_of};
use crate::map::MapRoot;
use crate::names;
use crate::point::Point;
use crate::record::{
    DomainAdded, DomainRotated, KeyAdded, NewPack, Published, PublishedInDomain, Record, STRUCTURE_ONLY,
};

/// A domain of a shared repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainState {
    /// The epoch that seals in it.
    pub epoch: u32,
    /// What the operator calls it, sealed for the operator.
    pub name: Bytes,
    /// When it was added, by the adder's clock.
    pub added_at: Timestamp,
}

/// A current point as everybody may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPoint {
    /// Its id.
    pub id: RecoveryPointId,
    /// Whose it is; 0 is the operator.
    pub domain: u32,
    /// Where its map begins.
    pub map: MapRoot,
    /// The record that published it.
    pub number: u64,
    /// Its holds, veiled.
    pub held: BTreeSet<String>,
    /// When it was published, by the record.
    pub at: Timestamp,
    /// Volume, parent and info, sealed.
    pub names: Bytes,
}

/// What counts of a publish for the rules, of whatever kind it is.
pub(super) struct Publishing<'a> {
    pub(super) session: u64,
    pub(super) point: RecoveryPointId,
    pub(super) map: MapRoot,
    pub(super) packs: &'a [NewPack],
    pub(super) revives: &'a BTreeSet<PackId>,
    pub(super) last: bool,
}

impl<'a> From<&'a Box<Published>> for Publishing<'a> {
    fn from(published: &'a Box<Published>) -> Self {
        Self::from(&**published)
    }
}

impl<'a> From<&'a Published> for Publishing<'a> {
    fn from(published: &'a Published) -> Self {
        let Published { session, point, map, packs, revives, last, .. } = published;
        Self { session: *session, point: *point, map: *map, packs, revives, last: *last }
    }
}

impl<'a> From<&'a PublishedInDomain> for Publishing<'a> {
    fn from(published: &'a PublishedInDomain) -> Self {
        let PublishedInDomain { session, point, map, packs, revives, last, .. } = published;
        Self { session: *session, point: *point, map: *map, packs, revives, last: *last }
    }
}

impl Fold {
    /// How many points there are that this key does not open.
    #[must_use]
    pub fn foreign_points(&self) -> usize {
        self.sealed.keys().filter(|id| !self.points.contains_key(id)).count()
    }

    /// Puts what `ring` opens of a sealed point among the points.
    pub(crate) fn reveal(&mut self, ring: &Keyring, repository: RepositoryId, id: RecoveryPointId) {
        let Some(sealed) = self.sealed.get(&id).filter(|point| point.domain == ring.domain()) else { return };
        let Some(names) = names::open_names(ring, repository, sealed.domain, id, &sealed.names) else {
            return;
        };
        let held = sealed.held.iter().map(|hold| names::unveil(ring, repository, hold)).collect();
        let point = Point {
            id,
            volume: names.volume,
            map: sealed.map,
            parent: names.parent,
            number: sealed.number,
            held,
            info: names.info,
        };
        self.points.insert(id, point);
    }

    /// [`Self::reveal`], of all points.
    pub(crate) fn reveal_all(&mut self, ring: &Keyring, repository: RepositoryId) {
        let own = self.sealed.values().filter(|point| point.domain == ring.domain());
        let ids: Vec<_> = own.map(|point| point.id).collect();
        for id in ids {
            self.reveal(ring, repository, id);
        }
    }

    pub(super) fn permits_sealed(&self, published: &PublishedInDomain) -> Result<(), RuleError> {
        let domain = published.domain;
        let epoch = names::epoch_of(&published.names);
        let fits = match self.domains.get(&domain) {
            _ if domain == 0 => epoch.is_some_and(|epoch| domain_of(epoch) == 0),
            Some(state) => epoch == Some(state.epoch),
            None => return Err(RuleError::NoSuchDomain(domain)),
        };
        if !fits {
            return Err(RuleError::NotTheDomainsKeys(domain));
        }
        self.permits_publish(&published.into())
    }

    pub(super) fn permits_domain(&self, added: &DomainAdded) -> Result<(), RuleError> {
        let DomainAdded { domain, epoch, added, journal, .. } = added;
        let is_new = (1..=MOST_DOMAINS).contains(domain) && !self.domains.contains_key(domain);
        if !is_new || domain_of(*epoch) != *domain || journal.domain.is_some() {
            return Err(RuleError::DomainNotNew(*domain));
        }
        let is_twice = self.keys.contains_key(&journal.slot) || added.iter().any(|a| a.slot == journal.slot);
        if is_twice {
            return Err(RuleError::KeyTwice(hex::encode(journal.slot)));
        }
        if !added.iter().any(|slot| slot.kind.ends_with(STRUCTURE_ONLY)) {
            return Err(RuleError::DomainNotNew(*domain));
        }
        self.permits_new_slots(Some(*domain), added, &BTreeSet::new())
    }

    pub(super) fn permits_domain_rotated(&self, rotated: &DomainRotated) -> Result<(), RuleError> {
        let DomainRotated { domain, epoch, added, removed } = rotated;
        let state = self.domains.get(domain).ok_or(RuleError::NoSuchDomain(*domain))?;
        if domain_of(*epoch) != *domain || *epoch <= state.epoch {
            return Err(RuleError::NotTheDomainsKeys(*domain));
        }
        self.permits_new_slots(Some(*domain), added, removed)
    }

    pub(super) fn enact_sealed(&mut self, record: &Record, published: &PublishedInDomain) {
        let point = SealedPoint {
            id: published.point,
            domain: published.domain,
            map: published.map,
            number: record.number,
            held: BTreeSet::new(),
            at: record.time,
            names: published.names.clone(),
        };
        self.sealed.insert(point.id, point);
        self.enact_packs(&published.into());
    }

    pub(super) fn enact_domain(&mut self, added: &DomainAdded, at: Timestamp) {
        let state = DomainState { epoch: added.epoch, name: added.name.clone(), added_at: at };
        self.domains.insert(added.domain, state);
        self.exchange_keys(&added.added, &BTreeSet::new(), at);
        self.add_key(&added.journal, at);
    }

    pub(super) fn enact_domain_rotated(&mut self, rotated: &DomainRotated, at: Timestamp) {
        if let Some(state) = self.domains.get_mut(&rotated.domain) {
            state.epoch = rotated.epoch;
        }
        self.exchange_keys(&rotated.added, &rotated.removed, at);
    }

    pub(super) fn exchange_keys(&mut self, added: &[KeyAdded], removed: &BTreeSet<[u8; 8]>, at: Timestamp) {
        self.keys.retain(|slot, _| !removed.contains(slot));
        for added in added {
            self.add_key(added, at);
        }
    }
}
