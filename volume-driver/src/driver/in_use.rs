//! Whether a volume is in use: what the kernel says, with the registry's words for it.

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::mount_table::{MountEntry, MountTable};
use crate::nouns::{Access, MountUse};
use crate::registry::{MountRow, VolumeRow};

impl Driver {
    /// The mounts that the registry knows of a volume and that are really there. A raw volume that is staged is
    /// nothing but attached.
    pub(super) fn live_mounts(
        &self,
        row: &VolumeRow,
        device: Option<&Device>,
    ) -> Result<Vec<MountRow>, CoreError> {
        let rows = self.registry.mounts(row.id)?;
        let (Some(device), false) = (device, rows.is_empty()) else { return Ok(Vec::new()) };
        let table = MountTable::read()?;
        Ok(rows.into_iter().filter(|row| row.done && is_live(row, device, &table)).collect())
    }

    /// InUse, naming where and by whom, when anything uses the volume.
    pub(super) fn refuse_if_in_use(&self, row: &VolumeRow) -> Result<(), CoreError> {
        let Some(device) = self.backend.attached(&row.image)? else { return Ok(()) };
        let table = MountTable::read()?;
        let known = self.registry.mounts(row.id)?;
        let staged = known.iter().find(|known| {
            known.mount.access == Access::Block && known.mount.purpose == MountUse::Staged && known.done
        });
        let places: Vec<_> = seen(&device, &table).map(|mount| mount.path.display().to_string()).collect();
        let holder = if !places.is_empty() {
            format!("it is mounted at {}", places.join(", "))
        } else if let Some(staged) = staged {
            format!("it is staged as a device at {}", staged.mount.path.display())
        } else {
            return Ok(());
        };
        Err(CoreError::InUse { subject: row.subject(), holder })
    }

    /// Takes the device of a volume away if nothing uses it any more.
    pub(super) fn let_go_if_unused(&self, row: &VolumeRow) -> Result<(), CoreError> {
        match self.refuse_if_in_use(row) {
            Ok(()) => self.let_go(row),
            Err(CoreError::InUse { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the device of a volume away. InUse names the holder.
    pub(super) fn let_go(&self, row: &VolumeRow) -> Result<(), CoreError> {
        match self.detach_device(row) {
            Err(CoreError::InUse { holder, .. }) => Err(CoreError::InUse { subject: row.subject(), holder }),
            let_go => let_go,
        }
    }
}

/// Whether a mount of the registry is there.
pub(super) fn is_live(row: &MountRow, device: &Device, table: &MountTable) -> bool {
    match (row.mount.access, row.mount.purpose) {
        (Access::Block, MountUse::Staged) => true,
        _ => table.at(&row.mount.path).is_some_and(|mount| is_ours(mount, device)),
    }
}

/// Whether a mount shows this device: its filesystem, or its node.
pub(super) fn is_ours(mount: &MountEntry, device: &Device) -> bool {
    mount.is_of(device.number) || MountTable::is_node(mount, &device.path)
}

/// All mounts of a device, known to the registry or not.
pub(super) fn seen<'a>(device: &'a Device, table: &'a MountTable) -> impl Iterator<Item = &'a MountEntry> {
    table.of_device(device.number).chain(table.of_node(&device.path))
}
