//! The dedup index: a cache that says where a chunk is stored already.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use strongroom_model::{Entropy, Failure, Remedy, RepositoryId};

use crate::chunk::ChunkId;
use crate::keys::Keyring;
use crate::pack::EntryRef;
use crate::seal::SealError;

/// The id of a run: what follows `index/`.
pub type RunKey = [u8; 16];

/// A sorted, immutable set of (chunk, where it lies).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRun {}

impl IndexRun {
    /// The most entries that one run has: about 24 MB.
    pub const MAX_ENTRIES: usize = 1 << 20;
    /// Sorts and packs at most [`Self::MAX_ENTRIES`] entries; what is over is left in `entries`.
    pub fn take_from(_entries: &mut Vec<(ChunkId, EntryRef)>) -> Self {
        todo!()
    }
    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Where a chunk lies.
    #[must_use]
    pub fn lookup(&self, _id: &ChunkId) -> Option<EntryRef> {
        todo!()
    }
    /// The object `index/<key>`, sealed.
    ///
    /// # Errors
    /// Never for a run within its limit.
    pub fn seal(
        &self,
        _keyring: &Keyring,
        _repository: RepositoryId,
        _key: RunKey,
        _entropy: &dyn Entropy,
    ) -> Result<Bytes, SealError> {
        todo!()
    }
    /// Opens the object `index/<key>`.
    ///
    /// # Errors
    /// When it is not authentic or malformed.
    pub fn open(
        _keyring: &Keyring,
        _repository: RepositoryId,
        _key: RunKey,
        _sealed: &[u8],
    ) -> Result<Self, SealError> {
        todo!()
    }
}

/// The local index: sorted runs in a folder, bounded memory. Losing it costs time only; what is torn or damaged in it is
/// dropped. Lookups read files: call them from a thread that may block.
#[derive(Debug)]
pub struct DedupIndex {}

impl DedupIndex {
    /// Opens or makes the index in `dir`.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(_dir: &Path, _repository: RepositoryId) -> Result<Self, IndexError> {
        todo!()
    }
    /// An index that lives in memory, and forgets its oldest runs beyond `max_entries`.
    #[must_use]
    pub fn in_memory(_repository: RepositoryId, _max_entries: usize) -> Self {
        todo!()
    }
    /// Where a chunk may lie: newest run first. To be checked against the pack table.
    #[must_use]
    pub fn lookup(&self, _id: &ChunkId) -> Option<EntryRef> {
        todo!()
    }
    /// Every place where a chunk may lie, newest run first.
    #[must_use]
    pub fn lookup_all(&self, _id: &ChunkId) -> Vec<EntryRef> {
        todo!()
    }
    /// Adds a run; nothing happens when it is known.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_run(&self, _key: RunKey, _run: &IndexRun) -> Result<(), IndexError> {
        todo!()
    }
    /// The runs it knows, merged ones among them.
    #[must_use]
    pub fn known_runs(&self) -> BTreeSet<RunKey> {
        todo!()
    }
    /// Forgets everything.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn clear(&self) -> Result<(), IndexError> {
        todo!()
    }
}

/// Why the local index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A file or folder.
    #[error("the local index at {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl Failure for IndexError {
    fn code(&self) -> &'static str {
        "index.file"
    }
    fn remedy(&self) -> Remedy {
        Remedy::FixSurroundings
    }
    fn advice(&self) -> String {
        String::new()
    }
}
