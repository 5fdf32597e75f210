//! What a filesystem is read from: bytes at offsets, blocking, from many threads.
//!
//! The readers of ext4 and XFS see nothing else, so a test hands them a file. Whoever implements it either fills all of the
//! buffer with what was there or fails: a part that cannot be read is never zeros.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// Bytes that can be read at any offset.
pub trait Disk: Debug + Send + Sync {
    /// How many bytes there are.
    fn bytes(&self) -> u64;

    /// Fills all of `buffer` from `offset` on.
    ///
    /// # Errors
    /// When the range is not inside the disk (`UnexpectedEof`), or cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl<T: Disk + ?Sized> Disk for Arc<T> {
    fn bytes(&self) -> u64 {
        (**self).bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }
}

/// One part of a disk, such as a partition.
#[derive(Debug)]
pub struct Part<D> {
    disk: D,
    start: u64,
    bytes: u64,
}

impl<D: Disk> Part<D> {
    /// The `bytes` bytes from `start` on; `None` where the disk has less.
    pub fn new(disk: D, start: u64, bytes: u64) -> Option<Self> {
        (start.checked_add(bytes)? <= disk.bytes()).then_some(Self { disk, start, bytes })
    }
}

impl<D: Disk> Disk for Part<D> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inside = offset.checked_add(buffer.len() as u64).is_some_and(|end| end <= self.bytes);
        if !inside {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.disk.read_at(self.start + offset, buffer)
    }
}

/// Numbers in a record, by offset. Offsets are those of a layout whose length was checked; what lies outside is zero rather
/// than a panic, since records come from images that nobody vouches for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        if let Some(found) = at.checked_add(N).and_then(|end| self.0.get(at..end)) {
            bytes.copy_from_slice(found);
        }
        bytes
    }

    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.take::<1>(at)[0]
    }

    pub(crate) fn le16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.take(at))
    }

    pub(crate) fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.take(at))
    }

    pub(crate) fn le64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.take(at))
    }

    pub(crate) fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.take(at))
    }

    pub(crate) fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.take(at))
    }

    pub(crate) fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.take(at))
    }
}
