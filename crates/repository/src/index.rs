//! The dedup index: a cache that says where a chunk is stored already.
//!
//! Words: a *run* is a sorted, immutable set of (chunk, where it lies); each session leaves one or more of them in the
//! store as `index/<run id>`. A *row file* is a run, or several merged, on this machine.
//!
//! What always holds: nothing rests on the index but the saving of space. A lost index stores chunks twice; a damaged page
//! is noticed and answers "not known"; an entry of a pack that is gone is ignored by the caller, who asks the journal's
//! pack table. It is never needed to restore.

mod file;
mod filter;
mod merge;
mod run;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use strongroom_model::{Failure, Remedy, RepositoryId};

use crate::chunk::ChunkId;
use crate::pack::EntryRef;

use file::RowFile;
pub use run::IndexRun;

/// The id of a run: what follows `index/`.
pub type RunKey = [u8; 16];

/// The index, local and disposable: row files in a folder, or runs in memory. Lookups read files: call them from a
/// thread that may block.
#[derive(Debug)]
pub struct DedupIndex {
    repository: RepositoryId,
    shelf: Shelf,
}

#[derive(Debug)]
enum Shelf {
    Folder { dir: PathBuf, files: RwLock<Vec<Arc<RowFile>>> },
    Memory { max_entries: usize, runs: RwLock<Vec<(RunKey, Arc<IndexRun>)>> },
}

impl DedupIndex {
    /// Opens or makes the index in `dir`. Files that are torn, damaged or of another repository are removed.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(dir: &Path, repository: RepositoryId) -> Result<Self, IndexError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|cause| IndexError::at(dir, cause))?;
        let mut files = Vec::new();
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|cause| IndexError::at(dir, cause))? {
            paths.push(entry.map_err(|cause| IndexError::at(dir, cause))?.path());
        }
        // Names begin with the number under which a file was written, so that the order of age survives a restart.
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rows") => match RowFile::open(&path, repository).map_err(|cause| IndexError::at(&path, cause))? {
                    Some(file) => files.push(Arc::new(file)),
                    None => remove(&path)?,
                },
                Some("draft") => remove(&path)?,
                _ => {}
            }
        }
        merge::drop_covered(&mut files)?;
        Ok(Self { repository, shelf: Shelf::Folder { dir: dir.to_owned(), files: RwLock::new(files) } })
    }

    /// An index that lives in memory, and forgets its oldest runs beyond `max_entries`.
    #[must_use]
    pub fn in_memory(repository: RepositoryId, max_entries: usize) -> Self {
        Self { repository, shelf: Shelf::Memory { max_entries, runs: RwLock::new(Vec::new()) } }
    }

    /// Where a chunk may lie: newest run first. To be checked against the pack table.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<EntryRef> {
        self.places(id).next()
    }

    /// Every place where a chunk may lie, newest run first.
    #[must_use]
    pub fn lookup_all(&self, id: &ChunkId) -> Vec<EntryRef> {
        self.places(id).collect()
    }

    fn places(&self, id: &ChunkId) -> impl Iterator<Item = EntryRef> {
        let (files, runs) = match &self.shelf {
            Shelf::Folder { files, .. } => (read(files), Vec::new()),
            Shelf::Memory { runs, .. } => (Vec::new(), read(runs)),
        };
        let id = *id;
        let in_files = files.into_iter().rev().filter_map(move |file| match file.lookup(&id) {
            Ok(found) => found,
            Err(cause) => {
                tracing::warn!(file = %file.path().display(), %cause, "the local dedup index is damaged; its answer is not used");
                None
            }
        });
        in_files.chain(runs.into_iter().rev().filter_map(move |(_, run)| run.lookup(&id)))
    }

    /// Adds a run; nothing happens when it is known.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_run(&self, key: RunKey, run: &IndexRun) -> Result<(), IndexError> {
        if self.known_runs().contains(&key) {
            return Ok(());
        }
        match &self.shelf {
            Shelf::Folder { dir, files } => {
                let mut files = files.write().unwrap_or_else(PoisonError::into_inner);
                let path = merge::next_path(dir, &files, &key);
                file::write(&path, self.repository, &[key], run.packs(), run.len() as u64, run.rows().map(Ok))
                    .map_err(|cause| IndexError::at(&path, cause))?;
                let written = RowFile::open(&path, self.repository).map_err(|cause| IndexError::at(&path, cause))?;
                files.extend(written.map(Arc::new));
                merge::merge_where_many(dir, self.repository, &mut files)?;
            }
            Shelf::Memory { max_entries, runs } => {
                let mut runs = runs.write().unwrap_or_else(PoisonError::into_inner);
                runs.push((key, Arc::new(run.clone())));
                let mut entries: usize = runs.iter().map(|(_, run)| run.len()).sum();
                while entries > *max_entries && runs.len() > 1 {
                    entries -= runs.remove(0).1.len();
                }
            }
        }
        Ok(())
    }

    /// The runs it knows, merged ones among them.
    #[must_use]
    pub fn known_runs(&self) -> BTreeSet<RunKey> {
        match &self.shelf {
            Shelf::Folder { files, .. } => read(files).iter().flat_map(|file| file.runs().to_vec()).collect(),
            Shelf::Memory { runs, .. } => read(runs).iter().map(|(key, _)| *key).collect(),
        }
    }

    /// How many rows it holds, doubles counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.shelf {
            Shelf::Folder { files, .. } => read(files).iter().map(|file| file.rows()).sum(),
            Shelf::Memory { runs, .. } => read(runs).iter().map(|(_, run)| run.len() as u64).sum(),
        }
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn clear(&self) -> Result<(), IndexError> {
        match &self.shelf {
            Shelf::Folder { files, .. } => {
                let mut files = files.write().unwrap_or_else(PoisonError::into_inner);
                while let Some(file) = files.pop() {
                    remove(file.path())?;
                }
            }
            Shelf::Memory { runs, .. } => runs.write().unwrap_or_else(PoisonError::into_inner).clear(),
        }
        Ok(())
    }
}

/// A copy of the list, so that no lock is held while files are read.
fn read<T: Clone>(list: &RwLock<Vec<T>>) -> Vec<T> {
    list.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn remove(path: &Path) -> Result<(), IndexError> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(IndexError::at(path, cause)),
        _ => Ok(()),
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
        cause: io::Error,
    },
}

impl IndexError {
    fn at(path: &Path, cause: io::Error) -> Self {
        Self::File { path: path.to_owned(), cause }
    }
}

impl Failure for IndexError {
    fn code(&self) -> &'static str {
        "index.file"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixSurroundings
    }

    fn advice(&self) -> String {
        "Free space or mend the rights of the folder; the index is a cache and may be deleted as a whole.".to_owned()
    }
}

#[cfg(test)]
mod tests;
