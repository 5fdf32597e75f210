//! What a sweep may take: found from LIST and from the maps of all current points, without deciding anything.
//!
//! Dead packs, orphans of crashed writers, replaced objects, leftovers of other rewriters: all are objects that
//! are not the current object of a needed pack. LIST may hide some; the next sweep finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use jiff::SignedDuration;
use strongroom_model::{PackId, RecoveryPointId, VolumeName};

use super::SweepOptions;
use super::unreadable::{Unreadable, is_damage};
use crate::entry_runs::EntryRuns;
use crate::errors::{JournalError, SweepError};
use crate::fold::{Fold, MAX_PLANNED};
use crate::layout::{ObjectKind, ObjectName, PackKind};
use crate::map::{EntrySet, MapError, MapRoot};
use crate::pack::EntryRef;
use crate::record::{Placed, SweepPlanned};
use crate::repository::Repository;
#[cfg(test)]
use crate::rules::{Rule, holds};

/// How many volumes' maps are read side by side. Points of one volume share most of their nodes, so these are read in turn.
const VOLUMES_AT_ONCE: usize = 8;

/// How often maps are looked at anew because points were forgotten meanwhile.
const MOST_RESTARTS: usize = 16;

/// What was found.
#[derive(Debug)]
pub(crate) struct Candidates {
    options: SweepOptions,
    /// What LIST showed, with sizes.
    listed: BTreeMap<Placed, u64>,
    /// Every entry that a current point needs.
    needed: Arc<Mutex<EntrySet>>,
    /// The points whose needs are in `needed`, or in `unknown`.
    walked: BTreeSet<RecoveryPointId>,
    /// What cannot be known.
    unknown: Unreadable,
    /// The sessions open when this was found.
    #[cfg(test)]
    open_then: BTreeSet<u64>,
}

/// Points whose maps share most of their nodes, as far as can be known.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Vein {
    Volume(VolumeName),
    Domain(u32),
}

impl Candidates {
    /// Lists the objects, then reads the maps: of all current points, and of those that were forgotten within `grace`.
    pub(super) async fn find(
        repository: &Repository,
        options: &SweepOptions,
        grace: SignedDuration,
    ) -> Result<Self, SweepError> {
        let mut listed = BTreeMap::new();
        for kind in [PackKind::Data, PackKind::Map] {
            list(repository, kind, &mut listed).await?;
        }
        let fold = repository.fold().await?;
        let mut found = Self {
            options: *options,
            listed,
            needed: Arc::default(),
            walked: BTreeSet::new(),
            unknown: Unreadable::default(),
            #[cfg(test)]
            open_then: fold.sessions.keys().copied().collect(),
        };
        found.spare_newer(repository, &fold).await?;
        let now = repository.inner.world.clock.now();
        // Forgotten by somebody whose clock runs ahead: no moment of theirs may keep anything for more than
        // twice the grace, nor at all without one.
        for point in fold.forgotten.iter().filter(|point| now.duration_since(point.at).abs() < grace) {
            // A courtesy: what cannot be read of it is gone, or nobody can restore it.
            if let Ok(map) = repository.map_at(point.map).await {
                let _ = map.walk_beside(&found.needed).await;
            }
        }
        Ok(found)
    }

