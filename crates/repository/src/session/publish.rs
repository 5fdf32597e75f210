//! Publishing: the one record that makes a recovery point.
//!
//! At each attempt, on the fold that the record is decided on, all that the point needs is compared with the
//! pack table and with the pending plan:
//!
//! * the session's own new packs: alive by being named here; revived when the plan found them as orphans;
//! * what `lookup` and `refers_to` answered from other packs: entry by entry;
//! * what came with the parent's map: nothing to do while the parent is current, since a plan never names what
//!   a current point needs; when it is no longer current (or after a fence) the whole map is walked, entry by
//!   entry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strongroom_model::{PackId, RecoveryPointId};

use super::source::SessionSource;
use super::{Draft, DraftMap, Lists, Published, Session};
use crate::entry_runs::EntryRuns;
use crate::errors::{JournalError, PublishError};
use crate::fold::Fold;
use crate::journal::Attempt;
use crate::map::{EntrySet, MapReader, MapRoot};
use crate::pack::EntryRef;
use crate::record::{self, Event, NewPack, Placed};
use crate::rules::{Rule, holds};

/// How often another writer may be faster before a publish gives up. Each time one of them got something done.
const MOST_LOST: u32 = 1_000;

/// What a draft needs, as far as it does not depend on the fold.
struct Needs {
    root: MapRoot,
    /// Every pack of the map, sorted; none when the map is the parent's.
    packs: Vec<PackId>,
    /// What was referred to in packs of others.
    referred: Vec<(PackId, EntryRuns)>,
    /// All entries, once they had to be looked at.
    walked: Option<EntrySet>,
}

impl Session {
    /// Makes the draft a recovery point. With `last` the same record ends the session. After an unclear outcome
    /// the same draft may be published again: it does not become a second point.
    ///
    /// # Errors
    /// [`PublishError::Fenced`]: go on with [`Session::reopen`]. [`PublishError::Gone`]: what the map refers to
    /// was swept; back up again in this session. Otherwise the journal or the store failed.
    pub async fn publish(&self, draft: Draft, last: bool) -> Result<Published, PublishError> {
        self.publish_chosen(None, draft, last).await
    }

    /// [`Session::publish`] under an id that was chosen beforehand, so that others could be told it before there was a point. An id
    /// that is in the journal already is taken for this very draft: choose one at random, and never for two drafts.
    ///
    /// # Errors
    /// As [`Session::publish`].
    pub async fn publish_under(
        &self,
        point: RecoveryPointId,
        draft: Draft,
        last: bool,
    ) -> Result<Published, PublishError> {
        self.publish_chosen(Some(point), draft, last).await
    }

    async fn publish_chosen(
        &self,
        chosen: Option<RecoveryPointId>,
        draft: Draft,
        last: bool,
    ) -> Result<Published, PublishError> {
        self.keep();
        self.spill(&mut self.lists());
        let mut needs = self.needs(&draft)?;
        let key = (draft.volume.clone(), needs.root, draft.info.taken_at);
        let point = match (chosen, &self.lists().unclear) {
            (Some(chosen), _) => chosen,
            (None, Some((unclear, point))) if *unclear == key => *point,
            (None, _) => RecoveryPointId::random(&*self.repository.inner.world.entropy),
        };
        let published = self.publish_as(point, &draft, &mut needs, last).await;
        match &published {
            Ok(_) => self.lists().unclear = None,
            Err(PublishError::Journal(_) | PublishError::Fenced { .. }) => {
                self.lists().unclear = Some((key, point))
            }
            Err(_) => {}
        }
        #[cfg(test)]
        if published.is_err() && !holds(Rule::WriterNeverDeletes) {
            for receipt in self.receipts.stored() {
                let _ = self.repository.store().delete(&receipt.place().name()).await;
            }
        }
        if published.is_ok() && last {
            self.ended().await;
        }
        published
    }

    fn needs(&self, draft: &Draft) -> Result<Needs, PublishError> {
        match (&draft.map, &draft.parent) {
            (DraftMap::SameAsParent, Some(parent)) => {
                Ok(Needs { root: parent.map, packs: Vec::new(), referred: Vec::new(), walked: None })
            }
            (DraftMap::SameAsParent, None) => {
                let what = "it is to have the map of its parent, and has no parent".to_owned();
                Err(PublishError::Draft { volume: draft.volume.clone(), what })
            }
            (DraftMap::Written(map), _) => {
                let packs = map.head.packs();
                let Lists { referred, .. } = &*self.lists();
                let referred =
                    packs.iter().filter_map(|pack| referred.get(pack).map(|runs| (*pack, runs.clone())));
                Ok(Needs { root: map.root, referred: referred.collect(), packs, walked: None })
            }
        }
    }

