//! Snapshots: freeze, clone, thaw.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use strongroom_block_io::ChangedRanges;
use strongroom_model::SnapshotId;

use crate::backend::PendingClone;
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::describe::described;
use crate::freeze::Frozen;
use crate::mount_table::MountTable;
use crate::nouns::{Outcome, Snapshot, SnapshotCost};
use crate::registry::{SnapshotRow, VolumeRow};
use crate::requests::{CreateSnapshot, LabelScope};

impl Driver {
    pub(crate) fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Outcome<Snapshot>, CoreError> {
        check_label(&request.label)?;
        let _guard = self.guards.take(request.volume)?;
        let _label = self.guards.take(format!("snapshot {}", request.label))?;
        for existing in self.registry.snapshots_labelled(&request.label)? {
            let same = existing.volume == request.volume;
            if !existing.ready && same {
                self.undo_snapshot(&existing)?;
            } else if same && existing.owner == request.owner {
                return Ok(Outcome::Identical(described(existing)));
            } else if same {
                let difference = format!("it belongs to {}", existing.owner);
                return Ok(Outcome::Conflict { existing: described(existing), difference });
            } else if request.scope == LabelScope::Driver {
                let difference = format!("it is a snapshot of volume {}", existing.volume_name);
                return Ok(Outcome::Conflict { existing: described(existing), difference });
            }
        }
        let volume = self.usable(request.volume)?;
        let id = SnapshotId::random(&*self.world.entropy);
        self.take_snapshot(id, &volume, request).map(|row| Outcome::Created(described(row)))
    }

    /// Takes a snapshot under a chosen id. The caller has the guard of the volume.
    pub(super) fn take_snapshot(
        &self,
        id: SnapshotId,
        volume: &VolumeRow,
        request: &CreateSnapshot,
    ) -> Result<SnapshotRow, CoreError> {
        self.pool.admit(&format!("a snapshot of {}", volume.subject()))?;
        let row = SnapshotRow {
            owner: request.owner.clone(),
            labels: request.labels.clone(),
            ..SnapshotRow::intended(id, volume, request.label.clone(), self.world.clock.now())
        };
        self.registry.insert_snapshot(&row)?;
        crash::point!("snapshot.intended");
        let taken = self
            .backend
            .clone_image(&volume.image, &row.image())
            .and_then(|clone| self.cut(clone, Some(volume), volume.bytes))
            .and_then(|cut| {
                crash::point!("snapshot.cut");
                self.registry.settle_snapshot(id, cut.at, cut.quiesced)?;
                self.note_cost(&row, cut.stall);
                Ok(())
            });
        if let Err(error) = taken {
            self.undo_snapshot(&row)?;
            return Err(error);
        }
        let row = self.complete_snapshot(id)?;
        self.note_snapshot(&row);
        Ok(row)
    }

    /// Remembers what a snapshot cost its volume; forgetting it would cost no more than a figure.
    fn note_cost(&self, row: &SnapshotRow, stall: Duration) {
        let noted = self.backend.extents(&row.image()).and_then(|extents| {
            let stall_us = u64::try_from(stall.as_micros()).unwrap_or(u64::MAX);
            self.registry.note_cost(row.volume, &SnapshotCost { extents, stall_us, at: row.created_at })
        });
        if let Err(error) = noted {
            tracing::warn!(snapshot = %row.id, error = strongroom_model::chain(&error), "what it cost could not be noted");
        }
    }

    /// Takes the cut of a prepared clone. The filesystem of `volume`, if it is mounted, is frozen meanwhile.
    pub(super) fn cut(
        &self,
        mut clone: Box<dyn PendingClone>,
        volume: Option<&VolumeRow>,
        bytes: u64,
    ) -> Result<Cut, CoreError> {
        let mut quiesced = true;
        let at;
        let stall;
        match volume.map(|volume| self.quiesce(volume)).transpose()?.flatten() {
            Some(Quiesced::Frozen(frozen)) => {
                crash::point!("snapshot.freezing");
                let cut = clone.cut();
                at = self.world.clock.now();
                crash::point!("snapshot.frozen");
                // Thawed before anything else is done, above all before anything is logged.
                let thawed = frozen.thaw();
                crash::point!("snapshot.thawed");
                cut?;
                stall = thawed?;
            }
            other => {
                quiesced = other.is_none();
                let since = Instant::now();
                clone.cut()?;
                stall = since.elapsed();
                at = self.world.clock.now();
            }
        }
        clone.finish(bytes)?;
        Ok(Cut { at, quiesced, stall })
    }

