//! The steps that staging, publishing and mounting by hand have in common.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::driver::in_use::is_ours;
use crate::filesystem;
use crate::holders;
use crate::mount_options;
use crate::mount_table::MountTable;
use crate::nouns::{Access, Filesystem};
use crate::registry::{MountRow, VolumeRow};

/// How long a mount that is busy may take to become free.
const UNMOUNT_PATIENCE: Duration = Duration::from_millis(500);

/// A path from outside as mountinfo would write it: absolute, its folder without symbolic links, its last part
/// as it is.
///
/// Only the last part may be missing.
pub(super) fn resolved(path: &Path) -> Result<PathBuf, CoreError> {
    let refuse = |reason: &str| CoreError::Refused {
        subject: format!("the path {}", path.display()),
        reason: reason.to_owned(),
    };
    if !path.is_absolute() {
        return Err(refuse("it must be absolute"));
    }
    if let Ok(resolved) = fs::canonicalize(path) {
        return if resolved == Path::new("/") { Err(refuse("it is the root folder")) } else { Ok(resolved) };
    }
    let (Some(parent), Some(Component::Normal(name))) = (path.parent(), path.components().next_back()) else {
        return Err(refuse("it must name a folder or file"));
    };
    // A parent that is gone: nothing is there, and nothing can be compared with it but the text.
    Ok(fs::canonicalize(parent).map_or_else(|_| path.to_owned(), |parent| parent.join(name)))
}

impl Driver {
    /// Refuses places where a mount would hide what is ours.
    pub(super) fn refuse_own_folders(&self, path: &Path) -> Result<(), CoreError> {
        let state =
            fs::canonicalize(&self.settings.state_dir).unwrap_or_else(|_| self.settings.state_dir.clone());
        let inside = [self.pool.root(), state.as_path()]
            .iter()
            .any(|own| path.starts_with(own) || own.starts_with(path));
        // The pool may lie in the state folder, and mounts beside it there are fine.
        if inside {
            return Err(CoreError::Refused {
                subject: format!("the path {}", path.display()),
                reason: "it holds, or lies in, a folder of the driver itself".to_owned(),
            });
        }
        Ok(())
    }

    /// Attaches a volume, checks its filesystem if nobody uses it yet, and mounts it at `path`.
    pub(super) fn attach_and_mount(
        &self,
        row: &VolumeRow,
        filesystem: Filesystem,
        path: &Path,
        options: &[String],
    ) -> Result<(), CoreError> {
        let options = mount_options::for_filesystem(options, filesystem, &row.subject())?;
        let device = self.backend.attach(&row.image)?;
        if MountTable::read()?.of_device(device.number).next().is_none() {
            let fit = filesystem::check(&device.path, filesystem, &row.subject())
                .and_then(|()| self.grow_before_mount(row, filesystem, &device.path));
            self.remember_condition(row, &fit)?;
            fit?;
        }
        let mounted = rustix::mount::mount(
            &device.path,
            path,
            filesystem.as_str(),
            options.flags,
            std::ffi::CString::new(options.data).expect("allowed options have no NUL").as_c_str(),
        );
        let mounted = mounted.map_err(|errno| match errno {
            // EUCLEAN, EFSBADCRC (the same as EBADMSG), EIO: the filesystem itself is the reason.
            Errno::UCLEAN | Errno::BADMSG | Errno::IO | Errno::INVAL => CoreError::Filesystem {
                subject: row.subject(),
                report: format!("mounting it: {errno}; the kernel's log says more"),
            },
            errno => CoreError::System { action: "mounting at", path: path.to_owned(), cause: errno.into() },
        });
        self.remember_condition(row, &mounted)?;
        mounted?;
        if !options.flags.contains(rustix::mount::MountFlags::RDONLY) {
            // The volume is usable all the same; its condition says that it is smaller than it should be.
            let row = self.existing(row.id)?;
            if let Err(error) = self.grow_mounted_filesystem(&row) {
                tracing::warn!(volume = %row.id, error = strongroom_model::chain(&error), "the filesystem did not grow");
            }
        }
        Ok(())
    }

    /// A damaged filesystem is remembered until it is found whole again.
    fn remember_condition(&self, row: &VolumeRow, fit: &Result<(), CoreError>) -> Result<(), CoreError> {
        match fit {
            Err(error @ CoreError::Filesystem { .. }) => {
                self.registry.set_volume_condition(row.id, Some(&error.to_string()))
            }
            Err(_) => Ok(()),
            Ok(()) => self.registry.set_volume_condition(row.id, None),
        }
    }

    /// Unmounts whatever shows this device at `path`; nothing there: fine.
    pub(super) fn unmount_ours(
        &self,
        path: &Path,
        row: &VolumeRow,
        device: Option<&Device>,
    ) -> Result<bool, CoreError> {
        let Some(device) = device else { return Ok(false) };
        let mut found = false;
        let started = Instant::now();
        while MountTable::read()?.at(path).is_some_and(|mount| is_ours(mount, device)) {
            found = true;
            match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                // A process that was killed closes its files a moment later, and probes of other programs are short.
                Err(Errno::BUSY) if started.elapsed() < UNMOUNT_PATIENCE => {
                    thread::sleep(Duration::from_millis(20))
                }
                Err(Errno::BUSY) => {
                    return Err(CoreError::InUse {
                        subject: format!("{} at {}", row.subject(), path.display()),
                        holder: holders::describe(&device.path, device.number, &[path]),
                    });
                }
                Err(errno) => {
                    return Err(CoreError::System {
                        action: "unmounting",
                        path: path.to_owned(),
                        cause: errno.into(),
                    });
                }
            }
        }
        Ok(found)
    }

    /// After a step failed: takes its intent back, and the device if nothing else uses it.
    pub(super) fn undo_mount(&self, row: &VolumeRow, mount: &MountRow) {
        let undone = || -> Result<(), CoreError> {
            let device = self.backend.attached(&row.image)?;
            if mount.mount.access == Access::Mount || mount.mount.purpose != crate::nouns::MountUse::Staged {
                self.unmount_ours(&mount.mount.path, row, device.as_ref())?;
            }
            self.registry.remove_mount(row.id, &mount.mount.path)?;
            self.let_go_if_unused(row)
        };
        if let Err(error) = undone() {
            tracing::warn!(volume = %row.id, error = strongroom_model::chain(&error), "a failed mount could not be undone; the next start will");
        }
    }
}
