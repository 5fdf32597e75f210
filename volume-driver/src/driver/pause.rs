//! What happens when the pool runs full: writers wait.
//!
//! A volume is larger than what the pool can still give, so the pool can end under a filesystem. What the filesystem
//! makes of that was measured (docs/decisions): XFS answers ENOSPC and goes on; ext4, whose journal shares blocks with a
//! snapshot and needs new ones too, stops writing for good. So shortly before the end all filesystems are flushed and
//! frozen: whoever writes waits, nothing that was acknowledged is lost, and after a snapshot was deleted all go on as if
//! nothing had been.
//!
//! A freeze rests on a watchdog process, so it ends with the driver. Whoever unmounts a volume thaws it first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::driver::still::flush_filesystem;
use crate::freeze::Frozen;
use crate::limits::WhenFull;
use crate::mount_table::MountTable;
use crate::pool::{Fullness, Room};
use crate::registry::VolumeRow;

/// The watchdog of a pause has no deadline: it ends when there is space, or with the driver.
const WITHOUT_END: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What the fastest disk is taken to write in a second. The emptier the pool, the later the next look.
const FASTEST_BYTES_PER_SECOND: u64 = 4 << 30;

/// Looking costs microseconds.
const NEXT_LOOK_AT_LEAST: Duration = Duration::from_millis(10);
const NEXT_LOOK_AT_MOST: Duration = Duration::from_secs(5);

/// How often a pool that is full is looked at.
const FULL_LOOK: Duration = Duration::from_millis(100);

/// How many filesystems are flushed or frozen at a time.
const AT_A_TIME: usize = 16;

/// The volumes whose writers wait.
#[derive(Debug, Default)]
pub(crate) struct Paused {
    volumes: Mutex<BTreeMap<VolumeId, Frozen>>,
    /// What was logged last.
    told: Mutex<Option<Fullness>>,
}

impl Paused {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Frozen>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, volume: VolumeId) -> bool {
        self.lock().contains_key(&volume)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}

/// A volume that is mounted so that it can be written to, and where.
type Writable = (VolumeRow, PathBuf);

impl Driver {
    /// Looks how full the pool is and does what has to be done; answers when to look again.
    pub(crate) fn watch_room(&self) -> Result<Duration, CoreError> {
        let mut room = self.backend.room()?;
        let margin = room.margin(self.pool.limits());
        if self.pool.limits().when_full == WhenFull::Wait {
            if self.paused.count() > 0 && room.free() >= 2 * margin {
                self.resume_writers();
            } else if room.free() < margin.saturating_add(unwritten_bytes()) {
                if room.free() >= margin {
                    // What lies in the page cache is not in the pool yet; and it may be meant for other disks.
                    self.flush_writers()?;
                    room = self.backend.room()?;
                }
                if room.free() < margin {
                    self.pause_writers(room)?;
                }
            }
        }
        self.tell(room);
        self.fill_reserve(room, margin);
        Ok(next_look(room.free(), margin))
    }

    fn tell(&self, room: Room) {
        let fullness = room.fullness(self.pool.limits());
        let mut told = self.paused.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.replace(fullness) != Some(fullness) {
            match room.sentence(self.pool.limits()) {
                Some(sentence) => tracing::warn!(free = room.free(), "{sentence}"),
                None => tracing::info!(free = room.free(), "the pool has room"),
            }
        }
    }

    /// What was given away is taken back when there is more than enough.
    fn fill_reserve(&self, room: Room, margin: u64) {
        let missing = self.pool.reserve().missing();
        if missing > 0
            && room.free() > missing.saturating_add(4 * margin)
            && let Err(error) = self.pool.reserve().fill()
        {
            tracing::warn!(
                error = strongroom_model::chain(&error),
                "the reserve of the pool could not be filled"
            );
        }
    }

    fn writable(&self) -> Result<Vec<Writable>, CoreError> {
        let table = MountTable::read()?;
        let mut found = Vec::new();
        for row in self.registry.volumes()? {
            let Ok(Some(device)) = self.backend.attached(&row.image) else { continue };
            if let Some(mount) = table.of_device(device.number).find(|mount| !mount.is_readonly()) {
                found.push((row, mount.path.clone()));
            }
        }
        Ok(found)
    }

    fn flush_writers(&self) -> Result<(), CoreError> {
        at_a_time(&self.writable()?, |(row, path)| {
            // A filesystem that cannot be flushed tells its own users.
            if let Err(cause) = flush_filesystem(path) {
                tracing::warn!(volume = %row.id, "flushing it: {cause}");
            }
        });
        Ok(())
    }

