//! Whether a volume still holds what a snapshot of it holds, found out without a cut: nobody is frozen, nothing is cloned.
//!
//! What was written before the moment of the question is in the image once everything is flushed. And as the snapshot shares
//! its blocks with the image, whatever was written since lies at another place. So where everything lies as it lay, the
//! volume held at that moment what the snapshot holds. What was found so is remembered by the image's times of change.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use jiff::Timestamp;
use strongroom_model::{ByteRange, SnapshotId, VolumeId};

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::filesystem::superblock;
use crate::mount_table::MountTable;
use crate::nouns::Filesystem;
use crate::registry::{SnapshotRow, VolumeRow};

mod stamp;

pub(crate) use stamp::FoundEqual;
use stamp::Stamp;

impl Driver {
    /// Whether a volume holds what a snapshot of it holds, and the moment up to which that was looked at. A no can also mean that
    /// what was written was there before, or that the driver moved it.
    pub(crate) fn holds_still(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(bool, Timestamp), CoreError> {
        let _guard = self.guards.take(volume)?;
        let volume = self.usable(volume)?;
        let snapshot = self.complete_snapshot(snapshot)?;
        if snapshot.volume != volume.id {
            let reason = format!("it is not of volume {}", volume.id);
            return Err(CoreError::Refused { subject: snapshot.subject(), reason });
        }
        let at = self.world.clock.now();
        let device = self.flush(&volume)?;
        if snapshot.bytes != volume.bytes {
            return Ok((false, at));
        }
        // Looked at before anything is compared: what is written meanwhile shows the next time.
        let path = self.backend.path(&volume.image);
        let stamp = Stamp::of(&path).map_err(CoreError::system("looking at", &path))?;
        if self.found_equal.holds(volume.id, snapshot.id, stamp) {
            return Ok((true, at));
        }
        let settled = stamp.is_settled(device.as_ref());
        let mut changed = self.backend.changed(Some(&snapshot.image()), &volume.image, 0)?;
        let mut next = || {
            let next = changed.next().transpose();
            next.map_err(|cause| CoreError::Blocks { subject: volume.subject(), cause })
        };
        let same = match (next()?, next()?) {
            (None, _) => true,
            (Some(only), None) => self.is_the_mark_of_a_thaw(&volume, &snapshot, only)?,
            (Some(_), Some(_)) => false,
        };
        self.found_equal.set(volume.id, (same && settled).then_some((snapshot.id, stamp)));
        Ok((same, at))
    }

    /// ext4 says in its first block whether its journal is to be replayed: a freeze takes that back, the thaw writes it
    /// again. Without this every snapshot of a mounted volume would be the reason for the next.
    fn is_the_mark_of_a_thaw(
        &self,
        volume: &VolumeRow,
        snapshot: &SnapshotRow,
        changed: ByteRange,
    ) -> Result<bool, CoreError> {
        let ext4 = volume.kind.filesystem() == Some(Filesystem::Ext4);
        if !ext4 || changed.end() > superblock::BLOCK_BYTES as u64 {
            return Ok(false);
        }
        let first_block = |image| {
            let path = self.backend.path(image);
            let mut block = [0; superblock::BLOCK_BYTES];
            File::open(&path)
                .and_then(|file| file.read_exact_at(&mut block, 0))
                .map_err(CoreError::system("reading", &path))?;
            Ok::<_, CoreError>(block)
        };
        Ok(superblock::ext4_differ_in_use_only(first_block(&snapshot.image())?, first_block(&volume.image)?))
    }

    /// All that programs have written so far is in the image then, and the image on the disk. Answers the device that it is
    /// attached to.
    fn flush(&self, volume: &VolumeRow) -> Result<Option<Device>, CoreError> {
        let device = self.backend.attached(&volume.image)?;
        if let Some(device) = &device {
            let table = MountTable::read()?;
            let mount = table.of_device(device.number).find(|mount| !mount.is_readonly());
            if let Some(mount) = mount {
                flush_filesystem(&mount.path).map_err(CoreError::system("flushing", &mount.path))?;
            }
            flush_device(device)?;
        }
        let image = self.backend.path(&volume.image);
        File::open(&image)
            .and_then(|image| image.sync_all())
            .map_err(CoreError::system("flushing", &image))?;
        Ok(device)
    }
}

/// Writes what programs have written so far to the filesystem that is mounted there.
pub(super) fn flush_filesystem(folder: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(&File::open(folder)?)?)
}

/// Writes what the page cache holds of a device.
pub(super) fn flush_device(device: &Device) -> Result<(), CoreError> {
    File::open(&device.path)
        .and_then(|node| node.sync_all())
        .map_err(CoreError::system("flushing", &device.path))
}
