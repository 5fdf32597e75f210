//! What the journal of a shared repository says of key domains.

use std::collections::BTreeSet;

use bytes::Bytes;
use strongroom_model::RecoveryPointId;

use super::{KeyAdded, NewPack};
use crate::cbor::cbor_map;
use crate::map::MapRoot;
use strongroom_model::PackId;

/// The repository is shared with one more domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainAdded {
    /// Its number, from 1.
    pub domain: u32,
    /// The epoch under which it seals.
    pub epoch: u32,
    /// Its slots: those of its keys, and the one that gives the operator its structure.
    pub added: Vec<KeyAdded>,
    /// The slot that gives it the journal.
    pub journal: KeyAdded,
    /// What the operator calls it, sealed under its master key.
    pub name: Bytes,
}
cbor_map!(DomainAdded { 0 => domain, 1 => epoch, 2 => added, 3 => journal, 4 => name });

/// A recovery point of a domain: [`Published`](super::Published) with its names sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedInDomain {
    /// The writer's session.
    pub session: u64,
    /// The point.
    pub point: RecoveryPointId,
    /// Whose it is.
    pub domain: u32,
    /// Where the map begins.
    pub map: MapRoot,
    /// The packs that this point brings along.
    pub packs: Vec<NewPack>,
    /// Packs that the pending plan names and this point needs: they stay.
    pub revives: BTreeSet<PackId>,
    /// Whether the session ends with it.
    pub last: bool,
    /// Volume, parent and info.
    pub names: Bytes,
}
cbor_map!(PublishedInDomain {
    0 => session, 1 => point, 2 => domain, 3 => map, 4 => packs, 5 => revives, 6 => last, 7 => names
});

/// A new epoch seals in a domain from this record on. The epoch of the journal does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRotated {
    /// Which domain.
    pub domain: u32,
    /// Its new epoch.
    pub epoch: u32,
    /// The slots that hold it.
    pub added: Vec<KeyAdded>,
    /// The slots of the domain that are no more.
    pub removed: BTreeSet<[u8; 8]>,
}
cbor_map!(DomainRotated { 0 => domain, 1 => epoch, 2 => added, 3 => removed });
