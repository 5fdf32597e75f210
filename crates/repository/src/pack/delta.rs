//! A delta: a chunk as another chunk and the blocks in which it differs.
//!
//! What is inside of an entry of type 2, before coding:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 16 | the base's pack |
//! | 16 | 4 | the base's entry, u32 |
//! | 20 | 4 | length of the chunk, u32; the base has the same |
//! | 24 | B | bitmap of its blocks of 4 KiB: ⌈⌈length / 4096⌉ / 8⌉ bytes |
//! | … | | the blocks that are set, in order; the chunk's last block may be shorter |
//!
//! The base is an entry of type 1, so a chain has one link and a chunk costs at most two entries to read. The id of the entry
//! is that of the whole chunk: what comes out of base and blocks is checked as every chunk is.

use bytes::Bytes;
use strongroom_model::PackId;

use super::{ENTRY_LIMIT, EntryRef};
use crate::chunk::{BLOCK_BYTES, Blocks};

const HEAD_BYTES: usize = 24;
/// A chunk has at most 1 MiB.
const MAX_CHUNK_BYTES: usize = 1 << 20;

/// A chunk as another chunk and the blocks in which it differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The chunk that it is built on: an entry of type 1.
    pub base: EntryRef,
    /// Which blocks it brings.
    pub blocks: Blocks,
    /// How long the chunk is, and its base.
    chunk_bytes: usize,
    /// The blocks, one after another.
    bytes: Bytes,
}

impl Delta {
    /// Whether so few blocks of a chunk are better stored as a delta: less than a quarter. Above that a second entry to
    /// read costs more than the bytes that it saves.
    #[must_use]
    pub fn is_worth_it(blocks: &Blocks, chunk_bytes: usize) -> bool {
        !blocks.is_empty() && blocks.count() * 4 < Blocks::of_chunk(chunk_bytes)
    }

    /// The inside of an entry that stands for `chunk`, which differs from the chunk at `base` in `blocks` alone.
    ///
    /// # Panics
    /// When there are no such blocks in the chunk, or it is larger than any chunk: both are the caller's to see to.
    #[must_use]
    pub fn encode(base: EntryRef, blocks: &Blocks, chunk: &[u8]) -> Bytes {
        assert!(chunk.len() <= MAX_CHUNK_BYTES && !blocks.is_empty(), "a delta brings blocks of a chunk");
        assert!(blocks.end() <= Blocks::of_chunk(chunk.len()), "the blocks are those of the chunk");
        let mut inside = Vec::with_capacity(HEAD_BYTES + 32 + (blocks.count() * BLOCK_BYTES) as usize);
        inside.extend_from_slice(base.pack.bytes());
        inside.extend_from_slice(&base.entry.to_le_bytes());
        inside.extend_from_slice(&u32::try_from(chunk.len()).expect("at most 1 MiB").to_le_bytes());
        inside.extend_from_slice(&blocks.to_bytes(bitmap_bytes(chunk.len())));
        for block in blocks.iter() {
            inside.extend_from_slice(&chunk[range(block, chunk.len())]);
        }
        inside.into()
    }

