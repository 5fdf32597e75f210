//! Making the dedup index again, from nothing but the footers of packs.

use futures::StreamExt;
use strongroom_model::PackId;

use super::{Progress, RebuildReport};
use crate::chunk::ChunkId;
use crate::errors::SweepError;
use crate::index::IndexRun;
use crate::keys::domain_of;
use crate::layout::{ObjectName, PackKind};
use crate::pack::{EntryRef, EntryType, PackPlace, read_footer};
use crate::repository::Repository;

/// How many footers are read side by side.
const AT_ONCE: usize = 16;

/// Entries are gathered up to this many before they become a run: about 14 MB.
const RUN_ENTRIES: usize = 1 << 18;

impl Repository {
    /// Makes the dedup index again from the footers of all packs, here and in the store. `progress` counts packs.
    ///
    /// # Errors
    /// When the journal or the store fails. Packs whose footers cannot be read are counted and left out.
    pub async fn rebuild_index(&self, progress: Progress<'_>) -> Result<RebuildReport, SweepError> {
        let fold = self.fold().await?;
        let old = self
            .list_runs()
            .await
            .map_err(|cause| SweepError::Store { object: "index/".to_owned(), cause })?;
        if let Err(error) = self.inner.index.clear() {
            let cause = strongroom_model::chain(&error);
            tracing::warn!(cause, "the local dedup index cannot be emptied; what is wrong in it is ignored");
        }
        let data = fold.packs.values().filter(|state| state.place.kind == PackKind::Data);
        let places: Vec<PackPlace> = data.map(|state| state.place).collect();
        let total = places.len() as u64;
        let mut report = RebuildReport::default();
        let mut foreign = 0;
        let mut entries: Vec<(ChunkId, EntryRef)> = Vec::new();
        let read = |place: PackPlace| async move { (place, read_footer(&self.inner.context, place).await) };
        let mut footers = futures::stream::iter(places).map(read).buffer_unordered(AT_ONCE);
        while let Some((place, footer)) = footers.next().await {
            let pack: PackId = place.object.pack;
            match footer {
                // Of another domain, of which no chunk is looked for here.
                Ok(footer) if footer.domain() != self.domain() => foreign += 1,
                Err(error) if self.is_of_other_domain(&error) => foreign += 1,
                Ok(footer) => {
                    let chunks = footer.rows().iter().filter(|row| row.entry_type == EntryType::Chunk);
                    entries.extend(chunks.map(|row| (row.id, EntryRef { pack, entry: row.number })));
                    report.packs += 1;
                }
                Err(error) => {
                    let cause = strongroom_model::chain(&error);
                    tracing::warn!(%pack, cause, "a pack is left out of the dedup index");
                    report.unreadable += 1;
                }
            }
            progress(report.packs + report.unreadable + foreign, total);
            if entries.len() >= RUN_ENTRIES {
                report.entries += self.write_runs(&mut entries).await?;
            }
        }
        report.entries += self.write_runs(&mut entries).await?;
        // The old runs say the same or less. Whoever reads one meanwhile asks the pack table anyway.
        for key in old {
            if self.is_shared()
                && self.epoch_of_run(key).await.is_none_or(|epoch| domain_of(epoch) != self.domain())
            {
                continue;
            }
            let name = ObjectName::index_run(key);
            self.store()
                .delete(&name)
                .await
                .map_err(|cause| SweepError::Store { object: name.to_string(), cause })?;
        }
        self.cover(fold.packs.keys().copied());
        Ok(report)
    }

    async fn write_runs(&self, entries: &mut Vec<(ChunkId, EntryRef)>) -> Result<u64, SweepError> {
        let mut written = 0;
        while !entries.is_empty() {
            let run = IndexRun::take_from(entries);
            let key = self.new_run_key();
            let object = || ObjectName::index_run(key).to_string();
            self.leave_run(key, &run).await.map_err(|cause| SweepError::Store { object: object(), cause })?;
            written += run.len() as u64;
            self.add_run(key, run).await;
        }
        Ok(written)
    }
}
