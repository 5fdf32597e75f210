//! Which block of the disk holds which block of a file: trees of extents (ext4), lists of block numbers (ext2, ext3).
//!
//! A look-up answers a stretch and goes on from there, so nothing is built in memory however large or hostile the tree is.

use super::inode::body;
use super::{Ext4, Stretch};
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{Node, nonsense};

const MAGIC: u16 = 0xf30a;
/// Deeper trees cannot be made.
const MOST_LEVELS: u16 = 5;
/// Lengths above this are of extents that are allocated and not written: zeros.
const WRITTEN: u16 = 32_768;

impl<D: Disk> Ext4<D> {
    /// The stretch that begins at `block` of a file with extents.
    pub(super) fn extent(&self, node: &Node, block: u64) -> Result<Stretch, FilesError> {
        let mut bytes = body(node).to_vec();
        let mut level = None;
        // Where the part of the tree that is being looked at ends.
        let mut end = u64::from(u32::MAX) + 1;
        loop {
            let table = Fields(&bytes);
            let (magic, count, depth) = (table.le16(0), usize::from(table.le16(2)), table.le16(6));
            let fits = 12 + count * 12 <= bytes.len();
            if magic != MAGIC || !fits || depth > MOST_LEVELS || level.is_some_and(|above| depth + 1 != above)
            {
                return Err(nonsense(format!("the extents of inode {} are damaged", node.id)));
            }
            let starts = |row: usize| u64::from(table.le32(12 + row * 12));
            // The last row that begins at or before the block, and where the one after it begins.
            let after = (0..count).find(|row| starts(*row) > block);
            if let Some(after) = after {
                end = end.min(starts(after));
            }
            let row = after.unwrap_or(count).checked_sub(1);
            let hole = Stretch { at: None, blocks: end.saturating_sub(block).max(1) };
            let Some(row) = row else { return Ok(hole) };
            let at = 12 + row * 12;
            if depth == 0 {
                let length = table.le16(at + 4);
                let (length, written) =
                    if length <= WRITTEN { (length, true) } else { (length - WRITTEN, false) };
                let place = u64::from(table.le32(at + 8)) | u64::from(table.le16(at + 6)) << 32;
                let within = block - starts(row);
                if within >= length.into() {
                    return Ok(hole);
                }
                let stretch =
                    Stretch { at: written.then_some(place + within), blocks: u64::from(length) - within };
                return self.inside(node, stretch);
            }
            level = Some(depth);
            let child = u64::from(table.le32(at + 4)) | u64::from(table.le16(at + 8)) << 32;
            bytes = self.block(child)?;
        }
    }

    /// The stretch that begins at `block` of a file with a list of blocks.
    pub(super) fn mapped(&self, node: &Node, block: u64) -> Result<Stretch, FilesError> {
        let per_block = self.layout.block_bytes / 4;
        let own = Fields(body(node));
        let (mut number, mut rest, levels) = match block {
            0..12 => return self.run(node, &own, usize::try_from(block).unwrap_or_default(), 12),
            _ => {
                let rest = block - 12;
                let double = per_block * per_block;
                if rest < per_block {
                    (own.le32(48), rest, 1)
                } else if rest - per_block < double {
                    (own.le32(52), rest - per_block, 2)
                } else if rest - per_block - double < double * per_block {
                    (own.le32(56), rest - per_block - double, 3)
                } else {
                    return Err(nonsense(format!("inode {} is larger than it can be", node.id)));
                }
            }
        };
        for level in (0..levels).rev() {
            let below = per_block.pow(level);
            if number == 0 {
                // All that hangs on a missing block is a hole.
                let span = below * per_block;
                return Ok(Stretch { at: None, blocks: span - rest % span });
            }
            let table = self.block(number.into())?;
            let index = usize::try_from(rest / below).unwrap_or_default();
            if level == 0 {
                return self.run(node, &Fields(&table), index, table.len() / 4);
            }
            number = Fields(&table).le32(index * 4);
            rest %= below;
        }
        Err(nonsense(format!("inode {} has no blocks", node.id)))
    }

    /// The numbers from `index` on that follow each other.
    fn run(
        &self,
        node: &Node,
        table: &Fields<'_>,
        index: usize,
        count: usize,
    ) -> Result<Stretch, FilesError> {
        let number = |index: usize| u64::from(table.le32(index * 4));
        let first = number(index);
        let mut blocks = 1;
        for at in index + 1..count {
            let expected = if first == 0 { 0 } else { first + blocks };
            if number(at) != expected {
                break;
            }
            blocks += 1;
        }
        self.inside(node, Stretch { at: (first != 0).then_some(first), blocks })
    }

    fn inside(&self, node: &Node, stretch: Stretch) -> Result<Stretch, FilesError> {
        match stretch.at {
            Some(at) if at.checked_add(stretch.blocks).is_none_or(|end| end > self.layout.blocks) => {
                Err(nonsense(format!("inode {} names blocks that are not in the filesystem", node.id)))
            }
            _ => Ok(stretch),
        }
    }
}
