//! The superblock of ext2, ext3 and ext4: 1024 bytes at byte 1024.

use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{nonsense, unread};

pub(super) const OFFSET: u64 = 1024;
pub(super) const BYTES: usize = 1024;
pub(super) const MAGIC: u16 = 0xef53;

const RECOVER: u32 = 0x4;
const META_BG: u32 = 0x10;
const WIDE: u32 = 0x80;
/// Incompatible features that reading knows: filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed,
/// large_dir, inline_data, encrypt (files that are not encrypted), casefold.
const KNOWN: u32 = 0x2
    | RECOVER
    | META_BG
    | 0x40
    | WIDE
    | 0x100
    | 0x200
    | 0x400
    | 0x2000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;

/// What of the superblock is needed for reading.
#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    pub(crate) block_bytes: u64,
    pub(crate) blocks: u64,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) blocks_per_group: u32,
    pub(super) first_data_block: u32,
    pub(super) first_meta_group: u32,
    pub(super) inode_bytes: u16,
    descriptor_bytes: u64,
    pub(super) journal_inode: u32,
    incompatible: u32,
}

impl Superblock {
    pub(super) fn read(disk: &dyn Disk) -> Result<Self, FilesError> {
        let mut bytes = vec![0; BYTES];
        disk.read_at(OFFSET, &mut bytes).map_err(unread)?;
        Self::parse(&bytes, disk.bytes())
    }

    /// Understands the superblock of a disk of so many bytes.
    pub(crate) fn parse(bytes: &[u8], disk_bytes: u64) -> Result<Self, FilesError> {
        let sb = Fields(bytes);
        if sb.le16(56) != MAGIC {
            return Err(nonsense("there is no ext4 superblock"));
        }
        let incompatible = sb.le32(96);
        let unknown = incompatible & !KNOWN;
        if unknown != 0 {
            return Err(FilesError::UnknownFeatures {
                filesystem: "ext4",
                features: format!("{unknown:#x}"),
            });
        }
        let log = sb.le32(24);
        if log > 6 {
            return Err(nonsense("blocks of more than 64 KiB"));
        }
        let dynamic = sb.le32(76) >= 1;
        let wide = incompatible & WIDE != 0;
        let found = Self {
            block_bytes: 1024 << log,
            blocks: u64::from(sb.le32(4)) | if wide { u64::from(sb.le32(336)) << 32 } else { 0 },
            inodes: sb.le32(0),
            inodes_per_group: sb.le32(40),
            blocks_per_group: sb.le32(32),
            first_data_block: sb.le32(20),
            first_meta_group: sb.le32(260),
            inode_bytes: if dynamic { sb.le16(88) } else { 128 },
            descriptor_bytes: if wide { u64::from(sb.le16(254)).max(32) } else { 32 },
            journal_inode: if sb.le32(92) & 0x4 == 0 { 0 } else { sb.le32(224) },
            incompatible,
        };
        found.check(disk_bytes)?;
        Ok(found)
    }

    fn check(&self, disk_bytes: u64) -> Result<(), FilesError> {
        let sane = self.inodes > 0
            && self.inodes_per_group > 0
            && self.blocks_per_group > 0
            && self.inode_bytes >= 128
            && u64::from(self.inode_bytes) <= self.block_bytes
            && self.inode_bytes.is_power_of_two()
            && self.descriptor_bytes <= 1024
            && u64::from(self.first_data_block) < self.blocks;
        if !sane {
            return Err(nonsense("the superblock contradicts itself"));
        }
        match self.blocks.checked_mul(self.block_bytes) {
            Some(bytes) if bytes <= disk_bytes => Ok(()),
            _ => Err(FilesError::LargerThanImage { filesystem: "ext4", image_bytes: disk_bytes }),
        }
    }

    pub(super) const fn needs_recovery(&self) -> bool {
        self.incompatible & RECOVER != 0
    }

    /// The byte at which the descriptor of a group begins, and how long it is.
    pub(super) fn descriptor(&self, group: u32) -> (u64, u64) {
        let per_block = u32::try_from(self.block_bytes / self.descriptor_bytes).unwrap_or(1).max(1);
        let meta = group / per_block;
        let within = u64::from(group % per_block) * self.descriptor_bytes;
        let block = if self.incompatible & META_BG != 0 && meta >= self.first_meta_group {
            // The descriptors of a meta group lie in its first group, behind the superblock where there is one.
            let first = u64::from(meta) * u64::from(per_block);
            let start = u64::from(self.first_data_block) + first * u64::from(self.blocks_per_group);
            start + u64::from(self.has_superblock(first))
        } else {
            u64::from(self.first_data_block) + 1 + u64::from(meta)
        };
        (block * self.block_bytes + within, self.descriptor_bytes)
    }

    /// Whether a group begins with a copy of the superblock. Without `sparse_super` all do; such filesystems have no meta
    /// groups in practice, since mkfs has set it for 25 years.
    fn has_superblock(&self, group: u64) -> bool {
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group <= 1 || power_of(3) || power_of(5) || power_of(7)
    }
}
