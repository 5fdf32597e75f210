//! Image files and block devices.
//!
//! Reading can pass by the page cache, and writing does wherever the filesystem allows ([`DirectFile`]): a backup reads
//! everything once, and cold reads through the cache are ten times slower than direct ones.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use strongroom_model::ByteRange;

use crate::direct::DirectFile;
use crate::traits::inside;
use crate::{BLOCK_BYTES, BlockIoError, BlockSource, BlockTarget, Ranges};

/// Whether reads go through the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Through the cache: for files that others also read, or that were just written.
    Cached,
    /// Past the cache where the filesystem allows, through it where not.
    Direct,
}

/// An image file or block device, open for reading.
#[derive(Debug)]
pub struct FileSource {
    blocks: Blocks,
}

/// An image file or block device, open for reading and writing.
#[derive(Debug)]
pub struct FileTarget {
    blocks: Blocks,
}

/// What both are.
#[derive(Debug)]
struct Blocks {
    name: String,
    file: File,
    /// The same, past the cache.
    direct: Option<DirectFile>,
    bytes: u64,
    is_device: bool,
}

impl FileSource {
    /// Opens the file or device.
    ///
    /// # Errors
    /// When it does not exist, is something else, or may not be read.
    pub fn open(path: &Path, caching: Caching) -> Result<Self, BlockIoError> {
        Ok(Self { blocks: Blocks::open(path, OpenOptions::new().read(true), caching == Caching::Direct)? })
    }
}

impl FileTarget {
    /// Opens an existing file or device; its size stays.
    ///
    /// A device is opened exclusively: one that is mounted, or that another program claimed, is refused by the
    /// kernel.
    ///
    /// # Errors
    /// When it does not exist, is something else, is in use, or may not be written.
    pub fn open(path: &Path) -> Result<Self, BlockIoError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let is_device = path.metadata().is_ok_and(|meta| meta.file_type().is_block_device());
        if is_device {
            options.custom_flags(flag_bits(OFlags::EXCL));
        }
        let mut blocks = Blocks::open(path, &options, false)?;
        blocks.direct = DirectFile::open(path, true);
        Ok(Self { blocks })
    }

    /// Makes a new file of `bytes` zeros that takes no space yet; only its owner may read it.
    ///
    /// # Errors
    /// When something of that name exists, or the place refuses.
    pub fn create(path: &Path, bytes: u64) -> Result<Self, BlockIoError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut blocks = Blocks::open(path, &options, false)?;
        blocks.direct = DirectFile::writing(&blocks.file);
        let cause = |cause| BlockIoError::Open { name: blocks.name.clone(), cause };
        blocks.file.set_len(bytes).map_err(cause)?;
        blocks.bytes = bytes;
        Ok(Self { blocks })
    }
}

fn flag_bits(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).expect("the flags used here are small numbers")
}

