//! Which block of the disk holds which block of a fork.
//!
//! An extent has 128 bits, big endian: 1 for "allocated and not written", 54 of offset, 52 of block, 21 of length. They lie in
//! the inode, or in the leaves of a tree whose blocks begin with a header of 72 bytes (`BMA3`).

use super::Xfs;
use super::inode::Format;
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{Node, nonsense};

const HEADER: usize = 72;
/// Deeper trees would hold more extents than there can be.
const MOST_LEVELS: u16 = 16;

/// Content, or attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fork {
    Data,
    Attributes,
}

/// So many blocks from a place of the disk on, in bytes; or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) at: Option<u64>,
    pub(super) blocks: u64,
}

struct Extent {
    offset: u64,
    block: u64,
    blocks: u64,
    written: bool,
}

fn extent(bytes: &[u8], row: usize) -> Extent {
    let (high, low) = (Fields(bytes).be64(row * 16), Fields(bytes).be64(row * 16 + 8));
    Extent {
        written: high >> 63 == 0,
        offset: high >> 9 & ((1 << 54) - 1),
        block: (high & 0x1ff) << 43 | low >> 21,
        blocks: low & ((1 << 21) - 1),
    }
}

impl<D: Disk> Xfs<D> {
    /// The stretch in which a byte of a fork lies, and how far into its first block the byte is.
    pub(super) fn stretch(&self, node: &Node, fork: Fork, offset: u64) -> Result<(Stretch, u64), FilesError> {
        let size = self.layout.block_bytes;
        Ok((self.blocks_from(node, fork, offset / size)?, offset % size))
    }

    fn blocks_from(&self, node: &Node, fork: Fork, block: u64) -> Result<Stretch, FilesError> {
        let damaged = || nonsense(format!("the extents of inode {} are damaged", node.id));
        let own = self.fork(node, fork)?;
        match own.format {
            Format::Extents => {
                let count = usize::try_from(own.extents).map_err(|_| damaged())?;
                let rows = own.bytes.get(..count.checked_mul(16).ok_or_else(damaged)?).ok_or_else(damaged)?;
                self.in_rows(node, rows, block, u64::MAX)
            }
            Format::Tree => {
                let root = Fields(own.bytes);
                let (level, count) = (root.be16(0), usize::from(root.be16(2)));
                // Keys fill the first half of what is there, places the second.
                let most = own.bytes.len().saturating_sub(4) / 16;
                if level == 0 || level > MOST_LEVELS || count > most {
                    return Err(damaged());
                }
                self.in_tree(node, own.bytes.get(4..).ok_or_else(damaged)?, most, count, level, block)
            }
            Format::Local | Format::Device => Err(damaged()),
        }
    }

    fn in_tree(
        &self,
        node: &Node,
        root: &[u8],
        most: usize,
        count: usize,
        level: u16,
        block: u64,
    ) -> Result<Stretch, FilesError> {
        let damaged = || nonsense(format!("the extents of inode {} are damaged", node.id));
        let mut table = root.to_vec();
        let (mut most, mut count, mut level) = (most, count, level);
        // Where the part of the tree that is being looked at ends.
        let mut end = u64::MAX;
        loop {
            let rows = Fields(&table);
            let after = (0..count).find(|row| rows.be64(row * 8) > block);
            if let Some(after) = after {
                end = end.min(rows.be64(after * 8));
            }
            let Some(row) = after.unwrap_or(count).checked_sub(1) else {
                return Ok(Stretch { at: None, blocks: end.saturating_sub(block).max(1) });
            };
            let child = self.layout.place(rows.be64(most * 8 + row * 8)).ok_or_else(damaged)?;
            let mut bytes = vec![0; usize::try_from(self.layout.block_bytes).map_err(|_| damaged())?];
            self.read(child, &mut bytes)?;
            let header = Fields(&bytes);
            level -= 1;
            count = header.be16(6).into();
            most = (bytes.len() - HEADER) / 16;
            if !bytes.starts_with(b"BMA3") || header.be16(4) != level || count > most {
                return Err(damaged());
            }
            table = bytes.split_off(HEADER);
            if level == 0 {
                return self.in_rows(node, &table[..count * 16], block, end);
            }
        }
    }

    fn in_rows(&self, node: &Node, rows: &[u8], block: u64, end: u64) -> Result<Stretch, FilesError> {
        let count = rows.len() / 16;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            if extent(rows, middle).offset <= block { low = middle + 1 } else { high = middle }
        }
        let end = if low < count { end.min(extent(rows, low).offset) } else { end };
        let hole = Stretch { at: None, blocks: end.saturating_sub(block).max(1) };
        let Some(row) = low.checked_sub(1) else { return Ok(hole) };
        let found = extent(rows, row);
        let within = block - found.offset;
        if within >= found.blocks {
            return Ok(hole);
        }
        let blocks = found.blocks - within;
        if !found.written {
            return Ok(Stretch { at: None, blocks });
        }
        let outside = || nonsense(format!("inode {} names blocks that are not in the filesystem", node.id));
        // An extent lies in one group.
        self.layout.place(found.block + found.blocks - 1).ok_or_else(outside)?;
        let at = self.layout.place(found.block + within).ok_or_else(outside)?;
        Ok(Stretch { at: Some(at), blocks })
    }
}
