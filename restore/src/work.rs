//! Which chunks a restore has to see to: pure.
//!
//! The grid of a restore is the target's: beyond the end of the point's volume it is zero. Nothing here grows with the
//! number of chunks, except by a bit for those that need nothing and by what differs from a base.

use std::collections::HashMap;
use std::ops::Range;

use strongroom_model::{ByteRange, PackId};
use strongroom_repository::map::{ChunkDelta, Run};
use strongroom_repository::pack::EntryRef;

use crate::chunk_set::ChunkSet;

/// Which chunks may differ from what the target holds before the first write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// These, in order: the others are known to be right, by the map of what the target was cloned from.
    Ranges(Vec<Range<u64>>),
}

/// The chunks to see to, and what needs no fetching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Bytes of a chunk of the grid.
    pub chunk_bytes: u64,
    /// Bytes of the point's volume; beyond them everything is zero.
    pub point_bytes: u64,
    /// Bytes of the target that the restore answers for.
    pub target_bytes: u64,
    /// Zeros need not be written: the target is fresh and reads as zero.
    pub blank: bool,
    /// What may differ.
    pub scope: Scope,
    /// Chunks that are right at the target already: found equal, or written by an earlier run.
    pub right: ChunkSet,
    /// Chunks that are copied from a local source instead of fetched.
    pub copy: ChunkSet,
}

/// Neighbouring chunks to be filled from neighbouring entries of one pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The first chunk.
    pub chunk: u64,
    /// How many.
    pub count: u32,
    /// The entry of the first chunk.
    pub entry: u32,
    /// The entries are not the chunks, but what their deltas are built on.
    pub is_base: bool,
}

impl Piece {
    /// Its chunks.
    #[must_use]
    pub const fn chunks(&self) -> Range<u64> {
        self.chunk..self.chunk + self.count as u64
    }

    /// The part of it that fills `chunks`; none when these are none, or begin before it.
    #[must_use]
    pub fn part(&self, chunks: &Range<u64>) -> Option<Self> {
        let skipped = u32::try_from(chunks.start.checked_sub(self.chunk)?).ok()?;
        Some(Self {
            chunk: chunks.start,
            count: u32::try_from(chunks.end.checked_sub(chunks.start)?).ok().filter(|count| *count > 0)?,
            entry: self.entry.checked_add(skipped)?,
            is_base: self.is_base,
        })
    }
}

/// What is to be done within a window of chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    /// By pack, in the order of the first chunk that each pack fills.
    pub packs: Vec<(PackId, Vec<Piece>)>,
    /// Chunks that must become zero, in order. Empty when the target is blank.
    pub zeros: Vec<Range<u64>>,
    /// Bytes that are zero and are left alone, since the target is blank.
    pub hole_bytes: u64,
}

impl Work {
    /// How many chunks the grid has.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.target_bytes.div_ceil(self.chunk_bytes)
    }

    /// The bytes of a range of chunks that lie within the target; `None` when there are none.
    #[must_use]
    pub fn bytes_of(&self, chunks: &Range<u64>) -> Option<ByteRange> {
        let end = chunks.end.saturating_mul(self.chunk_bytes).min(self.target_bytes);
        ByteRange::new(chunks.start.saturating_mul(self.chunk_bytes), end).ok()
    }

    /// How many bytes of the target a range of chunks has.
    #[must_use]
    pub fn count_bytes(&self, chunks: &Range<u64>) -> u64 {
        self.bytes_of(chunks).map_or(0, |range| range.len())
    }

    /// How many bytes of content the point has for a chunk: less than the grid's only at its end.
    #[must_use]
    pub fn content_bytes(&self, chunk: u64) -> u64 {
        self.point_bytes.saturating_sub(chunk.saturating_mul(self.chunk_bytes)).min(self.chunk_bytes)
    }

    /// The chunks within a window that may differ, in order.
    #[must_use]
    pub fn in_scope(&self, window: Range<u64>) -> Vec<Range<u64>> {
        match &self.scope {
            Scope::All if window.is_empty() => Vec::new(),
            Scope::All => vec![window],
            Scope::Ranges(ranges) => {
                let first = ranges.partition_point(|range| range.end <= window.start);
                ranges[first..]
                    .iter()
                    .take_while(|range| range.start < window.end)
                    .map(|range| range.start.max(window.start)..range.end.min(window.end))
                    .collect()
            }
        }
    }

    /// The chunks within a window that have to be seen to, in order.
    #[must_use]
    pub fn pending(&self, window: Range<u64>) -> Vec<Range<u64>> {
        self.in_scope(window).into_iter().flat_map(|range| self.right.missing(range)).collect()
    }

    /// What is to be done within a window whose runs, in order, are `runs`.
    #[must_use]
    pub fn pieces(&self, window: Range<u64>, runs: &[Run]) -> Pieces {
        let mut pieces = Pieces::default();
        let mut place: HashMap<PackId, usize> = HashMap::new();
        let mut from = 0;
        for pending in self.pending(window) {
            from += runs[from..].partition_point(|run| run.start + run.count <= pending.start);
            let mut at = pending.start;
            for run in runs[from..].iter().take_while(|run| run.start < pending.end) {
                let chunks = run.start.max(pending.start)..(run.start + run.count).min(pending.end);
                self.leave_zero(at..chunks.start, &mut pieces);
                at = chunks.end;
                let index = *place.entry(run.pack).or_insert_with(|| {
                    pieces.packs.push((run.pack, Vec::new()));
                    pieces.packs.len() - 1
                });
                pieces.packs[index].1.extend(cut(run, chunks));
            }
            self.leave_zero(at..pending.end, &mut pieces);
        }
        pieces
    }

    fn leave_zero(&self, chunks: Range<u64>, pieces: &mut Pieces) {
        if chunks.is_empty() {
        } else if self.blank {
            pieces.hole_bytes += self.count_bytes(&chunks);
        } else {
            match pieces.zeros.last_mut() {
                Some(last) if last.end == chunks.start => last.end = chunks.end,
                _ => pieces.zeros.push(chunks),
            }
        }
    }
}

