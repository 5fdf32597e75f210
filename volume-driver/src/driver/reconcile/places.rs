//! Places: where the registry says that volumes are in use, and where the kernel says it.
//!
//! The kernel is right about what is there, the registry about what it is for. A mount that was asked for and never
//! answered is taken back, since nobody was told of it and it may lack its options; one that was answered and is gone
//! is forgotten, so that it can be asked for again. A mount that is not ours is never touched.

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::in_use::{is_live, seen};
use crate::mount_table::MountTable;
use crate::nouns::{Access, MountUse};
use crate::place::Place;
use crate::registry::{MountRow, VolumeRow, VolumeStep};

use super::{Report, note};

impl Driver {
    /// Takes back what a killed or failed operation mounted. The caller has the guard of the volume, or is the start of
    /// the driver.
    pub(in crate::driver) fn settle_intents(
        &self,
        row: &VolumeRow,
        report: &mut Report,
    ) -> Result<(), CoreError> {
        let intents: Vec<MountRow> =
            self.registry.mounts(row.id)?.into_iter().filter(|known| !known.done).collect();
        for intent in intents {
            let path = &intent.mount.path;
            let device = self.backend.attached(&row.image)?;
            if intent.mount.purpose == MountUse::Docker {
                // Made in one step, and wanted by containers that count on it: `reconcile_docker` makes it again.
                let table = MountTable::read()?;
                if device.is_some_and(|device| is_live(&intent, &device, &table)) {
                    self.registry.settle_mount(row.id, path)?;
                }
                continue;
            }
            let place = Place::recorded(path)?;
            let undone = match &place {
                Some(place) => self.unmount_ours(place, row, device.as_ref()),
                None => Ok(()),
            };
            match undone {
                Ok(()) => {
                    crash::point!("intent.unmounted");
                    if let (Some(place), MountUse::Published) = (&place, intent.mount.purpose) {
                        // Not empty, or not ours: it stays, and the next request for it says so.
                        let _ = place.remove();
                    }
                    report.push(format!(
                        "{} was half mounted at {}, and was undone",
                        row.subject(),
                        path.display()
                    ));
                    self.registry.remove_mount(row.id, path)?;
                }
                // Somebody works in it already. It is complete if it has become as it was meant to be.
                Err(CoreError::InUse { .. }) if as_meant(&intent)? => {
                    self.registry.settle_mount(row.id, path)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Mounts of the registry that are there are kept, the others forgotten; a raw volume that is staged is
    /// attached again; a device that nothing uses is taken away.
    pub(super) fn settle_places(
        &self,
        row: &VolumeRow,
        rebooted: bool,
        report: &mut Report,
    ) -> Result<(), CoreError> {
        let settled = self.reconcile_docker(row, report);
        note(report, &row.subject(), settled);
        let known = self.registry.mounts(row.id)?;
        // All that the staging of a raw volume is, is its device. After a reboot its user is gone as well.
        let staged_raw =
            |known: &MountRow| known.mount.access == Access::Block && known.mount.purpose == MountUse::Staged;
        let mut device = self.backend.attached(&row.image)?;
        if device.is_none() && !rebooted && known.iter().any(staged_raw) {
            report.push(format!("{} had lost its device, and was attached again", row.subject()));
            device = Some(self.attach_device(row)?);
        }
        if let Some(device) = &device {
            self.limit(row, device)?;
        }
        let table = MountTable::read()?;
        for known in &known {
            let path = &known.mount.path;
            let live = device.as_ref().is_some_and(|device| is_live(known, device, &table));
            if live && !(rebooted && staged_raw(known)) {
                continue;
            }
            match table.at(path).filter(|_| known.mount.access == Access::Mount) {
                Some(other) => report.push(format!(
                    "{} is no longer mounted at {}: another filesystem ({}) is",
                    row.subject(),
                    path.display(),
                    other.filesystem
                )),
                None if rebooted => {}
                None => {
                    report.push(format!("{} is no longer mounted at {}", row.subject(), path.display()));
                }
            }
            self.registry.remove_mount(row.id, path)?;
            crash::point!("place.forgotten");
        }
        if let Some(device) = &device {
            let strangers = seen(device, &table)
                .filter(|mount| known.iter().all(|known| known.mount.path != mount.path))
                .map(|mount| mount.path.display());
            for stranger in strangers {
                report.push(format!("{} is mounted at {stranger}, by somebody else", row.subject()));
            }
        }
        if row.step == VolumeStep::Ready { self.let_go_if_unused(row) } else { Ok(()) }
    }
}

/// Whether what is mounted has the options that were meant.
fn as_meant(intent: &MountRow) -> Result<bool, CoreError> {
    let table = MountTable::read()?;
    Ok(table.at(&intent.mount.path).is_some_and(|mount| mount.is_readonly() == intent.mount.readonly))
}
