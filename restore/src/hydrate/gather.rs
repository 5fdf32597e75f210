//! Neighbouring writes, gathered into large ones.
//!
//! Chunks come one by one and mostly in the order of the volume. Written one by one, past the page cache, each would wait for
//! the disk; gathered they cost an eighth of the calls, and go out of memory that the kernel takes as it is.

use std::sync::{Mutex, PoisonError};

use strongroom_block_io::{BlockIoError, BlockSource, BlockTarget, Buffer, Ranges};
use strongroom_model::ByteRange;

/// The largest write.
const GATHERED_BYTES: usize = 1 << 20;

/// A target for one range's chunks. Nothing is written for certain before [`Gather::flush`] answered.
#[derive(Debug)]
pub(super) struct Gather<'a> {
    target: &'a dyn BlockTarget,
    gathered: Mutex<Gathered>,
}

#[derive(Debug)]
struct Gathered {
    buffer: Buffer,
    start: u64,
    length: usize,
}

impl<'a> Gather<'a> {
    pub(super) fn over(target: &'a dyn BlockTarget) -> Self {
        let gathered = Gathered { buffer: Buffer::of(GATHERED_BYTES), start: 0, length: 0 };
        Self { target, gathered: Mutex::new(gathered) }
    }

    /// Writes what was gathered.
    pub(super) fn flush(&self) -> Result<(), BlockIoError> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner).write(self.target)
    }
}

impl Gathered {
    fn write(&mut self, target: &dyn BlockTarget) -> Result<(), BlockIoError> {
        let length = std::mem::take(&mut self.length);
        if length == 0 { Ok(()) } else { target.write_at(self.start, &self.buffer.as_ref()[..length]) }
    }
}

impl BlockSource for Gather<'_> {
    fn bytes(&self) -> u64 {
        self.target.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
        self.flush()?;
        self.target.read_at(offset, buffer)
    }

    fn allocated(&self) -> Ranges<'_> {
        self.target.allocated()
    }
}

impl BlockTarget for Gather<'_> {
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockIoError> {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let length = gathered.length;
        if length > 0 && (offset != gathered.start + length as u64 || length + data.len() > GATHERED_BYTES) {
            gathered.write(self.target)?;
        }
        if data.len() > GATHERED_BYTES {
            return self.target.write_at(offset, data);
        }
        if gathered.length == 0 {
            gathered.start = offset;
        }
        let at = gathered.length;
        gathered.buffer.bytes_mut()[at..at + data.len()].copy_from_slice(data);
        gathered.length += data.len();
        Ok(())
    }

    fn zero(&self, range: ByteRange) -> Result<(), BlockIoError> {
        self.flush()?;
        self.target.zero(range)
    }

    fn sync(&self) -> Result<(), BlockIoError> {
        self.flush()?;
        self.target.sync()
    }
}

#[cfg(test)]
mod tests {
    use strongroom_block_io::MemoryVolume;

    use super::*;

    #[test]
    fn what_is_gathered_lies_where_it_was_written_in_whatever_order() {
        const CHUNK: usize = 65_536;
        let (gathered, plain) = (MemoryVolume::new(8 << 20), MemoryVolume::new(8 << 20));
        let gather = Gather::over(&gathered);
        let places = (0..40).chain([60, 61, 59]).chain([100, 102, 103]).chain((41..58).rev());
        for (number, chunk) in (0_u8..).zip(places) {
            let data = vec![number | 1; if chunk == 103 { 1000 } else { CHUNK }];
            gather.write_at(chunk * CHUNK as u64, &data).unwrap();
            plain.write_at(chunk * CHUNK as u64, &data).unwrap();
        }
        let rest = ByteRange::new(103 * CHUNK as u64 + 1000, 104 * CHUNK as u64).unwrap();
        gather.zero(rest).unwrap();
        let large = vec![77; GATHERED_BYTES + 1];
        gather.write_at(110 * CHUNK as u64, &large).unwrap();
        plain.write_at(110 * CHUNK as u64, &large).unwrap();
        gather.flush().unwrap();
        let (mut one, mut other) = (vec![0; 8 << 20], vec![0; 8 << 20]);
        gathered.read_at(0, &mut one).unwrap();
        plain.read_at(0, &mut other).unwrap();
        assert!(one == other);
    }
}
