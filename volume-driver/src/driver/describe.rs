//! Saying what there is.

use std::path::Path;

use strongroom_model::{VolumeId, VolumeName};

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::driver::mounting::open_ours;
use crate::driver::{Driver, health};
use crate::filesystem;
use crate::nouns::{Access, Capacity, Mount, Snapshot, Usage, Volume, VolumeState};
use crate::registry::{SnapshotRow, VolumeRow, VolumeStep};
use crate::requests::SnapshotFilter;

impl Driver {
    pub(crate) fn volumes(&self) -> Result<Vec<Volume>, CoreError> {
        let rows = self.registry.volumes()?;
        rows.iter().filter(|row| row.step != VolumeStep::Creating).map(|row| self.describe(row)).collect()
    }

    pub(crate) fn volume(&self, id: VolumeId) -> Result<Volume, CoreError> {
        let row = self.existing(id)?;
        let mut volume = self.describe(&row)?;
        volume.extents = self.backend.extents(&row.image).ok();
        Ok(volume)
    }

    pub(crate) fn brief(&self, id: VolumeId) -> Result<Volume, CoreError> {
        self.describe(&self.existing(id)?)
    }

    pub(crate) fn volume_named(&self, name: &VolumeName) -> Result<Option<Volume>, CoreError> {
        let row = self.registry.volume_named(name)?.filter(|row| row.step != VolumeStep::Creating);
        row.map(|row| self.describe(&row)).transpose()
    }

    pub(crate) fn set_labels(
        &self,
        id: VolumeId,
        labels: &std::collections::BTreeMap<String, String>,
    ) -> Result<Volume, CoreError> {
        let _guard = self.guards.take(id)?;
        self.existing(id)?;
        self.registry.set_volume_labels(id, labels)?;
        let row = self.existing(id)?;
        self.note_volume(&row);
        self.describe(&row)
    }

    /// A row with what kernel and pool add to it. An image that cannot be looked at is a condition, not an
    /// error: the others must still be listed.
    pub(super) fn describe(&self, row: &VolumeRow) -> Result<Volume, CoreError> {
        let device = self.backend.attached(&row.image).ok().flatten();
        let mounts = self.live_mounts(row, device.as_ref())?.into_iter().map(|row| row.mount).collect();
        self.describe_as(row, device, mounts)
    }

    /// A row with what the kernel was found to add to it.
    pub(super) fn describe_as(
        &self,
        row: &VolumeRow,
        device: Option<Device>,
        mounts: Vec<Mount>,
    ) -> Result<Volume, CoreError> {
        let allocated = self.backend.allocated_bytes(&row.image);
        let unreachable = allocated.as_ref().err().map(|error| strongroom_model::chain(error));
        let limits = self.registry.limits(row.id)?;
        Ok(Volume {
            id: row.id,
            name: row.name.clone(),
            kind: row.kind,
            bytes: row.bytes,
            allocated_bytes: allocated.unwrap_or(0),
            labels: row.labels.clone(),
            state: match row.step {
                VolumeStep::Hydrating | VolumeStep::Creating => VolumeState::Hydrating,
                VolumeStep::Ready => VolumeState::Ready,
            },
            condition: unreachable
                .or_else(|| self.condition(row, device.as_ref()))
                .or_else(|| self.limits_missing(limits)),
            limits,
            attachments: self.registry.attachments(row.id)?,
            mounts,
            device: device.map(|device| device.path),
            extents: None,
            // A figure that cannot be read is left out.
            last_snapshot: self.registry.cost(row.id).ok().flatten(),
            source: row.source,
            created_at: row.created_at,
        })
    }

    pub(crate) fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>, CoreError> {
        let wanted = |row: &SnapshotRow| {
            row.ready
                && filter.id.is_none_or(|id| id == row.id)
                && filter.volume.is_none_or(|volume| volume == row.volume)
                && filter.label.as_ref().is_none_or(|label| *label == row.label)
                && filter.owner.as_ref().is_none_or(|owner| *owner == row.owner)
        };
        Ok(self.registry.snapshots()?.into_iter().filter(wanted).map(described).collect())
    }

    pub(crate) fn capacity(&self) -> Result<Capacity, CoreError> {
        let room = self.backend.room()?;
        let high_water_bytes = room.high_water(self.pool.limits());
        let provisioned_bytes = self.registry.provisioned_bytes()?;
        let provisionable_bytes = self.pool.provisionable(room);
        let full = room.used > high_water_bytes;
        let left = provisionable_bytes.saturating_sub(provisioned_bytes) / 4096 * 4096;
        Ok(Capacity {
            pool: self.pool.root().to_owned(),
            pool_bytes: room.total,
            used_bytes: room.used,
            high_water_bytes,
            provisioned_bytes,
            provisionable_bytes,
            available_bytes: if full { 0 } else { left },
            minimum_volume_bytes: filesystem::minimum_bytes(None),
            condition: room.sentence(self.pool.limits()),
        })
    }

    pub(crate) fn usage(&self, id: VolumeId, path: &Path) -> Result<Usage, CoreError> {
        let row = self.existing(id)?;
        let nowhere = || CoreError::NotFound { subject: format!("{} at {}", row.subject(), path.display()) };
        let device = self.backend.attached(&row.image)?.ok_or_else(nowhere)?;
        // A place that cannot be has no volume.
        let place = self.place_to_undo(&row, path).ok().flatten().ok_or_else(nowhere)?;
        let live = self.live_mounts(&row, Some(&device))?;
        let mount = live.into_iter().find(|row| row.mount.path == place.path()).ok_or_else(nowhere)?;
        let condition = self.condition(&row, Some(&device));
        if mount.mount.access == Access::Block {
            let total_bytes = row.bytes;
            return Ok(Usage {
                total_bytes,
                used_bytes: None,
                available_bytes: None,
                inodes: None,
                condition,
            });
        }
        let condition = condition.or_else(|| health::dead(&place, &row, &device));
        let open = open_ours(&place, &row, &device)?;
        let stat = rustix::fs::fstatvfs(&open).map_err(CoreError::errno("measuring", place.path()))?;
        Ok(Usage {
            total_bytes: stat.f_blocks * stat.f_frsize,
            used_bytes: Some(stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize),
            available_bytes: Some(stat.f_bavail * stat.f_frsize),
            // btrfs makes inodes as they are needed and counts none.
            inodes: (stat.f_files != 0)
                .then(|| (stat.f_files, stat.f_files.saturating_sub(stat.f_ffree), stat.f_ffree)),
            condition,
        })
    }
}

pub(super) fn described(row: SnapshotRow) -> Snapshot {
    Snapshot {
        id: row.id,
        volume: row.volume,
        volume_name: row.volume_name,
        label: row.label,
        owner: row.owner,
        labels: row.labels,
        kind: row.kind,
        bytes: row.bytes,
        created_at: row.created_at,
        quiesced: row.quiesced,
        group: row.group,
    }
}
