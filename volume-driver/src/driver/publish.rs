//! Publishing: a workload sees a staged volume at a place of its own, by a bind mount.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::MountFlags;
use strongroom_model::VolumeId;

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::mounting::{arrived, open_ours, refuse_covered};
use crate::driver::stage::refuse_other_access;
use crate::driver::{Driver, health};
use crate::mount_options;
use crate::mount_table::MountTable;
use crate::nouns::{Access, Mount, MountUse, Outcome};
use crate::place::{self, Place};
use crate::registry::{MountRow, VolumeRow};
use crate::requests::PublishRequest;

impl Driver {
    pub(crate) fn publish(&self, request: &PublishRequest) -> Result<Outcome<()>, CoreError> {
        let _guard = self.guards.take(request.volume)?;
        let row = self.usable(request.volume)?;
        refuse_other_access(&row, request.access)?;
        let options = mount_options::for_bind(&request.options, request.readonly, &row.subject())?;
        let not_staged = || CoreError::NotReady {
            subject: row.subject(),
            reason: format!("it is not staged at {}", request.staging_path.display()),
        };
        let staging = self.roots.find(&request.staging_path)?.ok_or_else(not_staged)?;

        self.settle_intents(&row, &mut Vec::new())?;
        let device = self.backend.attached(&row.image)?;
        let live = self.live_mounts(&row, device.as_ref())?;
        let staged = live
            .iter()
            .find(|live| live.mount.purpose == MountUse::Staged && live.mount.path == staging.path());
        let (Some(staged), Some(device)) = (staged, device) else {
            return Err(not_staged());
        };
        let target = self.roots.place(&request.target)?;
        self.refuse_own_folders(target.path())?;
        let wanted = Mount {
            path: target.path().to_owned(),
            purpose: MountUse::Published,
            access: request.access,
            readonly: options.is_readonly() || staged.mount.readonly,
            options: request.options.clone(),
        };
        let published: Vec<&MountRow> =
            live.iter().filter(|live| live.mount.purpose == MountUse::Published).collect();
        if let Some(there) = published.iter().find(|live| live.mount.path == target.path()) {
            return Ok(if there.mount == wanted {
                Outcome::Identical(())
            } else {
                let difference = format!(
                    "it is published there with {:?}, read-only: {}",
                    there.mount.options, there.mount.readonly
                );
                Outcome::Conflict { existing: (), difference }
            });
        }
        if let (Some(other), true) = (published.first(), request.only_target) {
            let holder = format!("it is published at {}", other.mount.path.display());
            return Err(CoreError::InUse { subject: row.subject(), holder });
        }
        if request.access == Access::Block {
            refuse_other_direction(&row, &live, wanted.readonly)?;
        }
        let inherited = match row.kind.filesystem() {
            Some(filesystem) => {
                mount_options::for_filesystem(&staged.mount.options, filesystem, &row.subject())?.flags
            }
            None => MountFlags::empty(),
        };
        let readonly = wanted.readonly;
        if request.access == Access::Mount
            && let Some(reason) = health::dead(&staging, &row, &device)
        {
            let report = format!("{reason}; it comes back when it is unstaged and staged again");
            return Err(CoreError::Filesystem { subject: row.subject(), report });
        }
        let intent = MountRow { volume: row.id, mount: wanted, done: false };
        self.registry.insert_mount(&intent)?;
        crash::point!("publish.intended");
        let done = refuse_covered(&target)
            .and_then(|()| match request.access {
                Access::Mount => bind_folder(&row, &staging, &target, options.flags | inherited, &device),
                Access::Block => show_device(&row, &target, readonly, &device),
            })
            .and_then(|()| {
                crash::point!("publish.mounted");
                self.registry.settle_mount(row.id, target.path())
            });
        if let Err(error) = done {
            self.undo_mount(&row, &intent);
            return Err(error);
        }
        Ok(Outcome::Created(()))
    }

    /// When a device is shown nowhere any more, nothing keeps it from being written.
    pub(super) fn allow_writing(&self, row: &VolumeRow, device: Option<&Device>) -> Result<(), CoreError> {
        let Some(device) = device.filter(|_| row.kind.filesystem().is_none()) else { return Ok(()) };
        let shown = self.live_mounts(row, Some(device))?;
        if shown.iter().any(|live| live.mount.purpose != MountUse::Staged) {
            return Ok(());
        }
        device.set_readonly(false)
    }

