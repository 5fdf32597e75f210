//! Freeing what no point needs: plan, wait, rewrite, delete (section 4 of the protocol, Sweeper and rewriter).
//!
//! What always holds: an object is deleted only after a plan in the journal named it and nobody that the plan
//! waits for is left; what is dead then is dead for ever, so deletes need no order and no lock. A sweeper has
//! no identity: whoever comes finishes the pending plan of anybody. What a sweep skips is found by the next.

mod candidates;
mod execute;
mod leftovers;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde::Serialize;

use crate::errors::{JournalError, SweepError};
use crate::fold::Fold;
use crate::journal::Attempt;
use crate::layout::ObjectName;
use crate::record::{Event, Fenced, Placed};
use crate::repository::Repository;
use crate::rules::{Rule, holds};
use crate::store::{ObjectInfo, StoreError};
use candidates::Candidates;

/// A writer without a sign of life for so long is shut out. A wrong fence costs it a new session, never data.
const STALE: SignedDuration = SignedDuration::from_hours(24);

/// How often others may be faster before a plan is given up; the next sweep comes anyway.
const MOST_LOST: u32 = 100;

/// For how long what a forgotten point needed stays, for the sake of restores that read it: a courtesy, on which no
/// safety rests.
pub const USUAL_GRACE: SignedDuration = SignedDuration::from_hours(24);

/// How to sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepOptions {
    /// A pack is rewritten when at least this share of its entries is needed by nobody. 0.25.
    pub min_hole_ratio: f64,
    /// At most this many bytes are read and written again in one sweep. 4 GiB.
    pub max_rewrite_bytes: u64,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self { min_hole_ratio: 0.25, max_rewrite_bytes: 4 << 30 }
    }
}

/// What a sweep would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct SweepPlan {
    /// Objects to delete, with their sizes.
    pub delete: BTreeMap<String, u64>,
    /// Packs to rewrite, with about how many bytes become free.
    pub rewrite: BTreeMap<String, u64>,
    /// Sessions that it would wait for.
    pub waits_for: BTreeSet<u64>,
    /// The record of a pending plan, which comes first.
    pub pending: Option<u64>,
    /// Current points whose map cannot be read, and why. All that they may need stays.
    pub unreadable: BTreeMap<String, String>,
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct SweepReport {
    /// Objects deleted.
    pub deleted_objects: u64,
    /// Packs rewritten.
    pub rewritten_packs: u64,
    /// Bytes that became free, as far as they are known.
    pub freed_bytes: u64,
    /// Objects that the store keeps for now: a retention lock is on them.
    pub retained_objects: u64,
    /// These credentials may not delete: what was planned stays pending, for somebody who may.
    pub no_delete_right: bool,
    /// Packs that could not be rewritten, and why; the next sweep tries again.
    pub not_rewritten: BTreeMap<String, String>,
    /// Objects beside the packs that were removed: index runs of gone packs, old signs of life, old probes, old checkpoints.
    pub leftovers: u64,
    /// The sessions that a plan still waits for; the next sweep goes on.
    pub waits_for: BTreeSet<u64>,
    /// Current points whose map cannot be read, and why. All that they may need stays.
    pub unreadable: BTreeMap<String, String>,
}

impl Repository {
    /// What a sweep would do now. Reads only.
    ///
    /// # Errors
    /// When the store or the journal fails.
    pub async fn plan_sweep(&self, options: &SweepOptions) -> Result<SweepPlan, SweepError> {
        self.plan_sweep_with_grace(options, SignedDuration::ZERO).await
    }

    /// [`Self::plan_sweep`], if what was forgotten within `grace` (at most a day) is left alone.
    ///
    /// # Errors
    /// When the store or the journal fails.
    pub async fn plan_sweep_with_grace(
        &self,
        options: &SweepOptions,
        grace: SignedDuration,
    ) -> Result<SweepPlan, SweepError> {
        self.learn_domains().await?;
        let candidates = Candidates::find(self, options, grace).await?;
        let fold = self.known_fold();
        let event = candidates.plan_for(&fold);
        let size = |placed: &Placed| candidates.bytes_of(&fold, placed);
        Ok(SweepPlan {
            delete: event.objects.iter().map(|placed| (placed.name().to_string(), size(placed))).collect(),
            rewrite: event
                .holes
                .iter()
                .filter_map(|(pack, holes)| {
                    let state = fold.packs.get(pack)?;
                    let left = u64::from(state.entries).saturating_sub(state.holes.len()).max(1);
                    let frees = u128::from(state.place.bytes) * u128::from(holes.len()) / u128::from(left);
                    Some((pack.to_string(), u64::try_from(frees).unwrap_or(u64::MAX)))
                })
                .collect(),
            waits_for: if fold.plan.is_some() { fold.waiting().collect() } else { event.waits_for },
            pending: fold.plan.as_ref().map(|plan| plan.number),
            unreadable: candidates.unreadable(),
        })
    }

    /// Sweeps: finishes the pending plan, whosever it is, then plans, and executes as far as no session is in
    /// the way.
    ///
    /// # Errors
    /// When the store or the journal fails. What was planned stays pending.
    pub async fn sweep(&self, options: &SweepOptions) -> Result<SweepReport, SweepError> {
        self.sweep_with_grace(options, SignedDuration::ZERO).await
    }

