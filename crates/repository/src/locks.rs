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
use crate::pack::PackPlace;
use crate::record::Placed;
use crate::repository::Repository;
use crate::store::{ObjectStore, StoreError};

/// Locks that are prolonged side by side.
const AT_ONCE: usize = 16;

/// Of so many failures the reason is told.
const MOST_TOLD: usize = 100;

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

impl Repository {
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
        let dying = |place: PackPlace| {
            fold.plan.as_ref().is_some_and(|plan| {
                plan.objects.contains(&Placed::from(place)) && !plan.revived.contains(&place.object.pack)
            })
        };
        let living: Vec<PackPlace> =
            fold.packs.values().map(|state| state.place).filter(|place| !dying(*place)).collect();
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