    async fn publish_as(
        &self,
        point: RecoveryPointId,
        draft: &Draft,
        needs: &mut Needs,
        last: bool,
    ) -> Result<Published, PublishError> {
        let journal = self.repository.journal();
        for lost in 1..=MOST_LOST {
            let fold = journal.read().await?;
            if let Some((_, there)) = fold.map_of(&point).filter(|_| holds(Rule::LookForOwn)) {
                return self.found(point, there).await;
            }
            if !fold.sessions.contains_key(&self.id) {
                return Err(PublishError::Fenced { session: self.id });
            }
            let event = self.decide(&fold, point, draft, needs, last).await?;
            let packs: BTreeSet<PackId> = event.packs.iter().map(|new| new.place.object.pack).collect();
            match journal.attempt(fold, Event::Published(Box::new(event))).await? {
                Attempt::In(entry) => {
                    self.receipts.forget(&packs);
                    return Ok(Published { point, number: entry.number, hash: entry.hash });
                }
                Attempt::Lost => journal.yield_to_others(lost).await,
            }
        }
        Err(JournalError::Crowded { kind: "published", attempts: MOST_LOST }.into())
    }

    /// An earlier attempt, whose answer was lost, is in.
    async fn found(&self, point: RecoveryPointId, number: u64) -> Result<Published, PublishError> {
        let fold = self.repository.known_fold();
        let ours = self.receipts.stored().into_iter().map(|receipt| receipt.pack());
        self.receipts.forget(&ours.filter(|pack| fold.packs.contains_key(pack)).collect());
        match self.repository.journal().fetch(number).await? {
            Some((_, hash)) => Ok(Published { point, number, hash }),
            None => Err(JournalError::Hole { missing: number, later: fold.number }.into()),
        }
    }

    /// The record for this fold.
    async fn decide(
        &self,
        fold: &Fold,
        point: RecoveryPointId,
        draft: &Draft,
        needs: &mut Needs,
        last: bool,
    ) -> Result<record::Published, PublishError> {
        let mut new = BTreeMap::new();
        for pack in &needs.packs {
            if fold.packs.contains_key(pack) {
                continue;
            }
            let receipt = self.receipts.get(pack).ok_or(PublishError::Gone { pack: *pack })?;
            let (place, bytes) = (receipt.place().into(), receipt.bytes());
            new.insert(*pack, NewPack { place, bytes, entries: receipt.entry_count() });
        }
        let parent_stands = draft.parent.as_ref().is_some_and(|parent| fold.points.contains_key(&parent.id));
        let inherits = draft.parent.is_some() && (!parent_stands || self.check_all);
        if (inherits || self.check_all) && needs.walked.is_none() {
            needs.walked = Some(self.walk(needs.root).await?);
        }
        let mut revives = self.revives(fold, needs, &new, inherits || self.check_all)?;
        revives.extend(new.iter().filter(|(_, new)| names(fold, &new.place)).map(|(pack, _)| *pack));
        if !holds(Rule::Revive) {
            revives.clear();
        }
        let may_revive = fold.waits_for(self.id) || !holds(Rule::LateSessionsAvoid);
        if let Some(pack) = revives.first().filter(|_| !may_revive) {
            return Err(PublishError::Gone { pack: *pack });
        }
        let mut info = draft.info.clone();
        info.published_at = self.repository.inner.world.clock.now();
        info.agent.clone_from(&self.repository.journal().agent);
        Ok(record::Published {
            session: self.id,
            point,
            volume: draft.volume.clone(),
            parent: draft.parent.as_ref().map(|parent| parent.id),
            map: needs.root,
            packs: new.into_values().collect(),
            revives,
            last,
            info,
        })
    }

    /// Which packs of the table die although they are needed. Fails when something needed does not exist.
    fn revives(
        &self,
        fold: &Fold,
        needs: &Needs,
        new: &BTreeMap<PackId, NewPack>,
        all: bool,
    ) -> Result<BTreeSet<PackId>, PublishError> {
        let mut revives = BTreeSet::new();
        let mut look = |at: EntryRef| {
            if new.contains_key(&at.pack) {
                return Ok(());
            }
            if !fold.is_alive(at) {
                return Err(PublishError::Gone { pack: at.pack });
            }
            if fold.is_dying(at) {
                revives.insert(at.pack);
            }
            Ok(())
        };
        for (pack, entries) in &needs.referred {
            entries.iter().try_for_each(|entry| look(EntryRef { pack: *pack, entry }))?;
        }
        if let Some(walked) = needs.walked.as_ref().filter(|_| all) {
            for pack in walked.packs() {
                walked.entries(&pack).try_for_each(|entry| look(EntryRef { pack, entry }))?;
            }
        }
        Ok(revives)
    }

    /// Everything that a map needs.
    async fn walk(&self, root: MapRoot) -> Result<EntrySet, PublishError> {
        let source = SessionSource {
            reader: self.repository.reader(),
            fetcher: self.repository.inner.fetcher.clone(),
            receipts: self.receipts.clone(),
        };
        let mut needed = EntrySet::new();
        MapReader::open(Arc::new(source), root).await?.walk(&mut needed).await?;
        Ok(needed)
    }
}

/// Whether the pending plan names the object of a pack that is not in the table yet.
fn names(fold: &Fold, place: &Placed) -> bool {
    fold.plan.as_ref().is_some_and(|plan| plan.names(place))
}
