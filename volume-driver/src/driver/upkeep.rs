//! What is done for volumes while nobody asks: images that lie in many pieces are put in order, and what is free inside
//! mounted filesystems is given back to the pool.
//!
//! Both step aside: for operations on the same volume, and when the pool is not roomy. Nothing of it is needed for
//! correctness, so nothing of it is written down before it is done.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use strongroom_model::VolumeId;

use crate::backend::Tidied;
use crate::background::Stop;
use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::mount_table::MountTable;
use crate::pool::Fullness;
use crate::registry::{VolumeRow, VolumeStep};
use crate::sys;

/// How often there is a look for something to do.
const EVERY: Duration = Duration::from_secs(5);

/// No more than this is copied after one snapshot.
const TIDY_BYTES: u64 = 1 << 30;

/// How fast is copied: a tenth of what a disk can, so that users do not feel it.
const TIDY_BYTES_PER_SECOND: u64 = 64 << 20;

/// What is trimmed under one call.
const TRIM_PIECE_BYTES: u64 = 1 << 30;

/// Between two pieces.
const TRIM_PAUSE: Duration = Duration::from_millis(100);

/// A pool that fills up is trimmed sooner, but not all the time.
const TRIM_WHEN_FILLING: Duration = Duration::from_secs(3600);

/// What was looked after since the driver started.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// The snapshot after which a volume was tidied last.
    tidied: HashMap<VolumeId, Timestamp>,
}

impl Driver {
    /// Does what is due; answers when to look again.
    pub(crate) fn look_after(&self, upkeep: &mut Upkeep, stop: &Stop) -> Result<Duration, CoreError> {
        let rows = self.registry.volumes()?;
        upkeep.tidied.retain(|id, _| rows.iter().any(|row| row.id == *id));
        for row in rows.iter().filter(|row| row.step == VolumeStep::Ready) {
            if stop.is_set() {
                break;
            }
            self.tidy_if_due(row, upkeep, stop)?;
            self.trim_if_due(row, stop)?;
        }
        Ok(EVERY)
    }

    fn tidy_if_due(&self, row: &VolumeRow, upkeep: &mut Upkeep, stop: &Stop) -> Result<(), CoreError> {
        let above = self.pool.limits().tidy_above;
        let Some(cost) = self.registry.cost(row.id)? else { return Ok(()) };
        if above == 0 || cost.extents < above || upkeep.tidied.get(&row.id) == Some(&cost.at) {
            return Ok(());
        }
        upkeep.tidied.insert(row.id, cost.at);
        let tidied = self.tidy(row, stop)?;
        tracing::info!(
            volume = %row.id,
            copied = tidied.bytes,
            extents_before = tidied.before,
            extents_after = tidied.after,
            "put its image in order"
        );
        Ok(())
    }

    /// Puts an image in order, as fast as is allowed and as long as there is room.
    pub(crate) fn tidy(&self, row: &VolumeRow, stop: &Stop) -> Result<Tidied, CoreError> {
        let room = self.backend.room()?;
        // A copy takes space that only the deletion of a snapshot gives back: no more than a quarter of what may be taken.
        let left = room.high_water(self.pool.limits()).saturating_sub(room.used) / 4;
        let most = left.min(TIDY_BYTES);
        let began = Instant::now();
        let mut pieces = 0_u64;
        let mut go_on = || {
            pieces += 1;
            // Asked before each piece of 256 KiB.
            let due = Duration::from_secs_f64((pieces * (256 << 10)) as f64 / TIDY_BYTES_PER_SECOND as f64);
            if stop.wait(due.saturating_sub(began.elapsed())) {
                return false;
            }
            while self.guards.is_taken(row.id) {
                if stop.wait(Duration::from_millis(20)) {
                    return false;
                }
            }
            self.backend.room().is_ok_and(|room| room.fullness(self.pool.limits()) < Fullness::AboveMark)
        };
        self.backend.tidy(&row.image, most, &mut go_on)
    }

    fn trim_if_due(&self, row: &VolumeRow, stop: &Stop) -> Result<(), CoreError> {
        let limits = self.pool.limits();
        if limits.trim_every.is_zero() || row.kind.filesystem().is_none() {
            return Ok(());
        }
        let filling = self.backend.room()?.fullness(limits) >= Fullness::Filling;
        let every = if filling { limits.trim_every.min(TRIM_WHEN_FILLING) } else { limits.trim_every };
        let now = self.world.clock.now();
        let since = self.registry.trimmed_at(row.id)?.unwrap_or(row.created_at);
        if now.duration_since(since)
            < jiff::SignedDuration::try_from(every).unwrap_or(jiff::SignedDuration::MAX)
        {
            return Ok(());
        }
        if let Some(bytes) = self.trim(row, stop)? {
            self.registry.note_trim(row.id, now)?;
            tracing::info!(volume = %row.id, bytes, "gave what is free in it back to the pool");
        }
        Ok(())
    }

    /// Gives what is free in a mounted filesystem back to the pool; `None`: not all of it could be looked at now.
    pub(crate) fn trim(&self, row: &VolumeRow, stop: &Stop) -> Result<Option<u64>, CoreError> {
        let mut bytes = 0;
        let mut at = 0;
        while at < row.bytes {
            if stop.is_set() || self.paused.has(row.id) {
                return Ok(None);
            }
            // Looked up for each piece: meanwhile it may be unmounted, and nothing is held that would keep it from that.
            let Some(device) = self.backend.attached(&row.image)? else { return Ok(None) };
            let table = MountTable::read()?;
            let Some(mount) = table.of_device(device.number).find(|mount| !mount.is_readonly()) else {
                return Ok(None);
            };
            // Not while it is frozen for a snapshot: discards change the image.
            if !self.guards.is_taken(row.id) {
                bytes += trim_piece(&mount.path, at)?;
                at += TRIM_PIECE_BYTES;
            }
            thread::sleep(if at < row.bytes { TRIM_PAUSE } else { Duration::ZERO });
        }
        Ok(Some(bytes))
    }
}

fn trim_piece(path: &Path, at: u64) -> Result<u64, CoreError> {
    let folder = File::open(path).map_err(CoreError::system("opening", path))?;
    match sys::trim(&folder, at, TRIM_PIECE_BYTES) {
        Ok(bytes) => Ok(bytes),
        // The filesystem ends before its volume does.
        Err(cause) if cause.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => Ok(0),
        Err(cause) => Err(CoreError::System { action: "trimming", path: path.to_owned(), cause }),
    }
}
