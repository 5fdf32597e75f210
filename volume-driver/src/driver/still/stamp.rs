//! The times of change of an image, by which an image that was compared before need not be compared again.
//!
//! Comparing asks the kernel for every extent of two files, which is some microseconds each; random writes make ten thousands.
//! Every write through a loop device is a write to the image, which sets the image's times of change, and nobody can set back
//! the time of the last change of an inode. So what had these times when it was found equal, and has them still, is equal.
//!
//! Three things would make that wrong, so the times of such an image are not kept:
//!
//! * A write sets the times when it begins, and lands later: no write may be under way.
//! * Times move on in ticks of the kernel's clock, up to 10 ms: the last change must lie further back ([`SETTLED`]).
//! * A change may come from elsewhere than the loop device: none does that is not a write to the image, too.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use strongroom_model::{SnapshotId, VolumeId};

use crate::backend::Device;

/// The last change must lie this far back.
const SETTLED: Duration = Duration::from_secs(2);

/// An image at a moment, as far as its inode tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(image: &Path) -> std::io::Result<Self> {
        let stat = fs::metadata(image)?;
        Ok(Self {
            device: stat.dev(),
            inode: stat.ino(),
            bytes: stat.size(),
            modified: (stat.mtime(), stat.mtime_nsec()),
            changed: (stat.ctime(), stat.ctime_nsec()),
        })
    }

    /// Whether a later write would be seen in it for certain.
    pub(super) fn is_settled(&self, device: Option<&Device>) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        // The kernel's clock, by which it sets the times.
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age >= SETTLED)
            && device.is_none_or(|device| is_idle(device.number))
    }
}

/// Whether a block device has no request under way. One that does not count them is never idle.
fn is_idle((major, minor): (u32, u32)) -> bool {
    let read = |name: &str| fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{name}"));
    let counts = read("queue/iostats").is_ok_and(|text| text.trim() == "1");
    counts && read("inflight").is_ok_and(|text| text.split_ascii_whitespace().eq(["0", "0"]))
}

/// What was found equal, by volume. Of a driver that runs: after a restart everything is compared once more.
#[derive(Debug, Default)]
pub(crate) struct FoundEqual(Mutex<HashMap<VolumeId, (SnapshotId, Stamp)>>);

impl FoundEqual {
    pub(super) fn holds(&self, volume: VolumeId, snapshot: SnapshotId, stamp: Stamp) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&volume) == Some(&(snapshot, stamp))
    }

    #[cfg(test)]
    pub(crate) fn knows(&self, volume: VolumeId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&volume)
    }

    /// `None`: nothing is known of the volume any more.
    pub(super) fn set(&self, volume: VolumeId, found: Option<(SnapshotId, Stamp)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Some(found) => known.insert(volume, found),
            None => known.remove(&volume),
        };
    }
}