/// The part of a run that fills `chunks`. A run that would reach beyond the last entry number is no run: the map
/// reader has refused it.
fn cut(run: &Run, chunks: Range<u64>) -> Option<Piece> {
    let skipped = u32::try_from(chunks.start - run.start).ok()?;
    let count = u32::try_from(chunks.end - chunks.start).ok()?;
    Some(Piece { chunk: chunks.start, count, entry: run.first_entry.checked_add(skipped)?, is_base: false })
}

/// The numbers of all entries that pieces need, in order, each once.
#[must_use]
pub fn entries(pieces: &[Piece]) -> Vec<u32> {
    let mut entries: Vec<u32> =
        pieces.iter().flat_map(|piece| piece.entry..piece.entry.saturating_add(piece.count)).collect();
    entries.sort_unstable();
    entries.dedup();
    entries
}

/// The chunks that an entry fills, and whether it is what a delta of the chunk is built on.
pub fn filled_by(pieces: &[Piece], entry: u32) -> impl Iterator<Item = (u64, bool)> + '_ {
    pieces
        .iter()
        .filter(move |piece| entry >= piece.entry && entry - piece.entry < piece.count)
        .map(move |piece| (piece.chunk + u64::from(entry - piece.entry), piece.is_base))
}

/// Pieces by pack, in the order in which the packs are first needed.
pub type ByPack = Vec<(PackId, Vec<Piece>)>;

/// Takes the chunks in `deltas`, which are in ascending order, out of the pieces: `(those, the others)`.
#[must_use]
pub fn part(pieces: ByPack, deltas: &[ChunkDelta]) -> (ByPack, ByPack) {
    if deltas.is_empty() {
        return (Vec::new(), pieces);
    }
    let (mut of_deltas, mut others): (ByPack, ByPack) = (Vec::new(), Vec::new());
    for (pack, pieces) in pieces {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for piece in pieces {
            let chunks = piece.chunks();
            let first = deltas.partition_point(|delta| delta.chunk < chunks.start);
            let mut at = chunks.start;
            for delta in deltas[first..].iter().take_while(|delta| delta.chunk < chunks.end) {
                theirs.extend(piece.part(&(at..delta.chunk)));
                ours.extend(piece.part(&(delta.chunk..delta.chunk + 1)));
                at = delta.chunk + 1;
            }
            theirs.extend(piece.part(&(at..chunks.end)));
        }
        if !ours.is_empty() {
            of_deltas.push((pack, ours));
        }
        if !theirs.is_empty() {
            others.push((pack, theirs));
        }
    }
    (of_deltas, others)
}

/// Adds what deltas are built on: `(chunk, base)`.
pub fn add_bases(packs: &mut ByPack, bases: impl IntoIterator<Item = (u64, EntryRef)>) {
    let mut place: HashMap<PackId, usize> =
        packs.iter().enumerate().map(|(index, (pack, _))| (*pack, index)).collect();
    for (chunk, base) in bases {
        let index = *place.entry(base.pack).or_insert_with(|| {
            packs.push((base.pack, Vec::new()));
            packs.len() - 1
        });
        packs[index].1.push(Piece { chunk, count: 1, entry: base.entry, is_base: true });
    }
}

#[cfg(test)]
mod tests;
