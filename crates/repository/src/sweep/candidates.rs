//! What a sweep may take: found from LIST and from the maps of all current points, without deciding anything.
//!
//! Dead packs, orphans of crashed writers, replaced objects, leftovers of other rewriters: all are objects that
//! are not the current object of a needed pack. LIST may hide some; the next sweep finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strongroom_model::{PackId, RecoveryPointId};

use super::SweepOptions;
use crate::entry_runs::EntryRuns;
use crate::errors::SweepError;
use crate::fold::{Fold, MAX_PLANNED};
use crate::layout::{ObjectKind, ObjectName, PackKind};
use crate::map::{EntrySet, MapError};
use crate::pack::EntryRef;
use crate::record::{Placed, SweepPlanned};
use crate::repository::Repository;
#[cfg(test)]
use crate::rules::{Rule, holds};

/// How often the maps are read from the start because a point was forgotten meanwhile.
const MOST_RESTARTS: usize = 16;

/// What was found.
#[derive(Debug)]
pub(crate) struct Candidates {
    options: SweepOptions,
    /// What LIST showed, with sizes.
    listed: BTreeMap<Placed, u64>,
    /// Every entry that a current point needs.
    needed: EntrySet,
    /// The points whose needs are in `needed`.
    walked: BTreeSet<RecoveryPointId>,
    /// The sessions open when this was found.
    #[cfg(test)]
    open_then: BTreeSet<u64>,
}

impl Candidates {
    /// Lists the objects, then reads the maps.
    pub(super) async fn find(repository: &Repository, options: &SweepOptions) -> Result<Self, SweepError> {
        let mut listed = BTreeMap::new();
        for kind in [PackKind::Data, PackKind::Map] {
            list(repository, kind, &mut listed).await?;
        }
        let fold = repository.fold().await?;
        let mut found = Self {
            options: *options,
            listed,
            needed: EntrySet::new(),
            walked: BTreeSet::new(),
            #[cfg(test)]
            open_then: fold.sessions.keys().copied().collect(),
        };
        found.spare_newer(repository, &fold).await?;
        Ok(found)
    }

    /// Adds what points need that were published since. What was forgotten since stays needed here: the next
    /// sweep takes it.
    pub(super) async fn spare_newer(
        &mut self,
        repository: &Repository,
        fold: &Fold,
    ) -> Result<(), SweepError> {
        let mut restarts = 0;
        let mut fold = Arc::new(fold.clone());
        loop {
            let Err((point, cause)) = self.walk_newer(repository, &fold).await else { return Ok(()) };
            fold = repository.fold().await?;
            restarts += 1;
            if fold.points.contains_key(&point) || restarts > MOST_RESTARTS {
                return Err(SweepError::Map { point, cause });
            }
            // The point went while its map was read. What a broken walk left behind is of no use.
            self.needed = EntrySet::new();
            self.walked.clear();
        }
    }

    async fn walk_newer(
        &mut self,
        repository: &Repository,
        fold: &Fold,
    ) -> Result<(), (RecoveryPointId, MapError)> {
        for point in fold.points.values() {
            if self.walked.contains(&point.id) {
                continue;
            }
            let map = repository.map(point).await.map_err(|cause| (point.id, cause))?;
            map.walk(&mut self.needed).await.map_err(|cause| (point.id, cause))?;
            self.walked.insert(point.id);
        }
        Ok(())
    }

    /// The record that plans this, if it were decided on `fold`.
    pub(super) fn plan_for(&self, fold: &Fold) -> SweepPlanned {
        let is_needed = |pack: &PackId| self.needed.contains_pack(pack);
        let stays = |placed: &Placed| {
            let pack = placed.object.pack;
            is_needed(&pack)
                && fold.packs.get(&pack).is_some_and(|state| Placed::from(state.place) == *placed)
        };
        // Dead packs are known from the table too: a listing that hides them does not keep them.
        let dead = fold
            .packs
            .iter()
            .filter(|(pack, _)| !is_needed(pack))
            .map(|(_, state)| Placed::from(state.place));
        let listed = self.listed.keys().filter(|placed| !stays(placed)).copied();
        let objects: BTreeSet<Placed> = dead.chain(listed).take(MAX_PLANNED / 2).collect();
        let mut budget = self.options.max_rewrite_bytes;
        let mut holes = BTreeMap::new();
        for (pack, state) in &fold.packs {
            if holes.len() >= MAX_PLANNED / 2 || !is_needed(pack) {
                continue;
            }
            let left = u64::from(state.entries).saturating_sub(state.holes.len());
            let idle = left.saturating_sub(self.needed.count(pack));
            #[expect(clippy::cast_precision_loss, reason = "a share of at most some thousand entries")]
            let is_worth_it = idle > 0 && idle as f64 >= self.options.min_hole_ratio * left as f64;
            // Entries that are damaged and needed by nobody go at once: until then they are red in every status.
            let is_sick = fold.verified.damaged().get(pack).is_some_and(|damaged| {
                damaged.iter().all(|entry| !self.needed.contains(EntryRef { pack: *pack, entry }))
            });
            let is_worth_it = is_worth_it || (idle > 0 && is_sick);
            if is_worth_it && state.place.bytes <= budget {
                budget -= state.place.bytes;
                let needed: EntryRuns = self.needed.entries(pack).collect();
                holes.insert(*pack, EntryRuns::run(0, state.entries).without(&needed).without(&state.holes));
            }
        }
        let waits_for: BTreeSet<u64> = fold.sessions.keys().copied().collect();
        #[cfg(test)]
        let waits_for = if holds(Rule::WaitSetIsExact) { waits_for } else { &waits_for & &self.open_then };
        SweepPlanned { objects, holes, waits_for }
    }

    /// The sizes of what was listed.
    pub(super) const fn sizes(&self) -> &BTreeMap<Placed, u64> {
        &self.listed
    }

    /// The size of an object, where it is known.
    pub(super) fn bytes_of(&self, fold: &Fold, placed: &Placed) -> u64 {
        let in_table = || fold.packs.get(&placed.object.pack).map(|state| state.place.bytes);
        self.listed.get(placed).copied().or_else(in_table).unwrap_or(0)
    }
}

async fn list(
    repository: &Repository,
    kind: PackKind,
    listed: &mut BTreeMap<Placed, u64>,
) -> Result<(), SweepError> {
    let prefix = format!("{}/", kind.folder());
    let mut after: Option<String> = None;
    loop {
        let page = repository.store().list(&prefix, after.as_deref()).await;
        let page = page.map_err(|cause| SweepError::Store { object: prefix.clone(), cause })?;
        for object in &page.objects {
            // What is not named as we name is not ours to delete.
            if let Some((_, ObjectKind::Pack(kind, found))) = ObjectName::parse(&object.name) {
                listed.insert(Placed { kind, object: found }, object.bytes);
            }
        }
        after = page.objects.last().map(|object| object.name.clone());
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}
