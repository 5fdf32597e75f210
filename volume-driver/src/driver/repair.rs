//! A filesystem that is not whole is made whole before it is mounted, and never without a way back.
//!
//! Replaying a log is not a repair: it is how a filesystem comes back after a crash. What would change more than that
//! begins with a snapshot of the volume as it was found (owner `driver`, label `before-repair-…`); without room for the
//! snapshot nothing is repaired. As long as a repair does not succeed, no second snapshot is taken: the first one holds
//! what was found. What came of it stands in the volume's condition until the next mount that finds nothing.

use strongroom_model::SnapshotId;

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::filesystem::{self, Fitness};
use crate::nouns::Filesystem;
use crate::registry::{SnapshotRow, VolumeRow};
use crate::requests::{CreateSnapshot, LabelScope};

/// Who owns the snapshots that the driver takes by itself.
const OWNER: &str = "driver";

/// How the labels of those before a repair begin.
const LABEL: &str = "before-repair-";

impl Driver {
    /// Checks the filesystem of a volume that nobody uses, and repairs it if it has to be; what was done, in a sentence.
    pub(super) fn make_fit(
        &self,
        row: &VolumeRow,
        filesystem: Filesystem,
        device: &Device,
    ) -> Result<Option<String>, CoreError> {
        match filesystem::check(&device.path, filesystem, row.id, &row.subject())? {
            Fitness::Sound => Ok(None),
            Fitness::Damaged => self.repair(row, filesystem, device).map(Some),
        }
    }

    /// Repairs the filesystem of a volume that nobody uses, after a snapshot.
    pub(super) fn repair(
        &self,
        row: &VolumeRow,
        filesystem: Filesystem,
        device: &Device,
    ) -> Result<String, CoreError> {
        let damaged = |report: String| CoreError::Filesystem { subject: row.subject(), report };
        let before = self.snapshot_before_repair(row).map_err(|error| {
            damaged(format!(
                "it is damaged, and is not repaired without a snapshot of what was found, which failed: {}",
                strongroom_model::chain(&error)
            ))
        })?;
        match filesystem::repair(&device.path, filesystem, &row.subject()) {
            Ok(said) => {
                tracing::warn!(volume = %row.id, snapshot = %before.id, said, "the filesystem was repaired");
                Ok(format!(
                    "its filesystem was damaged and has been repaired ({said}); snapshot {} holds what was found",
                    before.id
                ))
            }
            Err(CoreError::Filesystem { report, .. }) => {
                Err(damaged(format!("{report}; snapshot {} holds what was found", before.id)))
            }
            Err(error) => Err(error),
        }
    }

    fn snapshot_before_repair(&self, row: &VolumeRow) -> Result<SnapshotRow, CoreError> {
        if row.condition.is_some() {
            // Found damaged before, and not mounted since.
            let taken = self.registry.snapshots()?.into_iter().rev().find(|taken| {
                taken.volume == row.id
                    && taken.ready
                    && taken.owner == OWNER
                    && taken.label.starts_with(LABEL)
                    && row.condition.as_ref().is_some_and(|text| text.contains(&taken.id.to_string()))
            });
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
        let id = SnapshotId::random(&*self.world.entropy);
        let request = CreateSnapshot {
            volume: row.id,
            label: format!("{LABEL}{}", self.world.clock.now().strftime("%Y%m%dT%H%M%S%.3fZ")),
            scope: LabelScope::Volume,
            owner: OWNER.to_owned(),
            labels: [].into(),
        };
        self.take_snapshot(id, row, &request)
    }
}
