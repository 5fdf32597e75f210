//! One backup of a volume at a time on one machine: the second would take the first one's snapshot for a stray.
//!
//! The lock is the kernel's, on an open file: it goes with its process, however that ends.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use strongroom_model::VolumeName;

use super::BackupError;

#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(state_dir: &Path, volume: &VolumeName) -> Result<Self, BackupError> {
        let dir = state_dir.join("locks");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| BackupError::State { path, cause }
        };
        std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
        // A name is a label, never a path: its hash is.
        let path = dir.join(&blake3::hash(volume.as_str().as_bytes()).to_hex()[..32]);
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(BackupError::Busy { volume: volume.clone() }),
            Err(errno) => Err(failed(&path)(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_locked_once_and_free_again_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let name: VolumeName = "../etc".parse().unwrap();
        let first = Lock::take(dir.path(), &name).unwrap();
        assert!(matches!(Lock::take(dir.path(), &name), Err(BackupError::Busy { .. })));
        assert!(Lock::take(dir.path(), &"other".parse().unwrap()).is_ok());
        drop(first);
        assert!(Lock::take(dir.path(), &name).is_ok());
    }
}
