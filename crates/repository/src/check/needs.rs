//! What the current points need, as far as their maps can be read.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_model::{ByteRange, PackId, RecoveryPointId};

use super::Findings;
use crate::fold::Fold;
use crate::map::{ChunkDelta, EntrySet, MapError, MapReader, Run};
use crate::pack::EntryRef;
use crate::point::Point;
use crate::repository::Repository;

/// How many chunks of a map are looked at together.
pub(super) const WINDOW: u64 = 1 << 20;

/// The chunks of one leaf: the smallest part of a map that can be unreadable alone.
const LEAF: u64 = 1024;

/// What is needed, and what cannot be known.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) points: Vec<Point>,
    /// Every needed entry that is known.
    pub(super) entries: EntrySet,
    /// The packs that each point's map root names.
    pub(super) packs: BTreeMap<RecoveryPointId, BTreeSet<PackId>>,
    /// Points whose map has holes in it.
    pub(super) broken: BTreeSet<RecoveryPointId>,
}

impl Repository {
    /// Walks the maps of all current points.
    pub(super) async fn gather_needs(&self, fold: &Fold, findings: &mut Findings) -> Needs {
        let mut needs = Needs { points: fold.points.values().cloned().collect(), ..Needs::default() };
        let mut whole = EntrySet::new();
        loop {
            let mut again = false;
            for point in &needs.points {
                if needs.broken.contains(&point.id) {
                    continue;
                }
                let walked = match self.map(point).await {
                    Ok(map) => {
                        let packs = map.head().packs().into_iter().collect();
                        needs.packs.insert(point.id, packs);
                        map.walk(&mut whole).await
                    }
                    Err(cause) => Err(cause),
                };
                if let Err(cause) = walked {
                    // Which objects are to blame is found when the packs are looked at; a node that opens and
                    // is malformed is not.
                    if let MapError::Malformed { at, .. } = &cause {
                        findings.add(&self.object_of(at.pack), strongroom_model::chain(&cause));
                    }
                    needs.broken.insert(point.id);
                    again = true;
                    break;
                }
            }
            if !again {
                break;
            }
            // A broken walk leaves nodes behind that count as read: the others are walked afresh.
            whole = EntrySet::new();
        }
        for point in needs.points.iter().filter(|point| needs.broken.contains(&point.id)) {
            whole.insert(point.map.at);
            if let Ok(map) = self.map(point).await {
                for window in windows(map.head().chunks()) {
                    let (runs, deltas) = self.readable(&map, window, &mut Vec::new()).await;
                    runs.iter()
                        .flat_map(run_entries)
                        .chain(deltas.iter().map(|delta| delta.of.base))
                        .for_each(|at| {
                            whole.insert(at);
                        });
                }
            }
        }
        needs.entries = whole;
        needs
    }

    /// The runs and deltas of a window as far as they can be read; the chunks behind unreadable leaves go to `lost`.
    pub(super) async fn readable(
        &self,
        map: &MapReader,
        window: std::ops::Range<u64>,
        lost: &mut Vec<std::ops::Range<u64>>,
    ) -> (Vec<Run>, Vec<ChunkDelta>) {
        let (mut runs, mut deltas) = (Vec::new(), Vec::new());
        let mut parts = vec![window];
        while let Some(part) = parts.pop() {
            let read = async {
                let runs = map.runs(part.clone()).await?;
                Ok::<_, MapError>((runs, map.deltas(part.clone()).await?))
            };
            match read.await {
                Ok(found) => {
                    runs.extend(found.0);
                    deltas.extend(found.1);
                }
                Err(_) if part.end - part.start > LEAF => {
                    let middle = (part.start + (part.end - part.start) / 2).next_multiple_of(LEAF);
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Err(_) => lost.push(part),
            }
        }
        (runs, deltas)
    }

    /// The name of the object that holds a pack now, or of the pack where there is none.
    pub(super) fn object_of(&self, pack: PackId) -> String {
        let fold = self.known_fold();
        fold.packs.get(&pack).map_or_else(|| pack.to_string(), |state| state.place.name().to_string())
    }
}

/// The windows of a map.
pub(super) fn windows(chunks: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..chunks.div_ceil(WINDOW)).map(move |window| window * WINDOW..chunks.min((window + 1) * WINDOW))
}

/// The entries of a run, with the chunks that they hold.
pub(super) fn run_entries(run: &Run) -> impl Iterator<Item = EntryRef> + '_ {
    let count = u32::try_from(run.count).unwrap_or(u32::MAX);
    (run.first_entry..run.first_entry.saturating_add(count)).map(|entry| EntryRef { pack: run.pack, entry })
}

/// The bytes of some chunks, cut at the end of the volume.
pub(super) fn bytes_of(
    chunks: &std::ops::Range<u64>,
    chunk_bytes: u32,
    volume_bytes: u64,
) -> Option<ByteRange> {
    let start = chunks.start.saturating_mul(chunk_bytes.into());
    let end = chunks.end.saturating_mul(chunk_bytes.into()).min(volume_bytes);
    ByteRange::new(start, end).ok()
}
