//! Executing the pending plan, whosever it is.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use strongroom_model::PackId;

use super::{SweepOptions, SweepReport};
use crate::errors::SweepError;
use crate::fold::Fold;
use crate::pack::{self, StoredPack};
use crate::record::{Event, PackRewritten, Placed, SweepDone};
use crate::repository::Repository;
use crate::rules::{Rule, holds};
use crate::store::{Deleted, StoreError};

/// How many deletes are on the way at once.
const DELETES_AT_ONCE: usize = 8;

impl Repository {
    /// Rewrites, deletes, and says that it is done. False: the plan waits for a session, or for somebody who may delete.
    pub(super) async fn execute(
        &self,
        plan: u64,
        options: &SweepOptions,
        sizes: &BTreeMap<Placed, u64>,
        report: &mut SweepReport,
    ) -> Result<bool, SweepError> {
        let fold = self.fold().await?;
        if !is_pending(&fold, plan) {
            return Ok(true);
        }
        let waits = fold.waits().is_some() && holds(Rule::WaitForWriters) && holds(Rule::NoClock);
        if waits {
            report.waits_for = fold.waiting().collect();
            if holds(Rule::HolesArePlanned) {
                return Ok(false);
            }
        }
        let mut budget = options.max_rewrite_bytes;
        for pack in fold.to_rewrite() {
            self.rewrite(plan, pack, &mut budget, report).await?;
        }
        // Only where a test lets holes be made without waiting.
        if waits {
            return Ok(false);
        }
        #[cfg(test)]
        if !holds(Rule::NoClock) {
            // A day, as long as days are there.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let fold = self.fold().await?;
        if !is_pending(&fold, plan) {
            return Ok(true);
        }
        let Some(skipped) = self.delete_all(&fold, sizes, report).await? else { return Ok(false) };
        let done = Event::SweepDone(SweepDone { plan, skipped });
        self.journal().append(|fold| is_pending(fold, plan).then(|| done.clone())).await?;
        Ok(true)
    }

    /// Gives one pack a new object without its holes. What cannot be read or written is skipped: the holes
    /// stay, and the next plan names them again.
    async fn rewrite(
        &self,
        plan: u64,
        pack: PackId,
        budget: &mut u64,
        report: &mut SweepReport,
    ) -> Result<(), SweepError> {
        let fold = self.known_fold();
        let (Some(pending), Some(state)) = (&fold.plan, fold.packs.get(&pack)) else { return Ok(()) };
        let Some(holes) = pending.holes.get(&pack).filter(|_| pending.number == plan) else { return Ok(()) };
        let old = state.place;
        if old.bytes > *budget {
            return Ok(());
        }
        *budget -= old.bytes;
        let holes: BTreeSet<u32> = holes.iter().collect();
        let new: StoredPack = match pack::rewrite(&self.inner.context, old, &holes).await {
            Ok(new) => new,
            Err(error) => {
                report.not_rewritten.insert(pack.to_string(), strongroom_model::chain(&error));
                return Ok(());
            }
        };
        #[cfg(test)]
        if !holds(Rule::RecordBeforeDelete) {
            let _ = self.delete(&old.into()).await;
        }
        let event = Event::PackRewritten(PackRewritten {
            plan,
            object: new.object(),
            old: old.object,
            bytes: new.bytes(),
        });
        // When another rewriter was faster, or the plan is done, the new object is an orphan like any other.
        if self.journal().append(|fold| fold.permits(&event).is_ok().then(|| event.clone())).await?.is_some()
        {
            report.rewritten_packs += 1;
            report.freed_bytes = report.freed_bytes.saturating_sub(new.bytes());
        }
        Ok(())
    }

    /// Deletes what the plan deletes, each until it is acknowledged. Answers what a retention lock keeps; `None`: whoever this is
    /// may not delete, so nothing is said to be done.
    async fn delete_all(
        &self,
        fold: &Fold,
        sizes: &BTreeMap<Placed, u64>,
        report: &mut SweepReport,
    ) -> Result<Option<BTreeSet<Placed>>, SweepError> {
        let mut skipped = BTreeSet::new();
        let delete = |placed: Placed| async move { (placed, self.delete(&placed).await) };
        let mut answers =
            futures::stream::iter(fold.deletable()).map(delete).buffer_unordered(DELETES_AT_ONCE);
        while let Some((placed, answer)) = answers.next().await {
            match answer {
                Ok(Deleted::Gone) => {
                    report.deleted_objects += 1;
                    let in_table = || {
                        let pack = fold.packs.get(&placed.object.pack).map(|state| state.place);
                        pack.or_else(|| fold.bundle(&placed)).map(|place| place.bytes)
                    };
                    report.freed_bytes += sizes.get(&placed).copied().or_else(in_table).unwrap_or(0);
                }
                Ok(Deleted::Retained) => {
                    report.retained_objects += 1;
                    skipped.insert(placed);
                }
                Err(StoreError::Refused { .. }) => {
                    report.no_delete_right = true;
                    return Ok(None);
                }
                Err(cause) => return Err(SweepError::Store { object: placed.name().to_string(), cause }),
            }
        }
        Ok(Some(skipped))
    }

    pub(super) async fn delete(&self, placed: &Placed) -> Result<Deleted, StoreError> {
        #[cfg(test)]
        if !holds(Rule::NoClock)
            && self.fold().await.is_ok_and(|fold| fold.plan.is_some() && !fold.deletable().contains(placed))
        {
            return Ok(Deleted::Gone);
        }
        let name = placed.name();
        let mut failures = 0;
        loop {
            match self.store().delete(&name).await {
                Err(cause) if cause.is_transient() => {
                    failures += 1;
                    if !self.journal().patience.wait(failures).await {
                        return Err(cause);
                    }
                }
                answer => return answer,
            }
        }
    }
}

fn is_pending(fold: &Fold, plan: u64) -> bool {
    fold.plan.as_ref().is_some_and(|pending| pending.number == plan)
}
