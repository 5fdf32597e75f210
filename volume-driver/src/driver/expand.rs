//! Making volumes larger.
//!
//! The new size is written down first, with the mark that the filesystem has to follow. From then on every way
//! leads forward: the image grows now or at the next start, the filesystem now or at the next mount.

use std::sync::PoisonError;

use strongroom_model::VolumeId;

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::create::choose_size;
use crate::filesystem;
use crate::mount_table::MountTable;
use crate::nouns::Filesystem;
use crate::registry::VolumeRow;
use crate::requests::{Expanded, SizeRange};

impl Driver {
    pub(crate) fn expand(&self, id: VolumeId, bytes: u64) -> Result<Expanded, CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.usable(id)?;
        if bytes <= row.bytes {
            // Asked again, perhaps after a crash between the promise and the image.
            self.backend.grow(&row.image, row.bytes)?;
            return Ok(Expanded { bytes: row.bytes, filesystem_pending: row.grow });
        }
        let bytes = choose_size(&row.subject(), SizeRange::of(bytes), row.kind, 0)?;
        let grow = row.kind.filesystem().is_some();
        {
            let _alone = self.provisioning.lock().unwrap_or_else(PoisonError::into_inner);
            let others = self.registry.provisioned_bytes()?.saturating_sub(row.bytes);
            self.pool.admit_volume(&row.subject(), others, bytes)?;
            self.registry.set_volume_size(id, bytes, grow)?;
        }
        crash::point!("expand.promised");
        self.backend.grow(&row.image, bytes)?;
        crash::point!("expand.grown");
        Ok(Expanded { bytes, filesystem_pending: grow })
    }

    pub(crate) fn grow_filesystem(&self, id: VolumeId) -> Result<Expanded, CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.usable(id)?;
        self.grow_mounted_filesystem(&row)?;
        let row = self.usable(id)?;
        Ok(Expanded { bytes: row.bytes, filesystem_pending: row.grow })
    }

    /// Lets the filesystem take all of its volume if it has to and is mounted; otherwise that waits for the
    /// next mount.
    pub(super) fn grow_mounted_filesystem(&self, row: &VolumeRow) -> Result<(), CoreError> {
        let (Some(filesystem), true) = (row.kind.filesystem(), row.grow) else { return Ok(()) };
        let Some(device) = self.backend.attached(&row.image)? else { return Ok(()) };
        let table = MountTable::read()?;
        let Some(mount) = table.of_device(device.number).find(|mount| !mount.is_readonly()) else {
            return Ok(());
        };
        filesystem::grow_mounted(&device.path, &mount.path, filesystem, &row.subject())?;
        crash::point!("grow.mounted");
        self.registry.set_volume_size(row.id, row.bytes, false)
    }

    /// Before a mount: lets a filesystem take all of its volume that can only do it unmounted, or that could
    /// not online. It is checked in full first; a repair, if there had to be one, in a sentence.
    pub(super) fn grow_before_mount(
        &self,
        row: &VolumeRow,
        filesystem: Filesystem,
        device: &Device,
    ) -> Result<Option<String>, CoreError> {
        if !row.grow || filesystem != Filesystem::Ext4 {
            return Ok(None);
        }
        let repaired = if filesystem::is_whole(&device.path, &row.subject())? {
            None
        } else {
            Some(self.repair(row, filesystem, device)?)
        };
        filesystem::grow_unmounted(&device.path, filesystem, &row.subject())?;
        crash::point!("grow.unmounted");
        self.registry.set_volume_size(row.id, row.bytes, false)?;
        Ok(repaired)
    }
}
