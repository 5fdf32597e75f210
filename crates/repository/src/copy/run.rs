//! Bringing a copy up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;
use strongroom_model::{Failure as _, PackId, Remedy, chain};

use super::chosen::Wanted;
use super::replay::{Happened, Replay};
use super::{Chosen, CopyError};
use crate::abilities::Abilities;
use crate::check::Progress;
use crate::fold::Fold;
use crate::head::{CopyMark, Head};
use crate::journal::opening::Opening;
use crate::journal::{CopyLimit, Journal};
use crate::layout::{ObjectKind, ObjectName, PackKind};
use crate::pack::{PackPlace, TransferError, transfer};
use crate::record::Placed;
use crate::repository::Repository;
use crate::store::{Deleted, Listed, ObjectStore, StoreError};

/// Packs that are brought over side by side: with two parts of 8 MiB each this holds 64 MiB in memory.
const PACKS_AT_ONCE: usize = 4;

/// Small objects that are looked at or written side by side.
const OBJECTS_AT_ONCE: usize = 16;

/// With more packs to bring than this, one listing says which are there already; else each is asked for.
const MOST_ASKED: usize = 200;

/// Checkpoints that are so many records older than the newest are of no use to anybody.
const MOST_RECORDS_BEHIND: u64 = 4096;

/// What the head says where nobody knows what a chosen point needs.
const UNSURE: &str = "unsure";

/// How often a sweep may take away what is being copied before it is left to the next run.
const MOST_RESTARTS: u32 = 5;

/// A copy that lacks more than this is not worth the name: then the repository is to be repaired first.
const MOST_LACKS: usize = 1000;

/// What a run of copying did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct CopyReport {
    /// The journal record up to which the copy is whole.
    pub until: u64,
    /// Points that can be restored from it.
    pub points: u64,
    /// Records that were new to it.
    pub records: u64,
    /// Packs that were copied.
    pub packs: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Objects that sweeps had made dead, and that were deleted from the copy.
    pub deleted_objects: u64,
    /// Such objects that the copy's store keeps for now: a retention lock is on them.
    pub retained_objects: u64,
    /// The copy's credentials may not delete: what is dead stays.
    pub no_delete_right: bool,
    /// Packs that could not be copied, and why: they are damaged or missing in the repository.
    pub lacks: BTreeMap<String, String>,
}

/// What is at a place that is, or is to be, a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyState {
    /// No repository yet.
    Nothing,
    /// A copy.
    Copy(Box<Head>, CopyMark),
    /// A copy that was promoted.
    Promoted(Box<Head>),
    /// A repository that is no copy.
    Own(Box<Head>),
}

/// Looks at a place: one or two small requests.
///
/// # Errors
/// When the store fails, or the head there is not understood.
pub async fn copy_state(target: &dyn ObjectStore) -> Result<CopyState, CopyError> {
    let failed =
        |name: ObjectName| move |cause: StoreError| CopyError::Target { object: name.to_string(), cause };
    let Some(bytes) = found(target, &ObjectName::head()).await.map_err(failed(ObjectName::head()))? else {
        return Ok(CopyState::Nothing);
    };
    let head = Head::parse(&bytes).map_err(|cause| CopyError::Head { location: target.location(), cause })?;
    let Some(mark) = head.copy.clone() else { return Ok(CopyState::Own(Box::new(head))) };
    match found(target, &ObjectName::promoted()).await.map_err(failed(ObjectName::promoted()))? {
        Some(_) => Ok(CopyState::Promoted(Box::new(head))),
        None => Ok(CopyState::Copy(Box::new(head), mark)),
    }
}