    /// [`Self::sweep`], which leaves alone what points needed that were forgotten within `grace` (at most a day): a
    /// restore may be reading them.
    ///
    /// # Errors
    /// When the store or the journal fails. What was planned stays pending.
    pub async fn sweep_with_grace(
        &self,
        options: &SweepOptions,
        grace: SignedDuration,
    ) -> Result<SweepReport, SweepError> {
        let mut report = SweepReport::default();
        self.may_sweep().await?;
        let fold = self.fold().await?;
        if let Some(plan) = fold.plan.as_ref().map(|plan| plan.number)
            && !self.execute(plan, options, &BTreeMap::new(), &mut report).await?
        {
            return Ok(report);
        }
        // Nobody may plan on a journal with a hole in it.
        self.journal().confirm_end().await?;
        let mut candidates = Candidates::find(self, options, grace).await?;
        report.unreadable = candidates.unreadable();
        #[cfg(test)]
        if !holds(Rule::PlanFirst) {
            for placed in candidates.plan_for(&self.known_fold()).objects {
                let _ = self.delete(&placed).await;
            }
            return Ok(report);
        }
        if let Some(plan) = self.append_plan(&mut candidates).await? {
            self.execute(plan, options, candidates.sizes(), &mut report).await?;
        }
        self.remove_leftovers(&mut report).await;
        Ok(report)
    }

    /// Only plans: no points are forgotten, nothing is deleted. `None`: there is nothing to free.
    pub(crate) async fn plan_what_is_not_needed(&self) -> Result<Option<u64>, SweepError> {
        let options = SweepOptions { max_rewrite_bytes: 0, ..SweepOptions::default() };
        self.learn_domains().await?;
        let mut candidates = Candidates::find(self, &options, SignedDuration::ZERO).await?;
        self.append_plan(&mut candidates).await
    }

    /// In a shared repository the operator sweeps, who can learn what every domain needs. Section 7: with a single writer, that agent sweeps, and with no session open.
    async fn may_sweep(&self) -> Result<(), SweepError> {
        self.journal().may_append()?;
        self.learn_domains().await?;
        let Some(writer) = &self.journal().single_writer else { return Ok(()) };
        let agent = &self.journal().agent;
        if writer != agent {
            return Err(JournalError::OnlyReader { writer: writer.clone(), agent: agent.clone() }.into());
        }
        match self.fold().await?.sessions.keys().next() {
            Some(session) => Err(SweepError::SessionOpen { session: *session }),
            None => Ok(()),
        }
    }

    /// Appends the plan; at each attempt what newer points need is taken out, and it waits for exactly the
    /// sessions open then. Answers the number of the pending plan, be it this one or another's that was faster;
    /// `None`: there is nothing to do.
    async fn append_plan(&self, candidates: &mut Candidates) -> Result<Option<u64>, SweepError> {
        for lost in 1..=MOST_LOST {
            let fold = self.fold().await?;
            if let Some(pending) = &fold.plan {
                return Ok(Some(pending.number));
            }
            if holds(Rule::PlanAgain) {
                candidates.spare_newer(self, &fold).await?;
            }
            let event = candidates.plan_for(&fold);
            if event.objects.is_empty() && event.holes.is_empty() {
                return Ok(None);
            }
            match self.journal().attempt(fold, Event::SweepPlanned(event)).await? {
                Attempt::In(entry) => return Ok(Some(entry.number)),
                Attempt::Lost => self.journal().yield_to_others(lost).await,
            }
        }
        Err(JournalError::Crowded { kind: "sweep planned", attempts: MOST_LOST }.into())
    }

    /// Shuts out every writer whose sign of life is older than a day by the store's own clock. Answers whom.
    ///
    /// # Errors
    /// When the store or the journal fails.
    pub async fn fence_stale(&self) -> Result<Vec<u64>, SweepError> {
        let mut fenced = Vec::new();
        let fold = self.fold().await?;
        for session in fold.sessions.keys().copied() {
            let Some(info) = self.sign_of_life(session).await? else { continue };
            let now = info.store_time.unwrap_or_else(|| self.inner.world.clock.now());
            let silent = now.duration_since(info.last_modified);
            if silent <= STALE {
                continue;
            }
            let reason = format!("no sign of life for {} hours", silent.as_hours());
            let event = Event::Fenced(Fenced { session, reason });
            let is_open = |fold: &Fold| fold.sessions.contains_key(&session);
            if self.journal().append(|fold| is_open(fold).then(|| event.clone())).await?.is_some() {
                fenced.push(session);
            }
        }
        Ok(fenced)
    }

    /// The newest thing that a session wrote beside its packs: its sign of life, or its `opened` before the
    /// first minute.
    async fn sign_of_life(&self, session: u64) -> Result<Option<ObjectInfo>, SweepError> {
        for name in [ObjectName::session(session), ObjectName::journal(session)] {
            match self.store().head(&name).await {
                Ok(info) => return Ok(Some(info)),
                Err(StoreError::NotFound { .. }) => {}
                Err(cause) => return Err(SweepError::Store { object: name.to_string(), cause }),
            }
        }
        Ok(None)
    }
}

/// What a sweep found, for a test that lets something happen before it is planned.
#[cfg(test)]
pub(crate) async fn candidates_for_tests(repository: &Repository, options: &SweepOptions) -> Candidates {
    Candidates::find(repository, options, SignedDuration::ZERO).await.expect("the maps can be read")
}

#[cfg(test)]
impl Repository {
    pub(crate) async fn append_plan_for_tests(
        &self,
        candidates: &mut Candidates,
    ) -> Result<Option<u64>, SweepError> {
        self.append_plan(candidates).await
    }
}