    /// Freezes all that can be written to and is not frozen yet.
    fn pause_writers(&self, room: Room) -> Result<(), CoreError> {
        let mut running = self.writable()?;
        running.retain(|(row, _)| !self.paused.has(row.id));
        if running.is_empty() {
            return Ok(());
        }
        // Freezing flushes, and that takes space too.
        while self.backend.room()?.free() < unwritten_bytes() && self.pool.reserve().give() {}
        at_a_time(&running, |(row, path)| self.pause(row, path));
        tracing::error!(
            free = room.free(),
            paused = self.paused.count(),
            "the pool is full: writers wait until space is freed"
        );
        Ok(())
    }

    fn pause(&self, row: &VolumeRow, path: &std::path::Path) {
        // Whoever works on it now is done soon; then it is paused at the next look.
        let Ok(_guard) = self.guards.take(row.id) else { return };
        match Frozen::freeze(path, &row.subject(), &self.settings.watchdog, WITHOUT_END) {
            Ok(frozen) => {
                self.paused.lock().insert(row.id, frozen);
            }
            Err(error) => {
                tracing::warn!(volume = %row.id, error = strongroom_model::chain(&error), "its writers could not be made to wait")
            }
        }
    }

    fn resume_writers(&self) {
        let paused = std::mem::take(&mut *self.paused.lock());
        let count = paused.len();
        for (id, frozen) in paused {
            thaw(id, frozen);
        }
        tracing::info!(resumed = count, "the pool has space again: writers go on");
    }

    /// Thaws a volume that is to be unmounted, or cut: a snapshot is made only where the pool has room again, and then its
    /// writers would go on at the next look.
    pub(super) fn let_run(&self, volume: VolumeId) {
        let frozen = self.paused.lock().remove(&volume);
        if let Some(frozen) = frozen {
            thaw(volume, frozen);
        }
    }
}

fn thaw(volume: VolumeId, frozen: Frozen) {
    if let Err(error) = frozen.thaw() {
        // Somebody else thawed it already.
        tracing::warn!(%volume, error = strongroom_model::chain(&error), "its writers were to wait no longer");
    }
}

/// Does `work` for each, on several threads.
fn at_a_time(volumes: &[Writable], work: impl Fn(&Writable) + Sync) {
    for some in volumes.chunks(AT_A_TIME) {
        std::thread::scope(|scope| {
            for volume in some {
                scope.spawn(|| work(volume));
            }
        });
    }
}

/// When to look again: before the fastest disk could have written half of what is left.
fn next_look(free: u64, margin: u64) -> Duration {
    if free < margin {
        return FULL_LOOK;
    }
    let left = (free - margin) as f64 / 2.0 / FASTEST_BYTES_PER_SECOND as f64;
    Duration::from_secs_f64(left).clamp(NEXT_LOOK_AT_LEAST, NEXT_LOOK_AT_MOST)
}

/// What this machine has yet to write to any disk: Dirty and Writeback of /proc/meminfo. Not readable: nothing.
fn unwritten_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    unwritten_in(&text)
}

fn unwritten_in(meminfo: &str) -> u64 {
    let kibibytes = |line: &str| -> Option<u64> {
        let (name, value) = line.split_once(':')?;
        matches!(name, "Dirty" | "Writeback")
            .then(|| value.trim().strip_suffix(" kB")?.trim().parse().ok())?
    };
    meminfo.lines().filter_map(kibibytes).sum::<u64>().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_yet_is_read_from_the_kernel() {
        let text = "MemTotal:       1000 kB\nDirty:             12 kB\nWriteback:          3 kB\nWritebackTmp:    7 kB\n";
        assert_eq!(unwritten_in(text), 15 * 1024);
        assert_eq!(unwritten_in("nonsense"), 0);
    }

    #[test]
    fn a_pool_is_looked_at_more_often_the_fuller_it_is() {
        let gib = 1 << 30;
        assert_eq!(next_look(1 << 50, gib), NEXT_LOOK_AT_MOST);
        assert_eq!(next_look(gib + 1, gib), NEXT_LOOK_AT_LEAST);
        assert_eq!(next_look(gib - 1, gib), FULL_LOOK);
        assert!(next_look(9 * gib, gib) == Duration::from_secs(1));
    }
}
