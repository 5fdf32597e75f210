//! Publishing: a workload sees a staged volume at a place of its own, by a bind mount.

use std::fs::{self, OpenOptions};
use std::path::Path;

use rustix::mount::MountFlags;
use strongroom_model::VolumeId;

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::mounting::resolved;
use crate::driver::stage::{make_mount_point, refuse_covered, refuse_other_access};
use crate::mount_options;
use crate::nouns::{Access, Mount, MountUse, Outcome};
use crate::registry::{MountRow, VolumeRow};
use crate::requests::PublishRequest;

impl Driver {
    pub(crate) fn publish(&self, request: &PublishRequest) -> Result<Outcome<()>, CoreError> {
        let _guard = self.guards.take(request.volume)?;
        let row = self.usable(request.volume)?;
        refuse_other_access(&row, request.access)?;
        if request.access == Access::Block && request.readonly {
            // A bind mount of a device node that is read-only still lets its device be written.
            let reason = "a raw volume cannot be published read-only".to_owned();
            return Err(CoreError::Refused { subject: row.subject(), reason });
        }
        let options = mount_options::for_bind(&request.options, request.readonly, &row.subject())?;
        let (staging, target) = (resolved(&request.staging_path)?, resolved(&request.target)?);
        self.refuse_own_folders(&target)?;

        let device = self.backend.attached(&row.image)?;
        let live = self.live_mounts(&row, device.as_ref())?;
        let staged =
            live.iter().find(|live| live.mount.purpose == MountUse::Staged && live.mount.path == staging);
        let (Some(staged), Some(device)) = (staged, device) else {
            let reason = format!("it is not staged at {}", staging.display());
            return Err(CoreError::NotReady { subject: row.subject(), reason });
        };
        let wanted = Mount {
            path: target.clone(),
            purpose: MountUse::Published,
            access: request.access,
            readonly: options.is_readonly() || staged.mount.readonly,
            options: request.options.clone(),
        };
        let published: Vec<&MountRow> =
            live.iter().filter(|live| live.mount.purpose == MountUse::Published).collect();
        if let Some(there) = published.iter().find(|live| live.mount.path == target) {
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
        let inherited = match row.kind.filesystem() {
            Some(filesystem) => {
                mount_options::for_filesystem(&staged.mount.options, filesystem, &row.subject())?.flags
            }
            None => MountFlags::empty(),
        };
        let intent = MountRow { volume: row.id, mount: wanted, done: false };
        self.registry.insert_mount(&intent)?;
        crash::point("publish.intended");
        let done = refuse_covered(&target)
            .and_then(|()| bind(&row, &staging, &target, request.access, options.flags | inherited, &device))
            .and_then(|()| {
                crash::point("publish.mounted");
                self.registry.settle_mount(row.id, &target)
            });
        if let Err(error) = done {
            self.undo_mount(&row, &intent);
            return Err(error);
        }
        Ok(Outcome::Created(()))
    }

    pub(crate) fn unpublish(&self, id: VolumeId, target: &Path) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.existing(id)?;
        let target = resolved(target)?;
        let known = self.registry.mounts(id)?.into_iter().find(|known| known.mount.path == target);
        if known.as_ref().is_some_and(|known| known.mount.purpose != MountUse::Published) {
            return Ok(());
        }
        let device = self.backend.attached(&row.image)?;
        self.unmount_ours(&target, &row, device.as_ref())?;
        crash::point("unpublish.unmounted");
        remove_target(&target)?;
        self.registry.remove_mount(id, &target)
    }
}

fn bind(
    row: &VolumeRow,
    staging: &Path,
    target: &Path,
    access: Access,
    flags: MountFlags,
    device: &Device,
) -> Result<(), CoreError> {
    let source = match access {
        Access::Mount => {
            make_mount_point(target)?;
            staging
        }
        Access::Block => {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(target)
                .map_err(CoreError::system("making the file", target))?;
            device.path.as_path()
        }
    };
    rustix::mount::mount_bind(source, target).map_err(CoreError::errno("publishing at", target))?;
    if access == Access::Mount && !flags.is_empty() {
        // A bind mount takes its options only by being mounted again.
        rustix::mount::mount_remount(target, flags | MountFlags::BIND, c"")
            .map_err(CoreError::errno("setting the options of", target))?;
    }
    tracing::debug!(volume = %row.id, target = %target.display(), "published");
    Ok(())
}

/// Removes an empty folder or an empty file, and nothing else.
fn remove_target(target: &Path) -> Result<(), CoreError> {
    let Ok(meta) = fs::symlink_metadata(target) else { return Ok(()) };
    let removed = if meta.is_dir() {
        fs::remove_dir(target)
    } else if meta.is_file() && meta.len() == 0 {
        fs::remove_file(target)
    } else {
        return Err(CoreError::Refused {
            subject: format!("the path {}", target.display()),
            reason: "it is neither an empty folder nor an empty file, so it will not be removed".to_owned(),
        });
    };
    removed.map_err(CoreError::system("removing", target))
}
