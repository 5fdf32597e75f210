//! Chunks: the cells of a volume's grid. Their ids, the cells that need no storing, and compression.
//!
//! A chunk id is a keyed BLAKE3-256 of the plain bytes: the bucket's owner cannot test for known content, and two dedup
//! domains cannot see that they hold the same. Ids depend on the keyring's identity secret, not on the master key, so a
//! rotation keeps them.

mod blocks;
mod compress;
mod id;

pub use blocks::{BLOCK_BYTES, Blocks};
pub(crate) use compress::decompress;
pub use compress::{Codec, Compressed, Compressor};
pub use id::{ChunkHasher, ChunkId, chunk_id};

/// Whether every byte is zero. Such chunks are not stored.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Blocks that are summed up without a branch, so that the compiler uses wide registers, and a look after each, so
    // that data is left at the first block.
    let mut blocks = bytes.chunks_exact(512);
    blocks.by_ref().all(|block| block.iter().fold(0, |sum, byte| sum | byte) == 0)
        && blocks.remainder().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_makes_a_chunk_worth_storing() {
        for length in [0, 1, 511, 512, 513, 4096, 65_536] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in [0, length / 2, length.saturating_sub(1)] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = 0x80;
                    assert!(!is_zero(&bytes), "byte {at} of {length}");
                    bytes[at] = 0;
                }
            }
        }
    }
}
