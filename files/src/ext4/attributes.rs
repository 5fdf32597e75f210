//! Extended attributes: in the inode behind its fields, in a block of their own, or in an inode of their own.

use super::{Ext4, acl, inode};
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{Attribute, Node, nonsense};

const MAGIC: u32 = 0xea02_0000;
/// Larger values cannot be set.
const MOST_VALUE: u32 = 64 << 10;
/// The name under which content lies in an inode; no attribute of the file.
const DATA: (u8, &[u8]) = (7, b"data");

/// An attribute as it is on the disk: number of the prefix, rest of the name, value.
type Row = (u8, Vec<u8>, Vec<u8>);

impl<D: Disk> Ext4<D> {
    pub(super) fn extended_attributes(&self, node: &Node) -> Result<Vec<Attribute>, FilesError> {
        let mut found = Vec::new();
        for (prefix, name, value) in self.rows(node)? {
            if (prefix, &name[..]) == DATA {
                continue;
            }
            let (prefix, value): (&[u8], _) = match prefix {
                1 => (b"user.", value),
                2 | 3 => {
                    let Some(lines) = acl::from_disk(&value) else { continue };
                    let name: &[u8] =
                        if prefix == 2 { b"system.posix_acl_access" } else { b"system.posix_acl_default" };
                    (name, acl::to_attribute(lines))
                }
                4 => (b"trusted.", value),
                6 => (b"security.", value),
                7 => (b"system.", value),
                _ => continue,
            };
            found.push(([prefix, &name].concat(), value));
        }
        Ok(found)
    }

    /// The content of a small file that lies in its inode: the 60 bytes, then the value of an attribute.
    pub(super) fn inline_data(&self, node: &Node) -> Result<Vec<u8>, FilesError> {
        let mut content = inode::body(node).to_vec();
        let more = self.rows(node)?.into_iter().find(|(prefix, name, _)| (*prefix, &name[..]) == DATA);
        content.extend(more.map(|(_, _, value)| value).unwrap_or_default());
        content.truncate(usize::try_from(node.bytes).unwrap_or(usize::MAX));
        Ok(content)
    }

    fn rows(&self, node: &Node) -> Result<Vec<Row>, FilesError> {
        let fields = Fields(&node.raw);
        let mut found = Vec::new();
        if node.raw.len() > 128 {
            let start = 128 + usize::from(fields.le16(128));
            if start + 8 <= node.raw.len() && fields.le32(start) == MAGIC {
                let area = &node.raw[start + 4..];
                self.parse(node, area, area, &mut found)?;
            }
        }
        let block = u64::from(fields.le32(104)) | u64::from(fields.le16(118)) << 32;
        if block != 0 {
            let bytes = self.block(block)?;
            if Fields(&bytes).le32(0) != MAGIC {
                return Err(nonsense(format!("the attributes of inode {} are damaged", node.id)));
            }
            self.parse(node, &bytes[32..], &bytes, &mut found)?;
        }
        Ok(found)
    }

    /// Entries from `entries` on; their values lie at offsets from `values`.
    fn parse(
        &self,
        node: &Node,
        entries: &[u8],
        values: &[u8],
        found: &mut Vec<Row>,
    ) -> Result<(), FilesError> {
        let damaged = || nonsense(format!("the attributes of inode {} are damaged", node.id));
        let rows = Fields(entries);
        let mut at = 0;
        // Four zero bytes end the list; each entry has 16 bytes or more, so this ends.
        while at + 16 <= entries.len() && rows.le32(at) != 0 {
            let name_bytes = usize::from(rows.u8(at));
            let name = entries.get(at + 16..at + 16 + name_bytes).ok_or_else(damaged)?.to_vec();
            let (offset, inode, bytes) =
                (usize::from(rows.le16(at + 2)), rows.le32(at + 4), rows.le32(at + 8));
            if bytes > MOST_VALUE {
                return Err(damaged());
            }
            let value = if inode == 0 {
                values.get(offset..offset + bytes as usize).ok_or_else(damaged)?.to_vec()
            } else {
                let holder = self.inode(inode.into())?;
                self.content(&holder, 0, bytes.into())?
            };
            found.push((rows.u8(at + 1), name, value));
            at += (16 + name_bytes).next_multiple_of(4);
        }
        Ok(())
    }
}
