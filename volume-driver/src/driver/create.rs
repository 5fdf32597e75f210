//! Making and deleting volumes.

use std::sync::PoisonError;

use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::filesystem;
use crate::image::ImageName;
use crate::io_limits::{IoLimits, IoQuantity};
use crate::nouns::{ContentSource, Outcome, Volume, VolumeKind};
use crate::registry::{Asked, VolumeRow, VolumeStep};
use crate::requests::{CreateVolume, SizeRange};

/// Sectors of our volumes; sizes are multiples of it.
pub(super) const SECTOR_BYTES: u64 = 4096;

/// What a volume gets whose size nobody named.
const DEFAULT_BYTES: u64 = 1 << 30;

/// Beyond this no filesystem of ours goes.
const LARGEST_BYTES: u64 = 1 << 60;

/// What a volume shall begin with.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) image: ImageName,
    pub(super) kind: VolumeKind,
    pub(super) bytes: u64,
    pub(super) grow: bool,
    /// The volume itself, if it is one: it may have to be frozen.
    pub(super) volume: Option<VolumeRow>,
}

impl Driver {
    pub(crate) fn create(&self, request: &CreateVolume) -> Result<Outcome<Volume>, CoreError> {
        let subject = format!("volume {}", request.name);
        let _name = self.guards.take(&subject)?;
        if let Some(existing) = self.registry.volume_named(&request.name)? {
            if existing.step != VolumeStep::Creating {
                let asked = self.registry.asked(existing.id)?;
                let limits = self.registry.limits(existing.id)?;
                let difference = difference(&existing, request)
                    .or_else(|| changeable_difference(&existing, limits, asked.as_ref(), request));
                let existing = self.describe(&existing)?;
                return Ok(match difference {
                    None => Outcome::Identical(existing),
                    Some(difference) => Outcome::Conflict { existing, difference },
                });
            }
            self.undo_create(&existing)?;
        }
        // A volume that is cloned must not be changed in other ways meanwhile.
        let _source = match request.source {
            Some(ContentSource::Volume(id)) => Some(self.guards.take(id)?),
            _ => None,
        };
        let origin = request.source.map(|source| self.origin(source)).transpose()?;
        let kind = request.kind.or(origin.as_ref().map(|origin| origin.kind)).unwrap_or(VolumeKind::Ext4);
        if let Some(origin) = &origin
            && origin.kind != kind
        {
            return Err(CoreError::Refused {
                subject,
                reason: format!("it shall be {kind}, and its source is {}", origin.kind),
            });
        }
        let source_bytes = origin.as_ref().map_or(0, |origin| origin.bytes);
        let bytes = choose_size(&subject, request.size, kind, source_bytes)?;
        self.admit_limits(&subject, request.limits)?;
        let id = VolumeId::random(&*self.world.entropy);
        let row = VolumeRow {
            id,
            name: request.name.clone(),
            kind,
            bytes,
            image: ImageName::of_volume(id, &*self.world.entropy),
            step: VolumeStep::Creating,
            grow: origin.as_ref().is_some_and(|origin| origin.grow || origin.bytes < bytes)
                && kind.filesystem().is_some(),
            source: request.source,
            labels: request.labels.clone(),
            condition: None,
            created_at: self.world.clock.now(),
        };
        self.promise(&row)?;
        crash::point!("create.promised");
        let asked = Asked { labels: request.labels.clone(), limits: request.limits };
        let made = self.registry.insert_settings(id, &asked).and_then(|()| {
            self.fill_new_image(&row, origin.as_ref(), true)?;
            crash::point!("create.made");
            self.registry.settle_volume(id, VolumeStep::Ready)
        });
        if let Err(error) = made {
            self.undo_create(&row)?;
            return Err(error);
        }
        let row = self.existing(id)?;
        self.note_volume(&row);
        Ok(Outcome::Created(self.describe(&row)?))
    }

    /// Writes down a volume, if there is room for it.
    pub(super) fn promise(&self, row: &VolumeRow) -> Result<(), CoreError> {
        let _alone = self.provisioning.lock().unwrap_or_else(PoisonError::into_inner);
        self.pool.admit_volume(&row.subject(), self.registry.provisioned_bytes()?, row.bytes)?;
        self.registry.insert_volume(row)
    }

    /// Makes the image of a volume that was promised.
    pub(super) fn fill_new_image(
        &self,
        row: &VolumeRow,
        origin: Option<&Origin>,
        format: bool,
    ) -> Result<(), CoreError> {
        match origin {
            None => self.backend.make(&row.image, row.bytes, row.kind.filesystem().filter(|_| format)),
            Some(origin) => {
                let clone = self.backend.clone_image(&origin.image, &row.image)?;
                self.cut(clone, origin.volume.as_ref(), row.bytes).map(drop)
            }
        }
    }

    pub(super) fn undo_create(&self, row: &VolumeRow) -> Result<(), CoreError> {
        self.registry.drop_volume(row.id)?;
        self.collect_or_log(&row.image);
        Ok(())
    }

