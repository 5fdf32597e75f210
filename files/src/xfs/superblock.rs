//! The superblock of XFS: the first sector of the disk, big endian.

use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{nonsense, unread};

/// Incompatible features that reading knows: ftype, sparse inodes, meta uuid, big time, large extent counters, exchange range,
/// parent pointers. "Needs repair" (0x10) is refused.
const KNOWN: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80;
pub(super) const FTYPE: u32 = 0x1;
pub(super) const BIG_TIME: u32 = 0x8;

/// What of the superblock is needed for reading.
#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    pub(crate) block_bytes: u64,
    pub(crate) blocks: u64,
    pub(super) root: u64,
    pub(super) group_blocks: u64,
    groups: u64,
    pub(super) inode_bytes: usize,
    inodes_per_block_log: u32,
    group_blocks_log: u32,
    pub(super) directory_bytes: u64,
    pub(super) incompatible: u32,
}

impl Superblock {
    pub(super) fn read(disk: &dyn Disk) -> Result<Self, FilesError> {
        let mut bytes = vec![0; 512];
        disk.read_at(0, &mut bytes).map_err(unread)?;
        Self::parse(&bytes, disk.bytes())
    }

    /// Understands the superblock of a disk of so many bytes.
    pub(crate) fn parse(bytes: &[u8], disk_bytes: u64) -> Result<Self, FilesError> {
        let sb = Fields(bytes);
        if bytes.get(..4) != Some(b"XFSB") {
            return Err(nonsense("there is no XFS superblock"));
        }
        let version = sb.be16(100) & 0xf;
        if version != 5 {
            return Err(FilesError::UnknownFeatures {
                filesystem: "XFS",
                features: format!("version {version}"),
            });
        }
        let incompatible = sb.be32(216);
        if incompatible & !KNOWN != 0 {
            let features = format!("{:#x}", incompatible & !KNOWN);
            return Err(FilesError::UnknownFeatures { filesystem: "XFS", features });
        }
        let block_log = u32::from(sb.u8(120));
        let found = Self {
            block_bytes: sb.be32(4).into(),
            blocks: sb.be64(8),
            root: sb.be64(56),
            group_blocks: sb.be32(84).into(),
            groups: sb.be32(88).into(),
            inode_bytes: sb.be16(104).into(),
            inodes_per_block_log: sb.u8(123).into(),
            group_blocks_log: sb.u8(124).into(),
            directory_bytes: u64::from(sb.be32(4)) << u32::from(sb.u8(192)).min(16),
            incompatible,
        };
        let sane = (9..=16).contains(&block_log)
            && found.block_bytes == 1 << block_log
            && (256..=2048).contains(&found.inode_bytes)
            && found.inode_bytes.is_power_of_two()
            && found.inodes_per_block_log <= 8
            && (found.inode_bytes as u64) << found.inodes_per_block_log == found.block_bytes
            && found.group_blocks_log <= 31
            && found.group_blocks > 0
            && found.group_blocks <= 1 << found.group_blocks_log
            && found.directory_bytes <= 65_536
            && found.groups > 0
            && found.blocks <= found.groups * found.group_blocks;
        if !sane {
            return Err(nonsense("the superblock contradicts itself"));
        }
        match found.blocks.checked_mul(found.block_bytes) {
            Some(bytes) if bytes <= disk_bytes => Ok(found),
            _ => Err(FilesError::LargerThanImage { filesystem: "XFS", image_bytes: disk_bytes }),
        }
    }

    /// The byte at which a block lies: its number has the group above and the block of the group below.
    pub(super) fn place(&self, block: u64) -> Option<u64> {
        let (group, within) = (block >> self.group_blocks_log, block & ((1 << self.group_blocks_log) - 1));
        if group >= self.groups || within >= self.group_blocks {
            return None;
        }
        let number = group * self.group_blocks + within;
        (number < self.blocks).then(|| number * self.block_bytes)
    }

    /// The byte at which an inode lies: its number has the block above and the place in the block below.
    pub(super) fn inode_place(&self, inode: u64) -> Option<u64> {
        let within = inode & ((1 << self.inodes_per_block_log) - 1);
        Some(self.place(inode >> self.inodes_per_block_log)? + within * self.inode_bytes as u64)
    }
}
