//! What lies or is attached here without the registry knowing it, and what the registry knows and is not here: reported,
//! never removed. `strongroom driver doctor` says what can be done about it.

use std::collections::BTreeSet;

use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::image::ImageName;
use crate::loop_device;

use super::Report;

impl Driver {
    pub(super) fn report_unknown(&self, report: &mut Report) -> Result<(), CoreError> {
        let volumes = self.registry.volumes()?;
        let snapshots = self.registry.snapshots()?;
        let discarded = self.registry.discarded()?;
        let known: BTreeSet<ImageName> = volumes
            .iter()
            .map(|row| row.image.clone())
            .chain(snapshots.iter().map(|row| row.image()))
            .chain(discarded)
            .collect();
        let (images, strangers) = self.backend.list()?;
        for image in images.iter().filter(|image| !known.contains(image)) {
            report.push(format!(
                "the image {image} belongs to nothing that the registry knows; it was left alone"
            ));
        }
        for stranger in strangers {
            report.push(format!("{} is not ours; it was left alone", stranger.display()));
        }
        let there: BTreeSet<&ImageName> = images.iter().collect();
        for row in snapshots.iter().filter(|row| !there.contains(&row.image())) {
            report.push(format!("the image of {} is missing", row.subject()));
        }
        for row in volumes.iter().filter(|row| !there.contains(&row.image)) {
            report.push(match self.backend.attached(&row.image)? {
                None => format!("the image of {} is missing", row.subject()),
                Some(device) => format!(
                    "the image of {} was deleted, and {} still holds its content: copy that before anything is unmounted",
                    row.subject(),
                    device.path.display()
                ),
            });
        }
        let paths: BTreeSet<_> = known.iter().map(|image| self.backend.path(image)).collect();
        for (device, path) in loop_device::below(self.pool.root()) {
            let named = loop_device::without_deleted_mark(&path);
            if !paths.contains(named) {
                let device = device.path();
                report.push(format!(
                    "{} is bound to {}, which the registry does not know",
                    device.display(),
                    path.display()
                ));
            }
        }
        Ok(())
    }
}