    /// Adds what points need that were published since. What was forgotten since stays needed here: the next
    /// sweep takes it.
    pub(super) async fn spare_newer(
        &mut self,
        repository: &Repository,
        fold: &Fold,
    ) -> Result<(), SweepError> {
        let mut fold = Arc::new(fold.clone());
        for _ in 0..=MOST_RESTARTS {
            // A domain may have been added, or have new keys, since.
            repository.learn_domains().await?;
            // Of another domain it cannot be known which points are of one volume.
            let mut by_volume: BTreeMap<Vein, Vec<(RecoveryPointId, MapRoot)>> = BTreeMap::new();
            for (id, map) in fold.maps().filter(|(id, _)| !self.walked.contains(id)) {
                let own = fold.points.get(&id).map(|point| Vein::Volume(point.volume.clone()));
                let vein = own.unwrap_or_else(|| Vein::Domain(fold.sealed.get(&id).map_or(0, |p| p.domain)));
                by_volume.entry(vein).or_default().push((id, map));
            }
            if by_volume.is_empty() {
                return Ok(());
            }
            let walks = by_volume
                .into_values()
                .map(|points| walk_all(repository.clone(), points, Arc::clone(&self.needed)));
            let walked: Vec<_> =
                futures::stream::iter(walks).buffer_unordered(VOLUMES_AT_ONCE).collect().await;
            let mut went = false;
            for (point, walked) in walked.into_iter().flatten() {
                match walked {
                    Ok(()) => drop(self.walked.insert(point)),
                    Err(cause) if is_damage(&cause) => {
                        // Unless it went while it was read.
                        if let Some((map, number)) = repository.fold().await?.map_of(&point) {
                            self.unknown.add(repository, (point, map, number), &cause).await?;
                            self.walked.insert(point);
                        }
                        went = true;
                    }
                    Err(cause) => {
                        if repository.fold().await?.is_current(&point) {
                            return Err(SweepError::Map { point, cause });
                        }
                        went = true;
                    }
                }
            }
            if !went {
                return Ok(());
            }
            fold = repository.fold().await?;
        }
        Err(JournalError::Crowded { kind: "sweep planned", attempts: super::MOST_LOST }.into())
    }

    /// The points that cannot be read, and why.
    pub(super) fn unreadable(&self) -> BTreeMap<String, String> {
        self.unknown.points()
    }

    /// The record that plans this, if it were decided on `fold`.
    pub(super) fn plan_for(&self, fold: &Fold) -> SweepPlanned {
        let needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
        let may_be_needed = |pack: &PackId| self.unknown.may_need(pack) && fold.packs.contains_key(pack);
        let is_needed = |pack: &PackId| needed.contains_pack(pack) || may_be_needed(pack);
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
        let trimmed = fold.trimmed_bundles();
        let objects: BTreeSet<Placed> = dead.chain(listed).chain(trimmed).take(MAX_PLANNED / 2).collect();
        let mut budget = self.options.max_rewrite_bytes;
        let mut holes = BTreeMap::new();
        for (pack, state) in &fold.packs {
            if holes.len() >= MAX_PLANNED / 2 || !is_needed(pack) || may_be_needed(pack) {
                continue;
            }
            let left = u64::from(state.entries).saturating_sub(state.holes.len());
            let idle = left.saturating_sub(needed.count(pack));
            #[expect(clippy::cast_precision_loss, reason = "a share of at most some thousand entries")]
            let is_worth_it = idle > 0 && idle as f64 >= self.options.min_hole_ratio * left as f64;
            // Entries that are damaged and needed by nobody go at once: until then they are red in every status.
            let is_sick = fold.verified.damaged().get(pack).is_some_and(|damaged| {
                damaged.iter().all(|entry| !needed.contains(EntryRef { pack: *pack, entry }))
            });
            let is_worth_it = is_worth_it || (idle > 0 && is_sick);
            if is_worth_it && state.place.bytes <= budget {
                budget -= state.place.bytes;
                let needed: EntryRuns = needed.entries(pack).collect();
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
        let in_table = || {
            let pack = fold.packs.get(&placed.object.pack).map(|state| state.place);
            pack.or_else(|| fold.bundle(placed)).map(|place| place.bytes)
        };
        self.listed.get(placed).copied().or_else(in_table).unwrap_or(0)
    }
}

/// Walks the maps of these points, one after another.
async fn walk_all(
    repository: Repository,
    points: Vec<(RecoveryPointId, MapRoot)>,
    needed: Arc<Mutex<EntrySet>>,
) -> Vec<(RecoveryPointId, Result<(), MapError>)> {
    let mut answers = Vec::with_capacity(points.len());
    for (point, map) in points {
        let walked = match repository.map_of(point, map).await {
            Ok(map) => map.walk_beside(&needed).await,
            Err(cause) => Err(cause),
        };
        answers.push((point, walked));
    }
    answers
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