    fn quiesce(&self, volume: &VolumeRow) -> Result<Option<Quiesced>, CoreError> {
        let Some(device) = self.backend.attached(&volume.image)? else { return Ok(None) };
        let table = MountTable::read()?;
        if let Some(mount) = table.of_device(device.number).find(|mount| !mount.is_readonly()) {
            self.let_run(volume.id);
            let settings = self.settings();
            let frozen =
                Frozen::freeze(&mount.path, &volume.subject(), &settings.watchdog, settings.limits.freeze)?;
            return Ok(Some(Quiesced::Frozen(frozen)));
        }
        // A raw device may have writes in the page cache: those that ended before this moment belong to the
        // cut.
        super::still::flush_device(&device)?;
        Ok((volume.kind.filesystem().is_none()).then_some(Quiesced::Flushed))
    }

    pub(super) fn undo_snapshot(&self, row: &SnapshotRow) -> Result<(), CoreError> {
        self.registry.drop_snapshot(row)?;
        self.collect_or_log(&row.image());
        Ok(())
    }

    pub(crate) fn delete_snapshot(&self, id: SnapshotId) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let Some(row) = self.registry.snapshot(id)? else { return Ok(()) };
        if !row.ready {
            return Err(CoreError::Busy { subject: row.subject() });
        }
        if let Some(group) = row.group {
            let reason = format!("it is a member of the group {group}, and goes with it");
            return Err(CoreError::Refused { subject: row.subject(), reason });
        }
        self.registry.drop_snapshot(&row)?;
        crash::point!("snapshot.dropped");
        self.collect(&row.image())
    }

    pub(crate) fn snapshot(&self, id: SnapshotId) -> Result<Snapshot, CoreError> {
        self.complete_snapshot(id).map(described)
    }

    pub(crate) fn open_snapshot(&self, id: SnapshotId) -> Result<std::path::PathBuf, CoreError> {
        let row = self.complete_snapshot(id)?;
        Ok(self.backend.path(&row.image()))
    }

    /// What differs in `target` from `base`, or from nothing but zeros.
    pub(crate) fn changed(
        &self,
        base: Option<SnapshotId>,
        target: SnapshotId,
        from: u64,
    ) -> Result<ChangedRanges, CoreError> {
        let target = self.complete_snapshot(target)?;
        let base = base.map(|base| self.complete_snapshot(base)).transpose()?;
        if from > target.bytes {
            return Err(CoreError::Size {
                subject: target.subject(),
                reason: format!("byte {from} is behind its end at {}", target.bytes),
            });
        }
        self.backend.changed(base.map(|base| base.image()).as_ref(), &target.image(), from)
    }
}

/// A cut that was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    at: Timestamp,
    /// Whether no write was half done then, as far as this driver can see to it.
    quiesced: bool,
    /// How long writers had to wait for it.
    stall: Duration,
}

/// What was done before the cut.
#[derive(Debug)]
enum Quiesced {
    Frozen(Frozen),
    /// A raw device; whoever writes to it was not asked to pause.
    Flushed,
}

/// Labels obey the limits of CSI for names.
pub(super) fn check_label(label: &str) -> Result<(), CoreError> {
    let reason = if label.is_empty() {
        "it is empty"
    } else if label.len() > 128 {
        "it is longer than 128 bytes"
    } else if label.chars().any(strongroom_model::is_forbidden_in_names) {
        "it contains a control character that names cannot have"
    } else {
        return Ok(());
    };
    Err(CoreError::Refused { subject: "the label of the snapshot".to_owned(), reason: reason.to_owned() })
}
