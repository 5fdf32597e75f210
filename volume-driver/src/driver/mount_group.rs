//! The group that a workload's processes share (CSI's `volume_mount_group`).
//!
//! The volume's root folder gets the group, group rights, and the set-group-id bit, so that whatever is made below it
//! belongs to that group, too. That is all: files that are there already keep their group, since walking through all of
//! them is what makes large volumes take hours to start. A volume is therefore given its group from its first stage on.

use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags};
use rustix::io::Errno;
use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::driver::mounting::open_ours;
use crate::place;

/// Set-group-id, and all rights for the group.
const SHARED: u32 = 0o2070;

impl Driver {
    /// Lets `group` share what is mounted at `path`. Shared already, or mounted for reading only: nothing.
    pub(crate) fn share_with_group(&self, id: VolumeId, path: &Path, group: u32) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.existing(id)?;
        let nowhere = || CoreError::NotFound { subject: format!("{} at {}", row.subject(), path.display()) };
        let device = self.backend.attached(&row.image)?.ok_or_else(nowhere)?;
        let at = self.place_to_undo(&row, path)?.ok_or_else(nowhere)?;
        let open = open_ours(&at, &row, &device)?;
        let failed = || CoreError::errno("setting the group of", at.path());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(place::through(&open), flags, Mode::empty()).map_err(failed())?;
        let stat = rustix::fs::fstat(&root).map_err(failed())?;
        if stat.st_gid == group && stat.st_mode & SHARED == SHARED {
            return Ok(());
        }
        let mode = Mode::from_raw_mode(stat.st_mode | SHARED);
        // The mode behind the owner: a change of owner takes bits away.
        let set = rustix::fs::fchown(&root, None, Some(Gid::from_raw(group)))
            .and_then(|()| rustix::fs::fchmod(&root, mode));
        match set {
            Err(Errno::ROFS) => Ok(()),
            set => set.map_err(failed()),
        }
    }
}
