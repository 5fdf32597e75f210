//! Which blocks of 4 KiB of a chunk: a bitmap.
//!
//! It says what changed in a chunk since its parent, and which blocks a delta brings. Block `n` is the bytes from `n` times
//! 4 KiB on; the last one ends where the chunk ends. As bytes, block `n` is bit `n % 8` (from the least) of byte `n / 8`.

/// The grain of changes: filesystems, databases and drivers write in blocks of this size or a multiple.
pub const BLOCK_BYTES: u32 = 4096;

/// The most blocks of a chunk: one of 1 MiB has 256.
const MOST_BLOCKS: u32 = 256;

/// A set of blocks of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Blocks([u64; 4]);

impl Blocks {
    /// No block.
    pub const NONE: Self = Self([0; 4]);
    /// Every block that a chunk can have.
    pub const ALL: Self = Self([u64::MAX; 4]);
    /// The most bytes that `to_bytes` gives.
    pub const MOST_BYTES: usize = (MOST_BLOCKS / 8) as usize;

    /// The blocks that the bytes `start..end` of a chunk touch.
    #[must_use]
    pub fn touched(start: u64, end: u64) -> Self {
        let mut blocks = Self::NONE;
        let last = end.div_ceil(BLOCK_BYTES.into()).min(MOST_BLOCKS.into());
        (start / u64::from(BLOCK_BYTES)..last)
            .for_each(|block| blocks.insert(u32::try_from(block).unwrap_or(u32::MAX)));
        blocks
    }

    /// How many blocks a chunk of this many bytes has.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a chunk has at most 1 MiB")]
    pub const fn of_chunk(bytes: usize) -> u32 {
        bytes.div_ceil(BLOCK_BYTES as usize) as u32
    }

    /// Adds a block; one beyond the largest chunk is left out.
    pub fn insert(&mut self, block: u32) {
        if let Some(word) = self.0.get_mut((block / 64) as usize) {
            *word |= 1 << (block % 64);
        }
    }

    /// Whether a block is in it.
    #[must_use]
    pub fn contains(&self, block: u32) -> bool {
        self.0.get((block / 64) as usize).is_some_and(|word| word & (1 << (block % 64)) != 0)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    /// The blocks, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        let blocks = *self;
        (0..MOST_BLOCKS).filter(move |block| blocks.contains(*block))
    }

    /// The largest, and one more; 0 where there is none.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.0
            .iter()
            .zip(0_u32..4)
            .rev()
            .find(|(word, _)| **word != 0)
            .map_or(0, |(word, at)| at * 64 + 64 - word.leading_zeros())
    }

    /// The first `count` bytes of the bitmap, at most [`Self::MOST_BYTES`].
    pub(crate) fn to_bytes(self, count: usize) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).take(count).collect()
    }

    /// A bitmap of at most [`Self::MOST_BYTES`] bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut all = [0; Self::MOST_BYTES];
        all[..bytes.len()].copy_from_slice(bytes);
        Self(std::array::from_fn(|at| {
            u64::from_le_bytes(all[at * 8..at * 8 + 8].try_into().expect("8 of 32 bytes"))
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_touches_every_block_it_has_a_byte_of() {
        let list = |start, end| Blocks::touched(start, end).iter().collect::<Vec<_>>();
        assert_eq!(list(0, 1), [0]);
        assert_eq!(list(4095, 4097), [0, 1]);
        assert_eq!(list(8192, 12_288), [2]);
        assert_eq!(list(7, 7), [0], "where a write of nothing lies may count or not: more is never wrong");
        assert_eq!(Blocks::touched(0, 1 << 20), Blocks::ALL);
        assert_eq!(Blocks::touched(0, u64::MAX), Blocks::ALL);
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in prop::collection::btree_set(0_u32..256, 0..40), b in prop::collection::btree_set(0_u32..256, 0..40)) {
            let set = |blocks: &BTreeSet<u32>| {
                let mut set = Blocks::NONE;
                blocks.iter().for_each(|block| set.insert(*block));
                set
            };
            let (first, second) = (set(&a), set(&b));
            prop_assert!(first.iter().eq(a.iter().copied()));
            prop_assert_eq!(first.count() as usize, a.len());
            prop_assert_eq!(first.end(), a.last().map_or(0, |last| last + 1));
            prop_assert!(first.union(&second).iter().eq(a.union(&b).copied()));
            let bytes = (first.end() as usize).div_ceil(8);
            prop_assert_eq!(Blocks::from_bytes(&first.to_bytes(bytes)), first);
        }
    }
}
