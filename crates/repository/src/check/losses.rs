//! From damaged packs to what people lose: points, volumes, byte ranges.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use futures::StreamExt;
use strongroom_model::PackId;

use super::needs::{MAPS_AT_ONCE, Needs, bytes_of};
use super::packs::Examined;
use super::{Findings, Loss};
use crate::errors::JournalError;
use crate::map::{LostEntries, MapError, MapReader, Memo};
use crate::point::Point;
use crate::repository::Repository;

impl Repository {
    /// Adds to each damaged object which bytes of which points are lost by it. Points that were forgotten
    /// meanwhile lose nothing.
    pub(super) async fn find_losses(
        &self,
        needs: &Needs,
        examined: &Examined,
        findings: &mut Findings,
    ) -> Result<(), JournalError> {
        let mut lost = examined.lost.clone();
        for (pack, entries) in &needs.unreadable.0 {
            lost.0.entry(*pack).or_default().extend(entries);
        }
        if lost.0.is_empty() {
            return Ok(());
        }
        let fold = self.fold().await?;
        let memo = Mutex::new(Memo::default());
        let (lost, memo) = (&lost, &memo);
        let look = |point: Point| async move {
            let chunks = match self.map(&point).await {
                Ok(map) => map.lost_chunks(lost, memo).await,
                Err(_) => {
                    vec![(point.map.at.pack, 0..point.info.volume_bytes.div_ceil(self.chunk_bytes().into()))]
                }
            };
            (point, chunks)
        };
        let points: Vec<Point> = fold.points.values().cloned().collect();
        let mut answers = futures::stream::iter(points).map(look).buffered(MAPS_AT_ONCE);
        while let Some((point, chunks)) = answers.next().await {
            let mut by_pack: BTreeMap<PackId, Vec<Range<u64>>> = BTreeMap::new();
            for (pack, chunks) in chunks {
                by_pack.entry(pack).or_default().push(chunks);
            }
            for (pack, chunks) in by_pack {
                let ranges = joined(chunks);
                let bytes = ranges
                    .iter()
                    .filter_map(|chunks| bytes_of(chunks, self.chunk_bytes(), point.info.volume_bytes));
                let loss = Loss { point: point.id, volume: point.volume.clone(), ranges: bytes.collect() };
                let object = examined.objects.get(&pack).cloned().unwrap_or_else(|| self.object_of(pack));
                findings.add(&object, "a part of a map cannot be read".to_owned()).loses.push(loss);
            }
        }
        Ok(())
    }

    /// Whether any check found an entry damaged that nobody has replaced since.
    #[must_use]
    pub fn knows_damage(&self) -> bool {
        !self.known_fold().verified.damaged().is_empty()
    }

    /// Whether a map refers to entries that a check found damaged: then what they held is to be stored anew.
    ///
    /// # Errors
    /// None today; reading the map goes on where it cannot be read, and says so.
    pub async fn refers_to_damage(&self, map: &MapReader) -> Result<bool, MapError> {
        let fold = self.known_fold();
        if fold.verified.damaged().is_empty() {
            return Ok(false);
        }
        let lost = LostEntries(fold.verified.damaged().clone());
        Ok(!map.lost_chunks(&lost, &Mutex::new(Memo::default())).await.is_empty())
    }
}

/// Sorted, neighbours joined.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
