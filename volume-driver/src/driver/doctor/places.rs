//! Mounts and devices that are not as the registry says.

use std::fs;
use std::path::Path;

use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::driver::in_use::{is_live, seen};
use crate::findings::{Finding, Repair, Severity};
use crate::holders;
use crate::loop_device;
use crate::mount_table::MountTable;
use crate::nouns::{Access, MountUse};
use crate::registry::{VolumeRow, VolumeStep};

use super::finding;

impl Driver {
    pub(super) fn examine_places(&self, idle: bool, found: &mut Vec<Finding>) -> Result<(), CoreError> {
        for row in self.registry.volumes()? {
            // Who has the guard is mounting or unmounting just now.
            let Ok(_guard) = self.guards.take(row.id) else { continue };
            let Some(row) = self.registry.volume(row.id)? else { continue };
            if row.step != VolumeStep::Creating {
                self.examine_places_of(&row, idle, found)?;
            }
        }
        Ok(())
    }

    fn examine_places_of(
        &self,
        row: &VolumeRow,
        idle: bool,
        found: &mut Vec<Finding>,
    ) -> Result<(), CoreError> {
        let known = self.registry.mounts(row.id)?;
        let device = self.backend.attached(&row.image)?;
        let table = MountTable::read()?;
        if known.iter().any(|known| !known.done) {
            found.push(finding(
                "mount.half-made",
                Severity::Problem,
                row.subject(),
                "it was half mounted",
                "`--repair` takes it back, and so does the next start of the driver",
                Some(Repair::UndoMounts { volume: row.id }),
            ));
        }
        for known in known.iter().filter(|known| known.done) {
            let path = &known.mount.path;
            if !device.as_ref().is_some_and(|device| is_live(known, device, &table)) {
                let message = format!("it is no longer mounted at {}", path.display());
                let repair = Some(Repair::ForgetMount { volume: row.id, path: path.clone() });
                let advice = "`--repair` forgets it, and so does the next start of the driver; then it can be mounted again";
                found.push(finding("mount.lost", Severity::Warning, row.subject(), message, advice, repair));
            } else if known.mount.access == Access::Mount
                && let Err(cause) = look_into(path)
            {
                let message = format!("what is mounted at {} answers with an error: {cause}", path.display());
                let advice = "end what uses it, unmount it and mount it again; the kernel's log says more";
                found.push(finding("mount.dead", Severity::Problem, row.subject(), message, advice, None));
            }
        }
        let Some(device) = device else { return Ok(()) };
        for mount in
            seen(&device, &table).filter(|mount| known.iter().all(|known| known.mount.path != mount.path))
        {
            let message = format!("it is mounted at {}, by somebody else", mount.path.display());
            let advice = "the driver will not delete it while that is so; unmount it when it is not needed";
            found.push(finding("mount.unknown", Severity::Warning, row.subject(), message, advice, None));
        }
        let published = known.iter().any(|known| known.mount.purpose == MountUse::Published);
        let staged = known.iter().find(|known| known.done && known.mount.purpose == MountUse::Staged);
        if let (Some(staged), false) = (staged, published) {
            let path = staged.mount.path.clone();
            found.push(finding(
                "staged.idle",
                Severity::Note,
                row.subject(),
                format!("it is staged at {} and published nowhere", path.display()),
                "if no container starts with it now, its orchestrator has forgotten it: `--unstage-idle --repair` unstages it",
                idle.then_some(Repair::Unstage { volume: row.id, path }),
            ));
        }
        let unused = row.step == VolumeStep::Ready && seen(&device, &table).next().is_none();
        if unused && staged.is_none() && self.backend.path(&row.image).exists() {
            let holder = holders::describe(&device.path, device.number, &[]);
            found.push(finding(
                "device.unused",
                Severity::Warning,
                row.subject(),
                format!(
                    "{} is attached to it and mounted nowhere here; it is held by {holder}",
                    device.path.display()
                ),
                "`--repair` detaches it once nothing holds it",
                Some(Repair::Detach { volume: row.id }),
            ));
        }
        if let Some(number) = loop_device::find(&self.backend.path(&row.image)).ok().flatten()
            && !number.is_direct()
        {
            found.push(finding(
                "device.buffered",
                Severity::Warning,
                row.subject(),
                format!("{} does not pass by the page cache", device.path.display()),
                "detach it (unmount the volume) and mount it again; the pool's filesystem has to allow direct I/O",
                None,
            ));
        }
        Ok(())
    }
}

/// A filesystem that is dead lists nothing.
fn look_into(folder: &Path) -> std::io::Result<()> {
    fs::read_dir(folder)?.next().transpose().map(drop)
}
