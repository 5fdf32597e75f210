//! Volumes whose content a restore writes: hydrating until it says that all is there.

use std::fs::File;

use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::create::choose_size;
use crate::image::ImageName;
use crate::nouns::{ContentSource, Outcome, Volume};
use crate::registry::{VolumeRow, VolumeStep};
use crate::requests::{BeginRestore, RestoreTarget};

impl Driver {
    pub(crate) fn begin_restore(&self, request: &BeginRestore) -> Result<Outcome<RestoreTarget>, CoreError> {
        let subject = format!("volume {}", request.name);
        let _name = self.guards.take(&subject)?;
        let content_bytes = request.point.as_ref().map_or(0, |point| point.bytes);
        let bytes = choose_size(&subject, request.size, request.kind, content_bytes)?;
        let source = match &request.point {
            Some(point) => Some(ContentSource::Point(point.id)),
            None => request.from_snapshot.map(ContentSource::Snapshot),
        };
        let existing = self.registry.volume_named(&request.name)?;
        if let Some(only) = request.only
            && existing.as_ref().is_none_or(|existing| existing.id != only)
        {
            return Err(CoreError::NotFound { subject: format!("volume {only}") });
        }
        if let Some(existing) = existing {
            let difference = match existing.step {
                VolumeStep::Creating => None,
                VolumeStep::Ready => Some("it is a finished volume".to_owned()),
                VolumeStep::Hydrating if existing.kind != request.kind => {
                    Some(format!("it is {}", existing.kind))
                }
                VolumeStep::Hydrating if existing.bytes != bytes => {
                    Some(format!("it has {} bytes", existing.bytes))
                }
                VolumeStep::Hydrating if existing.source != source => {
                    Some("it began with another content".to_owned())
                }
                VolumeStep::Hydrating => return self.restore_target(existing.id).map(Outcome::Identical),
            };
            match difference {
                Some(difference) => {
                    let device =
                        self.backend.attached(&existing.image)?.map(|device| device.path).unwrap_or_default();
                    let existing = RestoreTarget { volume: self.describe(&existing)?, device };
                    return Ok(Outcome::Conflict { existing, difference });
                }
                None => self.undo_create(&existing)?,
            }
        }
        let begin_with = request.from_snapshot.map(ContentSource::Snapshot);
        let origin = begin_with.map(|source| self.origin(source)).transpose()?;
        let id = VolumeId::random(&*self.world.entropy);
        let row = VolumeRow {
            id,
            name: request.name.clone(),
            kind: request.kind,
            bytes,
            image: ImageName::of_volume(id, &*self.world.entropy),
            step: VolumeStep::Creating,
            // What is restored fills its volume, unless that is known to be larger; what begins with a smaller snapshot and
            // is finished as it is may not.
            grow: request.kind.filesystem().is_some()
                && ((content_bytes != 0 && content_bytes < bytes)
                    || origin.as_ref().is_some_and(|origin| origin.grow || origin.bytes < bytes)),
            source,
            labels: request.labels.clone(),
            condition: None,
            created_at: self.world.clock.now(),
        };
        self.promise(&row)?;
        if let Some(words) = request.point.as_ref().and_then(|point| point.words.as_ref()) {
            self.registry.set_chosen_by(id, words)?;
        }
        crash::point!("restore.promised");
        let made = self.fill_new_image(&row, origin.as_ref(), false).and_then(|()| {
            crash::point!("restore.made");
            self.registry.settle_volume(id, VolumeStep::Hydrating)
        });
        if let Err(error) = made {
            self.undo_create(&row)?;
            return Err(error);
        }
        self.restore_target(id).map(Outcome::Created)
    }

    pub(crate) fn chosen_by(&self, id: VolumeId) -> Result<Option<String>, CoreError> {
        self.registry.chosen_by(id)
    }

    fn restore_target(&self, id: VolumeId) -> Result<RestoreTarget, CoreError> {
        let row = self.existing(id)?;
        self.note_volume(&row);
        let device = self.attach_device(&row)?.path;
        Ok(RestoreTarget { volume: self.describe(&row)?, device })
    }

    pub(crate) fn finish_restore(&self, id: VolumeId) -> Result<Volume, CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.existing(id)?;
        if row.step == VolumeStep::Hydrating {
            self.seal_content(&row)?;
            crash::point!("restore.sealed");
            self.registry.settle_volume(id, VolumeStep::Ready)?;
        }
        let row = self.existing(id)?;
        self.note_volume(&row);
        self.describe(&row)
    }

    /// Makes all that was written to a hydrating volume durable, and takes its device away.
    pub(super) fn seal_content(&self, row: &VolumeRow) -> Result<(), CoreError> {
        if let Some(device) = self.backend.attached(&row.image)? {
            File::open(&device.path)
                .and_then(|node| node.sync_all())
                .map_err(CoreError::system("making durable", &device.path))?;
        }
        self.let_go(row)
    }

    pub(crate) fn discard_restore(&self, id: VolumeId) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let Some(row) = self.registry.volume(id)? else { return Ok(()) };
        if row.step == VolumeStep::Ready {
            return Err(CoreError::NotReady {
                subject: row.subject(),
                reason: "its restore is finished; delete it as a volume".to_owned(),
            });
        }
        self.let_go(&row)?;
        self.registry.drop_volume(id)?;
        crash::point!("restore.dropped");
        self.collect(&row.image)
    }
}
