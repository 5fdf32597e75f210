//! The index of one machine: files in a folder, and runs in memory where there is none.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use strongroom_model::{PackId, RepositoryId};

use super::folder::{Folder, Sizes};
use super::run::prefix;
use super::{IndexError, IndexRun, Listed, RunKey};
use crate::chunk::ChunkId;
use crate::pack::EntryRef;

/// What a process keeps in memory of what it may not write, because another process is writing: about 60 MB at most.
const MOST_ASIDE: usize = 1 << 20;

/// The local index: sorted runs in a folder, bounded memory. Losing it costs time only; what is torn or damaged in it is
/// dropped. Lookups read files: call them from a thread that may block.
#[derive(Debug)]
pub struct DedupIndex {
    folder: Option<Folder>,
    /// The newest last.
    memory: RwLock<VecDeque<(RunKey, IndexRun)>>,
    max_entries: usize,
}

impl DedupIndex {
    /// Opens or makes the index in `dir`.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(dir: &Path, repository: RepositoryId) -> Result<Self, IndexError> {
        Self::open_with(dir, repository, Sizes::REAL)
    }

    pub(super) fn open_with(dir: &Path, repository: RepositoryId, sizes: Sizes) -> Result<Self, IndexError> {
        let folder = Some(Folder::open(dir, repository, sizes)?);
        Ok(Self { folder, memory: RwLock::default(), max_entries: MOST_ASIDE })
    }

    /// An index that lives in memory, and forgets its oldest runs beyond `max_entries` (24 bytes each).
    #[must_use]
    pub fn in_memory(max_entries: usize) -> Self {
        Self { folder: None, memory: RwLock::default(), max_entries }
    }

    /// Where a chunk may lie, by the newest run that knows. To be checked against the pack table.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<EntryRef> {
        self.find(id, |_| true)
    }

    /// The first place that `accept` takes of those where a chunk may lie, newest run first.
    pub fn find(&self, id: &ChunkId, mut accept: impl FnMut(EntryRef) -> bool) -> Option<EntryRef> {
        for (_, run) in read(&self.memory).iter().rev() {
            if let Some(at) = run.lookup(id)
                && accept(at)
            {
                return Some(at);
            }
        }
        self.folder.as_ref()?.find(&prefix(id), &mut accept)
    }

    /// Adds a run; nothing happens when it is known. `listed`: whether a pack is in the pack table; rows of packs that have
    /// left it are dropped sooner or later.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_run(&self, key: RunKey, run: &IndexRun, listed: Listed<'_>) -> Result<(), IndexError> {
        if let Some(folder) = &self.folder
            && folder.add(key, run, listed)?
        {
            return Ok(());
        }
        let mut runs = write(&self.memory);
        if !runs.iter().any(|(known, _)| *known == key) {
            runs.push_back((key, run.clone()));
        }
        while runs.iter().map(|(_, run)| run.len()).sum::<usize>() > self.max_entries {
            runs.pop_front();
        }
        Ok(())
    }

    /// The runs it knows, merged ones among them.
    #[must_use]
    pub fn known_runs(&self) -> BTreeSet<RunKey> {
        let mut known: BTreeSet<RunKey> = read(&self.memory).iter().map(|(key, _)| *key).collect();
        if let Some(folder) = &self.folder {
            known.extend(folder.read().lists().flat_map(|list| &list.runs));
        }
        known
    }

    /// Whether it has rows of a pack.
    #[must_use]
    pub fn knows_pack(&self, pack: &PackId) -> bool {
        read(&self.memory).iter().any(|(_, run)| run.packs().contains(pack))
            || self.folder.as_ref().is_some_and(|folder| folder.read().knows_pack(pack))
    }

    /// How many rows it has on the disk; while files are merged some count more than once.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.folder.as_ref().map_or(0, |folder| folder.read().rows())
    }

    /// How many bytes of memory its files take; not what the system keeps of them in its page cache.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.folder.as_ref().map_or(0, |folder| folder.read().memory_bytes())
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn clear(&self) -> Result<(), IndexError> {
        write(&self.memory).clear();
        self.folder.as_ref().map_or(Ok(()), Folder::clear)
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;
