//! From ranges of bytes to slabs on the grid, in the order of the volume.

use std::iter::Peekable;
use std::ops::Range;
use std::thread::Scope;

use strongroom_block_io::BlockSource;
use strongroom_model::ByteRange;
use strongroom_repository::map::MapSpec;

use super::CaptureError;
use super::budget::{Paid, Purse, SLAB_BYTES};
use super::read::READERS;
use super::room::{Inbox, queue};
use super::stop::Stop;

/// Ranges as the planner takes them.
pub(super) type Ranges<'a> = Box<dyn Iterator<Item = Result<ByteRange, super::ChangesError>> + Send + 'a>;

/// Neighbouring chunks that go through the rooms together.
#[derive(Debug)]
pub(super) struct Slab {
    /// Which in the order of the volume, from 0, without gaps.
    pub(super) number: u64,
    /// Which chunks.
    pub(super) chunks: Range<u64>,
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
            let chunks = match chunks {
                Ok(chunks) => chunks,
                Err(error) => return stop.fail(error),
            };
            let bytes = (chunks.end - chunks.start) * u64::from(spec.chunk_bytes);
            let Some(paid) = purse.pay(bytes) else { return };
            if stop.is_set() || sender.send(Slab { number, chunks, paid }).is_err() {
                return;
            }
        }
    });
    inbox
}

/// Ranges of chunks: each chunk that a range touches exactly once, ascending, neighbours together up to the size of a slab.
pub(super) struct Cells<'a> {
    ranges: Peekable<Ranges<'a>>,
    /// A chunk that is due besides, wherever the ranges lie.
    besides: Option<u64>,
    chunk_bytes: u64,
    volume_bytes: u64,
    slab_chunks: u64,
    /// Chunks that are gathered and not yet handed out.
    gathered: Range<u64>,
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
                return Some(Ok(first..end));
            }
        }
    }

    fn hand_out(&mut self) -> Range<u64> {
        let start = self.gathered.start;
        // Slabs end on multiples of their size, so that reads are aligned.
        let end = ((start / self.slab_chunks + 1) * self.slab_chunks).min(self.gathered.end);
        self.gathered.start = end;
        start..end
    }
}

impl Iterator for Cells<'_> {
    type Item = Result<Range<u64>, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        loop {
            if self.gathered.end - self.gathered.start >= self.slab_chunks {
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
                        return Some(Ok(before));
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
            .map(|cells| cells.map(|cells| (cells.start, cells.end)))
            .collect()
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
