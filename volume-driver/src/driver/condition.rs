//! What is wrong with a volume, in a sentence.
//!
//! Who waits for space is told that first; then what the kernel shows now, what the registry remembers (a filesystem that
//! was found damaged), and what threatens: a pool that is nearly full.

use crate::backend::Device;
use crate::driver::{Driver, health};
use crate::mount_table::MountTable;
use crate::pool::Fullness;
use crate::registry::VolumeRow;

impl Driver {
    /// `None`: nothing is known to be wrong.
    pub(super) fn condition(&self, row: &VolumeRow, device: Option<&Device>) -> Option<String> {
        self.paused
            .has(row.id)
            .then(waiting)
            .or_else(|| device.and_then(|device| health::trouble(device, &MountTable::read().ok()?)))
            .or_else(|| row.condition.clone())
            .or_else(|| self.pool_condition())
    }

    fn pool_condition(&self) -> Option<String> {
        let limits = self.pool.limits();
        // A pool that cannot be measured is told of where the pool itself is described.
        let room = self.backend.room().ok()?;
        room.sentence(limits).filter(|_| room.fullness(limits) >= Fullness::AboveMark)
    }
}

fn waiting() -> String {
    "the pool is full, and its writers wait until space is freed: delete snapshots or volumes, or enlarge the pool"
        .to_owned()
}