impl Repository {
    /// Brings the copy in `target` up to date, or begins it. What is there already is not sent again, so a run that was
    /// killed is simply followed by another. `abilities` is what a probe saw of the target's store; needed only where
    /// [`copy_state`] says that nothing is there yet. `chosen` says which points go there; without it all do. `progress` counts
    /// bytes of packs.
    ///
    /// # Errors
    /// When a store or the journal fails, or the place is not (or no longer) a copy of this repository.
    pub async fn copy_to(
        &self,
        target: &Arc<dyn ObjectStore>,
        abilities: Option<Abilities>,
        chosen: Option<&Chosen<'_>>,
        progress: Progress<'_>,
    ) -> Result<CopyReport, CopyError> {
        for _ in 0..MOST_RESTARTS {
            let copying = Copying { source: self, target, abilities: abilities.clone(), chosen, progress };
            if let Some(report) = copying.run().await? {
                return Ok(report);
            }
        }
        Err(CopyError::Moving { times: MOST_RESTARTS })
    }
}

pub(super) struct Copying<'a> {
    pub(super) source: &'a Repository,
    pub(super) target: &'a Arc<dyn ObjectStore>,
    abilities: Option<Abilities>,
    pub(super) chosen: Option<&'a Chosen<'a>>,
    progress: Progress<'a>,
}

