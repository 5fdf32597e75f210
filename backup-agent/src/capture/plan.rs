//! From ranges of bytes to slabs on the grid, in the order of the volume.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Range;
use std::thread::Scope;

use strongroom_block_io::BlockSource;
use strongroom_model::ByteRange;
use strongroom_repository::chunk::Blocks;
use strongroom_repository::map::MapSpec;

use super::CaptureError;
use super::budget::{Paid, Purse, SLAB_BYTES};
use super::read::READERS;
use super::room::{Inbox, queue};
use super::stop::Stop;

/// Ranges as the planner takes them.
pub(super) type Ranges<'a> = Box<dyn Iterator<Item = Result<ByteRange, super::ChangesError>> + Send + 'a>;

/// Of chunks that ranges touch in part: in which blocks.
pub(super) type Touched = BTreeMap<u64, Blocks>;

/// Neighbouring chunks that go through the rooms together.
#[derive(Debug)]
pub(super) struct Slab {
    /// Which in the order of the volume, from 0, without gaps.
    pub(super) number: u64,
    /// Which chunks.
    pub(super) chunks: Range<u64>,
    /// What of them the ranges touch, where that is not all.
    pub(super) touched: Touched,
    /// What it paid; given back when it was placed.
    pub(super) paid: Paid,
}

/// What the source itself says is allocated.
pub(super) fn allocated(source: &dyn BlockSource) -> Ranges<'_> {
    Box::new(source.allocated().map(|range| range.map_err(|error| Box::new(error) as super::ChangesError)))
}

/// When a volume grew or shrank, the chunk at its old or new end has another length, whether anybody wrote to it or not.
pub(super) fn resized(parent_bytes: u64, spec: MapSpec) -> Option<u64> {
    let (end, chunk_bytes) = (parent_bytes.min(spec.volume_bytes), u64::from(spec.chunk_bytes));
    (parent_bytes != spec.volume_bytes && !end.is_multiple_of(chunk_bytes)).then(|| end / chunk_bytes)
}

/// Starts the planner. It pays for each slab before handing it on, so it is never further ahead than the budget allows.
pub(super) fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    ranges: Ranges<'env>,
    resized: Option<u64>,
    spec: MapSpec,
    purse: &Purse,
    stop: &Stop,
) -> Inbox<Slab> {
    let (sender, inbox) = queue(READERS);
    let (purse, stop) = (purse.clone(), stop.clone());
    scope.spawn(move || {
        for (number, chunks) in (0..).zip(Cells::new(ranges, resized, spec)) {
            let (chunks, touched) = match chunks {
                Ok(cells) => cells,
                Err(error) => return stop.fail(error),
            };
            let bytes = (chunks.end - chunks.start) * u64::from(spec.chunk_bytes);
            let Some(paid) = purse.pay(bytes) else { return };
            if stop.is_set() || sender.send(Slab { number, chunks, touched, paid }).is_err() {
                return;
            }
        }
    });
    inbox
}

/// Ranges of chunks: each chunk that a range touches exactly once, ascending, neighbours together up to the size of a slab; and
/// which blocks are touched of those that are touched in part.
pub(super) struct Cells<'a> {
    ranges: Peekable<Ranges<'a>>,
    /// A chunk that is due besides, wherever the ranges lie.
    besides: Option<u64>,
    chunk_bytes: u64,
    volume_bytes: u64,
    slab_chunks: u64,
    /// Chunks that are gathered and not yet handed out.
    gathered: Range<u64>,
    /// What is touched in part of those, and of the chunks of the range that follows: two chunks for each range at most.
    touched: Touched,
    /// How far the ranges came, in bytes.
    seen: u64,
    failed: bool,
}

impl<'a> Cells<'a> {
    pub(super) fn new(ranges: Ranges<'a>, besides: Option<u64>, spec: MapSpec) -> Self {
        let chunk_bytes = u64::from(spec.chunk_bytes);
        Self {
            ranges: ranges.peekable(),
            besides,
            chunk_bytes,
            volume_bytes: spec.volume_bytes,
            slab_chunks: (SLAB_BYTES / chunk_bytes).max(1),
            gathered: 0..0,
            touched: Touched::new(),
            seen: 0,
            failed: false,
        }
    }

