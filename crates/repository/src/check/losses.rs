//! From damaged packs to what people lose: points, volumes, byte ranges.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use futures::StreamExt;
use strongroom_model::{PackId, RecoveryPointId, VolumeName};

use super::needs::{MAPS_AT_ONCE, Needs, bytes_of};
use super::packs::Examined;
use super::{Findings, Loss};
use crate::errors::JournalError;
use crate::map::{LostEntries, MapError, MapReader, MapRoot, Memo};
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
        let named = &fold;
        let look = |(id, root): (RecoveryPointId, MapRoot)| async move {
            let point = named.points.get(&id);
            let map = self.map_of(id, root).await;
            let read = map.as_ref().ok().map(|map| map.head().volume_bytes);
            let volume_bytes = point.map(|point| point.info.volume_bytes).or(read);
            let chunks = match (map, volume_bytes) {
                (Ok(map), _) => map.lost_chunks(lost, memo).await,
                (Err(_), Some(bytes)) => vec![(root.at.pack, 0..bytes.div_ceil(self.chunk_bytes().into()))],
                // Another domain's, and only its root would say how large it is.
                (Err(_), None) => vec![(root.at.pack, 0..1)],
            };
            let volume = point.map_or_else(
                || sealed_volume(named.sealed.get(&id).map_or(0, |point| point.domain)),
                |point| point.volume.clone(),
            );
            (id, volume, volume_bytes.unwrap_or(u64::MAX), chunks)
        };
        let points: Vec<_> = self.checkable(&fold).collect();
        let mut answers = futures::stream::iter(points).map(look).buffered(MAPS_AT_ONCE);
        while let Some((point, volume, volume_bytes, chunks)) = answers.next().await {
            let mut by_pack: BTreeMap<PackId, Vec<Range<u64>>> = BTreeMap::new();
            for (pack, chunks) in chunks {
                by_pack.entry(pack).or_default().push(chunks);
            }
            for (pack, chunks) in by_pack {
                let ranges = joined(chunks);
                let bytes =
                    ranges.iter().filter_map(|chunks| bytes_of(chunks, self.chunk_bytes(), volume_bytes));
                let loss = Loss { point, volume: volume.clone(), ranges: bytes.collect() };
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

/// What a volume of another domain is called, whose name this key does not open.
pub(super) fn sealed_volume(domain: u32) -> VolumeName {
    format!("domain-{domain}").parse().expect("letters, a dash and digits are a name")
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
