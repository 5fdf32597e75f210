//! Our own mount of a volume that is mounted for somebody else.
//!
//! What is open below a mount keeps it from being unmounted. A container's mount must come and go as if we were not there; so the
//! database is opened below a mount of ours, and that goes soon after the other is gone. After a kill it stays until the agent
//! starts again: the volume is in use that long.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use strongroom_sqlite::SqliteError;

/// A mount of ours, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    at: PathBuf,
    theirs: PathBuf,
    device: u64,
}

impl Place {
    /// Mounts at `at` what is mounted at one of `mounts` and has the file. Waits for the disk.
    pub(super) fn find(mounts: &[PathBuf], path: &Path, at: &Path) -> Result<Self, SqliteError> {
        // What an agent that was killed left.
        let _ = unmount(at, UnmountFlags::DETACH);
        if mounts.is_empty() {
            return Err(SqliteError::NotMounted);
        }
        let theirs = mounts.iter().find(|mount| mount.join(path).is_file());
        let theirs = theirs.ok_or_else(|| SqliteError::Missing { path: path.to_owned() })?.clone();
        let failed = |cause| SqliteError::File { path: at.to_owned(), cause };
        fs::create_dir_all(at).map_err(failed)?;
        let device = fs::metadata(&theirs).map_err(failed)?.dev();
        mount_bind(&theirs, at).map_err(|errno| failed(errno.into()))?;
        // Dropped, it is unmounted from here on.
        let place = Self { at: at.to_owned(), theirs, device };
        // So that it does not appear a second time below a folder that is shared.
        mount_change(at, MountPropagationFlags::PRIVATE).map_err(|errno| failed(errno.into()))?;
        Ok(place)
    }

    pub(super) fn file(&self, path: &Path) -> PathBuf {
        self.at.join(path)
    }

    /// Whether the volume is still mounted for whom it was.
    pub(super) fn is_needed(&self) -> bool {
        fs::metadata(&self.theirs).is_ok_and(|now| now.dev() == self.device)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(errno) = unmount(&self.at, UnmountFlags::DETACH) {
            tracing::warn!(mount = %self.at.display(), error = %errno, "a mount of the agent stays");
        }
        let _ = fs::remove_dir(&self.at);
    }
}
