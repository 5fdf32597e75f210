//! Deltas that wait for what they are built on.
//!
//! A window's deltas are fetched before anything else of it. They are few bytes each, and a window was cut so that they are
//! few together; what they are built on comes with its neighbours in long ranges, in any order, and each chunk is made and
//! written as soon as its base is there.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strongroom_repository::pack::{EntryRef, Opened};
use tokio::sync::OwnedSemaphorePermit;

/// The deltas of a window, by chunk.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    deltas: Mutex<HashMap<u64, Opened>>,
    /// Their part of the budget; given back when the last range of the window has landed.
    _held: Option<OwnedSemaphorePermit>,
}

impl Waiting {
    pub(super) fn holding(held: OwnedSemaphorePermit) -> Self {
        Self { deltas: Mutex::default(), _held: Some(held) }
    }

    pub(super) fn insert(&self, chunk: u64, delta: Opened) {
        self.deltas().insert(chunk, delta);
    }

    /// The delta of a chunk. It stays: a range may be fetched again.
    pub(super) fn get(&self, chunk: u64) -> Option<Opened> {
        self.deltas().get(&chunk).cloned()
    }

    /// What they are built on, in the order of the volume.
    pub(super) fn bases(&self) -> Vec<(u64, EntryRef)> {
        let deltas = self.deltas();
        let mut bases: Vec<_> =
            deltas.iter().filter_map(|(chunk, delta)| Some((*chunk, delta.base()?))).collect();
        bases.sort_unstable_by_key(|(chunk, _)| *chunk);
        bases
    }

    fn deltas(&self) -> MutexGuard<'_, HashMap<u64, Opened>> {
        // Each change is one insert.
        self.deltas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