    pub(crate) fn unpublish(&self, id: VolumeId, target: &Path) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.existing(id)?;
        let Some(target) = self.place_to_undo(&row, target)? else {
            return self.forget_mount(&row, target);
        };
        let known = self.registry.mounts(id)?.into_iter().find(|known| known.mount.path == target.path());
        if known.as_ref().is_some_and(|known| known.mount.purpose != MountUse::Published) {
            return Ok(());
        }
        let device = self.backend.attached(&row.image)?;
        self.unmount_ours(&target, &row, device.as_ref())?;
        crash::point!("unpublish.unmounted");
        // What is mounted there now is somebody else's, and so is the place.
        if MountTable::read()?.at(target.path()).is_none() {
            target.remove()?;
        }
        crash::point!("unpublish.target-removed");
        self.registry.remove_mount(id, target.path())?;
        self.allow_writing(&row, device.as_ref())?;
        // Where the staging was lost before, nobody else would take the device away.
        self.forget_mount(&row, target.path())
    }
}

/// Shows what is staged at `target`.
fn bind_folder(
    row: &VolumeRow,
    staging: &Place,
    target: &Place,
    flags: MountFlags,
    device: &Device,
) -> Result<(), CoreError> {
    let (source, onto) = (open_ours(staging, row, device)?, target.make_folder()?);
    bind(row, &source, (target, &onto), device)?;
    if !flags.is_empty() {
        // A bind mount takes its options only by being mounted again; what lies on top there now is it.
        let bound = open_ours(target, row, device)?;
        rustix::mount::mount_remount(place::through(&bound), flags | MountFlags::BIND, c"")
            .map_err(CoreError::errno("setting the options of", target.path()))?;
    }
    Ok(())
}

/// Shows the device at `target`.
///
/// A mount that is read-only does not keep anybody from writing to a device through its node, so the device itself is
/// made to refuse it.
pub(super) fn show_device(
    row: &VolumeRow,
    target: &Place,
    readonly: bool,
    device: &Device,
) -> Result<(), CoreError> {
    let (node, onto) = (open_node(device)?, target.make_file()?);
    device.set_readonly(readonly)?;
    bind(row, &node, (target, &onto), device)
}

fn bind(
    row: &VolumeRow,
    source: &OwnedFd,
    (target, onto): (&Place, &OwnedFd),
    device: &Device,
) -> Result<(), CoreError> {
    crash::point!("publish.target-made");
    rustix::mount::mount_bind(place::through(source), place::through(onto))
        .map_err(CoreError::errno("publishing at", target.path()))?;
    crash::point!("publish.bound");
    arrived(target, row, device)?;
    tracing::debug!(volume = %row.id, target = %target.path().display(), "published");
    Ok(())
}

/// A device is read-only for all its places or for none.
pub(super) fn refuse_other_direction(
    row: &VolumeRow,
    live: &[MountRow],
    readonly: bool,
) -> Result<(), CoreError> {
    let shown = live.iter().find(|live| {
        live.mount.access == Access::Block
            && live.mount.purpose != MountUse::Staged
            && live.mount.readonly != readonly
    });
    let Some(shown) = shown else { return Ok(()) };
    let (as_what, wanted) = if readonly { ("writing", "reading only") } else { ("reading only", "writing") };
    Err(CoreError::InUse {
        subject: row.subject(),
        holder: format!(
            "its device is shown at {} for {as_what}, and cannot be shown for {wanted} at the same time",
            shown.mount.path.display()
        ),
    })
}

/// The node of the volume's device, and nothing that somebody may have put in its place.
fn open_node(device: &Device) -> Result<OwnedFd, CoreError> {
    let path = &device.path;
    let node = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(CoreError::errno("opening", path))?;
    let stat = rustix::fs::fstat(&node).map_err(CoreError::errno("looking at", path))?;
    let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice && number == device.number {
        return Ok(node);
    }
    Err(CoreError::Refused {
        subject: format!("the node {}", path.display()),
        reason: "it is not the device that it is named after".to_owned(),
    })
}