impl Copying<'_> {
    /// `None`: a sweep took what was to be copied; begin again on the journal as it is now.
    async fn run(&self) -> Result<Option<CopyReport>, CopyError> {
        let before = self.before().await?;
        let goal = self.source.fold().await?;
        let points =
            goal.points.values().filter(|point| self.chosen.is_none_or(|chosen| (chosen.takes)(point)));
        let mut report =
            CopyReport { until: goal.number, points: points.count() as u64, ..CopyReport::default() };
        let mut rule = self.mark_of_rule();
        let mut had = Arc::new(Fold::default());
        let mut dead = Happened::default();
        if let Some((_, mark)) = &before {
            let is_up_to_date =
                mark.until == goal.number && mark.swept == mark.until && mark.lacks.is_empty();
            if is_up_to_date && mark.chosen == rule {
                return Ok(Some(report));
            }
            (had, dead) = self.what_it_has(mark, &goal).await?;
        }
        let mark_before = before.as_ref().map(|(_, mark)| mark);
        let lacks = if rule.is_none() && mark_before.is_none_or(|mark| mark.chosen.is_none()) {
            let wanted = wanted(&had, &goal, mark_before);
            let listed =
                if wanted.len() > MOST_ASKED { Some(listed_packs(&**self.target).await?) } else { None };
            self.bring_packs(wanted, listed, &mut report).await?
        } else {
            let Some(Wanted { places, listed, is_unsure }) =
                self.wanted_by_rule(&had, &goal, mark_before).await?
            else {
                return Ok(None);
            };
            if is_unsure {
                // A rule that nobody has: the next run takes it for another one.
                rule = Some(UNSURE.to_owned());
            }
            self.bring_packs(places, Some(listed), &mut report).await?
        };
        let Some(lacks) = lacks else { return Ok(None) };
        self.bring_keys(&goal).await?;
        report.records = goal.number.saturating_sub(had.number);
        let happened = self.bring_records(had, goal.number, before.is_none()).await?;
        dead.dead.extend(happened.dead);
        self.bring_hints(goal.number).await?;

        let dead_objects = self.dead_here(&dead.dead, &goal).await?;
        let nothing_dead = dead_objects.is_empty() && dead.removed_slots.is_empty();
        let swept = match &before {
            Some((_, mark)) if !nothing_dead => mark.swept,
            _ => goal.number,
        };
        report.lacks = lacks;
        let mut mark = CopyMark {
            of: self.source.location(),
            until: goal.number,
            swept,
            copied_at: self.source.inner.world.clock.now(),
            lacks: report.lacks.keys().cloned().collect(),
            chosen: rule,
        };
        self.write_head(before.as_ref().map(|(head, _)| head), &mark).await?;
        if !nothing_dead {
            // Only now: the copy's own journal says that the sweeps are done.
            self.delete_dead(&dead_objects, &mut report).await?;
            for slot in &dead.removed_slots {
                let name = ObjectName::key_slot(*slot);
                self.target.delete(&name).await.map_err(|cause| at_target(&name, cause))?;
            }
            if report.no_delete_right || report.retained_objects > 0 {
                // The next run tries again.
                return Ok(Some(report));
            }
            mark.swept = mark.until;
            self.write_head(before.as_ref().map(|(head, _)| head), &mark).await?;
        }
        Ok(Some(report))
    }

    /// What is there: a copy of this very repository, or nothing.
    async fn before(&self) -> Result<Option<(Head, CopyMark)>, CopyError> {
        let location = self.target.location();
        match copy_state(&**self.target).await? {
            CopyState::Copy(head, mark) if head.repository == self.source.id() => Ok(Some((*head, mark))),
            CopyState::Copy(..) => Err(CopyError::Other { location }),
            CopyState::Promoted(_) => Err(CopyError::Promoted { location }),
            CopyState::Own(head) if head.repository == self.source.id() => {
                Err(CopyError::NotACopy { location })
            }
            CopyState::Own(_) => Err(CopyError::Other { location }),
            CopyState::Nothing => {
                if self.abilities.is_none() {
                    return Err(CopyError::NotProbed { location });
                }
                // Records are created before the head: an unfinished copy of another repository shows here.
                let first = ObjectName::journal(1);
                let there = found(&**self.target, &first).await.map_err(|cause| at_target(&first, cause))?;
                let Some(there) = there else { return Ok(None) };
                let own =
                    self.source.journal().get(&first).await.map_err(|cause| at_source(&first, cause))?;
                if there == own { Ok(None) } else { Err(CopyError::Other { location }) }
            }
        }
    }

    /// The fold of the copy as far as its head says; and what died there that was not deleted yet.
    async fn what_it_has(&self, mark: &CopyMark, goal: &Fold) -> Result<(Arc<Fold>, Happened), CopyError> {
        let forked = |number| CopyError::Forked { number, location: self.target.location() };
        if mark.until > goal.number {
            return Err(forked(goal.number + 1));
        }
        let own = self.source.journal();
        let journal = Journal::open(Opening {
            store: Arc::clone(self.target),
            world: self.source.inner.world.clone(),
            keyring: Arc::clone(&own.keyring),
            own: Arc::clone(&own.own),
            repository: own.repository,
            agent: own.agent.clone(),
            patience: own.patience,
            single_writer: None,
            renewal: own.renewal.clone(),
            state: None,
            accept_rollback: None,
            copy: Some(CopyLimit::fixed(mark.swept.min(mark.until))),
        })
        .await?;
        let slots: BTreeSet<[u8; 8]> = journal.known().keys.keys().copied().collect();
        let mut known = Replay::new(&journal, journal.known(), mark.until);
        while known.next().await?.is_some() {}
        let (had, mut dead) = (known.fold, known.happened);
        dead.removed_slots.extend(slots.into_iter().chain(had.keys.keys().copied()));
        dead.removed_slots.retain(|slot| !goal.keys.contains_key(slot));
        if had.number > 0 {
            let name = ObjectName::journal(had.number);
            let there = own.get(&name).await.map_err(|cause| at_source(&name, cause))?;
            if *blake3::hash(&there).as_bytes() != had.hash {
                return Err(forked(had.number));
            }
        }
        Ok((had, dead))
    }

    /// Brings packs. Answers those that cannot be had, and why; `None`: a sweep was faster.
    async fn bring_packs(
        &self,
        mut wanted: Vec<PackPlace>,
        listed: Option<BTreeMap<Placed, u64>>,
        report: &mut CopyReport,
    ) -> Result<Option<BTreeMap<String, String>>, CopyError> {
        // Data before maps: what a map names is there before the map.
        wanted.sort_by_key(|place| place.kind);
        let total = wanted.iter().map(|place| place.bytes).sum();
        let (mut done, mut lacks) = (0, BTreeMap::new());
        let listed = listed.as_ref();
        let bring = |place: PackPlace| async move { (place, self.bring_pack(place, listed).await) };
        for kind in [PackKind::Data, PackKind::Map, PackKind::Log] {
            let some = wanted.iter().copied().filter(|place| place.kind == kind);
            let mut brought = futures::stream::iter(some).map(bring).buffer_unordered(PACKS_AT_ONCE);
            while let Some((place, answer)) = brought.next().await {
                match answer {
                    Ok(was_new) => {
                        report.packs += u64::from(was_new);
                        report.copied_bytes += if was_new { place.bytes } else { 0 };
                    }
                    Err(TransferError::Target(cause)) => return Err(at_target(&place.name(), cause)),
                    Err(TransferError::Source(error)) => {
                        let now = self.source.fold().await?;
                        let is_pack =
                            now.packs.get(&place.object.pack).is_some_and(|state| state.place == place);
                        if !is_pack && now.bundle(&place.into()) != Some(place) {
                            return Ok(None);
                        }
                        if error.remedy() != Remedy::FixData || lacks.len() >= MOST_LACKS {
                            return Err(CopyError::Pack(error));
                        }
                        lacks.insert(place.name().to_string(), chain(&error));
                    }
                }
                done += place.bytes;
                (self.progress)(done, total);
            }
        }
        Ok(Some(lacks))
    }

    /// False: it was there.
    async fn bring_pack(
        &self,
        place: PackPlace,
        listed: Option<&BTreeMap<Placed, u64>>,
    ) -> Result<bool, TransferError> {
        // Names of pack objects are used once, so an object of the right size is the right one.
        let there = match listed {
            Some(listed) => listed.get(&Placed::from(place)).copied(),
            None => match self.target.head(&place.name()).await {
                Ok(info) => Some(info.bytes),
                Err(StoreError::NotFound { .. }) => None,
                Err(cause) => return Err(TransferError::Target(cause)),
            },
        };
        if there == Some(place.bytes) {
            return Ok(false);
        }
        transfer(&**self.source.store(), &**self.target, place).await.map(|()| true)
    }

    async fn bring_keys(&self, goal: &Fold) -> Result<(), CopyError> {
        for slot in goal.keys.keys() {
            let name = ObjectName::key_slot(*slot);
            match self.source.journal().get(&name).await {
                Ok(bytes) => self.put_unless_same(&name, bytes).await?,
                // Another key opens the repository, or this command would not be running: check says that one is gone.
                Err(StoreError::NotFound { .. }) => {
                    tracing::warn!(%name, "a key slot of the repository is missing, and so is not copied");
                }
                Err(cause) => return Err(at_source(&name, cause)),
            }
        }
        Ok(())
    }

    /// Creates the records after `had`. Where a copy is only begun, nobody reads yet, and they go side by side; later in their
    /// order, so that the journal of a copy never has a hole.
    async fn bring_records(&self, had: Arc<Fold>, until: u64, is_first: bool) -> Result<Happened, CopyError> {
        let at_once = if is_first { OBJECTS_AT_ONCE } else { 1 };
        let mut batch: Vec<(u64, Bytes)> = Vec::with_capacity(at_once);
        let mut records = Replay::new(self.source.journal(), had, until);
        while let Some(record) = records.next().await? {
            batch.push(record);
            if batch.len() >= at_once {
                self.create_records(std::mem::take(&mut batch)).await?;
            }
        }
        self.create_records(batch).await?;
        Ok(records.happened)
    }

    async fn create_records(&self, batch: Vec<(u64, Bytes)>) -> Result<(), CopyError> {
        let created = batch.into_iter().map(|(number, sealed)| self.create_record(number, sealed));
        futures::future::try_join_all(created).await.map(drop)
    }

    /// Any answer but "created" says nothing: the record is read back. Another one there is a fork.
    async fn create_record(&self, number: u64, sealed: Bytes) -> Result<(), CopyError> {
        let name = ObjectName::journal(number);
        let mut failures = 0;
        loop {
            let Err(cause) = self.target.create(&name, sealed.clone()).await else { return Ok(()) };
            match found(&**self.target, &name).await {
                Ok(Some(there)) if there == sealed => return Ok(()),
                Ok(Some(_)) => {
                    return Err(CopyError::Forked { number, location: self.target.location() });
                }
                Ok(None) => {}
                Err(unread) => return Err(at_target(&name, unread)),
            }
            failures += 1;
            let may_pass = cause.is_transient() || matches!(cause, StoreError::Exists { .. });
            if !may_pass || !self.source.journal().patience.wait(failures).await {
                return Err(at_target(&name, cause));
            }
        }
    }

    /// What only saves time: the newest checkpoint, and runs of the dedup index. What fails here is no failure.
    async fn bring_hints(&self, until: u64) -> Result<(), CopyError> {
        let own = self.source.journal();
        let newest = own.listed_checkpoints().await.into_iter().filter(|number| *number <= until).max();
        if let Some(number) = newest {
            let name = ObjectName::checkpoint(number);
            if let Ok(bytes) = own.get(&name).await {
                self.put_unless_same(&name, bytes).await?;
            }
            for old in listed(&**self.target, "journal/checkpoints/").await.unwrap_or_default() {
                let Some((name, ObjectKind::Checkpoint(found))) = ObjectName::parse(&old.name) else {
                    continue;
                };
                // Those that the repository's own sweeps removed go here, too; the one before is kept for readers under way.
                if found + MOST_RECORDS_BEHIND < number {
                    let _ = self.target.delete(&name).await;
                }
            }
        }
        let runs = |store: &Arc<dyn ObjectStore>| {
            let store = Arc::clone(store);
            async move { listed(&*store, "index/").await }
        };
        let (Ok(ours), Ok(theirs)) = (runs(self.source.store()).await, runs(self.target).await) else {
            return Ok(());
        };
        let names = |all: &[Listed]| all.iter().map(|run| run.name.clone()).collect::<BTreeSet<_>>();
        let (ours, theirs) = (names(&ours), names(&theirs));
        for missing in ours.difference(&theirs) {
            let Some((name, ObjectKind::IndexRun(_))) = ObjectName::parse(missing) else { continue };
            if let Ok(bytes) = own.get(&name).await {
                self.target.put(&name, bytes).await.map_err(|cause| at_target(&name, cause))?;
            }
        }
        for gone in theirs.difference(&ours) {
            if let Some((name, ObjectKind::IndexRun(_))) = ObjectName::parse(gone) {
                // A run too many costs nothing but its bytes.
                let _ = self.target.delete(&name).await;
            }
        }
        Ok(())
    }

    async fn put_unless_same(&self, name: &ObjectName, bytes: Bytes) -> Result<(), CopyError> {
        let there = found(&**self.target, name).await.map_err(|cause| at_target(name, cause))?;
        if there.as_ref() == Some(&bytes) {
            return Ok(());
        }
        self.target.put(name, bytes).await.map_err(|cause| at_target(name, cause))
    }

    /// The one moment at which the copy goes on.
    async fn write_head(&self, before: Option<&Head>, mark: &CopyMark) -> Result<(), CopyError> {
        let location = self.target.location();
        // Looked at as late as can be: another copier may have gone further, or a person may have promoted the copy.
        match copy_state(&**self.target).await? {
            CopyState::Nothing => {}
            CopyState::Copy(_, there) if there.until > mark.until => return Ok(()),
            CopyState::Copy(..) => {}
            CopyState::Promoted(_) | CopyState::Own(_) => return Err(CopyError::Promoted { location }),
        }
        let mut owner = [0; 16];
        self.source.inner.world.entropy.fill(&mut owner);
        let abilities = match before {
            Some(head) => head.abilities.clone(),
            None => self.abilities.clone().ok_or(CopyError::NotProbed { location })?,
        };
        let head = Head {
            abilities,
            single_writer: None,
            copy: Some(mark.clone()),
            owner: hex::encode(owner),
            ..self.source.head().clone()
        };
        let name = ObjectName::head();
        self.target.put(&name, head.encode().into()).await.map_err(|cause| at_target(&name, cause))
    }

    /// Of what sweeps made dead, what is there. What the journal needs is never among it.
    async fn dead_here(&self, dead: &BTreeSet<Placed>, goal: &Fold) -> Result<Vec<Placed>, CopyError> {
        if dead.is_empty() {
            return Ok(Vec::new());
        }
        let lives = |placed: &Placed| {
            goal.packs.get(&placed.object.pack).is_some_and(|state| Placed::from(state.place) == *placed)
        };
        let there = listed_packs(&**self.target).await?;
        Ok(dead.iter().filter(|placed| there.contains_key(placed) && !lives(placed)).copied().collect())
    }

    async fn delete_dead(&self, dead: &[Placed], report: &mut CopyReport) -> Result<(), CopyError> {
        let delete = |placed: Placed| async move { (placed, self.target.delete(&placed.name()).await) };
        let mut answers = futures::stream::iter(dead.iter().copied()).map(delete).buffer_unordered(8);
        while let Some((placed, answer)) = answers.next().await {
            match answer {
                Ok(Deleted::Gone) => report.deleted_objects += 1,
                Ok(Deleted::Retained) => report.retained_objects += 1,
                // Whoever copies need not be able to delete: then somebody else tidies.
                Err(StoreError::Refused { .. }) => {
                    report.no_delete_right = true;
                    return Ok(());
                }
                Err(cause) => return Err(at_target(&placed.name(), cause)),
            }
        }
        Ok(())
    }
}

