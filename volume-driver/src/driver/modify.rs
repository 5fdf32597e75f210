//! Changing what can be changed about a volume: labels, and how much I/O a second it may do.
//!
//! All of a request is checked before any of it is done, and it is written down before the kernel is told. So a
//! change that fails leaves nothing, and one that was cut off is finished by the next start.

use std::sync::{MutexGuard, PoisonError};

use strongroom_model::{VolumeId, chain};

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::io_limits::IoLimits;
use crate::labels;
use crate::nouns::Volume;
use crate::registry::{VolumeRow, VolumeStep};
use crate::requests::Changes;

impl Driver {
    pub(crate) fn modify(&self, id: VolumeId, changes: &Changes) -> Result<Volume, CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.existing(id)?;
        let (mut labels, before) = (row.labels.clone(), self.registry.limits(id)?);
        for (key, value) in &changes.labels {
            match value {
                Some(value) => labels.insert(key.clone(), value.clone()),
                None => labels.remove(key),
            };
        }
        // Together they must still keep to the limits that each of them kept to.
        labels::check(&labels).map_err(|reason| CoreError::Refused {
            subject: format!("changing {}", row.subject()),
            reason,
        })?;
        let limits = before.changed(&changes.limits);
        if limits != before {
            self.admit_limits(&row.subject(), limits)?;
        }
        self.registry.modify_volume(id, &labels, limits)?;
        crash::point!("modify.promised");
        if limits != before
            && let Some(device) = self.backend.attached(&row.image)?
            && let Err(error) = self.limit(&row, &device)
        {
            self.registry.modify_volume(id, &row.labels, before)?;
            if let Err(again) = self.limit(&row, &device) {
                tracing::warn!(volume = %id, error = chain(&again), "the limits before could not be put back");
            }
            return Err(error);
        }
        let row = self.existing(id)?;
        self.note_volume(&row);
        self.describe(&row)
    }

    /// Why I/O cannot be limited here; `None`: it can.
    pub(crate) fn cannot_limit(&self) -> Option<String> {
        self.throttle.check().err()
    }

    /// Limits can be asked for only where the kernel can do them.
    pub(super) fn admit_limits(&self, subject: &str, limits: IoLimits) -> Result<(), CoreError> {
        if limits.is_none() {
            return Ok(());
        }
        self.throttle
            .check()
            .map_err(|missing| CoreError::NoIoLimits { subject: subject.to_owned(), missing })
    }

    /// Attaches the image of a volume and lets its device have the volume's limits.
    pub(super) fn attach_device(&self, row: &VolumeRow) -> Result<Device, CoreError> {
        let device = self.backend.attach(&row.image)?;
        // A volume that cannot be held back works all the same, and its condition says so.
        if let Err(error) = self.limit(row, &device) {
            tracing::warn!(volume = %row.id, error = chain(&error), "attached without its limits");
        }
        Ok(device)
    }

    /// Lets a device have the limits of its volume and no others.
    pub(super) fn limit(&self, row: &VolumeRow, device: &Device) -> Result<(), CoreError> {
        let limits = match row.step {
            // Whoever fills it is not one of its users.
            VolumeStep::Hydrating => IoLimits::NONE,
            VolumeStep::Ready | VolumeStep::Creating => self.registry.limits(row.id)?,
        };
        if !limits.is_none() {
            self.throttle.use_from_now_on();
        }
        if !self.throttle.is_used() {
            return Ok(());
        }
        let _alone = self.limiting();
        self.throttle
            .limit(device.number, limits)
            .map_err(|missing| CoreError::NoIoLimits { subject: row.subject(), missing })
    }

    /// The limits of all volumes once more, for control groups that were not there before.
    pub(crate) fn limit_again(&self) -> Result<(), CoreError> {
        if !self.throttle.is_used() {
            return Ok(());
        }
        for row in self.registry.volumes()? {
            let limits = self.registry.limits(row.id)?;
            if limits.is_none() || row.step == VolumeStep::Hydrating {
                continue;
            }
            // Held from looking for the device until it is limited: meanwhile it cannot become another volume's.
            let _alone = self.limiting();
            if let Some(device) = self.backend.attached(&row.image)?
                && let Err(missing) = self.throttle.limit(device.number, limits)
            {
                return Err(CoreError::NoIoLimits { subject: row.subject(), missing });
            }
        }
        Ok(())
    }

    /// Takes the device of a volume away, and before that its limits: the number is used again.
    pub(super) fn detach_device(&self, row: &VolumeRow) -> Result<(), CoreError> {
        let device = match self.throttle.is_used() {
            true => self.backend.attached(&row.image)?,
            false => None,
        };
        let Some(device) = device else { return self.backend.detach(&row.image) };
        let _alone = self.limiting();
        if let Err(missing) = self.throttle.limit(device.number, IoLimits::NONE) {
            tracing::warn!(volume = %row.id, missing, "the limits of a device could not be lifted");
        }
        let detached = self.backend.detach(&row.image);
        if detached.is_err()
            && let Err(missing) = self.throttle.limit(device.number, self.registry.limits(row.id)?)
        {
            tracing::warn!(volume = %row.id, missing, "the limits could not be put back");
        }
        detached
    }

    /// Why the limits of a volume do not hold, if they do not.
    pub(super) fn limits_missing(&self, limits: IoLimits) -> Option<String> {
        if limits.is_none() {
            return None;
        }
        self.throttle.check().err().map(|missing| format!("its I/O is not limited: {missing}"))
    }

    fn limiting(&self) -> MutexGuard<'_, ()> {
        self.limiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