impl Blocks {
    fn open(path: &Path, options: &OpenOptions, past_the_cache: bool) -> Result<Self, BlockIoError> {
        let name = path.display().to_string();
        let failed = |cause| BlockIoError::Open { name: name.clone(), cause };
        // Looked at before opening: a pipe that nobody writes would stop us for ever.
        if path.metadata().is_ok_and(|meta| !meta.is_file() && !meta.file_type().is_block_device()) {
            return Err(BlockIoError::NotBlocks { name });
        }
        let file = options.open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(BlockIoError::NotBlocks { name });
        }
        let bytes = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|errno| failed(errno.into()))?;
        let direct = if past_the_cache { DirectFile::open(path, false) } else { None };
        Ok(Self { name, file, direct, bytes, is_device: kind.is_block_device() })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
        let Some(range) = inside(&self.name, offset, buffer.len(), self.bytes)? else { return Ok(()) };
        let read = match &self.direct {
            // The last block of an image that does not end with a whole one cannot be read directly.
            Some(direct) if range.end().next_multiple_of(BLOCK_BYTES) <= self.bytes => {
                match direct.read_exact_at(range, buffer) {
                    // The filesystem below may refuse single direct reads; the cached way is always right.
                    Err(cause) if cause.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                        self.file.read_exact_at(buffer, offset)
                    }
                    read => read,
                }
            }
            _ => self.file.read_exact_at(buffer, offset),
        };
        read.map_err(|cause| BlockIoError::Read { name: self.name.clone(), range, cause })
    }

    fn allocated(&self) -> Ranges<'_> {
        if self.is_device {
            return Box::new(ByteRange::new(0, self.bytes).into_iter().map(Ok));
        }
        Box::new(DataRanges { blocks: self, at: 0, done: false })
    }

    fn punch(&self, range: ByteRange) -> Result<(), BlockIoError> {
        let failed = |cause| BlockIoError::Write { name: self.name.clone(), range, cause };
        // On a block device this asks for zeros that need no space: a loop device punches its file.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, range.start(), range.len()) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => self.write_zeros(range).map_err(failed),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    fn write_zeros(&self, range: ByteRange) -> io::Result<()> {
        let zeros = vec![0; 64 * 1024];
        let mut at = range.start();
        while at < range.end() {
            let length = usize::try_from(range.end() - at).unwrap_or(usize::MAX).min(zeros.len());
            self.file.write_all_at(&zeros[..length], at)?;
            at += length as u64;
        }
        Ok(())
    }

    /// Zeros `range`: whole blocks become a hole, what is left at the ends is written.
    fn zero(&self, range: ByteRange) -> Result<(), BlockIoError> {
        if range.end() > self.bytes {
            let (offset, length) = (range.start(), range.len());
            return Err(BlockIoError::Outside { name: self.name.clone(), offset, length, bytes: self.bytes });
        }
        let first = range.start().next_multiple_of(BLOCK_BYTES).min(range.end());
        let last = (range.end() / BLOCK_BYTES * BLOCK_BYTES).max(first);
        for edge in
            [ByteRange::new(range.start(), first), ByteRange::new(last, range.end())].into_iter().flatten()
        {
            self.write_zeros(edge).map_err(|cause| BlockIoError::Write {
                name: self.name.clone(),
                range: edge,
                cause,
            })?;
        }
        ByteRange::new(first, last).map_or(Ok(()), |middle| self.punch(middle))
    }
}

/// The data ranges of a file, by SEEK_DATA and SEEK_HOLE.
struct DataRanges<'a> {
    blocks: &'a Blocks,
    at: u64,
    done: bool,
}

impl Iterator for DataRanges<'_> {
    type Item = Result<ByteRange, BlockIoError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done || self.at >= self.blocks.bytes {
            return None;
        }
        let failed = |offset, errno: Errno| {
            Some(Err(BlockIoError::Extents { name: self.blocks.name.clone(), offset, cause: errno.into() }))
        };
        let start = match rustix::fs::seek(&self.blocks.file, SeekFrom::Data(self.at)) {
            Ok(start) => start,
            // ENXIO: no data from here to the end.
            Err(Errno::NXIO) => {
                self.done = true;
                return None;
            }
            Err(errno) => {
                self.done = true;
                return failed(self.at, errno);
            }
        };
        let end = match rustix::fs::seek(&self.blocks.file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(self.blocks.bytes),
            Err(errno) => {
                self.done = true;
                return failed(start, errno);
            }
        };
        self.at = end;
        ByteRange::new(start, end).ok().map(Ok)
    }
}

impl BlockSource for FileSource {
    fn bytes(&self) -> u64 {
        self.blocks.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
        self.blocks.read_at(offset, buffer)
    }

    fn allocated(&self) -> Ranges<'_> {
        self.blocks.allocated()
    }
}

impl BlockSource for FileTarget {
    fn bytes(&self) -> u64 {
        self.blocks.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
        self.blocks.read_at(offset, buffer)
    }

    fn allocated(&self) -> Ranges<'_> {
        self.blocks.allocated()
    }
}

impl BlockTarget for FileTarget {
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockIoError> {
        let blocks = &self.blocks;
        let Some(range) = inside(&blocks.name, offset, data.len(), blocks.bytes)? else { return Ok(()) };
        let write = || {
            let done = blocks.direct.as_ref().map_or(Ok(0), |direct| direct.write_blocks_at(data, offset))?;
            blocks.file.write_all_at(&data[done..], offset + done as u64)
        };
        write().map_err(|cause| BlockIoError::Write { name: blocks.name.clone(), range, cause })
    }

    fn zero(&self, range: ByteRange) -> Result<(), BlockIoError> {
        self.blocks.zero(range)
    }

    fn sync(&self) -> Result<(), BlockIoError> {
        let failed = |cause| BlockIoError::Sync { name: self.blocks.name.clone(), cause };
        self.blocks.file.sync_all().map_err(failed)
    }
}

#[cfg(test)]
mod tests;
