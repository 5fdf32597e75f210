//! Names in a directory: in the inode where there are few, otherwise in data blocks, whose entries are read one after
//! another. The hash tables behind them are for look-ups and are not needed.
//!
//! A data block begins with 64 bytes (`XDB3` where it holds all, `XDD3` otherwise). An entry is: inode (8), length of the name
//! (1), name, kind (1), padding, its own offset (2). What is unused begins with 0xffff and its length.

use super::Xfs;
use super::extents::Fork;
use super::inode::Format;
use super::superblock::FTYPE;
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{Entry, Node, is_name, nonsense};

const HEADER: usize = 64;
/// Data blocks lie below this offset; hash tables above.
const DATA_END: u64 = 32 << 30;

impl<D: Disk> Xfs<D> {
    pub(super) fn names(
        &self,
        directory: &Node,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), FilesError> {
        let fork = self.fork(directory, Fork::Data)?;
        if fork.format == Format::Local {
            return self.few_names(directory, fork.bytes, each).map(drop);
        }
        let size = self.layout.directory_bytes;
        let end = directory.bytes.min(DATA_END);
        let mut at = 0;
        while at < end {
            let (found, within) = self.stretch(directory, Fork::Data, at)?;
            if found.at.is_none() {
                // A hole: on to the next block behind it.
                let skip = found.blocks.saturating_mul(self.layout.block_bytes).saturating_sub(within);
                at = at.saturating_add(skip).next_multiple_of(size).max(at + size);
                continue;
            }
            let length = usize::try_from(size).unwrap_or_default();
            let block = self.content(directory, Fork::Data, at, length)?;
            if !self.block_names(directory, &block, each)? {
                return Ok(());
            }
            at += size;
        }
        Ok(())
    }

    fn few_names(
        &self,
        directory: &Node,
        bytes: &[u8],
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<bool, FilesError> {
        let damaged = || nonsense(format!("directory {} is damaged", directory.id));
        let fields = Fields(bytes);
        let (count, wide) = (fields.u8(0), fields.u8(1) > 0);
        let number_bytes = if wide { 8 } else { 4 };
        let kind_bytes = usize::from(self.layout.incompatible & FTYPE != 0);
        let mut at = 2 + number_bytes;
        for _ in 0..count {
            let name_bytes = usize::from(fields.u8(at));
            let name = bytes.get(at + 3..at + 3 + name_bytes).ok_or_else(damaged)?;
            let number = at + 3 + name_bytes + kind_bytes;
            at = number + number_bytes;
            if at > bytes.len() {
                return Err(damaged());
            }
            let id = if wide { fields.be64(number) } else { fields.be32(number).into() };
            if !is_name(name) {
                return Err(nonsense(format!("directory {} holds a name that cannot be", directory.id)));
            }
            if !each(Entry { name: name.to_vec(), id }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn block_names(
        &self,
        directory: &Node,
        block: &[u8],
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<bool, FilesError> {
        let damaged = || nonsense(format!("directory {} is damaged", directory.id));
        let rows = Fields(block);
        let end = match block.get(..4) {
            Some(b"XDD3") => block.len(),
            // The hash table of a directory with one block lies at its end: 8 bytes a row, and 8 of counts.
            Some(b"XDB3") => {
                let count = usize::try_from(rows.be32(block.len() - 8)).unwrap_or(usize::MAX);
                count
                    .checked_mul(8)
                    .and_then(|table| block.len().checked_sub(8 + table))
                    .filter(|end| *end >= HEADER)
                    .ok_or_else(damaged)?
            }
            _ => return Err(damaged()),
        };
        let kind_bytes = usize::from(self.layout.incompatible & FTYPE != 0);
        let mut at = HEADER;
        while at < end {
            if rows.be16(at) == 0xffff {
                let length = usize::from(rows.be16(at + 2));
                if length < 8 || length % 8 != 0 {
                    return Err(damaged());
                }
                at += length;
                continue;
            }
            let (id, name_bytes) = (rows.be64(at), usize::from(rows.u8(at + 8)));
            let name = block.get(at + 9..at + 9 + name_bytes).ok_or_else(damaged)?;
            at += (9 + name_bytes + kind_bytes + 2).next_multiple_of(8);
            if at > end {
                return Err(damaged());
            }
            if name == b"." || name == b".." {
                continue;
            }
            if !is_name(name) {
                return Err(nonsense(format!("directory {} holds a name that cannot be", directory.id)));
            }
            if !each(Entry { name: name.to_vec(), id }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
