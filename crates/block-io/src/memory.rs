//! A volume in memory, for tests and for small things.

use std::sync::{PoisonError, RwLock};

use strongroom_model::ByteRange;

use crate::traits::inside;
use crate::{BLOCK_BYTES, BlockIoError, BlockSource, BlockTarget, Ranges};

/// Bytes in memory, both source and target. Blocks of nothing but zeros are its holes.
#[derive(Debug)]
pub struct MemoryVolume {
    name: String,
    content: RwLock<Vec<u8>>,
}

impl MemoryVolume {
    /// `bytes` zeros.
    ///
    /// # Panics
    /// When that many do not fit into this machine's address space.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self::with(vec![0; usize::try_from(bytes).expect("a volume in memory fits into memory")])
    }

    /// This content.
    #[must_use]
    pub fn with(content: Vec<u8>) -> Self {
        Self { name: "a volume in memory".to_owned(), content: RwLock::new(content) }
    }

    /// A copy of all bytes.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        self.content.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn slice(range: ByteRange) -> std::ops::Range<usize> {
        let index =
            |offset: u64| usize::try_from(offset).expect("the range was checked to be inside the vector");
        index(range.start())..index(range.end())
    }
}

impl BlockSource for MemoryVolume {
    fn bytes(&self) -> u64 {
        self.content.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(range) = inside(&self.name, offset, buffer.len(), content.len() as u64)? {
            buffer.copy_from_slice(&content[Self::slice(range)]);
        }
        Ok(())
    }

    fn allocated(&self) -> Ranges<'_> {
        let content = self.content();
        let block = usize::try_from(BLOCK_BYTES).expect("a block is 4096 bytes");
        let mut ranges: Vec<ByteRange> = Vec::new();
        for (number, bytes) in content.chunks(block).enumerate() {
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            let start = (number * block) as u64;
            let end = start + bytes.len() as u64;
            let begin = match ranges.last() {
                Some(last) if last.end() == start => ranges.pop().map_or(start, |last| last.start()),
                _ => start,
            };
            ranges.extend(ByteRange::new(begin, end));
        }
        Box::new(ranges.into_iter().map(Ok))
    }
}

impl BlockTarget for MemoryVolume {
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockIoError> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(range) = inside(&self.name, offset, data.len(), content.len() as u64)? {
            content[Self::slice(range)].copy_from_slice(data);
        }
        Ok(())
    }

    fn zero(&self, range: ByteRange) -> Result<(), BlockIoError> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let bytes = content.len() as u64;
        if range.end() > bytes {
            let (offset, length) = (range.start(), range.len());
            return Err(BlockIoError::Outside { name: self.name.clone(), offset, length, bytes });
        }
        content[Self::slice(range)].fill(0);
        Ok(())
    }

    fn sync(&self) -> Result<(), BlockIoError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_zeros_are_holes() {
        let volume = MemoryVolume::new(5 * BLOCK_BYTES + 7);
        volume.write_at(BLOCK_BYTES, &[1; 4097]).unwrap();
        volume.write_at(5 * BLOCK_BYTES + 6, &[2]).unwrap();
        let found: Vec<_> = volume.allocated().map(|range| range.unwrap().to_string()).collect();
        assert_eq!(found, ["4096..12288", "20480..20487"]);
        volume.zero(ByteRange::new(0, 3 * BLOCK_BYTES).unwrap()).unwrap();
        assert_eq!(volume.allocated().count(), 1);
    }

    #[test]
    fn what_is_not_inside_is_refused() {
        let volume = MemoryVolume::new(10);
        assert!(volume.read_at(8, &mut [0; 3]).is_err());
        assert!(volume.write_at(u64::MAX, &[0; 3]).is_err());
        assert!(volume.read_at(10, &mut []).is_ok());
    }
}