    pub(super) fn origin(&self, source: ContentSource) -> Result<Origin, CoreError> {
        Ok(match source {
            ContentSource::Snapshot(id) => {
                let row = self.complete_snapshot(id)?;
                Origin { image: row.image(), kind: row.kind, bytes: row.bytes, grow: row.grow, volume: None }
            }
            ContentSource::Volume(id) => {
                let row = self.usable(id)?;
                let (image, kind, bytes, grow) = (row.image.clone(), row.kind, row.bytes, row.grow);
                Origin { image, kind, bytes, grow, volume: Some(row) }
            }
            ContentSource::Point(point) => {
                return Err(CoreError::Bug {
                    what: format!("{point} was to be cloned; it has to be restored"),
                });
            }
        })
    }

    pub(crate) fn delete(&self, id: VolumeId) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let Some(row) = self.registry.volume(id)? else { return Ok(()) };
        let _name = self.guards.take(format!("volume {}", row.name))?;
        self.refuse_if_attached(&row)?;
        self.refuse_if_in_use(&row)?;
        self.let_go(&row)?;
        crash::point!("delete.begun");
        self.registry.drop_volume(id)?;
        crash::point!("delete.dropped");
        self.collect(&row.image)
    }
}

/// How what can be changed differs from what is asked for. Each label and limit of the request must be the volume's
/// now, or have been when it was created: a late repetition of its creation is no conflict. What the request does
/// not name may be anything.
fn changeable_difference(
    existing: &VolumeRow,
    limits: IoLimits,
    asked: Option<&Asked>,
    request: &CreateVolume,
) -> Option<String> {
    let asked = asked?;
    let other = request.labels.iter().find(|(key, value)| {
        ![&existing.labels, &asked.labels].iter().any(|has| has.get(*key) == Some(value))
    });
    if let Some((key, _)) = other {
        return Some(match existing.labels.get(key) {
            Some(value) => format!("its label {key} is {value:?}"),
            None => format!("it has no label {key}"),
        });
    }
    IoQuantity::ALL
        .into_iter()
        .find(|quantity| {
            let wanted = request.limits.of(*quantity);
            wanted.is_some() && ![limits, asked.limits].iter().any(|has| has.of(*quantity) == wanted)
        })
        .map(|_| format!("its limits are {}", limits.describe()))
}

/// How what is there differs from what is asked for, in what never changes.
fn difference(existing: &VolumeRow, request: &CreateVolume) -> Option<String> {
    let SizeRange { required_bytes, limit_bytes } = request.size;
    if existing.step == VolumeStep::Hydrating {
        Some("a restore is still writing it".to_owned())
    } else if let Some(kind) = request.kind.filter(|kind| *kind != existing.kind) {
        Some(format!("it is {}, not {kind}", existing.kind))
    } else if existing.bytes < required_bytes || (limit_bytes != 0 && existing.bytes > limit_bytes) {
        Some(format!("it has {} bytes", existing.bytes))
    } else if existing.source != request.source {
        Some("it began with another content".to_owned())
    } else {
        None
    }
}

/// The size that a volume gets.
pub(super) fn choose_size(
    subject: &str,
    size: SizeRange,
    kind: VolumeKind,
    source_bytes: u64,
) -> Result<u64, CoreError> {
    let SizeRange { required_bytes, limit_bytes } = size;
    let refuse = |reason: String| Err(CoreError::Size { subject: subject.to_owned(), reason });
    let limit = if limit_bytes == 0 { LARGEST_BYTES } else { limit_bytes.min(LARGEST_BYTES) };
    if required_bytes > limit {
        return refuse(format!("at least {required_bytes} bytes are asked for, and at most {limit}"));
    }
    let wanted = match (required_bytes, source_bytes) {
        (0, 0) => DEFAULT_BYTES.min(limit / SECTOR_BYTES * SECTOR_BYTES),
        (required, source) => required.max(source),
    };
    let bytes = wanted.next_multiple_of(SECTOR_BYTES);
    if bytes > limit {
        return refuse(format!(
            "it would have {bytes} bytes (whole sectors, and not less than its source), and at most {limit} are asked for"
        ));
    }
    let least = filesystem::minimum_bytes(kind.filesystem());
    if bytes < least {
        return refuse(format!("{bytes} bytes are too few for {kind}, which needs at least {least}"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_sectors_and_keep_to_what_is_asked() {
        let choose = |required_bytes, limit_bytes, source| {
            choose_size("v", SizeRange { required_bytes, limit_bytes }, VolumeKind::Block, source).ok()
        };
        assert_eq!(choose(0, 0, 0), Some(1 << 30));
        assert_eq!(choose(1, 0, 0), Some(4096));
        assert_eq!(choose(8192, 8192, 0), Some(8192));
        assert_eq!(choose(8193, 8193, 0), None);
        assert_eq!(choose(1, 0, 8192), Some(8192));
        assert_eq!(choose(1, 4096, 8192), None);
        assert_eq!(choose(u64::MAX, 0, 0), None);
        assert_eq!(choose(0, 5000, 0), Some(4096));
    }
}
