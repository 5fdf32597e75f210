//! At every start: registry, pool, loop devices and mounts are made to agree.
//!
//! What was half done is undone, or finished where it was promised. What this driver does not know it reports
//! and never removes. One thing that cannot be mended does not keep the others from being mended: it becomes a
//! sentence of the report.

use std::collections::BTreeSet;

use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::driver::in_use::{is_live, seen};
use crate::freeze;
use crate::image::ImageName;
use crate::loop_device;
use crate::mount_table::MountTable;
use crate::nouns::{Access, MountUse};
use crate::registry::{ExchangeStep, MountRow, VolumeRow, VolumeStep};

/// What was done and found.
type Report = Vec<String>;

impl Driver {
    pub(super) fn reconcile(&self) -> Result<Report, CoreError> {
        let mut report = Report::new();
        // A driver that had limits may have left some on devices that have other volumes by now.
        if self.registry.any_limits()? {
            self.throttle.use_from_now_on();
        }
        // First of all: nothing that touches a frozen filesystem comes back.
        self.thaw_all(&mut report)?;
        self.undo_half_made(&mut report)?;
        for row in self.registry.volumes()? {
            note(&mut report, &row.subject(), self.reconcile_image(&row));
        }
        self.settle_exchanges(&mut report)?;
        for row in self.registry.volumes()? {
            let mut found = Report::new();
            let settled = self.reconcile_mounts(&row, &mut found);
            report.append(&mut found);
            note(&mut report, &row.subject(), settled);
        }
        for image in self.registry.discarded()? {
            note(&mut report, &format!("the discarded image {image}"), self.collect(&image));
        }
        self.report_unknown(&mut report)?;
        Ok(report)
    }

    fn thaw_all(&self, report: &mut Report) -> Result<(), CoreError> {
        let table = MountTable::read()?;
        for row in self.registry.volumes()? {
            let Ok(Some(device)) = self.backend.attached(&row.image) else { continue };
            let Some(mount) = table.of_device(device.number).next() else { continue };
            match freeze::thaw_if_frozen(&mount.path) {
                Ok(false) => {}
                Ok(true) => report.push(format!("{} was frozen, and was thawed", row.subject())),
                Err(error) => note(report, &row.subject(), Err(error)),
            }
        }
        Ok(())
    }

    fn undo_half_made(&self, report: &mut Report) -> Result<(), CoreError> {
        for row in self.registry.volumes()?.into_iter().filter(|row| row.step == VolumeStep::Creating) {
            report.push(format!("{} was half made, and was undone", row.subject()));
            self.undo_create(&row)?;
        }
        for row in self.registry.groups()?.into_iter().filter(|row| !row.ready) {
            report.push(format!("{} was half taken, and was undone", row.subject()));
            self.undo_group(&row)?;
        }
        for row in self.registry.snapshots()?.into_iter().filter(|row| !row.ready) {
            report.push(format!("{} was half taken, and was undone", row.subject()));
            self.undo_snapshot(&row)?;
        }
        Ok(())
    }

    /// The image is as large as was promised, and a hydrating volume has its device.
    fn reconcile_image(&self, row: &VolumeRow) -> Result<(), CoreError> {
        if let Err(error) = self.backend.grow(&row.image, row.bytes) {
            self.registry.set_volume_condition(row.id, Some(&strongroom_model::chain(&error)))?;
            return Err(error);
        }
        if row.step == VolumeStep::Hydrating {
            self.backend.attach(&row.image)?;
        }
        Ok(())
    }

    fn settle_exchanges(&self, report: &mut Report) -> Result<(), CoreError> {
        for row in self.registry.exchanges()? {
            match row.step {
                ExchangeStep::Done => {}
                ExchangeStep::Begun => {
                    report.push(format!("restore {} in place had not switched, and was undone", row.run));
                    self.undo_exchange(&row)?;
                }
                ExchangeStep::Switched => {
                    report.push(format!("restore {} in place had switched, and was finished", row.run));
                    for (path, reason) in self.finish_exchange(&row)? {
                        report.push(format!("{} was not mounted again: {reason}", path.display()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Mounts of the registry that are there are kept, the others forgotten; a raw volume that is staged is
    /// attached again; a device that nothing uses is taken away.
    fn reconcile_mounts(&self, row: &VolumeRow, report: &mut Report) -> Result<(), CoreError> {
        let settled = self.reconcile_docker(row, report);
        note(report, &row.subject(), settled);
        let known = self.registry.mounts(row.id)?;
        let staged_raw = |known: &MountRow| {
            known.done && known.mount.access == Access::Block && known.mount.purpose == MountUse::Staged
        };
        let device = if known.iter().any(staged_raw) {
            Some(self.attach_device(row)?)
        } else {
            self.backend.attached(&row.image)?
        };
        if let Some(device) = &device {
            self.limit(row, device)?;
        }
        let table = MountTable::read()?;
        for known in &known {
            let path = &known.mount.path;
            let live = device.as_ref().is_some_and(|device| is_live(known, device, &table));
            let raw_intent =
                !known.done && known.mount.access == Access::Block && known.mount.purpose == MountUse::Staged;
            if live && !raw_intent {
                self.registry.settle_mount(row.id, path)?;
            } else {
                report.push(format!("{} is no longer mounted at {}", row.subject(), path.display()));
                self.registry.remove_mount(row.id, path)?;
            }
        }
        if let Some(device) = &device {
            for mount in
                seen(device, &table).filter(|mount| known.iter().all(|known| known.mount.path != mount.path))
            {
                report.push(format!(
                    "{} is mounted at {}, by somebody else",
                    row.subject(),
                    mount.path.display()
                ));
            }
        }
        if row.step == VolumeStep::Ready { self.let_go_if_unused(row) } else { Ok(()) }
    }

    fn report_unknown(&self, report: &mut Report) -> Result<(), CoreError> {
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
            report.push(format!("the image of {} is missing", row.subject()));
        }
        let paths: BTreeSet<_> = known.iter().map(|image| self.backend.path(image)).collect();
        for (device, path) in loop_device::below(self.pool.root()) {
            if !paths.contains(&path) {
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

fn note(report: &mut Report, subject: &str, result: Result<(), CoreError>) {
    if let Err(error) = result {
        report.push(format!("{subject}: {}", strongroom_model::chain(&error)));
    }
}
