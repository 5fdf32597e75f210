//! Counting while a capture runs: for progress, for the point's own account, and to notice a stall.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counters of one capture, written by all of its rooms.
#[derive(Debug, Default)]
pub struct Meter {
    scanned: AtomicU64,
    changed: AtomicU64,
    new: AtomicU64,
    done: AtomicU64,
}

/// What a capture counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Bytes that were read and compared.
    pub scanned_bytes: u64,
    /// Bytes of chunks that differ from the parent.
    pub changed_bytes: u64,
    /// Bytes that the repository did not have: of chunks, and of deltas where less than a quarter of a chunk changed.
    pub new_bytes: u64,
}

impl Meter {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was counted until now.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            scanned_bytes: self.scanned.load(Ordering::Relaxed),
            changed_bytes: self.changed.load(Ordering::Relaxed),
            new_bytes: self.new.load(Ordering::Relaxed),
        }
    }

    /// Up to which byte of the volume everything is placed.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// A number that changes whenever anything moves.
    #[must_use]
    pub fn pulse(&self) -> u64 {
        self.scanned.load(Ordering::Relaxed).wrapping_add(self.position())
    }

    pub(super) fn scanned(&self, bytes: u64) {
        self.scanned.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn changed(&self, bytes: u64) {
        self.changed.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn new_bytes(&self, bytes: u64) {
        self.new.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn placed_up_to(&self, byte: u64) {
        self.done.store(byte, Ordering::Relaxed);
    }
}
