//! Staging: a volume gets its device and its one place on this node.

use std::path::Path;

use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::in_use::is_live;
use crate::driver::mounting::refuse_covered;
use crate::driver::{Driver, health};
use crate::mount_options;
use crate::mount_table::MountTable;
use crate::nouns::{Access, Mount, MountUse, Outcome};
use crate::place::Place;
use crate::registry::{MountRow, VolumeRow, VolumeStep};
use crate::requests::StageRequest;

impl Driver {
    pub(crate) fn stage(&self, request: &StageRequest) -> Result<Outcome<()>, CoreError> {
        let _guard = self.guards.take(request.volume)?;
        let row = self.usable(request.volume)?;
        refuse_other_access(&row, request.access)?;
        if let (Some(wanted), Some(has)) = (request.filesystem, row.kind.filesystem())
            && wanted != has
        {
            let reason = format!("it is {}, and {} is asked for", has.as_str(), wanted.as_str());
            return Err(CoreError::Refused { subject: row.subject(), reason });
        }
        let readonly = match row.kind.filesystem() {
            Some(filesystem) => {
                mount_options::for_filesystem(&request.options, filesystem, &row.subject())?.is_readonly()
            }
            None => false,
        };
        let place = self.roots.place(&request.path)?;
        self.refuse_own_folders(place.path())?;
        let wanted = Mount {
            path: place.path().to_owned(),
            purpose: MountUse::Staged,
            access: request.access,
            readonly,
            options: request.options.clone(),
        };

        self.settle_intents(&row, &mut Vec::new())?;
        let device = self.backend.attached(&row.image)?;
        let staged = self.live_mounts(&row, device.as_ref())?;
        let there = staged.iter().find(|staged| staged.mount.purpose == MountUse::Staged);
        let dead = match (there, &device) {
            (Some(there), Some(device)) if there.mount == wanted && request.access == Access::Mount => {
                health::dead(&place, &row, device)
            }
            _ => None,
        };
        if let Some(reason) = dead {
            self.bury(&row, &place, &staged, reason)?;
        } else if let Some(staged) = there {
            return Ok(if staged.mount == wanted {
                Outcome::Identical(())
            } else {
                let difference = format!(
                    "it is staged at {} with the options {:?}",
                    staged.mount.path.display(),
                    staged.mount.options
                );
                Outcome::Conflict { existing: (), difference }
            });
        }
        if let Some(docker) = staged.iter().find(|live| live.mount.purpose == MountUse::Docker) {
            let holder = format!("containers of Docker have it mounted at {}", docker.mount.path.display());
            return Err(CoreError::InUse { subject: row.subject(), holder });
        }
        let intent = MountRow { volume: row.id, mount: wanted, done: false };
        self.registry.insert_mount(&intent)?;
        crash::point!("stage.intended");
        let done = match row.kind.filesystem() {
            None => self.attach_device(&row).map(drop),
            Some(filesystem) => place.make_folder().and_then(|folder| {
                refuse_covered(&place)?;
                self.attach_and_mount(&row, filesystem, (&place, &folder), &request.options)
            }),
        };
        crash::point!("stage.mounted");
        if let Err(error) = done.and_then(|()| self.registry.settle_mount(row.id, place.path())) {
            self.undo_mount(&row, &intent);
            return Err(error);
        }
        Ok(Outcome::Created(()))
    }

    /// Takes a staged mount away that does not answer any more, so that it can be checked and made anew. What is still
    /// published shows the same dead filesystem and has to go first.
    fn bury(
        &self,
        row: &VolumeRow,
        place: &Place,
        live: &[MountRow],
        reason: String,
    ) -> Result<(), CoreError> {
        tracing::warn!(volume = %row.id, reason, "a staged volume does not answer");
        if let Some(published) = live.iter().find(|live| live.mount.purpose != MountUse::Staged) {
            let report = format!("{reason}; it is still published at {}", published.mount.path.display());
            return Err(CoreError::Filesystem { subject: row.subject(), report });
        }
        let device = self.backend.attached(&row.image)?;
        self.unmount_ours(place, row, device.as_ref())?;
        self.registry.remove_mount(row.id, place.path())
    }

    pub(crate) fn unstage(&self, id: VolumeId, path: &Path) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.existing(id)?;
        let Some(place) = self.place_to_undo(&row, path)? else { return self.forget_mount(&row, path) };
        let device = self.backend.attached(&row.image)?;
        let known = self.registry.mounts(id)?.into_iter().find(|known| known.mount.path == place.path());
        if known.as_ref().is_some_and(|known| known.mount.purpose != MountUse::Staged) {
            // It is published or mounted by hand there, which is not what is undone here.
            return Ok(());
        }
        if let Some(device) = &device {
            let table = MountTable::read()?;
            let published = self.registry.mounts(id)?;
            let published = published
                .iter()
                .find(|known| known.mount.purpose == MountUse::Published && is_live(known, device, &table));
            if let (Some(published), true) = (published, known.is_some()) {
                let holder = format!("it is published at {}", published.mount.path.display());
                return Err(CoreError::InUse { subject: row.subject(), holder });
            }
        }
        self.unmount_ours(&place, &row, device.as_ref())?;
        crash::point!("unstage.unmounted");
        self.forget_mount(&row, place.path())
    }

    /// The registry forgets a mount, and the device goes when nothing uses it any more.
    pub(super) fn forget_mount(&self, row: &VolumeRow, path: &Path) -> Result<(), CoreError> {
        self.registry.remove_mount(row.id, path)?;
        if row.step == VolumeStep::Ready { self.let_go_if_unused(row) } else { Ok(()) }
    }
}

/// A folder is not asked of a raw volume, nor a device of one with a filesystem.
pub(super) fn refuse_other_access(row: &VolumeRow, access: Access) -> Result<(), CoreError> {
    let has = if row.kind.filesystem().is_some() { Access::Mount } else { Access::Block };
    if has == access {
        return Ok(());
    }
    let reason = match has {
        Access::Mount => format!("it is {}, and raw access is asked for", row.kind),
        Access::Block => "it is a raw device, and a folder is asked for".to_owned(),
    };
    Err(CoreError::Refused { subject: row.subject(), reason })
}