/// The packs that a copy of everything lacks.
fn wanted(had: &Fold, goal: &Fold, before: Option<&CopyMark>) -> Vec<PackPlace> {
    let lacked: BTreeSet<&str> = before.iter().flat_map(|mark| &mark.lacks).map(String::as_str).collect();
    let is_new = |pack: &PackId, place: PackPlace| {
        had.packs.get(pack).is_none_or(|state| state.place != place) || lacked.contains(place.name().as_str())
    };
    let packs = goal.packs.iter().map(|(pack, state)| (pack, state.place));
    let packs = packs.filter(|(pack, place)| is_new(pack, *place)).map(|(_, place)| place);
    let had_bundles: BTreeSet<Placed> = had.bundles().map(Placed::from).collect();
    let bundles = goal.bundles().filter(|place| {
        !had_bundles.contains(&Placed::from(*place)) || lacked.contains(place.name().as_str())
    });
    packs.chain(bundles).collect()
}

/// The objects of packs that a store shows, with their sizes.
pub(super) async fn listed_packs(target: &dyn ObjectStore) -> Result<BTreeMap<Placed, u64>, CopyError> {
    let mut there = BTreeMap::new();
    for kind in [PackKind::Data, PackKind::Map, PackKind::Log] {
        let prefix = format!("{}/", kind.folder());
        let objects = listed(target, &prefix).await;
        let objects = objects.map_err(|cause| CopyError::Target { object: prefix.clone(), cause })?;
        there.extend(objects.iter().filter_map(|object| match ObjectName::parse(&object.name)?.1 {
            ObjectKind::Pack(kind, found) => Some((Placed { kind, object: found }, object.bytes)),
            _ => None,
        }));
    }
    Ok(there)
}

/// An object, or `None` where there is none.
async fn found(store: &dyn ObjectStore, name: &ObjectName) -> Result<Option<Bytes>, StoreError> {
    match store.get(name).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(cause) => Err(cause),
    }
}

async fn listed(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<Listed>, StoreError> {
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let page = store.list(prefix, all.last().map(|object| object.name.as_str())).await?;
        let is_last = !page.more || page.objects.is_empty();
        all.extend(page.objects);
        if is_last {
            return Ok(all);
        }
    }
}

pub(super) fn at_target(name: &ObjectName, cause: StoreError) -> CopyError {
    CopyError::Target { object: name.to_string(), cause }
}

fn at_source(name: &ObjectName, cause: StoreError) -> CopyError {
    CopyError::Source { object: name.to_string(), cause }
}
