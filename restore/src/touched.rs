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

/// A map is read in steps of this many chunks.
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

    /// Compares what the map of the point says of a window, its runs and its deltas in order, with the map of what the target was
    /// cloned from.
    ///
    /// # Errors
    /// When that map cannot be read; then nothing is known, and whole chunks are written.
    pub async fn within(
        work: &Work,
        window: Range<u64>,
        runs: &[Run],
        deltas: &[ChunkDelta],
        cloned: &MapReader,
    ) -> Result<Self, MapError> {
        let mut touched = HashMap::new();
        let end = window.end.min(cloned.head().chunks());
        let mut at = window.start;
        while at < end {
            let step = at..(at + STEP).min(end);
            at = step.end;
            if work.pending(step.clone()).is_empty() {
                continue;
            }
            let (other_runs, other_deltas) =
                (cloned.runs(step.clone()).await?, cloned.deltas(step.clone()).await?);
            let first = deltas.partition_point(|delta| delta.chunk < step.start);
            let ours = deltas[first..].iter().take_while(|delta| delta.chunk < step.end);
            for chunk in ours.chain(&other_deltas).map(|delta| delta.chunk) {
                if let (Some((root, blocks)), Some((other, others))) =
                    (root(chunk, runs, deltas), root(chunk, &other_runs, &other_deltas))
                    && root == other
                {
                    touched.insert(chunk, blocks.union(&others));
                }
            }
        }
        Ok(Self(touched))
    }
}

/// The whole chunk that this one is built on, and in which blocks it is another.
fn root(chunk: u64, runs: &[Run], deltas: &[ChunkDelta]) -> Option<(EntryRef, Blocks)> {
    if let Ok(at) = deltas.binary_search_by_key(&chunk, |delta| delta.chunk) {
        let of = deltas[at].of;
        return Some((of.base, of.blocks));
    }
    let run = &runs[runs.partition_point(|run| run.start <= chunk).checked_sub(1)?];
    let step = u32::try_from(chunk - run.start).ok().filter(|step| u64::from(*step) < run.count)?;
    Some((EntryRef { pack: run.pack, entry: run.first_entry.checked_add(step)? }, Blocks::NONE))
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
