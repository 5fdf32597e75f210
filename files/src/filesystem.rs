//! What an image holds: partitions, and in one of them, or in all of it, a filesystem.

mod partitions;

use std::sync::Arc;

use crate::disk::{Disk, Part};
use crate::error::FilesError;
use crate::ext4::Ext4;
use crate::tree::{Tree, unread};
use crate::xfs::Xfs;

pub use partitions::Partition;

/// What an image, or a partition of it, was made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// ext2, ext3 or ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Signature {
    /// The word that `mount -t` takes.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// Looks for the signature of a filesystem.
///
/// # Errors
/// When the image cannot be read.
pub fn signature(disk: &dyn Disk) -> Result<Option<Signature>, FilesError> {
    let is = |at: u64, magic: &[u8]| -> Result<bool, FilesError> {
        let mut bytes = vec![0; magic.len()];
        if disk.bytes() < at + magic.len() as u64 {
            return Ok(false);
        }
        disk.read_at(at, &mut bytes).map_err(unread)?;
        Ok(bytes == magic)
    };
    Ok(if is(0, b"XFSB")? {
        Some(Signature::Xfs)
    } else if is(1024 + 56, &[0x53, 0xef])? {
        Some(Signature::Ext4)
    } else if is(0x1_0040, b"_BHRfS_M")? {
        Some(Signature::Btrfs)
    } else {
        None
    })
}

/// The part of the image in which the filesystem lies: all of it, or the partition of this number.
///
/// # Errors
/// When there are partitions and none was chosen, or there is no such partition.
pub fn part(
    disk: Arc<dyn Disk>,
    partition: Option<u32>,
) -> Result<(Arc<dyn Disk>, Option<Partition>), FilesError> {
    let Some(number) = partition else { return Ok((disk, None)) };
    let all = partitions::read(&*disk)?;
    let missing = || FilesError::NoSuchPartition { number, partitions: partitions::listed(&all) };
    let chosen = all.iter().find(|partition| partition.number == number).ok_or_else(missing)?.clone();
    let part = Part::new(disk, chosen.start_bytes, chosen.bytes).ok_or_else(|| FilesError::Nonsense {
        what: format!("partition {number} reaches beyond the image"),
    })?;
    Ok((Arc::new(part), Some(chosen)))
}

/// Which filesystem it is, or why none can be read.
///
/// # Errors
/// When there is none that is known.
pub fn recognise(disk: &dyn Disk) -> Result<Signature, FilesError> {
    if let Some(found) = signature(disk)? {
        return Ok(found);
    }
    let all = partitions::read(disk)?;
    if all.is_empty() {
        Err(FilesError::NoFilesystem { found: "no filesystem and no partitions that are known here".into() })
    } else {
        Err(FilesError::Partitioned { partitions: partitions::listed(&all) })
    }
}

/// Opens the filesystem for reading in this process.
///
/// # Errors
/// When there is none that is read here, or it is damaged.
pub fn open(disk: Arc<dyn Disk>) -> Result<Arc<dyn Tree>, FilesError> {
    match recognise(&*disk)? {
        Signature::Ext4 => Ok(Arc::new(Ext4::open(disk)?)),
        Signature::Xfs => Ok(Arc::new(Xfs::open(disk)?)),
        Signature::Btrfs => {
            Err(FilesError::NoFilesystem { found: "btrfs, which is not read without the kernel".into() })
        }
    }
}