    /// The chunks of the next range.
    fn next_range(&mut self) -> Option<Result<Range<u64>, CaptureError>> {
        loop {
            let start = match self.ranges.peek() {
                Some(Ok(range)) => Some(range.start() / self.chunk_bytes),
                _ => None,
            };
            if let Some(besides) = self.besides.take_if(|besides| start.is_none_or(|start| *besides <= start))
            {
                self.touched.insert(besides, Blocks::ALL);
                return Some(Ok(besides..besides + 1));
            }
            let range = match self.ranges.next()? {
                Ok(range) => range,
                Err(error) => return Some(Err(CaptureError::Changes(error))),
            };
            if range.start() < self.seen {
                return Some(Err(CaptureError::Order { at: range.start(), after: self.seen }));
            }
            self.seen = range.end();
            // A driver may round up to its blocks; what lies behind the end is nobody's.
            if let Ok(inside) = ByteRange::new(range.start(), range.end().min(self.volume_bytes)) {
                let (first, end) = inside.cells(self.chunk_bytes);
                self.touch(first, inside);
                if first + 1 < end {
                    self.touch(end - 1, inside);
                }
                return Some(Ok(first..end));
            }
        }
    }

    /// Notes which blocks of a chunk at the edge of a range it touches.
    fn touch(&mut self, chunk: u64, range: ByteRange) {
        let start = chunk * self.chunk_bytes;
        let end = range.end().min(start + self.chunk_bytes);
        let blocks = Blocks::touched(range.start().saturating_sub(start), end - start);
        let known = self.touched.entry(chunk).or_default();
        *known = known.union(&blocks);
    }

    /// What is known to be touched in part of these chunks; all before them were handed out.
    fn touched_of(&mut self, chunks: &Range<u64>) -> Touched {
        let later = self.touched.split_off(&chunks.end);
        std::mem::replace(&mut self.touched, later)
    }

    /// Where a slab that begins with the gathered chunks ends: on multiples of its size, so that reads are aligned.
    const fn slab_end(&self) -> u64 {
        (self.gathered.start / self.slab_chunks + 1) * self.slab_chunks
    }

    fn hand_out(&mut self) -> (Range<u64>, Touched) {
        let start = self.gathered.start;
        let end = self.slab_end().min(self.gathered.end);
        self.gathered.start = end;
        (start..end, self.touched_of(&(start..end)))
    }
}

