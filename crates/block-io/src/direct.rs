//! Reading and writing past the page cache.
//!
//! A backup reads and writes everything once. Through the cache that costs a copy of each byte into pages that nobody asks
//! for again, and pushes out those that others need: a restore spent more time there than in opening and unpacking what it
//! restores. Past the cache the kernel wants memory and offsets on block boundaries; buffers of our own see to that, so
//! callers need not care. A caller who hands in a [`Buffer`] spares the copy as well.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;
use strongroom_model::ByteRange;

use crate::BLOCK_BYTES;

#[expect(clippy::cast_possible_truncation, reason = "4096 fits everywhere")]
const BLOCK: usize = BLOCK_BYTES as usize;

/// The largest piece that is read or written at once by way of a buffer of our own.
const PIECE: usize = 1024 * 1024;

/// A file opened once more, past the page cache.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
}

impl DirectFile {
    /// The same file once more, for writing. `None` where the filesystem does not have that, or the file cannot be found again.
    #[must_use]
    pub fn writing(file: &File) -> Option<Self> {
        Self::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), true)
    }

    /// `None` where the filesystem does not have that.
    pub(crate) fn open(path: &Path, write: bool) -> Option<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).expect("the flag is a small number");
        let file = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path).ok()?;
        Some(Self { file })
    }

    /// Writes all whole blocks of `data` past the cache and says how many bytes those are: what is left, less than a block,
    /// goes another way. Zero when `offset` is not on a block boundary, or the filesystem refuses after all.
    ///
    /// # Errors
    /// When the medium refuses.
    pub fn write_blocks_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        let whole = data.len() / BLOCK * BLOCK;
        if !offset.is_multiple_of(BLOCK_BYTES) || whole == 0 {
            return Ok(0);
        }
        let written = if data.as_ptr().align_offset(BLOCK) == 0 {
            self.file.write_all_at(&data[..whole], offset)
        } else {
            let mut own = Buffer::of(whole.min(PIECE));
            (offset..).step_by(PIECE).zip(data[..whole].chunks(PIECE)).try_for_each(|(at, piece)| {
                let own = &mut own.bytes_mut()[..piece.len()];
                own.copy_from_slice(piece);
                self.file.write_all_at(own, at)
            })
        };
        match written {
            Err(cause) if cause.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(0),
            written => written.map(|()| whole),
        }
    }

    /// Fills `buffer` from `range`, whose last block must lie within the file.
    pub(crate) fn read_exact_at(&self, range: ByteRange, buffer: &mut [u8]) -> io::Result<()> {
        let on_blocks = range.start().is_multiple_of(BLOCK_BYTES) && buffer.len().is_multiple_of(BLOCK);
        if on_blocks && buffer.as_ptr().align_offset(BLOCK) == 0 {
            return self.file.read_exact_at(buffer, range.start());
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let at = range.start() + filled as u64;
            let first = at / BLOCK_BYTES * BLOCK_BYTES;
            let end = range.end().next_multiple_of(BLOCK_BYTES).min(first + PIECE as u64);
            let length = usize::try_from(end - first).expect("a piece is at most 1 MiB");
            let skip = usize::try_from(at - first).expect("less than a block");
            let mut own = Buffer::of(length);
            self.file.read_exact_at(own.bytes_mut(), first)?;
            let take = (length - skip).min(buffer.len() - filled);
            buffer[filled..filled + take].copy_from_slice(&own.bytes_mut()[skip..skip + take]);
            filled += take;
        }
        Ok(())
    }
}

/// Memory on a block boundary, for reading and writing without a copy. Dropped ones are used again: fresh memory costs the
/// kernel more than reading into it.
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    shift: usize,
    length: usize,
}

/// Memory that waits for its next use: at most [`KEPT`] pieces of 1 MiB.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// About as many as there are threads that read or write at once.
const KEPT: usize = 8;

impl Buffer {
    /// `length` bytes. What is in them is left from whoever had them before, in this process.
    #[must_use]
    pub fn of(length: usize) -> Self {
        let spare =
            (length <= PIECE).then(|| SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop()).flatten();
        let memory = spare.unwrap_or_else(|| vec![0; length.max(PIECE) + BLOCK]);
        let shift = memory.as_ptr().align_offset(BLOCK);
        Self { memory, shift, length }
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.shift..self.shift + self.length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.shift..self.shift + self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() == PIECE + BLOCK && spare.len() < KEPT {
            spare.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_past_the_cache_is_what_is_read_through_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        let Some(direct) = DirectFile::writing(&file) else {
            return println!("SKIPPED: the filesystem of the temporary folder has no direct I/O");
        };
        let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
        let mut aligned = Buffer::of(2 * PIECE);
        aligned.bytes_mut().copy_from_slice(&content[..2 * PIECE]);
        for (data, offset, expected) in [
            (&content[..], 0, content.len() / BLOCK * BLOCK),
            (&content[1..9000], 65_536, 8192),
            (&content[..4095], 0, 0),
            (&content[..8192], 100, 0),
            (aligned.as_ref(), 4096, 2 * PIECE),
        ] {
            assert_eq!(direct.write_blocks_at(data, offset).unwrap(), expected);
            let mut got = vec![0; expected];
            file.read_exact_at(&mut got, offset).unwrap();
            assert!(got == data[..expected], "{expected} bytes at {offset}");
        }
    }
}
