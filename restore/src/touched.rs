//! Which blocks of a chunk can differ from what the target was cloned from.
//!
//! Two points of one volume share most of what they were built from: a chunk of one may be a delta of the very entry that is the
//! other's chunk, or both are deltas of a third. Then they are equal outside of the blocks that the deltas bring, and
//! only these are written.

use std::collections::HashMap;
use std::ops::Range;

use strongroom_repository::chunk::{BLOCK_BYTES, Blocks};
use strongroom_repository::map::{ChunkDelta, MapError, MapReader, Run};
use strongroom_repository::pack::EntryRef;

use crate::work::Work;

/// The map is read in steps of this many chunks.
const STEP: u64 = 1 << 16;

/// The chunks of a window of which only some blocks can differ.
#[derive(Debug, Default)]
pub struct Touched(HashMap<u64, Blocks>);

impl Touched {
    /// The runs of bytes within `chunk` that can differ, of `bytes` that it has; all of it where nothing is known.
    pub(crate) fn ranges(&self, chunk: u64, bytes: usize) -> Vec<Range<usize>> {
        let Some(blocks) = self.0.get(&chunk) else { return std::iter::once(0..bytes).collect() };
        let block_bytes = BLOCK_BYTES as usize;
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for block in blocks.iter() {
            let start = block as usize * block_bytes;
            let range = start.min(bytes)..(start + block_bytes).min(bytes);
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ if range.is_empty() => {}
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// Compares the maps of the point and of what the target was cloned from, within a window.
    ///
    /// # Errors
    /// When a map cannot be read; then nothing is known, and whole chunks are written.
    pub async fn within(
        work: &Work,
        point: &MapReader,
        cloned: &MapReader,
        window: Range<u64>,
    ) -> Result<Self, MapError> {
        let mut touched = HashMap::new();
        let mut at = window.start;
        while at < window.end {
            let step = at..(at + STEP).min(window.end);
            at = step.end;
            if work.pending(step.clone()).is_empty() {
                continue;
            }
            let (ours, theirs) = (Side::read(point, step.clone()).await?, Side::read(cloned, step).await?);
            for chunk in ours.deltas.iter().chain(&theirs.deltas).map(|delta| delta.chunk) {
                if let (Some((root, blocks)), Some((other, others))) = (ours.root(chunk), theirs.root(chunk))
                    && root == other
                {
                    touched.insert(chunk, blocks.union(&others));
                }
            }
        }
        Ok(Self(touched))
    }
}

/// What a map says of a step.
struct Side {
    runs: Vec<Run>,
    deltas: Vec<ChunkDelta>,
}

impl Side {
    async fn read(map: &MapReader, step: Range<u64>) -> Result<Self, MapError> {
        let end = map.head().chunks();
        let step = step.start.min(end)..step.end.min(end);
        if step.is_empty() {
            return Ok(Self { runs: Vec::new(), deltas: Vec::new() });
        }
        Ok(Self { runs: map.runs(step.clone()).await?, deltas: map.deltas(step).await? })
    }

    /// The whole chunk that this one is built on, and in which blocks it is another.
    fn root(&self, chunk: u64) -> Option<(EntryRef, Blocks)> {
        if let Ok(at) = self.deltas.binary_search_by_key(&chunk, |delta| delta.chunk) {
            let of = self.deltas[at].of;
            return Some((of.base, of.blocks));
        }
        let run = &self.runs[self.runs.partition_point(|run| run.start <= chunk).checked_sub(1)?];
        let step = u32::try_from(chunk - run.start).ok().filter(|step| u64::from(*step) < run.count)?;
        Some((EntryRef { pack: run.pack, entry: run.first_entry.checked_add(step)? }, Blocks::NONE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_blocks_are_one_range_and_the_last_ends_with_its_chunk() {
        let mut blocks = Blocks::NONE;
        [0, 1, 5, 15].into_iter().for_each(|block| blocks.insert(block));
        let touched = Touched(HashMap::from([(7, blocks)]));
        assert_eq!(touched.ranges(7, 65_536), [0..8192, 20_480..24_576, 61_440..65_536]);
        assert_eq!(touched.ranges(7, 61_441), [0..8192, 20_480..24_576, 61_440..61_441]);
        assert_eq!(touched.ranges(7, 10_000), vec![0..8192; 1]);
        assert_eq!(touched.ranges(8, 65_536), std::iter::once(0..65_536).collect::<Vec<_>>());
    }
}
