//! Reads packs, wherever they lie now.

use async_trait::async_trait;

use crate::layout::PackKind;
use crate::pack::{Entry, EntryRef, EntrySource, FetchError, Footer};
use std::sync::Arc;
use strongroom_model::PackId;

/// Reads entries of logical packs: follows the pack table, and on a missing object or a hole reads the journal once more.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackReader {}

impl PackReader {
    /// The footer of a pack as it lies now.
    ///
    /// # Errors
    /// When the journal names no such pack, or it is missing or damaged.
    pub async fn footer(&self, _pack: PackId) -> Result<Arc<Footer>, FetchError> {
        todo!()
    }

    /// Entries of one pack in ascending order of number; neighbours come with one request. All of the answer is in memory: ask for a
    /// few MiB at a time.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub async fn entries(&self, _pack: PackId, _numbers: &[u32]) -> Result<Vec<Entry>, FetchError> {
        todo!()
    }
}

#[async_trait]
impl EntrySource for PackReader {
    async fn entry(&self, _kind: PackKind, _at: EntryRef) -> Result<Entry, FetchError> {
        todo!()
    }
}
