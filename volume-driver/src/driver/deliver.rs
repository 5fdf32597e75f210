//! Snapshots that shall become recovery points: cut at once, kept until the agent has made a point of them.
//!
//! The id of the point is chosen before the cut, so that whoever asked can name it from the first answer on, on any node. The snapshot of
//! the cut belongs to the delivery; when the point is published it becomes the agent's base for the next run, or goes.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_model::{RecoveryPointId, RepositoryId, SnapshotId, VolumeId};

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::snapshot::check_label;
use crate::registry::{Delivery, DeliveryStep, SnapshotRow};
use crate::requests::{CreateSnapshot, LabelScope};

/// Who owns the snapshot of a delivery.
pub(crate) const OWNER: &str = "backup";

/// The label by which the agent knows its bases: that of the repository they were made for.
const REPOSITORY_LABEL: &str = "strongroom.repository";

impl Driver {
    /// Takes the cut of a snapshot that shall become a recovery point; asked again by the same name: the same.
    pub(crate) fn begin_delivery(
        &self,
        volume: VolumeId,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Delivery, CoreError> {
        check_label(name)?;
        let _guard = self.guards.take(volume)?;
        let _name = self.guards.take(format!("snapshot {name}"))?;
        let conflict = |difference: String| {
            Err(CoreError::Conflict { subject: format!("snapshot {name:?}"), difference })
        };
        if let Some(existing) = self.registry.delivery_named(name)? {
            match existing.step {
                // Left by an error; a cut of this name that goes on has the guard.
                DeliveryStep::Cutting => self.undo_delivery(&existing)?,
                DeliveryStep::Cancelled => return Err(CoreError::Busy { subject: existing.subject() }),
                _ if existing.volume != volume => {
                    return conflict(format!("it is a snapshot of volume {}", existing.volume_name));
                }
                DeliveryStep::Waiting | DeliveryStep::Published => return Ok(existing),
            }
        }
        if self.registry.snapshots_labelled(name)?.iter().any(|row| row.ready && row.owner != OWNER) {
            return conflict("it is not of type backup".to_owned());
        }
        let source = self.usable(volume)?;
        let point = RecoveryPointId::random(&*self.world.entropy);
        let row = Delivery {
            point,
            name: name.to_owned(),
            volume,
            volume_name: source.name.clone(),
            kind: source.kind,
            bytes: source.bytes,
            labels: source
                .labels
                .iter()
                .chain(labels)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            snapshot: SnapshotId::random(&*self.world.entropy),
            taken_at: self.world.clock.now(),
            step: DeliveryStep::Cutting,
        };
        self.registry.insert_delivery(&row)?;
        crash::point!("delivery.intended");
        let request = CreateSnapshot {
            volume,
            label: format!("point-{point}"),
            scope: LabelScope::Volume,
            owner: OWNER.to_owned(),
            labels: BTreeMap::new(),
        };
        let cut = self.take_snapshot(row.snapshot, &source, &request).and_then(|cut| {
            crash::point!("delivery.cut");
            self.registry.settle_delivery(point, cut.created_at)
        });
        if let Err(error) = cut {
            self.undo_delivery(&row)?;
            return Err(error);
        }
        self.delivery(point)?.ok_or_else(|| CoreError::NotFound { subject: row.subject() })
    }

    fn cut_of(&self, row: &Delivery) -> Result<Option<SnapshotRow>, CoreError> {
        Ok(self.registry.snapshot(row.snapshot)?.filter(|snapshot| snapshot.owner == OWNER))
    }

    fn undo_delivery(&self, row: &Delivery) -> Result<(), CoreError> {
        let snapshot = self.cut_of(row)?;
        self.registry.drop_delivery(row.point, snapshot.as_ref())?;
        if let Some(snapshot) = snapshot {
            self.collect_or_log(&snapshot.image());
        }
        Ok(())
    }

    /// At the start: a cut that was taken waits for the agent, one that was not is undone.
    pub(super) fn settle_deliveries(&self, report: &mut Vec<String>) -> Result<(), CoreError> {
        for row in self.registry.deliveries()?.iter().filter(|row| row.step == DeliveryStep::Cutting) {
            match self.cut_of(row)? {
                Some(cut) if cut.ready => self.registry.settle_delivery(row.point, cut.created_at)?,
                _ => {
                    report.push(format!("{} was half taken, and was undone", row.subject()));
                    self.undo_delivery(row)?;
                }
            }
        }
        // A registry that was made anew knows the snapshots, and not what they were for.
        let known: BTreeSet<SnapshotId> =
            self.registry.deliveries()?.iter().map(|row| row.snapshot).collect();
        for row in
            self.registry.snapshots()?.iter().filter(|row| row.owner == OWNER && !known.contains(&row.id))
        {
            report.push(format!(
                "{} was to become a recovery point, and nobody knows which; it was left alone",
                row.subject()
            ));
        }
        Ok(())
    }

    pub(crate) fn deliveries(&self) -> Result<Vec<Delivery>, CoreError> {
        let mut all = self.registry.deliveries()?;
        all.retain(|row| row.step != DeliveryStep::Cutting);
        Ok(all)
    }

    pub(crate) fn delivery(&self, point: RecoveryPointId) -> Result<Option<Delivery>, CoreError> {
        Ok(self.registry.delivery(point)?.filter(|row| row.step != DeliveryStep::Cutting))
    }

    pub(crate) fn delivery_named(&self, name: &str) -> Result<Option<Delivery>, CoreError> {
        Ok(self.registry.delivery_named(name)?.filter(|row| row.step != DeliveryStep::Cutting))
    }

    /// The point is published. Its snapshot becomes the base of the agent's next run for `repository`, or goes.
    pub(crate) fn finish_delivery(
        &self,
        point: RecoveryPointId,
        repository: Option<RepositoryId>,
    ) -> Result<(), CoreError> {
        let Some(row) = self.delivery(point)? else { return Ok(()) };
        let _guard = self.guards.take(row.snapshot)?;
        let snapshot = self.cut_of(&row)?;
        let labels = repository.map(|id| [(REPOSITORY_LABEL.to_owned(), id.to_string())].into());
        self.registry.publish_delivery(&row, snapshot.as_ref(), labels.as_ref())?;
        crash::point!("delivery.published");
        if let (Some(snapshot), None) = (snapshot, labels) {
            self.collect_or_log(&snapshot.image());
        }
        Ok(())
    }

    /// Nobody wants the point any more; the agent has to forget it yet.
    pub(crate) fn cancel_delivery(&self, point: RecoveryPointId) -> Result<(), CoreError> {
        self.registry.cancel_delivery(point)
    }

    /// Forgets a delivery whose point is gone, with its snapshot unless the agent has that.
    pub(crate) fn forget_delivery(&self, point: RecoveryPointId) -> Result<(), CoreError> {
        let Some(row) = self.delivery(point)? else { return Ok(()) };
        let _guard = self.guards.take(row.snapshot)?;
        self.undo_delivery(&row)
    }
}