impl Iterator for Cells<'_> {
    type Item = Result<(Range<u64>, Touched), CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        loop {
            // Never the last chunk that was gathered: the next range may touch more of it.
            if self.gathered.end > self.slab_end() {
                return Some(Ok(self.hand_out()));
            }
            match self.next_range() {
                Some(Ok(cells)) => {
                    // The first chunk may be the last of the range before.
                    let start = cells.start.max(self.gathered.end);
                    if start >= cells.end {
                        continue;
                    }
                    if start == self.gathered.end {
                        self.gathered.end = cells.end;
                        continue;
                    }
                    let before = std::mem::replace(&mut self.gathered, start..cells.end);
                    if !before.is_empty() {
                        let touched = self.touched_of(&before);
                        return Some(Ok((before, touched)));
                    }
                }
                Some(Err(error)) => {
                    self.failed = true;
                    return Some(Err(error));
                }
                None if self.gathered.is_empty() => return None,
                None => return Some(Ok(self.hand_out())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: u64 = 65_536;

    fn cells(
        ranges: &[(u64, u64)],
        besides: Option<u64>,
        volume_bytes: u64,
    ) -> Result<Vec<(u64, u64)>, CaptureError> {
        let ranges: Vec<_> =
            ranges.iter().map(|(start, end)| Ok(ByteRange::new(*start, *end).unwrap())).collect();
        let spec = MapSpec { volume_bytes, chunk_bytes: 65_536 };
        Cells::new(Box::new(ranges.into_iter()), besides, spec)
            .map(|cells| cells.map(|(cells, _)| (cells.start, cells.end)))
            .collect()
    }

    #[test]
    fn what_is_touched_in_part_is_told_by_the_block() {
        let ranges = [(4096, 8192), (20_000, 20_001), (CHUNK - 4096, 3 * CHUNK + 1), (5 * CHUNK, 6 * CHUNK)];
        let ranges = ranges.map(|(start, end)| Ok(ByteRange::new(start, end).unwrap()));
        let spec = MapSpec { volume_bytes: 1 << 30, chunk_bytes: 65_536 };
        let cells: Vec<_> =
            Cells::new(Box::new(ranges.into_iter()), Some(9), spec).map(Result::unwrap).collect();
        let touched = |slab: usize, chunk: u64| {
            cells[slab].1.get(&chunk).map(|blocks| blocks.iter().collect::<Vec<_>>())
        };
        assert_eq!(cells.iter().map(|(chunks, _)| chunks.clone()).collect::<Vec<_>>(), [0..4, 5..6, 9..10]);
        assert_eq!(touched(0, 0), Some(vec![1, 4, 15]));
        assert_eq!(touched(0, 1), None, "all of it");
        assert_eq!(touched(0, 3), Some(vec![0]));
        assert_eq!(touched(1, 5), Some((0..16).collect()));
        assert_eq!(touched(2, 9), Some((0..256).collect()), "a moved end counts as all");
        assert!(!cells[1].1.contains_key(&9) && !cells[0].1.contains_key(&5));
    }

    #[test]
    fn two_ranges_in_one_chunk_are_one_chunk() {
        assert_eq!(cells(&[(0, 1), (4096, 8192), (65_535, 65_537)], None, 1 << 30).unwrap(), [(0, 2)]);
    }

    #[test]
    fn what_lies_behind_the_end_of_the_volume_is_left_out() {
        assert_eq!(cells(&[(0, 10), (100_000, 400_000)], None, 150_000).unwrap(), [(0, 3)]);
        assert_eq!(cells(&[(200_000, 400_000)], None, 150_000).unwrap(), []);
    }

    #[test]
    fn ranges_that_go_backwards_are_refused() {
        assert!(matches!(
            cells(&[(CHUNK, 2 * CHUNK), (0, 1)], None, 1 << 30),
            Err(CaptureError::Order { at: 0, .. })
        ));
    }

    #[test]
    fn the_chunk_at_a_moved_end_is_read_again_in_its_place() {
        assert_eq!(
            cells(&[(0, 1), (10 * CHUNK, 11 * CHUNK)], Some(3), 1 << 30).unwrap(),
            [(0, 1), (3, 4), (10, 11)]
        );
        assert_eq!(cells(&[], Some(3), 1 << 30).unwrap(), [(3, 4)]);
        assert_eq!(cells(&[(3 * CHUNK, 4 * CHUNK)], Some(3), 1 << 30).unwrap(), [(3, 4)]);
        let spec = |volume_bytes| MapSpec { volume_bytes, chunk_bytes: 65_536 };
        assert_eq!(resized(100_000, spec(200_000)), Some(1));
        assert_eq!(resized(200_000, spec(100_000)), Some(1));
        assert_eq!(resized(CHUNK, spec(2 * CHUNK)), None);
        assert_eq!(resized(100_000, spec(100_000)), None);
    }

    proptest! {
        #[test]
        fn a_chunk_is_told_every_block_that_any_range_touches(
            steps in prop::collection::vec((0_u64..60, 1_u64..80), 0..200),
        ) {
            let (mut at, mut ranges, mut blocks) = (0, Vec::new(), BTreeMap::<u64, Vec<u32>>::new());
            for (gap, length) in steps {
                let start = at + gap;
                at = start + length;
                ranges.push(Ok(ByteRange::new(start * 4096, at * 4096).unwrap()));
                for block in start..at {
                    blocks.entry(block / 16).or_default().push(u32::try_from(block % 16).unwrap());
                }
            }
            let spec = MapSpec { volume_bytes: 1 << 30, chunk_bytes: 65_536 };
            let mut told = BTreeMap::new();
            for cells in Cells::new(Box::new(ranges.into_iter()), None, spec) {
                let (chunks, touched) = cells.unwrap();
                prop_assert!(touched.keys().all(|chunk| chunks.contains(chunk)));
                for chunk in chunks {
                    let all = || (0..16).collect();
                    told.insert(chunk, touched.get(&chunk).map_or_else(all, |blocks| blocks.iter().collect::<Vec<_>>()));
                }
            }
            prop_assert_eq!(told, blocks);
        }

        #[test]
        fn every_touched_chunk_comes_exactly_once_in_order_and_no_other(
            steps in prop::collection::vec((0_u64..5_000_000, 1_u64..5_000_000), 0..40),
            besides in prop::option::of(0_u64..1000),
        ) {
            let mut at = 0;
            let ranges: Vec<(u64, u64)> = steps.iter().map(|(gap, length)| {
                let start = at + gap;
                at = start + length;
                (start, at)
            }).collect();
            let mut expected: Vec<u64> = ranges.iter().flat_map(|(start, end)| start / CHUNK..end.div_ceil(CHUNK)).chain(besides).collect();
            expected.sort_unstable();
            expected.dedup();
            let slabs = cells(&ranges, besides, u64::MAX >> 1).unwrap();
            prop_assert!(slabs.iter().all(|(start, end)| end - start <= SLAB_BYTES / CHUNK));
            prop_assert_eq!(slabs.into_iter().flat_map(|(start, end)| start..end).collect::<Vec<_>>(), expected);
        }
    }
}
