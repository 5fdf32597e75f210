//! At every start: registry, pool, loop devices and mounts are made to agree.
//!
//! What was half done is undone, or finished where it was promised. What this driver does not know it reports
//! and never removes. One thing that cannot be mended does not keep the others from being mended: it becomes a
//! sentence of the report. Each step can be cut off anywhere: the next start does it again.
//!
//! A *restart* (the kernel still runs that ran before) leaves every live mount and device alone, for containers use
//! them. After a *reboot* nothing of that is left, and orchestrators ask for everything anew: what the registry says
//! of places is forgotten, and each volume can be staged at once.

mod places;
mod unknown;

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::freeze;
use crate::mount_table::MountTable;
use crate::registry::{ExchangeStep, VolumeRow, VolumeStep};

/// What was done and found.
type Report = Vec<String>;

impl Driver {
    pub(super) fn reconcile(&self) -> Result<Report, CoreError> {
        let mut report = Report::new();
        // A driver that had limits may have left some on devices that have other volumes by now.
        if self.registry.any_limits()? {
            self.throttle.use_from_now_on();
        }
        let boot = self.boot_id()?;
        let rebooted = self.registry.boot()?.is_some_and(|known| known != boot);
        if rebooted {
            report.push("this machine was started anew since the driver last ran".to_owned());
        }
        // First of all: nothing that touches a frozen filesystem comes back.
        self.thaw_all(&mut report)?;
        crash::point!("start.thawed");
        self.undo_half_made(&mut report)?;
        crash::point!("start.undone");
        for row in self.registry.volumes()? {
            note(&mut report, &row.subject(), self.settle_image(&row));
        }
        crash::point!("start.images-settled");
        // Before exchanges, which mount: what is half mounted would be in their way.
        for row in self.registry.volumes()? {
            let mut found = Report::new();
            let settled = self.settle_intents(&row, &mut found);
            report.append(&mut found);
            note(&mut report, &row.subject(), settled);
        }
        crash::point!("start.intents-settled");
        self.settle_exchanges(&mut report)?;
        crash::point!("start.exchanges-settled");
        for row in self.registry.volumes()? {
            let mut found = Report::new();
            let settled = self.settle_places(&row, rebooted, &mut found);
            report.append(&mut found);
            note(&mut report, &row.subject(), settled);
        }
        crash::point!("start.places-settled");
        self.collect_ephemerals(&mut report)?;
        for image in self.registry.discarded()? {
            note(&mut report, &format!("the discarded image {image}"), self.collect(&image));
        }
        self.registry.volumes()?.iter().for_each(|row| self.note_volume(row));
        self.registry.snapshots()?.iter().for_each(|row| self.note_snapshot(row));
        self.report_unknown(&mut report)?;
        self.registry.set_boot(&boot)?;
        Ok(report)
    }

    /// Which run of the kernel this is.
    pub(super) fn boot_id(&self) -> Result<String, CoreError> {
        let path = "/proc/sys/kernel/random/boot_id";
        match &self.settings.boot_id {
            Some(given) => Ok(given.clone()),
            None => std::fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(CoreError::system("reading", path)),
        }
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
        self.settle_deliveries(report)?;
        Ok(())
    }

    /// The image is as large as was promised, and a hydrating volume has its device. Of an image that is missing
    /// `report_unknown` tells.
    fn settle_image(&self, row: &VolumeRow) -> Result<(), CoreError> {
        if !self.backend.path(&row.image).exists() {
            return Ok(());
        }
        self.backend.grow(&row.image, row.bytes)?;
        if row.step == VolumeStep::Hydrating {
            self.attach_device(row)?;
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
}

fn note(report: &mut Report, subject: &str, result: Result<(), CoreError>) {
    if let Err(error) = result {
        report.push(format!("{subject}: {}", strongroom_model::chain(&error)));
    }
}
