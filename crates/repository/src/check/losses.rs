//! From damaged packs to what people lose: points, volumes, byte ranges.

use std::collections::BTreeMap;
use std::ops::Range;

use strongroom_model::PackId;

use super::needs::{Needs, bytes_of, windows};
use super::packs::Examined;
use super::{Findings, Loss};
use crate::errors::JournalError;
use crate::map::Run;
use crate::point::Point;
use crate::repository::Repository;

/// The name under which a loss is told whose object cannot be told.
const UNKNOWN: &str = "maps";

impl Repository {
    /// Adds to each damaged object which bytes of which points are lost by it. Points that were forgotten
    /// meanwhile lose nothing.
    pub(super) async fn find_losses(
        &self,
        needs: &Needs,
        examined: &Examined,
        findings: &mut Findings,
    ) -> Result<(), JournalError> {
        if examined.lost.is_empty() && needs.broken.is_empty() {
            return Ok(());
        }
        let fold = self.fold().await?;
        for point in needs.points.iter().filter(|point| fold.points.contains_key(&point.id)) {
            let touches = |packs: &std::collections::BTreeSet<PackId>| {
                packs.iter().any(|pack| examined.lost.contains_key(pack))
            };
            if needs.broken.contains(&point.id) || needs.packs.get(&point.id).is_some_and(touches) {
                self.losses_of(point, needs, examined, findings).await;
            }
        }
        Ok(())
    }

    async fn losses_of(&self, point: &Point, needs: &Needs, examined: &Examined, findings: &mut Findings) {
        let mut lost: BTreeMap<String, Vec<Range<u64>>> = BTreeMap::new();
        match self.map(point).await {
            Err(cause) => {
                let object = self.object_of(point.map.at.pack);
                findings.add(&object, strongroom_model::chain(&cause));
                lost.entry(object)
                    .or_default()
                    .push(0..point.info.volume_bytes.div_ceil(self.chunk_bytes().into()));
            }
            Ok(map) => {
                for window in windows(map.head().chunks()) {
                    let mut behind = Vec::new();
                    let (runs, deltas) = self.readable(&map, window, &mut behind).await;
                    for delta in deltas {
                        // Without its base a delta is nothing, however sound it is.
                        if let Some((object, entries)) = examined.lost.get(&delta.of.base.pack)
                            && entries.contains(delta.of.base.entry)
                        {
                            lost.entry(object.clone()).or_default().push(delta.chunk..delta.chunk + 1);
                        }
                    }
                    for run in runs {
                        if let Some((object, entries)) = examined.lost.get(&run.pack) {
                            let chunks = chunks_of(&run, entries);
                            lost.entry(object.clone()).or_default().extend(chunks);
                        }
                    }
                    if !behind.is_empty() {
                        let object = blamed(point, needs, examined);
                        lost.entry(object).or_default().extend(behind);
                    }
                }
            }
        }
        for (object, chunks) in lost {
            let ranges = joined(chunks);
            let bytes = ranges
                .iter()
                .filter_map(|chunks| bytes_of(chunks, self.chunk_bytes(), point.info.volume_bytes));
            let loss = Loss { point: point.id, volume: point.volume.clone(), ranges: bytes.collect() };
            findings.add(&object, "nodes of maps cannot be read".to_owned()).loses.push(loss);
        }
    }
}

/// The map pack that a point's unreadable nodes lie in: the first damaged one that its root names.
fn blamed(point: &Point, needs: &Needs, examined: &Examined) -> String {
    let packs = needs.packs.get(&point.id);
    let is_map = |object: &String| object.starts_with("maps/");
    let named =
        packs.into_iter().flatten().filter_map(|pack| examined.lost.get(pack)).map(|(object, _)| object);
    named.clone().find(|object| is_map(object)).cloned().unwrap_or_else(|| UNKNOWN.to_owned())
}

/// The chunks of a run whose entries are lost.
fn chunks_of(run: &Run, lost: &crate::entry_runs::EntryRuns) -> Vec<Range<u64>> {
    let count = u32::try_from(run.count).unwrap_or(u32::MAX);
    let (first, last) = (run.first_entry, run.first_entry.saturating_add(count));
    let overlaps =
        lost.runs().map(|(start, end)| (start.max(first), end.min(last))).filter(|(start, end)| start < end);
    overlaps
        .map(|(start, end)| run.start + u64::from(start - first)..run.start + u64::from(end - first))
        .collect()
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
