//! Extended attributes: in the inode where they are few, otherwise in leaves (`XAL3`, magic 0x3bee) of the attribute fork.
//! Large values lie in blocks of their own (`XARM`). Inner nodes (0x3ebe) are passed over: all blocks of the fork are read in
//! order, and leaves are known by their magic number.

use super::Xfs;
use super::extents::Fork;
use super::inode::Format;
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::ext4::acl_to_attribute;
use crate::tree::{Attribute, Node, nonsense};

const ROOT: u8 = 0x02;
const SECURE: u8 = 0x04;
const PARENT: u8 = 0x08;
const INCOMPLETE: u8 = 0x80;
const LOCAL: u8 = 0x01;
/// Values are at most this long.
const MOST_VALUE: u32 = 64 << 10;
/// So many blocks of a fork are looked at: more than 64 KiB of names and as many values need.
const MOST_BLOCKS: u64 = 65_536;

impl<D: Disk> Xfs<D> {
    pub(super) fn extended_attributes(&self, node: &Node) -> Result<Vec<Attribute>, FilesError> {
        let mut found = Vec::new();
        if node.raw.get(82) == Some(&0) {
            return Ok(found);
        }
        let fork = self.fork(node, Fork::Attributes)?;
        if fork.format == Format::Local {
            self.few(node, fork.bytes, &mut found)?;
            return Ok(found);
        }
        let size = self.layout.block_bytes;
        let mut block = 0;
        while block < MOST_BLOCKS {
            let (stretch, _) = self.stretch(node, Fork::Attributes, block * size)?;
            if stretch.at.is_none() {
                match stretch.blocks.checked_add(block) {
                    Some(next) if next < MOST_BLOCKS => block = next,
                    _ => break,
                }
                continue;
            }
            let bytes = self.content(
                node,
                Fork::Attributes,
                block * size,
                usize::try_from(size).unwrap_or_default(),
            )?;
            if Fields(&bytes).be16(8) == 0x3bee {
                self.leaf(node, &bytes, &mut found)?;
            }
            block += 1;
        }
        Ok(found)
    }

    fn few(&self, node: &Node, bytes: &[u8], found: &mut Vec<Attribute>) -> Result<(), FilesError> {
        let damaged = || nonsense(format!("the attributes of inode {} are damaged", node.id));
        let fields = Fields(bytes);
        let mut at = 4;
        for _ in 0..fields.u8(2) {
            let (name_bytes, value_bytes) = (usize::from(fields.u8(at)), usize::from(fields.u8(at + 1)));
            let flags = fields.u8(at + 2);
            let all = bytes.get(at + 3..at + 3 + name_bytes + value_bytes).ok_or_else(damaged)?;
            let (name, value) = all.split_at(name_bytes);
            found.extend(attribute(flags, name, value.to_vec()));
            at += 3 + name_bytes + value_bytes;
        }
        Ok(())
    }

    fn leaf(&self, node: &Node, bytes: &[u8], found: &mut Vec<Attribute>) -> Result<(), FilesError> {
        let damaged = || nonsense(format!("the attributes of inode {} are damaged", node.id));
        let fields = Fields(bytes);
        let count = usize::from(fields.be16(56));
        if 80 + count * 8 > bytes.len() {
            return Err(damaged());
        }
        for row in 0..count {
            let at = 80 + row * 8;
            let (place, flags) = (usize::from(fields.be16(at + 4)), fields.u8(at + 6));
            if flags & INCOMPLETE != 0 {
                continue;
            }
            if flags & LOCAL != 0 {
                let (value_bytes, name_bytes) =
                    (usize::from(fields.be16(place)), usize::from(fields.u8(place + 2)));
                let all = bytes.get(place + 3..place + 3 + name_bytes + value_bytes).ok_or_else(damaged)?;
                let (name, value) = all.split_at(name_bytes);
                found.extend(attribute(flags, name, value.to_vec()));
            } else {
                let (block, value_bytes) = (fields.be32(place), fields.be32(place + 4));
                let name_bytes = usize::from(fields.u8(place + 8));
                let name = bytes.get(place + 9..place + 9 + name_bytes).ok_or_else(damaged)?;
                let value = self.remote(node, block.into(), value_bytes)?;
                found.extend(attribute(flags, name, value));
            }
        }
        Ok(())
    }

    /// A value in blocks of its own, each behind a header of 56 bytes.
    fn remote(&self, node: &Node, first: u64, value_bytes: u32) -> Result<Vec<u8>, FilesError> {
        let damaged = || nonsense(format!("an attribute of inode {} is damaged", node.id));
        if value_bytes > MOST_VALUE {
            return Err(damaged());
        }
        let length = value_bytes as usize;
        let size = usize::try_from(self.layout.block_bytes).map_err(|_| damaged())?;
        let mut value = Vec::with_capacity(length);
        let mut block = first;
        while value.len() < length {
            let bytes = self.content(node, Fork::Attributes, block * self.layout.block_bytes, size)?;
            let part = bytes.get(56..).filter(|_| bytes.starts_with(b"XARM")).ok_or_else(damaged)?;
            value.extend_from_slice(&part[..part.len().min(length - value.len())]);
            block += 1;
        }
        Ok(value)
    }
}

/// The attribute under the name that programs know; `None` for what is the filesystem's own.
fn attribute(flags: u8, name: &[u8], value: Vec<u8>) -> Option<Attribute> {
    if flags & PARENT != 0 {
        return None;
    }
    let prefix: &[u8] = match (flags & ROOT != 0, flags & SECURE != 0) {
        (false, false) => b"user.",
        (false, true) => b"security.",
        (true, _) => match name {
            b"SGI_ACL_FILE" => return Some((b"system.posix_acl_access".to_vec(), acl(&value)?)),
            b"SGI_ACL_DEFAULT" => return Some((b"system.posix_acl_default".to_vec(), acl(&value)?)),
            _ => b"trusted.",
        },
    };
    Some(([prefix, name].concat(), value))
}

/// A count, then lines of tag (4), id (4), permissions (2), padding (2).
fn acl(value: &[u8]) -> Option<Vec<u8>> {
    let fields = Fields(value);
    let count = usize::try_from(fields.be32(0)).ok()?;
    if count.checked_mul(12)?.checked_add(4)? > value.len() {
        return None;
    }
    let line = |row: usize| {
        let at = 4 + row * 12;
        let tag = u16::try_from(fields.be32(at)).unwrap_or_default();
        (tag, fields.be16(at + 8), fields.be32(at + 4))
    };
    Some(acl_to_attribute((0..count).map(line)))
}