    /// Reads the inside of an entry.
    pub(super) fn decode(inside: &Bytes) -> Result<Self, &'static str> {
        let (head, rest) = inside.split_first_chunk::<HEAD_BYTES>().ok_or("its delta is too short")?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let base =
            EntryRef { pack: PackId::from_bytes(head[..16].try_into().expect("16 bytes")), entry: word(16) };
        let chunk_bytes = word(20) as usize;
        if base.entry >= ENTRY_LIMIT || chunk_bytes > MAX_CHUNK_BYTES {
            return Err("its delta's numbers are out of bounds");
        }
        let bitmap = rest.get(..bitmap_bytes(chunk_bytes)).ok_or("its delta is too short")?;
        let blocks = Blocks::from_bytes(bitmap);
        if blocks.is_empty() || blocks.end() > Blocks::of_chunk(chunk_bytes) {
            return Err("its delta has blocks that its chunk has not");
        }
        let bytes = inside.slice(HEAD_BYTES + bitmap.len()..);
        let expected: usize = blocks.iter().map(|block| range(block, chunk_bytes).len()).sum();
        if bytes.len() == expected {
            Ok(Self { base, blocks, chunk_bytes, bytes })
        } else {
            Err("its delta has another length than its blocks")
        }
    }

    /// The chunk, made of its base. Whether it is the right one, its id says. `None`: the base has another length.
    pub(super) fn onto(&self, base: &[u8]) -> Option<Vec<u8>> {
        if base.len() != self.chunk_bytes {
            return None;
        }
        let mut chunk = base.to_vec();
        let mut bytes = &self.bytes[..];
        for block in self.blocks.iter() {
            let range = range(block, chunk.len());
            let (block, rest) = bytes.split_at(range.len());
            chunk[range].copy_from_slice(block);
            bytes = rest;
        }
        Some(chunk)
    }
}

const fn bitmap_bytes(chunk_bytes: usize) -> usize {
    (Blocks::of_chunk(chunk_bytes) as usize).div_ceil(8)
}

/// The bytes of a block within its chunk.
fn range(block: u32, chunk_bytes: usize) -> std::ops::Range<usize> {
    let start = (block * BLOCK_BYTES) as usize;
    start..(start + BLOCK_BYTES as usize).min(chunk_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: EntryRef = EntryRef { pack: PackId::from_bytes([7; 16]), entry: 9 };

    #[test]
    fn the_bytes_of_a_delta_are_fixed() {
        let mut blocks = Blocks::NONE;
        blocks.insert(2);
        // Two blocks and three bytes of a third.
        let inside = Delta::encode(BASE, &blocks, &[5; 8195]);
        assert_eq!(hex::encode(&inside), format!("{}090000000320000004050505", "07".repeat(16)));
        let read = Delta::decode(&inside).unwrap();
        assert_eq!((read.base, read.blocks), (BASE, blocks));
        assert_eq!(read.onto(&[1; 8194]), None);
    }

    #[test]
    fn less_than_a_quarter_is_worth_it() {
        let first = |count: u32| Blocks::touched(0, u64::from(count) * 4096);
        assert!(Delta::is_worth_it(&first(3), 65_536) && !Delta::is_worth_it(&first(4), 65_536));
        assert!(!Delta::is_worth_it(&Blocks::NONE, 65_536), "nothing is no delta");
        assert!(!Delta::is_worth_it(&first(1), 16_384), "a chunk of four blocks has none");
        assert!(!Delta::is_worth_it(&Blocks::ALL, 1 << 20));
    }

    proptest! {
        #[test]
        fn a_chunk_comes_back_from_its_base_and_its_delta(
            chunk_bytes in prop::sample::select(vec![32_768_usize, 65_536, 65_000, 1 << 20, 40_961]),
            changed in prop::collection::btree_set(0_u32..256, 1..20),
            seed in any::<u64>(),
        ) {
            let mut base = vec![0; chunk_bytes];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut base);
            let (mut chunk, mut blocks) = (base.clone(), Blocks::NONE);
            for block in changed {
                let block = block % Blocks::of_chunk(chunk_bytes);
                blocks.insert(block);
                chunk[range(block, chunk_bytes)].iter_mut().for_each(|byte| *byte ^= 0x5a);
            }
            let inside = Delta::encode(BASE, &blocks, &chunk);
            let read = Delta::decode(&inside).unwrap();
            prop_assert_eq!(read.onto(&base), Some(chunk));
            for cut in [0, 1, 23, 24, inside.len() - 1] {
                prop_assert!(Delta::decode(&inside.slice(..cut)).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), small in any::<bool>()) {
            if small && bytes.len() > 24 {
                bytes[18..20].fill(0);
                bytes[21..24].fill(0);
            }
            if let Ok(delta) = Delta::decode(&bytes.into()) {
                prop_assert!(delta.onto(&vec![0; delta.chunk_bytes]).is_some());
            }
        }
    }
}
