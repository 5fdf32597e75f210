//! Inodes of version 3: 176 bytes of fields, then the data fork, then the fork of attributes.
//!
//! | offset | field | offset | field |
//! |---|---|---|---|
//! | 0 | magic `IN` | 56 | size, u64 |
//! | 2 | mode, u16 | 76 | extents, u32 |
//! | 5 | format of the data fork | 80 | extents of attributes, u16 |
//! | 8, 12 | owner, group | 82 | where the attribute fork begins, in 8 bytes |
//! | 16 | links, u32 | 83 | format of the attribute fork |
//! | 32, 40 | accessed, modified | 120 | more flags, u64 |

use super::Xfs;
use super::extents::Fork;
use super::superblock::BIG_TIME;
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{Kind, Moment, Node, NodeId, nonsense};

const CORE: usize = 176;
/// `XFS_DIFLAG2_BIGTIME`, `XFS_DIFLAG2_NREXT64`, and the bit of files on a realtime device.
const FLAG_BIG_TIME: u64 = 0x8;
const FLAG_LARGE_COUNTERS: u64 = 0x10;
const FLAG_REALTIME: u16 = 0x1;
/// Big times count from the earliest moment that 32 bits have.
const BIG_TIME_ZERO: i64 = -(1 << 31);

/// How a fork is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A device.
    Device,
    /// The content itself.
    Local,
    /// A list of extents.
    Extents,
    /// The root of a tree of extents.
    Tree,
}

/// A fork: how it is kept, how many extents it has, and its bytes in the inode.
pub(super) struct Forked<'a> {
    pub(super) format: Format,
    pub(super) extents: u64,
    pub(super) bytes: &'a [u8],
}

impl<D: Disk> Xfs<D> {
    pub(super) fn inode(&self, id: NodeId) -> Result<Node, FilesError> {
        let at = self
            .layout
            .inode_place(id)
            .ok_or_else(|| nonsense(format!("inode {id} is not in the filesystem")))?;
        let mut raw = vec![0; self.layout.inode_bytes];
        self.read(at, &mut raw)?;
        let inode = Fields(&raw);
        let kind = Kind::of_mode(inode.be16(2));
        let Some(kind) = kind.filter(|_| raw.starts_with(b"IN") && inode.u8(4) == 3) else {
            return Err(nonsense(format!("inode {id} is damaged")));
        };
        let big = self.layout.incompatible & BIG_TIME != 0 && inode.be64(120) & FLAG_BIG_TIME != 0;
        let moment = |at: usize| {
            if big {
                let nanos = inode.be64(at);
                let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or_default() + BIG_TIME_ZERO;
                Moment { seconds, nanos: u32::try_from(nanos % 1_000_000_000).unwrap_or_default() }
            } else {
                Moment {
                    seconds: inode.be32(at).cast_signed().into(),
                    nanos: inode.be32(at + 4).min(999_999_999),
                }
            }
        };
        Ok(Node {
            id,
            kind,
            mode: inode.be16(2) & 0o7777,
            uid: inode.be32(8),
            gid: inode.be32(12),
            bytes: inode.be64(56),
            links: inode.be32(16),
            accessed: moment(32),
            modified: moment(40),
            raw,
        })
    }

    pub(super) fn fork<'a>(&self, node: &'a Node, fork: Fork) -> Result<Forked<'a>, FilesError> {
        let damaged = || nonsense(format!("inode {} is damaged", node.id));
        let inode = Fields(&node.raw);
        if fork == Fork::Data && node.kind == Kind::File && inode.be16(90) & FLAG_REALTIME != 0 {
            return Err(FilesError::UnknownFeatures {
                filesystem: "XFS",
                features: "a realtime device, which is not in the image".into(),
            });
        }
        let large = inode.be64(120) & FLAG_LARGE_COUNTERS != 0;
        let divide = usize::from(inode.u8(82)) * 8;
        let body = node.raw.get(CORE..).ok_or_else(damaged)?;
        if divide > body.len() {
            return Err(damaged());
        }
        let (own, attributes) = if divide == 0 { (body, &body[..0]) } else { body.split_at(divide) };
        let (format, extents, bytes) = match fork {
            Fork::Data => (inode.u8(5), if large { inode.be64(24) } else { inode.be32(76).into() }, own),
            Fork::Attributes => {
                (inode.u8(83), if large { inode.be32(76).into() } else { inode.be16(80).into() }, attributes)
            }
        };
        let format = match format {
            0 => Format::Device,
            1 => Format::Local,
            2 => Format::Extents,
            3 => Format::Tree,
            _ => return Err(damaged()),
        };
        Ok(Forked { format, extents, bytes })
    }

    pub(super) fn link(&self, node: &Node) -> Result<Vec<u8>, FilesError> {
        let damaged = || nonsense(format!("inode {} is no symbolic link", node.id));
        let length = usize::try_from(node.bytes)
            .ok()
            .filter(|bytes| (1..=1024).contains(bytes))
            .ok_or_else(damaged)?;
        if node.kind != Kind::Link {
            return Err(damaged());
        }
        let fork = self.fork(node, Fork::Data)?;
        if fork.format == Format::Local {
            return Ok(fork.bytes.get(..length).ok_or_else(damaged)?.to_vec());
        }
        // Each block of a remote target begins with a header of 56 bytes.
        let block = usize::try_from(self.layout.block_bytes).map_err(|_| damaged())?;
        let mut target = Vec::new();
        for number in 0..8_u64 {
            if target.len() >= length {
                break;
            }
            let bytes = self.content(node, Fork::Data, number * self.layout.block_bytes, block)?;
            let part = bytes.get(56..).filter(|_| bytes.starts_with(b"XSLM")).ok_or_else(damaged)?;
            target.extend_from_slice(&part[..part.len().min(length - target.len())]);
        }
        Ok(target)
    }
}
