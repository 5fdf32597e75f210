//! Inodes: where one lies, and what it says.

use super::Ext4;
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{Kind, Moment, Node, NodeId, nonsense};

/// The 60 bytes that hold extents, block numbers, a short link or content.
pub(super) fn body(node: &Node) -> &[u8] {
    node.raw.get(40..100).unwrap_or(&[0; 60])
}

pub(super) fn flags(node: &Node) -> u32 {
    Fields(&node.raw).le32(32)
}

impl<D: Disk> Ext4<D> {
    pub(super) fn inode(&self, id: NodeId) -> Result<Node, FilesError> {
        let number = u32::try_from(id)
            .ok()
            .filter(|number| (1..=self.layout.inodes).contains(number))
            .ok_or_else(|| nonsense(format!("inode {id} is not in the filesystem")))?;
        let (group, index) =
            ((number - 1) / self.layout.inodes_per_group, (number - 1) % self.layout.inodes_per_group);
        let (at, length) = self.layout.descriptor(group);
        let mut descriptor = vec![0; usize::try_from(length).unwrap_or_default()];
        self.read(at, &mut descriptor)?;
        let descriptor = Fields(&descriptor);
        let table = u64::from(descriptor.le32(8)) | u64::from(descriptor.le32(40)) << 32;
        if table >= self.layout.blocks {
            return Err(nonsense(format!("the inodes of group {group} are not in the filesystem")));
        }
        let size = u64::from(self.layout.inode_bytes);
        let mut raw = vec![0; usize::from(self.layout.inode_bytes)];
        self.read(table * self.layout.block_bytes + u64::from(index) * size, &mut raw)?;
        parse(id, raw)
    }
}

fn parse(id: NodeId, raw: Vec<u8>) -> Result<Node, FilesError> {
    let inode = Fields(&raw);
    let mode = inode.le16(0);
    let kind = Kind::of_mode(mode).ok_or_else(|| nonsense(format!("inode {id} is of no kind")))?;
    let wide = |low: usize, high: usize| u32::from(inode.le16(low)) | u32::from(inode.le16(high)) << 16;
    let extra = if raw.len() > 128 { usize::from(inode.le16(128)) } else { 0 };
    // Seconds are signed 32 bits; the extra field has two more bits of them and 30 bits of nanoseconds.
    let moment = |seconds: usize, more: usize| {
        let base = i64::from(inode.le32(seconds).cast_signed());
        if more + 4 <= 128 + extra {
            let more = inode.le32(more);
            Moment { seconds: base + (i64::from(more & 3) << 32), nanos: (more >> 2).min(999_999_999) }
        } else {
            Moment { seconds: base, nanos: 0 }
        }
    };
    Ok(Node {
        id,
        kind,
        mode: mode & 0o7777,
        uid: wide(2, 120),
        gid: wide(24, 122),
        bytes: u64::from(inode.le32(4)) | u64::from(inode.le32(108)) << 32,
        links: inode.le16(26).into(),
        accessed: moment(8, 140),
        modified: moment(16, 136),
        raw,
    })
}
