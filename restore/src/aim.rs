//! Which bytes of a pack to fetch for the entries that are wanted: pure.
//!
//! A request costs about as much time as 256 KiB of transfer, so near neighbours are fetched together, and when more
//! than half of a pack is wanted, all between the first and the last wanted entry. A range is never longer than
//! [`Limits::range_bytes`], so that many are in flight under the byte budget; it is cut only between entries.

/// How ranges are put together. Constants of the program, handed in for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unwanted bytes between two wanted entries that are fetched along rather than asked around.
    pub gap_bytes: u64,
    /// The longest range, unless a single entry is longer.
    pub range_bytes: u64,
}

impl Limits {
    /// Gaps to 256 KiB (what a round trip of 20 ms costs at 100 Mbit/s), ranges to 4 MiB: with the default budget
    /// sixteen are in flight.
    pub const DEFAULT: Self = Self { gap_bytes: 256 << 10, range_bytes: 4 << 20 };
}

/// Where one entry lies in its pack's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The entry's number.
    pub entry: u32,
    /// Its first byte in the object.
    pub offset: u64,
    /// How many sealed bytes.
    pub bytes: u64,
}

/// One request: bytes of an object and how many wanted entries they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FetchRange {
    /// The first byte in the object.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u32,
    /// How many wanted entries lie in it.
    pub entries: u32,
}

impl FetchRange {
    /// The byte after the last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.bytes as u64
    }
}

/// Puts the wanted entries of one pack, in the order of their offsets and each once, into as few ranges as the limits
/// allow. `data_bytes` is how many bytes all entries of the pack have together.
#[must_use]
pub fn coalesce(wanted: &[Place], data_bytes: u64, limits: Limits) -> Vec<FetchRange> {
    let wanted_bytes: u64 = wanted.iter().map(|place| place.bytes).sum();
    let gap = if wanted_bytes.saturating_mul(2) > data_bytes { limits.range_bytes } else { limits.gap_bytes };
    let mut ranges: Vec<FetchRange> = Vec::new();
    for place in wanted {
        let end = place.offset + place.bytes;
        if let Some(last) = ranges.last_mut()
            && place.offset >= last.end()
            && place.offset - last.end() <= gap
            && end - last.offset <= limits.range_bytes
            && let Ok(bytes) = u32::try_from(end - last.offset)
        {
            last.bytes = bytes;
            last.entries += 1;
            continue;
        }
        // An entry is at most a chunk and its seal; a footer that claims more was refused when it was read.
        let bytes = u32::try_from(place.bytes).unwrap_or(u32::MAX);
        ranges.push(FetchRange { offset: place.offset, bytes, entries: 1 });
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(lengths: &[u64]) -> Vec<Place> {
        let mut offset = 64;
        let mut places = Vec::new();
        for (entry, &bytes) in (0..).zip(lengths) {
            places.push(Place { entry, offset, bytes });
            offset += bytes;
        }
        places
    }

    proptest! {
        #[test]
        fn every_wanted_entry_is_fetched_whole_and_once(
            lengths in prop::collection::vec(1_u64..70_000, 1..300),
            every in 1_usize..40,
            gap_bytes in 0_u64..300_000,
            range_bytes in 60_000_u64..5_000_000,
        ) {
            let all = pack(&lengths);
            let wanted: Vec<Place> = all.iter().copied().step_by(every).collect();
            let limits = Limits { gap_bytes, range_bytes };
            let ranges = coalesce(&wanted, lengths.iter().sum(), limits);
            for place in &wanted {
                let holding = ranges.iter().filter(|range| range.offset <= place.offset && place.offset + place.bytes <= range.end()).count();
                prop_assert_eq!(holding, 1);
            }
            prop_assert_eq!(ranges.iter().map(|range| range.entries as usize).sum::<usize>(), wanted.len());
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end() <= pair[1].offset));
            for range in &ranges {
                prop_assert!(u64::from(range.bytes) <= range_bytes.max(70_000));
                prop_assert!(wanted.iter().any(|place| place.offset == range.offset), "begins with a wanted entry");
                prop_assert!(wanted.iter().any(|place| place.offset + place.bytes == range.end()), "ends with a wanted entry");
            }
        }
    }

    #[test]
    fn near_neighbours_come_together_and_far_ones_apart() {
        let mut lengths = vec![60_000; 100];
        lengths.extend([60_000; 100]);
        let all = pack(&lengths);
        let limits = Limits { gap_bytes: 256 << 10, range_bytes: 4 << 20 };
        let near = [all[0], all[4]];
        assert_eq!(coalesce(&near, 12_000_000, limits).len(), 1);
        let far = [all[0], all[6]];
        assert_eq!(coalesce(&far, 12_000_000, limits).len(), 2);
    }

    #[test]
    fn a_pack_of_which_more_than_half_is_wanted_is_fetched_in_whole_ranges() {
        let all = pack(&[60_000; 200]);
        // Two thirds, with holes of twenty entries, wider than a gap.
        let wanted: Vec<Place> = all.iter().copied().filter(|place| place.entry % 60 < 40).collect();
        let ranges = coalesce(&wanted, 12_000_000, Limits::DEFAULT);
        assert_eq!(ranges.len(), 3, "{ranges:?}");
    }
}
