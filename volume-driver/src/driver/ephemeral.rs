//! Inline volumes: they come with a pod and go with it.
//!
//! The orchestrator asks only to publish, under an id of its own, and may never ask again: not when it fails, nor after a
//! reboot. So the id is written down with its volume and target before anything is made; a failure takes everything away
//! at once; and at the start of the driver inline volumes that are mounted nowhere any more are removed. The id is never
//! part of a path or of a name of ours.

use std::path::{Path, PathBuf};

use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::create::choose_size;
use crate::driver::mounting::refuse_covered;
use crate::image::ImageName;
use crate::mount_options;
use crate::nouns::{Access, Filesystem, Mount, MountUse, Outcome, VolumeKind};
use crate::place::Place;
use crate::registry::{EphemeralRow, MountRow, VolumeRow, VolumeStep};
use crate::requests::PublishEphemeral;

impl Driver {
    pub(crate) fn publish_ephemeral(
        &self,
        request: &PublishEphemeral,
    ) -> Result<Outcome<VolumeId>, CoreError> {
        let _guard = self.guards.take(format!("inline {}", request.handle))?;
        let subject = format!("inline volume {:?}", request.handle);
        let target = self.roots.place(&request.target)?;
        self.refuse_own_folders(target.path())?;
        let filesystem = request.filesystem.unwrap_or(Filesystem::Ext4);
        let mut options = request.options.clone();
        if request.readonly {
            options.push("ro".to_owned());
        }
        let readonly = mount_options::for_filesystem(&options, filesystem, &subject)?.is_readonly();
        let wanted = Mount {
            path: target.path().to_owned(),
            purpose: MountUse::Published,
            access: Access::Mount,
            readonly,
            options,
        };
        if let Some(known) = self.registry.ephemeral(&request.handle)? {
            if let Some(there) = self.live_ephemeral(&known)? {
                return Ok(if there.mount == wanted {
                    Outcome::Identical(known.volume)
                } else {
                    let difference = format!(
                        "it is published at {} with {:?}",
                        there.mount.path.display(),
                        there.mount.options
                    );
                    Outcome::Conflict { existing: known.volume, difference }
                });
            }
            self.discard_ephemeral(&known)?;
        }
        refuse_covered(&target)?;
        let kind = VolumeKind::from(filesystem);
        let bytes = choose_size(&subject, request.size, kind, 0)?;
        let id = VolumeId::random(&*self.world.entropy);
        let known =
            EphemeralRow { handle: request.handle.clone(), volume: id, target: target.path().to_owned() };
        self.registry.insert_ephemeral(&known)?;
        crash::point!("ephemeral.intended");
        let row = VolumeRow {
            id,
            name: format!("inline-{id}")
                .parse()
                .map_err(|error| CoreError::Bug { what: format!("the name of an inline volume: {error}") })?,
            kind,
            bytes,
            image: ImageName::of_volume(id, &*self.world.entropy),
            step: VolumeStep::Creating,
            grow: false,
            source: None,
            labels: request.labels.clone(),
            condition: None,
            created_at: self.world.clock.now(),
        };
        if let Err(error) = self.make_ephemeral(&row, filesystem, &target, wanted) {
            if let Err(left) = self.discard_ephemeral(&known) {
                tracing::warn!(volume = %id, error = strongroom_model::chain(&left), "a failed inline volume could not be removed; the next start will");
            }
            return Err(error);
        }
        Ok(Outcome::Created(id))
    }

    fn make_ephemeral(
        &self,
        row: &VolumeRow,
        filesystem: Filesystem,
        target: &Place,
        mount: Mount,
    ) -> Result<(), CoreError> {
        let _guard = self.guards.take(row.id)?;
        self.promise(row)?;
        crash::point!("ephemeral.promised");
        self.fill_new_image(row, None, true)?;
        self.registry.settle_volume(row.id, VolumeStep::Ready)?;
        crash::point!("ephemeral.made");
        let options = mount.options.clone();
        self.registry.insert_mount(&MountRow { volume: row.id, mount, done: false })?;
        let folder = target.make_folder()?;
        self.attach_and_mount(row, filesystem, (target, &folder), &options)?;
        crash::point!("ephemeral.mounted");
        self.registry.settle_mount(row.id, target.path())
    }

    /// Where an inline volume is published, if it really is.
    fn live_ephemeral(&self, known: &EphemeralRow) -> Result<Option<MountRow>, CoreError> {
        let Some(row) = self.registry.volume(known.volume)? else { return Ok(None) };
        let device = self.backend.attached(&row.image)?;
        let mut live = self.live_mounts(&row, device.as_ref())?.into_iter();
        Ok(live.find(|live| live.mount.path == known.target))
    }

    /// Takes an inline volume away with all it holds. `false`: there is none of that id at that target.
    pub(crate) fn unpublish_ephemeral(&self, handle: &str, target: &Path) -> Result<bool, CoreError> {
        let _guard = self.guards.take(format!("inline {handle}"))?;
        let Some(known) = self.registry.ephemeral(handle)? else { return Ok(false) };
        let path: PathBuf = target.components().collect();
        let path = match self.roots.find(&path) {
            Ok(Some(place)) => place.path().to_owned(),
            // It was allowed when it was published; only its text can be compared.
            _ => path,
        };
        if path != known.target {
            return Ok(false);
        }
        self.discard_ephemeral(&known)?;
        Ok(true)
    }

    /// The volume of an inline id.
    pub(crate) fn ephemeral(&self, handle: &str) -> Result<Option<VolumeId>, CoreError> {
        Ok(self.registry.ephemeral(handle)?.map(|known| known.volume))
    }

    /// Unmounts, removes the target, deletes the volume, and forgets the id last: what is left by a crash is found by it.
    fn discard_ephemeral(&self, known: &EphemeralRow) -> Result<(), CoreError> {
        if let Some(row) = self.registry.volume(known.volume)? {
            let _guard = self.guards.take(row.id)?;
            let device = self.backend.attached(&row.image)?;
            let target = Place::recorded(&known.target)?;
            if let Some(target) = &target {
                self.unmount_ours(target, &row, device.as_ref())?;
            }
            crash::point!("ephemeral.unmounted");
            self.registry.remove_mount(row.id, &known.target)?;
            self.refuse_if_in_use(&row)?;
            self.let_go(&row)?;
            self.registry.drop_volume(row.id)?;
            crash::point!("ephemeral.dropped");
            self.collect(&row.image)?;
        }
        if let Some(target) = Place::recorded(&known.target)? {
            target.remove()?;
        }
        self.registry.forget_ephemeral(&known.handle)
    }

    /// At the start: removes inline volumes that are published nowhere any more.
    pub(super) fn collect_ephemerals(&self, report: &mut Vec<String>) -> Result<(), CoreError> {
        for known in self.registry.ephemerals()? {
            let collected = match self.live_ephemeral(&known) {
                Ok(Some(_)) => continue,
                Ok(None) => self.discard_ephemeral(&known),
                Err(error) => Err(error),
            };
            let place = known.target.display();
            report.push(match collected {
                Ok(()) => format!(
                    "the inline volume {} was no longer published at {place}, and was removed",
                    known.volume
                ),
                Err(error) => format!(
                    "the inline volume {} of {place} could not be removed: {}",
                    known.volume,
                    strongroom_model::chain(&error)
                ),
            });
        }
        Ok(())
    }
}
