//! The byte budget: what one capture may hold of a volume's bytes in memory.

use std::sync::Arc;

use strongroom_repository::store::PART_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much memory a capture may use for bytes in flight: slabs, compressed chunks, and parts of packs on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    slab_bytes: u64,
    total_bytes: u64,
}

/// What the pack writers hold: the part being filled and three on their way for data, one being filled and one on its way
/// for the map, whose packs are small.
const WRITERS: u64 = 6 * PART_BYTES as u64;

/// Below this nothing flows: a few slabs must fit beside each other.
const SMALLEST_SLABS: u64 = 8 << 20;

/// One piece of the volume that is read and placed at once. Large enough for a direct read to run at the disk's rate, small
/// enough that many fit the budget.
pub(super) const SLAB_BYTES: u64 = 1 << 20;

impl Budget {
    /// The least that a capture can work with.
    pub const LEAST_BYTES: u64 = WRITERS + SMALLEST_SLABS;

    /// Of `total_bytes`; less than [`Self::LEAST_BYTES`] counts as that.
    #[must_use]
    pub const fn new(total_bytes: u64) -> Self {
        let total_bytes = if total_bytes < Self::LEAST_BYTES { Self::LEAST_BYTES } else { total_bytes };
        Self { slab_bytes: total_bytes - WRITERS, total_bytes }
    }

    /// An equal share for each of `jobs` captures side by side.
    #[must_use]
    pub const fn shared(total_bytes: u64, jobs: u64) -> Self {
        Self::new(total_bytes / if jobs == 0 { 1 } else { jobs })
    }

    /// All of it.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

/// What slabs pay from. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Purse {
    coins: Arc<Semaphore>,
    all: u32,
}

/// Paid; given back when dropped.
pub(super) type Paid = OwnedSemaphorePermit;

/// A coin is 4 KiB.
const COIN_BYTES: u64 = 4096;

impl Purse {
    pub(super) fn new(budget: Budget) -> Self {
        let all = u32::try_from(budget.slab_bytes / COIN_BYTES).unwrap_or(u32::MAX >> 4).min(u32::MAX >> 4);
        Self { coins: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until a slab of `bytes` may begin. It pays twice its size: its chunks are there plain and, for those that were
    /// worked on already, compressed. `None` when the purse was closed.
    pub(super) fn pay(&self, bytes: u64) -> Option<Paid> {
        let price = u32::try_from((2 * bytes).div_ceil(COIN_BYTES)).unwrap_or(u32::MAX).min(self.all);
        futures::executor::block_on(Arc::clone(&self.coins).acquire_many_owned(price)).ok()
    }

    /// Wakes everybody who waits, with nothing.
    pub(super) fn close(&self) {
        self.coins.close();
    }
}
