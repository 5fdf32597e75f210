//! Mounting by hand, for machines without an orchestrator.

use std::path::{Path, PathBuf};

use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::mounting::refuse_covered;
use crate::driver::publish::{refuse_other_direction, show_device};
use crate::mount_options;
use crate::nouns::{Access, Mount, MountUse, Outcome};
use crate::place::Place;
use crate::registry::{MountRow, VolumeRow};

impl Driver {
    pub(crate) fn mount(
        &self,
        id: VolumeId,
        folder: &Path,
        options: &[String],
    ) -> Result<Outcome<()>, CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.usable(id)?;
        self.mount_by_hand(&row, folder, options)
    }

    pub(super) fn mount_by_hand(
        &self,
        row: &VolumeRow,
        folder: &Path,
        options: &[String],
    ) -> Result<Outcome<()>, CoreError> {
        let access = if row.kind.filesystem().is_some() { Access::Mount } else { Access::Block };
        let readonly = match row.kind.filesystem() {
            Some(filesystem) => {
                mount_options::for_filesystem(options, filesystem, &row.subject())?.is_readonly()
            }
            None => mount_options::for_device(options, &row.subject())?,
        };
        let none = || CoreError::NotFound { subject: format!("folder {}", folder.display()) };
        let place = Place::by_hand(folder)?.ok_or_else(none)?;
        self.refuse_own_folders(place.path())?;
        let wanted = Mount {
            path: place.path().to_owned(),
            purpose: MountUse::Hand,
            access,
            readonly,
            options: options.to_vec(),
        };
        self.settle_intents(row, &mut Vec::new())?;
        let device = self.backend.attached(&row.image)?;
        let live = self.live_mounts(row, device.as_ref())?;
        if let Some(there) = live.iter().find(|live| live.mount.path == place.path()) {
            return Ok(if there.mount == wanted {
                Outcome::Identical(())
            } else {
                let difference = format!("it is mounted there with the options {:?}", there.mount.options);
                Outcome::Conflict { existing: (), difference }
            });
        }
        let intent = MountRow { volume: row.id, mount: wanted, done: false };
        self.registry.insert_mount(&intent)?;
        crash::point!("mount.intended");
        let show = || match row.kind.filesystem() {
            Some(filesystem) => {
                let folder = place.folder()?;
                refuse_covered(&place)?;
                self.attach_and_mount(row, filesystem, (&place, &folder), options)
            }
            None => {
                refuse_covered(&place)?;
                refuse_other_direction(row, &live, readonly)?;
                show_device(row, &place, readonly, &self.attach_device(row)?)
            }
        };
        let done = show().and_then(|()| {
            crash::point!("mount.mounted");
            self.registry.settle_mount(row.id, place.path())
        });
        if let Err(error) = done {
            self.undo_mount(row, &intent);
            return Err(error);
        }
        Ok(Outcome::Created(()))
    }

    pub(crate) fn unmount(&self, id: VolumeId, folder: Option<&Path>) -> Result<Vec<PathBuf>, CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.existing(id)?;
        // A folder that is gone is compared by its text.
        let folder = match folder {
            None => None,
            Some(folder) => Some(
                Place::by_hand(folder)?.map_or_else(|| folder.to_owned(), |place| place.path().to_owned()),
            ),
        };
        if let Some(folder) = &folder
            && self.release_docker(&row, folder)?
        {
            return Ok(vec![folder.clone()]);
        }
        let rows = self.hand_mounts(&row)?;
        let chosen: Vec<PathBuf> = rows
            .into_iter()
            .map(|known| known.mount.path)
            .filter(|path| folder.as_ref().is_none_or(|folder| folder == path))
            .collect();
        if let (Some(folder), true) = (&folder, chosen.is_empty()) {
            return Err(CoreError::NotFound {
                subject: format!("{} mounted by hand at {}", row.subject(), folder.display()),
            });
        }
        self.unmount_by_hand(&row, &chosen)?;
        Ok(chosen)
    }

    /// What the registry knows as mounted by hand, there or not.
    pub(super) fn hand_mounts(&self, row: &VolumeRow) -> Result<Vec<MountRow>, CoreError> {
        let rows = self.registry.mounts(row.id)?;
        Ok(rows.into_iter().filter(|known| known.mount.purpose == MountUse::Hand).collect())
    }

    pub(super) fn unmount_by_hand(&self, row: &VolumeRow, folders: &[PathBuf]) -> Result<(), CoreError> {
        let device = self.backend.attached(&row.image)?;
        for folder in folders {
            if let Some(place) = Place::recorded(folder)? {
                self.unmount_ours(&place, row, device.as_ref())?;
                if row.kind.filesystem().is_none() {
                    place.remove()?;
                }
            }
            crash::point!("unmount.unmounted");
            self.registry.remove_mount(row.id, folder)?;
        }
        self.allow_writing(row, device.as_ref())?;
        self.let_go_if_unused(row)
    }
}
