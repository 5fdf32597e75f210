//! Mounts for containers of Docker, counted by reference.
//!
//! Docker mounts a volume under a fresh id for each container that starts with it, and unmounts that id when the
//! container ends. All of them share one mount of ours; the first makes it and the last takes it away. What is
//! counted lies in the registry, so a driver that was killed, upgraded or restarted goes on counting, and the
//! containers notice nothing.
//!
//! * A reference is written when the mount is there, and removed before it is taken away. What dies in between is a
//!   mount without references, which the next start unmounts.
//! * A reference is worth something in the run of the machine in which it was taken. After a reboot its container is
//!   gone: it is dropped, and Docker asks anew for each container that it starts.
//! * A reference without a mount in the same run (somebody unmounted it, or a driver in a container lost its
//!   mounts): the mount is made again.

use std::fs;
use std::path::{Path, PathBuf};

use strongroom_model::VolumeId;

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::in_use::is_live;
use crate::driver::mounting::refuse_covered;
use crate::driver::{Driver, health};
use crate::mount_table::MountTable;
use crate::nouns::{Access, Mount, MountUse};
use crate::place::Place;
use crate::registry::{MountRow, ReferenceRow, VolumeRow, VolumeStep};

impl Driver {
    /// Mounts a volume at `folder` for `reference`, or counts it if the volume is mounted already. Answers where.
    pub(crate) fn docker_mount(
        &self,
        id: VolumeId,
        reference: &str,
        folder: &Path,
    ) -> Result<PathBuf, CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.usable(id)?;
        self.settle_intents(&row, &mut Vec::new())?;
        let device = self.backend.attached(&row.image)?;
        let live = self.live_mounts(&row, device.as_ref())?;
        // One manager of a volume at a time: an orchestrator counts on its volume being in nobody else's hands.
        if let Some(staged) = live.iter().find(|live| live.mount.purpose == MountUse::Staged) {
            return Err(CoreError::InUse {
                subject: row.subject(),
                holder: format!("an orchestrator has staged it at {}", staged.mount.path.display()),
            });
        }
        let there = match live.iter().find(|live| live.mount.purpose == MountUse::Docker) {
            Some(there) if self.bury_for_docker(&row, there, device.as_ref())? => None,
            there => there,
        };
        let reference = ReferenceRow { volume: id, reference: reference.to_owned(), boot: self.boot_id()? };
        let path = match there {
            Some(there) => there.mount.path.clone(),
            None => self.mount_for_docker(&row, folder)?,
        };
        if let Err(error) = self.registry.insert_reference(&reference) {
            if there.is_none() {
                let _ = self.unmount_for_docker(&row);
            }
            return Err(error);
        }
        crash::point!("docker.referenced");
        Ok(path)
    }

    /// Takes a mount away that answers nothing but errors, so that its filesystem is checked and mounted anew; answers
    /// whether it did. While containers have it, that is for them to end.
    fn bury_for_docker(
        &self,
        row: &VolumeRow,
        there: &MountRow,
        device: Option<&Device>,
    ) -> Result<bool, CoreError> {
        let (Some(device), Some(place)) = (device, Place::recorded(&there.mount.path)?) else {
            return Ok(false);
        };
        let Some(reason) = health::dead(&place, row, device) else { return Ok(false) };
        tracing::warn!(volume = %row.id, reason, "a volume that Docker has mounted does not answer");
        if !self.registry.references(row.id)?.is_empty() {
            let report = format!("{reason}; it is checked when the containers that have it have ended");
            return Err(CoreError::Filesystem { subject: row.subject(), report });
        }
        self.unmount_for_docker(row)?;
        Ok(true)
    }

    /// Makes the one mount, and answers where it is as the kernel says it.
    fn mount_for_docker(&self, row: &VolumeRow, folder: &Path) -> Result<PathBuf, CoreError> {
        let Some(filesystem) = row.kind.filesystem() else {
            return Err(CoreError::Refused {
                subject: row.subject(),
                reason: "it is a raw device, and containers of Docker mount folders".to_owned(),
            });
        };
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).map_err(CoreError::system("making the folder", parent))?;
        }
        let none = || CoreError::NotFound { subject: format!("folder {}", folder.display()) };
        let place = Place::by_hand(folder)?.ok_or_else(none)?;
        let open = place.make_folder()?;
        let mount = Mount {
            path: place.path().to_owned(),
            purpose: MountUse::Docker,
            access: Access::Mount,
            readonly: false,
            options: Vec::new(),
        };
        let intent = MountRow { volume: row.id, mount, done: false };
        self.registry.insert_mount(&intent)?;
        crash::point!("docker.intended");
        let done = refuse_covered(&place)
            .and_then(|()| self.attach_and_mount(row, filesystem, (&place, &open), &[]))
            .and_then(|()| {
                crash::point!("docker.mounted");
                show_as_empty(place.path());
                self.registry.settle_mount(row.id, place.path())
            });
        if let Err(error) = done {
            self.undo_mount(row, &intent);
            return Err(error);
        }
        Ok(place.path().to_owned())
    }

    /// Takes a reference back; with the last one the volume is unmounted and its device taken away. Unknown: fine.
    pub(crate) fn docker_unmount(&self, id: VolumeId, reference: &str) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.existing(id)?;
        self.registry.remove_reference(id, reference)?;
        crash::point!("docker.released");
        if self.registry.references(id)?.is_empty() { self.unmount_for_docker(&row) } else { Ok(()) }
    }

    /// Deletes a volume for Docker. InUse names who has it.
    pub(crate) fn docker_remove(&self, id: VolumeId) -> Result<(), CoreError> {
        {
            let _guard = self.guards.take(id)?;
            let Some(row) = self.registry.volume(id)? else { return Ok(()) };
            self.refuse_referenced(&row)?;
            // A mount without references is one that could not be taken away when its last container ended.
            self.unmount_for_docker(&row)?;
        }
        self.delete(id)
    }

    fn refuse_referenced(&self, row: &VolumeRow) -> Result<(), CoreError> {
        let references = self.registry.references(row.id)?;
        if references.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = references.iter().map(|row| row.reference.as_str()).collect();
        Err(CoreError::InUse {
            subject: row.subject(),
            holder: format!("Docker has it mounted under the ids {}", names.join(", ")),
        })
    }

    /// The mount for Docker, as far as the registry knows, there or not.
    fn docker_place(&self, row: &VolumeRow) -> Result<Option<MountRow>, CoreError> {
        let mut rows = self.registry.mounts(row.id)?.into_iter();
        Ok(rows.find(|known| known.mount.purpose == MountUse::Docker))
    }

    /// Takes the mount, its folder and the device away. Not mounted: fine.
    fn unmount_for_docker(&self, row: &VolumeRow) -> Result<(), CoreError> {
        let Some(known) = self.docker_place(row)? else { return Ok(()) };
        let path = &known.mount.path;
        if let Some(place) = Place::recorded(path)? {
            self.unmount_ours(&place, row, self.backend.attached(&row.image)?.as_ref())?;
            crash::point!("docker.unmounted");
            // A folder that is not empty is not ours to remove; it only lies there.
            let _ = place.remove();
        }
        self.registry.remove_mount(row.id, path)?;
        if row.step == VolumeStep::Ready { self.let_go_if_unused(row) } else { Ok(()) }
    }

    /// A person unmounts what Docker has mounted at `folder`: all references end. Answers whether Docker had it there.
    ///
    /// This is the way out when Docker itself has forgotten its containers.
    pub(super) fn release_docker(&self, row: &VolumeRow, folder: &Path) -> Result<bool, CoreError> {
        match self.docker_place(row)? {
            Some(known) if known.mount.path == folder => {
                // First, since this may be refused, and then nothing shall have changed.
                if let Some(place) = Place::recorded(folder)? {
                    self.unmount_ours(&place, row, self.backend.attached(&row.image)?.as_ref())?;
                }
                self.registry.remove_references(row.id)?;
                self.unmount_for_docker(row)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// At the start: references of dead runs are dropped, and mount and references made to agree.
    pub(super) fn reconcile_docker(
        &self,
        row: &VolumeRow,
        report: &mut Vec<String>,
    ) -> Result<(), CoreError> {
        let dead = self.registry.remove_dead_references(row.id, &self.boot_id()?)?;
        if dead > 0 {
            report.push(format!(
                "{} was mounted by {dead} container(s) of Docker before the machine was restarted",
                row.subject()
            ));
        }
        let references = self.registry.references(row.id)?.len();
        let Some(known) = self.docker_place(row)? else {
            // An earlier start could not mount it again.
            return if references > 0 { self.registry.remove_references(row.id) } else { Ok(()) };
        };
        let device = self.backend.attached(&row.image)?;
        let table = MountTable::read()?;
        let live = device.as_ref().is_some_and(|device| is_live(&known, device, &table));
        match (references, live) {
            (0, true) => {
                report.push(format!(
                    "{} was mounted for no container of Docker, and was unmounted",
                    row.subject()
                ));
                self.unmount_for_docker(row)
            }
            (0, false) | (1.., true) => Ok(()),
            (1.., false) => {
                report.push(format!(
                    "{} is mounted again for {references} container(s) of Docker",
                    row.subject()
                ));
                self.mount_for_docker(row, &known.mount.path).map(drop)
            }
        }
    }
}

/// Docker fills an empty volume with what the image has at that place, and databases refuse a folder that is not
/// empty. A fresh ext4 holds `lost+found`; e2fsck makes it again when it needs it.
fn show_as_empty(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).take(2).collect();
    if names == ["lost+found"] {
        // Only an empty folder can be removed so.
        let _ = fs::remove_dir(folder.join("lost+found"));
    }
}
