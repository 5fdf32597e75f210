//! Lets an image lie in fewer pieces, while it is in use.
//!
//! Every small write to a block that is shared with a snapshot puts that block elsewhere, so after a snapshot random
//! writes cut an image to pieces; and the next snapshot takes about ten microseconds for each. Right after a snapshot all
//! blocks are shared, and then the kernel can be asked to give a stretch blocks of its own (FALLOC_FL_UNSHARE_RANGE): it
//! copies the stretch to one new place, under the lock of the file, so that those who write meanwhile lose nothing. Later
//! writes there stay in place. The price is the space of the copy, as long as the snapshot lives, and that the next
//! comparison reports the stretch as changed: more than the truth, never less.
//!
//! A crash at any moment leaves either the old or the new place of each piece, with the same bytes.

use std::fs::OpenOptions;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;
use strongroom_block_io::BlockIoError;

use crate::backend::Tidied;
use crate::core_error::CoreError;
use crate::image::ImageName;

/// What is judged as one: large enough that a gibibyte of it costs a snapshot 10 milliseconds.
const WINDOW_BYTES: u64 = 1 << 20;

/// From this many pieces on a window is worth copying: pieces of 64 KiB on average.
const CROWD: u32 = 16;

/// What is copied under one hold of the file's lock; writers wait about a millisecond.
const PIECE_BYTES: u64 = 256 << 10;

/// After this much what was copied is made durable and leaves the page cache.
const FLUSH_BYTES: u64 = 4 << 20;

pub(super) fn tidy(
    path: &Path,
    image: &ImageName,
    most_bytes: u64,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Tidied, CoreError> {
    let blocks = |cause: BlockIoError| CoreError::Blocks { subject: image.to_string(), cause };
    let file = OpenOptions::new().write(true).open(path).map_err(CoreError::system("opening", path))?;
    let before = strongroom_block_io::count_extents(path).map_err(blocks)?;
    let mut windows = strongroom_block_io::crowded(path, WINDOW_BYTES, CROWD).map_err(blocks)?;
    windows.sort_by_key(|window| std::cmp::Reverse(window.extents));
    windows.truncate(usize::try_from(most_bytes / WINDOW_BYTES).unwrap_or(usize::MAX));
    // In ascending order again, so that neighbours become neighbours.
    windows.sort_by_key(|window| window.offset);
    let size = file.metadata().map_err(CoreError::system("looking at", path))?.len();
    let mut bytes = 0;
    let mut unflushed = 0;
    'all: for window in windows {
        let end = size.min(window.offset + WINDOW_BYTES);
        let mut at = window.offset;
        while at < end {
            if !go_on() {
                break 'all;
            }
            let piece = PIECE_BYTES.min(end - at);
            match rustix::fs::fallocate(&file, FallocateFlags::UNSHARE_RANGE, at, piece) {
                Ok(()) => {}
                // This filesystem cannot (btrfs), and never will.
                Err(Errno::OPNOTSUPP) => return Ok(Tidied { bytes: 0, before, after: before }),
                Err(errno) => return Err(CoreError::errno("tidying", path)(errno)),
            }
            at += piece;
            bytes += piece;
            unflushed += piece;
            if unflushed >= FLUSH_BYTES {
                file.sync_data().map_err(CoreError::system("flushing", path))?;
                unflushed = 0;
            }
        }
    }
    file.sync_data().map_err(CoreError::system("flushing", path))?;
    // Nobody reads the image through the page cache.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    let after = strongroom_block_io::count_extents(path).map_err(blocks)?;
    Ok(Tidied { bytes, before, after })
}
