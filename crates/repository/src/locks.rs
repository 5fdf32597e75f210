//! Prolonging the retention locks of packs that are still needed.
//!
//! A pack is locked when it is written. Once its lock has ended, whoever has stolen the right to delete can delete it, so
//! locks of packs that live are prolonged in time; those of dead ones are left to end, and then a sweep frees the space.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;

use crate::check::Progress;
use crate::errors::JournalError;
use crate::fold::Fold;
use crate::pack::PackPlace;
use crate::record::Placed;
use crate::repository::Repository;
use crate::store::{ObjectStore, StoreError};

/// Locks that are prolonged side by side.
const AT_ONCE: usize = 16;

/// Of so many failures the reason is told.
const MOST_TOLD: usize = 100;

/// Packs whose locks are looked at to see whether all are prolonged: a store that refuses, refuses them all.
const SAMPLE: usize = 16;

/// What became of the locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct LockReport {
    /// Packs whose lock was prolonged.
    pub prolonged: u64,
    /// The earliest moment at which one of those locks ends.
    pub locked_until: Option<Timestamp>,
    /// Packs whose lock was not, in all.
    pub failed: u64,
    /// Why, of the first of them.
    pub failures: BTreeMap<String, String>,
}

/// Whether locks are prolonged in time, as the store itself says of some packs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockState {
    /// Packs that were looked at.
    pub packs: usize,
    /// Those of them whose lock holds for less than half of a span, or that have none.
    pub late: usize,
    /// When the first of those locks ends, or ended; `None`: it has none.
    pub ends_at: Option<Timestamp>,
    /// Why others could not be looked at.
    pub trouble: Option<String>,
}

impl Repository {
    /// Looks at the locks of some packs that live, in the store of the repository or in that of a copy; `None` where the
    /// settings ask for no locks there. Locks are prolonged four times in a span: one that holds for less than half of it was
    /// passed over twice.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn lock_state(&self, store: &Arc<dyn ObjectStore>) -> Result<Option<LockState>, JournalError> {
        let Some(span) = store.lock_span() else { return Ok(None) };
        let fold = self.fold().await?;
        let living = fold.packs.values().map(|state| state.place).filter(|place| !is_dying(&fold, *place));
        let living: Vec<PackPlace> = living.chain(fold.bundles()).collect();
        let due = self.inner.world.clock.now();
        let due = jiff::SignedDuration::try_from(span / 2).ok().and_then(|half| due.checked_add(half).ok());
        let due = due.unwrap_or(Timestamp::MAX);
        let sample: Vec<PackPlace> =
            living.iter().step_by(living.len().div_ceil(SAMPLE).max(1)).copied().collect();
        let mut state = LockState { packs: 0, late: 0, ends_at: None, trouble: None };
        let look = |place: PackPlace| async move { store.head(&place.name()).await };
        let mut answers = futures::stream::iter(sample).map(look).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(info) => {
                    state.packs += 1;
                    if info.locked_until.is_none_or(|until| until < due) {
                        // No lock at all comes before any that ends.
                        state.ends_at = match state.late {
                            0 => info.locked_until,
                            _ => state.ends_at.min(info.locked_until),
                        };
                        state.late += 1;
                    }
                }
                // A check says what is missing; a copy may not have it yet.
                Err(StoreError::NotFound { .. }) => {}
                Err(cause) => {
                    state.trouble.get_or_insert_with(|| strongroom_model::chain(&cause));
                }
            }
        }
        Ok(Some(state))
    }

    /// Prolongs the lock of every pack that lives, in the store of the repository or in that of a copy. A pack that a copy does
    /// not have yet is passed over. One request a pack.
    ///
    /// # Errors
    /// When the journal cannot be read. What fails with single packs is in the report.
    pub async fn prolong_locks(
        &self,
        store: &Arc<dyn ObjectStore>,
        progress: Progress<'_>,
    ) -> Result<LockReport, JournalError> {
        let fold = self.fold().await?;
        let living = fold.packs.values().map(|state| state.place).filter(|place| !is_dying(&fold, *place));
        let living: Vec<PackPlace> = living.chain(fold.bundles()).collect();
        let is_copy = store.location() != self.location();
        let total = living.len() as u64;
        let mut report = LockReport::default();
        let prolong = |place: PackPlace| async move { (place, store.prolong(&place.name()).await) };
        let mut answers = futures::stream::iter(living).map(prolong).buffer_unordered(AT_ONCE);
        let mut done = 0;
        while let Some((place, answer)) = answers.next().await {
            done += 1;
            progress(done, total);
            match answer {
                Ok(Some(until)) => {
                    report.prolonged += 1;
                    let earliest = report.locked_until.map_or(until, |other| other.min(until));
                    report.locked_until = Some(earliest);
                }
                Ok(None) => {}
                Err(StoreError::NotFound { .. }) if is_copy => {}
                Err(cause) => {
                    report.failed += 1;
                    if report.failures.len() < MOST_TOLD {
                        report.failures.insert(place.name().to_string(), strongroom_model::chain(&cause));
                    }
                }
            }
        }
        Ok(report)
    }
}

/// Whether a sweep plans to free it: its lock is left to end.
fn is_dying(fold: &Fold, place: PackPlace) -> bool {
    fold.plan.as_ref().is_some_and(|plan| {
        plan.objects.contains(&Placed::from(place)) && !plan.revived.contains(&place.object.pack)
    })
}
