//! What the current points need, as far as their maps can be read.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use strongroom_model::{ByteRange, PackId, RecoveryPointId, chain};

use super::Findings;
use crate::fold::Fold;
use crate::map::{EntrySet, LostEntries, MapError, MapRoot};
use crate::pack::EntryRef;
use crate::repository::Repository;

/// Maps that are walked side by side; each holds at most 4 MiB of nodes.
pub(super) const MAPS_AT_ONCE: usize = 8;

/// What is needed, and what cannot be known. One bit for an entry, one id for a pack, whatever the number of points.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Every needed entry that is known.
    pub(super) entries: EntrySet,
    /// Every pack that a root names: also those that only unreadable leaves would tell of.
    pub(super) packs: BTreeSet<PackId>,
    /// Roots, nodes and leaves that cannot be read.
    pub(super) unreadable: LostEntries,
}

impl Repository {
    /// Walks the maps of all current points. What is shared is read once.
    pub(super) async fn gather_needs(&self, fold: &Fold, findings: &mut Findings) -> Needs {
        let entries = Mutex::new(EntrySet::new());
        let packs = Mutex::new(BTreeSet::new());
        let unreadable = Mutex::new(Vec::new());
        let (to_entries, to_packs, to_unreadable) = (&entries, &packs, &unreadable);
        let walk = |(point, root): (RecoveryPointId, MapRoot)| async move {
            match self.map_of(point, root).await {
                Ok(map) => {
                    to_packs.lock().unwrap_or_else(PoisonError::into_inner).extend(map.head().packs());
                    map.walk_on(to_entries, to_unreadable).await;
                }
                Err(cause) => {
                    to_entries.lock().unwrap_or_else(PoisonError::into_inner).insert(root.at);
                    to_unreadable.lock().unwrap_or_else(PoisonError::into_inner).push((root.at, cause));
                }
            }
        };
        let points: Vec<_> = self.checkable(fold).collect();
        futures::stream::iter(points).for_each_concurrent(MAPS_AT_ONCE, walk).await;
        let mut needs = Needs {
            entries: entries.into_inner().unwrap_or_else(PoisonError::into_inner),
            packs: packs.into_inner().unwrap_or_else(PoisonError::into_inner),
            unreadable: LostEntries::default(),
        };
        for (at, cause) in unreadable.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.note_unreadable(&mut needs, at, &cause, findings);
        }
        needs
    }

    /// The points whose maps this key opens: of its own domain, or as the operator of all.
    pub(super) fn checkable<'a>(
        &self,
        fold: &'a Fold,
    ) -> impl Iterator<Item = (RecoveryPointId, MapRoot)> + use<'a> {
        let ring = self.inner.context.keyring.clone();
        let opens = move |id: &RecoveryPointId| {
            let sealed = fold.sealed.get(id).filter(|_| !fold.points.contains_key(id));
            sealed.is_none_or(|point| {
                point.domain == ring.domain()
                    || fold.domains.get(&point.domain).is_some_and(|state| ring.master(state.epoch).is_some())
            })
        };
        fold.maps().filter(move |(id, _)| opens(id))
    }

    /// Which object is to blame shows when the packs are looked at; but a node that opens and is malformed does not.
    fn note_unreadable(&self, needs: &mut Needs, at: EntryRef, cause: &MapError, findings: &mut Findings) {
        if let MapError::Malformed { at, .. } = cause {
            findings.add(&self.object_of(at.pack), chain(cause));
        }
        needs.unreadable.insert(at);
    }

    /// The name of the object that holds a pack now, or of the pack where there is none.
    pub(super) fn object_of(&self, pack: PackId) -> String {
        let fold = self.known_fold();
        fold.packs.get(&pack).map_or_else(|| pack.to_string(), |state| state.place.name().to_string())
    }
}

/// The bytes of some chunks, cut at the end of the volume.
pub(super) fn bytes_of(
    chunks: &std::ops::Range<u64>,
    chunk_bytes: u32,
    volume_bytes: u64,
) -> Option<ByteRange> {
    let start = chunks.start.saturating_mul(chunk_bytes.into());
    let end = chunks.end.saturating_mul(chunk_bytes.into()).min(volume_bytes);
    ByteRange::new(start, end).ok()
}
