//! The steps that staging, publishing and mounting by hand have in common.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::in_use::is_ours;
use crate::filesystem;
use crate::holders;
use crate::mount_options;
use crate::mount_table::MountTable;
use crate::nouns::{Access, Filesystem, MountUse};
use crate::place::{self, Place};
use crate::registry::{MountRow, VolumeRow};

/// How long a mount that is busy may take to become free.
const UNMOUNT_PATIENCE: Duration = Duration::from_millis(500);

/// How long mounts that lie upon each other at one place are taken away.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(10);

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

    /// The place of something that is to be undone; `None`: its folder is gone, so nothing is there.
    ///
    /// What the registry knows was allowed when it was done, so it can be undone when the allowed roots have changed
    /// since; anything else has to lie below them.
    pub(super) fn place_to_undo(&self, row: &VolumeRow, path: &Path) -> Result<Option<Place>, CoreError> {
        let path: std::path::PathBuf = path.components().collect();
        if self.registry.mounts(row.id)?.iter().any(|known| known.mount.path == path) {
            return Place::recorded(&path);
        }
        self.roots.find(&path)
    }

    /// Attaches a volume, checks its filesystem if nobody uses it yet, and mounts it at `folder`, which is `place`.
    pub(super) fn attach_and_mount(
        &self,
        row: &VolumeRow,
        filesystem: Filesystem,
        (place, folder): (&Place, &OwnedFd),
        options: &[String],
    ) -> Result<(), CoreError> {
        let options = mount_options::for_filesystem(options, filesystem, &row.subject())?;
        let device = self.attach_device(row)?;
        let alone = MountTable::read()?.of_device(device.number).next().is_none();
        let mount = || {
            rustix::mount::mount(
                &device.path,
                place::through(folder),
                filesystem.as_str(),
                options.flags,
                std::ffi::CString::new(options.data.as_str())
                    .expect("allowed options have no NUL")
                    .as_c_str(),
            )
        };
        let mut repaired: Option<String> = None;
        if alone {
            let fit = self.make_fit(row, filesystem, &device).and_then(|done| {
                self.grow_before_mount(row, filesystem, &device).map(|grown| done.or(grown))
            });
            self.remember_condition(row, &fit, None)?;
            repaired = fit?;
        }
        let mut mounted = mount();
        // XFS says only now that its log cannot be replayed, or that it is damaged.
        if matches!(mounted, Err(Errno::UCLEAN | Errno::BADMSG | Errno::IO))
            && alone
            && filesystem == Filesystem::Xfs
        {
            let fit = self.repair(row, filesystem, &device);
            if fit.is_err() {
                self.remember_condition(row, &fit, None)?;
            }
            repaired = Some(fit?);
            mounted = mount();
        }
        let mounted = mounted.map_err(|errno| match errno {
            // EUCLEAN, EFSBADCRC (the same as EBADMSG), EIO: the filesystem itself is the reason.
            Errno::UCLEAN | Errno::BADMSG | Errno::IO | Errno::INVAL => CoreError::Filesystem {
                subject: row.subject(),
                report: match filesystem::diagnosis(&device.path, filesystem, &row.subject()) {
                    Some(said) => format!("mounting it: {errno}; its check says: {said}"),
                    None => format!("mounting it: {errno}; the kernel's log says more"),
                },
            },
            errno => CoreError::errno("mounting at", place.path())(errno),
        });
        crash::point!("mounting.mounted");
        self.remember_condition(row, &mounted, repaired.as_deref())?;
        mounted?;
        arrived(place, row, &device)?;
        if !options.flags.contains(rustix::mount::MountFlags::RDONLY) {
            // The volume is usable all the same; its condition says that it is smaller than it should be.
            let row = self.existing(row.id)?;
            if let Err(error) = self.grow_mounted_filesystem(&row) {
                tracing::warn!(volume = %row.id, error = strongroom_model::chain(&error), "the filesystem did not grow");
            }
        }
        Ok(())
    }

    /// A damaged filesystem is remembered until it is found whole again, a repair until the next mount without one.
    fn remember_condition(
        &self,
        row: &VolumeRow,
        fit: &Result<impl Sized, CoreError>,
        repaired: Option<&str>,
    ) -> Result<(), CoreError> {
        match fit {
            Err(error @ CoreError::Filesystem { .. }) => {
                self.registry.set_volume_condition(row.id, Some(&error.to_string()))
            }
            Err(_) => Ok(()),
            Ok(_) => self.registry.set_volume_condition(row.id, repaired),
        }
    }

    /// Unmounts whatever shows this device at `place`; nothing there: fine.
    pub(super) fn unmount_ours(
        &self,
        place: &Place,
        row: &VolumeRow,
        device: Option<&Device>,
    ) -> Result<(), CoreError> {
        let Some(device) = device else { return Ok(()) };
        // What is frozen cannot be unmounted.
        self.let_run(row.id);
        let started = Instant::now();
        while MountTable::read()?.at(place.path()).is_some_and(|mount| is_ours(mount, device)) {
            match place.unmount() {
                // Gone in between, as whoever else unmounts it would have it: the table tells.
                Ok(()) | Err(Errno::INVAL) => {}
                // A process that was killed closes its files a moment later, and probes of other programs are short.
                Err(Errno::BUSY) if started.elapsed() < UNMOUNT_PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::BUSY) => {
                    return Err(CoreError::InUse {
                        subject: format!("{} at {}", row.subject(), place.path().display()),
                        holder: holders::describe(&device.path, device.number, &[place.path()]),
                    });
                }
                Err(errno) => return Err(CoreError::errno("unmounting", place.path())(errno)),
            }
            if started.elapsed() > UNMOUNT_LIMIT {
                return Err(CoreError::InUse {
                    subject: format!("{} at {}", row.subject(), place.path().display()),
                    holder: "it is mounted there again and again".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// After a step failed: takes its intent back, and the device if nothing else uses it.
    pub(super) fn undo_mount(&self, row: &VolumeRow, mount: &MountRow) {
        let undone = || -> Result<(), CoreError> {
            let device = self.backend.attached(&row.image)?;
            if (mount.mount.access == Access::Mount || mount.mount.purpose != MountUse::Staged)
                && let Some(place) = Place::recorded(&mount.mount.path)?
            {
                self.unmount_ours(&place, row, device.as_ref())?;
                if mount.mount.access == Access::Block {
                    place.remove_file()?;
                }
            }
            self.registry.remove_mount(row.id, &mount.mount.path)?;
            self.let_go_if_unused(row)
        };
        if let Err(error) = undone() {
            tracing::warn!(volume = %row.id, error = strongroom_model::chain(&error), "a failed mount could not be undone; the next start will");
        }
    }
}

/// Nothing may be mounted there: it would be hidden.
pub(super) fn refuse_covered(place: &Place) -> Result<(), CoreError> {
    match MountTable::read()?.at(place.path()) {
        None => Ok(()),
        Some(mount) => Err(CoreError::InUse {
            subject: format!("the place {}", place.path().display()),
            holder: format!("a filesystem of type {} is mounted there", mount.filesystem),
        }),
    }
}

/// What was just mounted must be seen where it was asked for: a folder on the way may have been moved meanwhile.
pub(super) fn arrived(place: &Place, row: &VolumeRow, device: &Device) -> Result<(), CoreError> {
    if MountTable::read()?.at(place.path()).is_some_and(|mount| is_ours(mount, device)) {
        return Ok(());
    }
    // By the open folder, wherever that lies now.
    let _ = place.unmount();
    Err(CoreError::Refused {
        subject: row.subject(),
        reason: format!("{} was moved away while it was being mounted there", place.path().display()),
    })
}

/// Opens what is mounted at `place`, if it is ours.
pub(super) fn open_ours(place: &Place, row: &VolumeRow, device: &Device) -> Result<OwnedFd, CoreError> {
    if let Some(open) = place.open()? {
        let id = place::mount_id(&open)?;
        if MountTable::read()?.numbered(id).is_some_and(|mount| is_ours(mount, device)) {
            return Ok(open);
        }
    }
    Err(CoreError::NotReady {
        subject: row.subject(),
        reason: format!("it is not mounted at {}", place.path().display()),
    })
}
