//! Filling a target and reading it back, whatever kind it is of; and the journal of that.

use std::sync::Arc;

use strongroom_block_io::{BlockSource, BlockTarget};
use strongroom_model::chain;

use super::{Prepared, Restore};
use crate::chunk_set::ChunkSet;
use crate::error::HydrateError;
use crate::hydrate::{Hydrated, Hydration};
use crate::journal::{Found, Header, Journal, JournalError};
use crate::survey::{Local, byte_range};
use crate::verify::{self, Verified};
use crate::work::{Scope, Work};

impl Restore {
    pub(super) async fn hydrate(
        &self,
        prepared: &Prepared,
        target: Arc<dyn BlockTarget>,
        copy_from: Option<Local>,
        journal: Option<&mut Journal>,
    ) -> Result<Hydrated, HydrateError> {
        let Prepared { plan, map, cloned_map, supply, .. } = prepared;
        let todo = plan.totals.write_bytes + plan.totals.copy_bytes;
        let progress = match &self.watch {
            Some(watch) => watch.clone(),
            None => self.console.progress("restoring", Some(todo)),
        };
        progress.set_total(todo);
        let mut survey = self.survey(plan, map, &**supply);
        survey.cloned = cloned_map.as_ref();
        let hydration = Hydration {
            plan,
            survey: &survey,
            supply: Arc::clone(supply),
            target,
            copy_from,
            bounds: self.bounds,
            progress: &|bytes| progress.advance(bytes),
            journal,
        };
        let hydrated = hydration.run().await;
        progress.finish();
        hydrated
    }

    /// Reads everything back. What is found wrong is taken back from the journal, so that the next run writes it again.
    pub(super) async fn verify(
        &self,
        prepared: &Prepared,
        source: Arc<dyn BlockSource>,
        hydrated: &Hydrated,
        journal: Option<&mut Journal>,
    ) -> Result<Verified, HydrateError> {
        let Prepared { plan, map, supply, .. } = prepared;
        let work =
            Work { blank: false, scope: Scope::All, right: ChunkSet::new(), ..Work::clone(&plan.work) };
        let totals = &plan.totals;
        let data = totals.target_bytes - totals.hole_bytes.min(totals.target_bytes);
        let progress = self.console.progress("verifying", Some(data));
        let local = Local { source, hasher: self.hasher(), is_target: true };
        let survey = self.survey(plan, map, &**supply);
        let advance = |bytes| progress.advance(bytes);
        let verified =
            verify::verify(&survey, &work, &local, &hydrated.lost, self.bounds.workers, &advance).await;
        progress.finish();
        let verified = verified?;
        match verified.wrong.first() {
            None => Ok(verified),
            Some(first) => {
                if let Some(journal) = journal {
                    journal.retract(&verified.wrong)?;
                }
                let range = byte_range(&work, first);
                Err(HydrateError::NotKept { chunks: verified.wrong.len() as u64, range })
            }
        }
    }

    /// Opens the journal that the plan knew of, or makes one. Without a place for it the restore goes on without.
    pub(super) fn open_journal(
        &self,
        prepared: &Prepared,
        header: Header,
    ) -> Result<Option<Journal>, HydrateError> {
        let Some(path) = &prepared.aimed.journal else { return Ok(None) };
        if prepared.aimed.earlier.is_some()
            && let Found::Journal(journal) = Journal::open(path)?
        {
            return Ok(Some(*journal));
        }
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let made = made.map_err(|cause| JournalError::Io { path: path.clone(), cause });
        match made.and_then(|()| Journal::create(path, header)) {
            Err(error @ JournalError::Io { .. }) => {
                self.console.warn(format!(
                    "no journal is kept, so an interrupted run begins anew: {}",
                    chain(&error)
                ));
                Ok(None)
            }
            journal => Ok(Some(journal?)),
        }
    }
}
