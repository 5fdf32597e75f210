//! The reserve: blocks of the pool that a file holds, to be given away when nothing else is left.
//!
//! It is given in quarters, to whoever cannot go on without: the registry, when it lies on the pool itself and has to
//! write that something was deleted, and filesystems that flush what they hold before they are frozen. It is filled
//! again when there is room.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FallocateFlags;

use crate::core_error::CoreError;

const NAME: &str = "reserve";

/// The file, and how large it shall be.
#[derive(Debug)]
pub(crate) struct ReserveFile {
    path: PathBuf,
    wanted: u64,
    /// One change at a time.
    changing: Mutex<()>,
}

impl ReserveFile {
    /// Of the pool at `root`, of `wanted` bytes.
    pub(super) fn new(root: &Path, wanted: u64) -> Self {
        Self { path: root.join(NAME), wanted, changing: Mutex::new(()) }
    }

    /// As it lies in a pool that is not open: nothing is known but what there is.
    pub(super) fn of_unopened(root: &Path) -> Self {
        let path = root.join(NAME);
        let wanted = path.metadata().map_or(0, |meta| meta.len());
        Self { path, wanted, changing: Mutex::new(()) }
    }

    /// What it lacks.
    pub(crate) fn missing(&self) -> u64 {
        self.wanted.saturating_sub(self.held())
    }

    /// What it holds.
    pub(crate) fn held(&self) -> u64 {
        // st_blocks counts in units of 512 bytes.
        self.path.metadata().map_or(0, |meta| meta.blocks() * 512)
    }

    /// Makes it as large as it shall be.
    pub(crate) fn fill(&self) -> Result<(), CoreError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.open()?;
        let now = file.metadata().map_err(CoreError::system("looking at", &self.path))?.len();
        if now > self.wanted {
            file.set_len(self.wanted).map_err(CoreError::system("shortening", &self.path))?;
        }
        if self.wanted == 0 || self.missing() == 0 {
            return Ok(());
        }
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.wanted)
            .map_err(CoreError::errno("reserving space in", &self.path))
    }

    /// Gives a quarter of it away; whether there was something left to give.
    pub(crate) fn give(&self) -> bool {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let given = || -> Result<bool, CoreError> {
            let file = self.open()?;
            let now = file.metadata().map_err(CoreError::system("looking at", &self.path))?.len();
            let left = now.saturating_sub((self.wanted / 4).max(1 << 20));
            file.set_len(left).map_err(CoreError::system("shortening", &self.path))?;
            Ok(now > 0)
        };
        // Only tried where something else has failed already: that error is told.
        given().unwrap_or(false)
    }

    fn open(&self) -> Result<File, CoreError> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(CoreError::system("opening", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_away_in_quarters_and_filled_again() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = ReserveFile::new(folder.path(), 16 << 20);
        assert_eq!(reserve.missing(), 16 << 20);
        reserve.fill().unwrap();
        assert_eq!(reserve.missing(), 0);
        assert!(reserve.give());
        assert_eq!(reserve.missing(), 4 << 20);
        assert!(reserve.give() && reserve.give() && reserve.give() && !reserve.give());
        assert_eq!(reserve.missing(), 16 << 20);
        reserve.fill().unwrap();
        let smaller = ReserveFile::new(folder.path(), 4 << 20);
        smaller.fill().unwrap();
        assert_eq!((smaller.missing(), reserve.missing()), (0, 12 << 20));
    }
}
