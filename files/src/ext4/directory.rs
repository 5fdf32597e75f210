//! Names in a directory: read block after block, which holds for linear directories and for those with a hash tree, whose
//! inner nodes look like empty entries.

use super::{ENCRYPTED, Ext4, INLINE_DATA, MOST_DIRECTORY_BYTES, inode};
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{Entry, Kind, Node, is_name, nonsense};

/// So much of a directory is read at once.
const STEP: u64 = 64 << 10;

impl<D: Disk> Ext4<D> {
    pub(super) fn names(
        &self,
        directory: &Node,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), FilesError> {
        if directory.kind != Kind::Directory {
            return Err(nonsense(format!("inode {} is no directory", directory.id)));
        }
        let flags = inode::flags(directory);
        if flags & ENCRYPTED != 0 {
            return Err(FilesError::Encrypted);
        }
        if directory.bytes > MOST_DIRECTORY_BYTES {
            return Err(nonsense(format!("directory {} of {} bytes", directory.id, directory.bytes)));
        }
        if flags & INLINE_DATA != 0 {
            // The first four bytes are the parent; then come entries, in two parts that do not run into each other.
            let all = self.inline_data(directory)?;
            let (own, more) = all.split_at(all.len().min(60));
            let _ = self.block_names(directory, own.get(4..).unwrap_or_default(), each)?
                && self.block_names(directory, more, each)?;
            return Ok(());
        }
        let mut at = 0;
        while at < directory.bytes {
            let bytes = self.content(directory, at, STEP)?;
            at += bytes.len().max(1) as u64;
            for block in bytes.chunks(usize::try_from(self.layout.block_bytes).unwrap_or(1024)) {
                if !self.block_names(directory, block, each)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether to go on.
    fn block_names(
        &self,
        directory: &Node,
        block: &[u8],
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<bool, FilesError> {
        let rows = Fields(block);
        let mut at = 0;
        while at + 8 <= block.len() {
            let (number, length, name_bytes) =
                (rows.le32(at), rows.le16(at + 4), usize::from(rows.u8(at + 6)));
            // 64 KiB do not fit in 16 bits, so they are written in a way of their own.
            let length = match usize::from(length) {
                0 | 65_535 if block.len() == 65_536 => block.len() - at,
                length => (length & 0xfffc) | (length & 3) << 16,
            };
            if length == 0 && number == 0 {
                // A hole in the directory, or the rest of an inline one.
                return Ok(true);
            }
            if length < 8 || at + length > block.len() || name_bytes + 8 > length {
                return Err(nonsense(format!("directory {} is damaged", directory.id)));
            }
            let name = &block[at + 8..at + 8 + name_bytes];
            at += length;
            if number == 0 || name == b"." || name == b".." {
                continue;
            }
            if !is_name(name) {
                return Err(nonsense(format!("directory {} holds a name that cannot be", directory.id)));
            }
            if !each(Entry { name: name.to_vec(), id: number.into() }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
